import pytest
import torch

from sktangent.propagation import propagate
from tests.propagation.cases import check
from tests.propagation.reference import assert_propagates, samples

ones = torch.ones(4, 2, 3, dtype=torch.float64)

JOINED = {
    "cat": lambda x: torch.cat([x, x * x]),
    "cat axis": lambda x: torch.cat((x, x.exp()), dim=1),
    "cat numpy's name": lambda x: torch.cat((x, x.exp()), axis=-1),
    "cat constant": lambda x: torch.cat([ones, x, x * x], dim=-1),
    "cat single precision": lambda x: torch.cat([ones.float(), x], 1),
    "cat whole numbers": lambda x: torch.cat([ones.long(), x], 1),
    "cat empty vector": lambda x: torch.cat([torch.zeros(0), x], 1),
    "concat": lambda x: torch.concat([x, ones], 0),
    "concatenate": lambda x: torch.concatenate([x, ones], 0),
    "stack": lambda x: torch.stack([x, x * x, ones]),
    "stack last": lambda x: torch.stack([x, x * x], -1),
    "stack middle": lambda x: torch.stack((x, ones.long()), dim=1),
    "hstack": lambda x: torch.hstack([x, ones]),
    "hstack vectors": lambda x: torch.hstack([x[0, 0], ones[0, 1], x[0, 0, 0]]),
    "vstack": lambda x: torch.vstack([x, ones]),
    "vstack vectors": lambda x: torch.vstack([x[0, 0], ones[0, 1]]),
    "column_stack": lambda x: torch.column_stack([x[:, 0, 0], ones[:, 0]]),
    "dstack": lambda x: torch.dstack([x[0], ones[1]]),
}

TAKEN_APART = {
    "split": lambda x: torch.split(x, 2),
    "split axis": lambda x: torch.split(x, [1, 2], dim=2),
    "split method": lambda x: x.split(2, -1),
    "split named": lambda x: x.split(split_size=1, dim=1),
    "split_with_sizes": lambda x: x.split_with_sizes([1, 2], 2),
    "chunk": lambda x: x.chunk(2, dim=1),
    "chunk negative": lambda x: torch.chunk(x, 2, -1),
    "tensor_split": lambda x: torch.tensor_split(x, 3, dim=-1),
    "tensor_split places": lambda x: x.tensor_split((1, 2), dim=2),
    "unbind": lambda x: x.unbind(-1),
    "unbind first": lambda x: torch.unbind(x),
    "iteration": tuple,
}


@pytest.mark.parametrize("name", JOINED)
def test_joined(name):
    check(JOINED[name], 4, 2, 3)


@pytest.mark.parametrize("name", TAKEN_APART)
def test_taken_apart(name):
    def function(x):
        first, *_, last = TAKEN_APART[name](x)
        return first.sum(-1, keepdim=True) * last.exp()

    check(function, 4, 2, 3)


def test_writing_into_a_piece_is_refused_as_torch_refuses_it():
    def function(x):
        h = x * 1.0
        first, second = h.chunk(2, 1)
        first.mul_(second)
        return h

    x, tangents = samples(3, 4)
    with pytest.raises(RuntimeError, match="returns multiple views"):
        function(x.requires_grad_())
    with pytest.raises(RuntimeError, match="returns multiple views"):
        propagate(function, x, tangents)


def test_writing_into_the_whole_shows_in_its_pieces():
    def function(x):
        h = x * 1.0
        row = h.unbind(1)[0]
        h.mul_(x)
        return row * x[:, 0]

    x, tangents = samples(3, 4)
    y, dy = propagate(function, x, tangents)
    assert torch.allclose(y, x[:, 0] ** 3)
    assert torch.allclose(dy, 3 * x[:, :1] ** 2 * tangents[..., 0])


def test_unsafe_parts_may_be_changed_in_place():
    def function(x):
        a, b = torch.unsafe_chunk(x * 1.5, 2, 1)
        c, d = torch.unsafe_split(x * 2, 2, 1)
        return a.sigmoid_() * b.mul_(2) + c.tanh_() * d

    assert_propagates(function, *samples(3, 4))
