import numpy as np
import pytest
import torch

from sktangent.propagation import propagate
from tests.propagation.cases import check
from tests.propagation.reference import assert_propagates, samples

# no index twice: which of several values is written is for chance to decide
i = torch.tensor([2, 0, 1])
j = torch.tensor([1, 3, 0])
mask = torch.tensor([True, False, True])

INDICES = {
    "int": np.s_[1],
    "negative int": np.s_[:, -1],
    "slice": np.s_[:, 1:, ::2],
    "none": np.s_[:, None, 1],
    "ellipsis": np.s_[..., 1],
    "ellipsis amid": np.s_[1:, ..., None],
    "list": [0, 2],
    "tensor": i,
    "tensor second": np.s_[:, i],
    "tensor last": np.s_[..., i],
    "tensors beside": np.s_[:, i, j],
    "tensors apart": np.s_[i, :, j],
    "tensors apart, ellipsis": np.s_[i, ..., j],
    "tensors apart, none": np.s_[i, None, i],
    "int between tensors": np.s_[i, 1, j],
    "int before slice and tensor": np.s_[0, :, j],
    "tensor, slice, int": np.s_[i, :, 0],
    "tensor of two axes": np.s_[:, i.view(3, 1)],
    "zero-axis tensor": np.s_[:, torch.tensor(1)],
    "numpy array": np.s_[:, np.array([0, 2])],
    "mask of samples": torch.tensor([True, False, True, True]),
    "mask": np.s_[:, mask],
    "mask and tensor apart": np.s_[torch.tensor([1, 2]), :, torch.tensor([True, False] * 2)],
    "mask of all": torch.arange(48).view(4, 3, 4) % 3 == 0,
    "range": np.s_[:, range(2)],
    "true": np.s_[True],
}


@pytest.mark.parametrize("name", INDICES)
def test_picked(name):
    check(lambda x: x[INDICES[name]], 4, 3, 4)


@pytest.mark.parametrize("name", INDICES)
def test_written(name):
    index = INDICES[name]

    def function(x):
        h = x * x
        h[index] = 2.0
        g = x.sin()
        g[index] = x[index] * 3.0
        return h + g

    check(function, 4, 3, 4)


def test_written_values_are_broadcast():
    def function(x):
        h = x * x
        h[:, 1:] = x[:, :1]
        h[:, 0, 0] = torch.ones(4)
        h[1] = x[0, 0]
        h[2, :, 2] += x[2, 0, 0]
        return h

    check(function, 4, 3, 4)


def test_mask_made_from_the_samples():
    check(lambda x: x[x > 0] * 2.0, 4, 3)

    def function(x):
        h = x * 3.0
        h[x < 0] = 0.0
        return h

    check(function, 4, 3)


def test_views_made_by_indexing_see_what_is_written():
    def function(x):
        h = x * x
        row = h[:, 1]
        h[:, 1] = x[:, 0]
        row.add_(1.0)
        row[:, 2] = 5.0 * x[:, 0, 0]
        return h * row[:, None]

    assert_propagates(function, *samples(4, 3, 4))


def test_writing_into_a_constant_says_what_to_do():
    def function(x):
        out = torch.zeros(3, 4, dtype=x.dtype)
        out[:, 0] = x[:, 1]
        return out

    with pytest.raises(RuntimeError):
        propagate(function, *samples(3, 4))


g = torch.tensor([[[1, 0, 2, 2]], [[0, 0, 1, 2]], [[2, 2, 2, 1]], [[0, 1, 2, 0]]])
c = torch.linspace(-1, 1, 48, dtype=torch.float64).view(4, 3, 4)
k = torch.tensor([0, 2])

FUNCTIONS = {
    "narrow": lambda x: x.narrow(1, 1, 2),
    "narrow negative": lambda x: torch.narrow(x, -1, 0, 2),
    "select": lambda x: x.select(1, 2),
    "select negative": lambda x: torch.select(x, dim=-1, index=0),
    "index_select": lambda x: x.index_select(1, k),
    "index_select negative": lambda x: torch.index_select(x, -1, k),
    "gather": lambda x: x.gather(1, g),
    "gather negative": lambda x: torch.gather(x, -2, g),
    "take_along_dim": lambda x: torch.take_along_dim(x, g, dim=1),
    "take_along_dim broadcast": lambda x: x.take_along_dim(g[:1], dim=1),
    "take_along_dim all": lambda x: x.take_along_dim(g),
    "take": lambda x: x.take(g),
    "masked_select": lambda x: x.masked_select(mask[:, None]),
    "masked_fill": lambda x: x.masked_fill(mask[:, None], 7.0),
    "masked_fill samples": lambda x: x.masked_fill(mask[:, None], x[0, 0, 0]),
    "masked_fill_": lambda x: (x * x).masked_fill_(mask[:, None], 7.0),
    "masked_scatter": lambda x: x.masked_scatter(mask[:, None], x * x),
    "masked_scatter constant": lambda x: x.masked_scatter(mask[:, None], c),
    "masked_scatter into constant": lambda x: c.masked_scatter(mask[:, None], x),
    "index_fill": lambda x: x.index_fill(1, k, 3.0),
    "index_add": lambda x: x.index_add(1, k, (x * x)[:, :2]),
    "index_add constant": lambda x: x.index_add(-2, k, c[:, :2], alpha=2.0),
    "index_add into constant": lambda x: torch.index_add(c, 1, k, x[:, :2]),
    "index_copy": lambda x: x.index_copy(1, k, (x * x)[:, :2]),
    "index_copy constant": lambda x: torch.index_copy(x, 1, k, c[:, :2]),
    "scatter": lambda x: x.scatter(1, g, x.exp()[:, :1]),
    "scatter constant": lambda x: x.scatter(-2, g, c[:, :1]),
    "scatter value": lambda x: x.scatter(1, g, 4.0),
    "scatter named value": lambda x: x.scatter(1, g, value=4.0),
    "scatter into constant": lambda x: torch.scatter(c, 1, g, x[:, :1]),
    "scatter_add": lambda x: x.scatter_add(1, g, x.exp()[:, :1]),
    "scatter_add into constant": lambda x: torch.scatter_add(c, 1, g, x[:, :1]),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name):
    check(FUNCTIONS[name], 4, 3, 4)


def test_scatter_with_a_reduction_falls_back():
    x, tangents = samples(4, 3, 4)
    assert_propagates(lambda x: x.scatter_reduce(1, g, x.exp()[:, :1], "sum"), x, tangents)
