import pytest
import torch

from sktangent.propagation import propagate
from tests.propagation.cases import check
from tests.propagation.reference import assert_propagates, samples

FUNCTIONS = {
    "max": lambda x: x.max(),
    "max axis": lambda x: torch.max(x, 1).values,
    "max kept": lambda x: x.max(-1, keepdim=True)[0],
    "max numpy's names": lambda x: x.max(axis=1, keepdims=True)[0],
    "max elementwise": lambda x: torch.max(x, x.flip(1)),
    "max of a constant": lambda x: torch.max(torch.zeros_like(x), x),
    "max named": lambda x: x.max(other=x * x),
    "min": lambda x: torch.min(x),
    "min axis": lambda x: x.min(dim=-2).values,
    "min elementwise": lambda x: x.min(torch.zeros_like(x)),
    "amax": lambda x: x.amax(),
    "amax axis": lambda x: x.amax(1),
    "amax axes": lambda x: torch.amax(x, dim=(0, -1), keepdim=True),
    "amin": lambda x: torch.amin(x, -1),
    "amin numpy's names": lambda x: x.amin(axis=1, keepdims=True),
    "aminmax": lambda x: torch.stack(torch.aminmax(x, dim=1)),
    "aminmax named": lambda x: x.aminmax().max * x,
    "median": lambda x: x.median(),
    "median axis": lambda x: torch.median(x, 1).values,
    "nanmedian": lambda x: x.nanmedian(-1, keepdim=True).values,
    "mode": lambda x: x.mode(1).values,
    "kthvalue": lambda x: x.kthvalue(2, dim=1).values,
    "kthvalue default": lambda x: torch.kthvalue(x, 3)[0],
    "topk": lambda x: x.topk(2).values,
    "topk axis": lambda x: torch.topk(x, 2, dim=1, largest=False)[0],
    "sort": lambda x: x.sort().values,
    "sort descending": lambda x: torch.sort(x, 1, True)[0],
    "sort stable": lambda x: torch.sort(x, dim=1, stable=True)[0],
    "cummax": lambda x: x.cummax(1).values,
    "cummin": lambda x: torch.cummin(x, -1)[0],
}

# old torches cannot differentiate aminmax twice
REFERENCES = {
    "aminmax": lambda x: torch.stack([x.amin(1), x.amax(1)]),
    "aminmax named": lambda x: x.amax() * x,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name):
    check(FUNCTIONS[name], 3, 4, 5, reference=REFERENCES.get(name))


TIED = {
    "max": lambda x: x.max() * x,
    "max axis": lambda x: x.max(1).values,
    "amax": lambda x: x.amax(1),
    "amin": lambda x: x.amin((0, 1)) * x,
    "median": lambda x: x.median() * x,
}


@pytest.mark.parametrize("name", TIED)
def test_ties(name):
    x, tangents = samples(3, 4)
    x = (x * 1.5).round()
    assert_propagates(TIED[name], x, tangents)


def test_indices_are_plain_tensors():
    seen = []

    def function(x):
        values, indices = x.max(1)
        seen.append(indices)
        return values + x.gather(1, x.topk(2).indices)[:, 1]

    x, tangents = samples(3, 4)
    propagate(function, x, tangents)
    assert torch.equal(seen[0], x.argmax(1))
    assert_propagates(function, x, tangents)


def test_extremes_over_the_samples():
    check(lambda x: x.amax(0), 3, 4)
    check(lambda x: x.amin(0, keepdim=True), 3, 4)
