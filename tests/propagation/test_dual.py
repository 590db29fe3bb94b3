import copy
import operator
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from sktangent.propagation import dual as dual_value
from sktangent.propagation import propagate, register_rule
from sktangent.propagation.dual import Dual, any_dual, constant, is_dual, lift
from tests.propagation.reference import assert_propagates, samples


def dual(*shape):
    x, tangents = samples(*shape)
    return Dual(x, tangents.transpose(0, 1).contiguous())


def test_passes_for_a_tensor_in_python():
    x = dual(5, 4)
    assert isinstance(x, torch.Tensor)
    assert torch.is_tensor(x)
    assert is_dual(x) and not is_dual(x.primal)
    assert x.shape == (5, 4) and x.size(1) == 4 and x.dim() == x.ndim == 2 and len(x) == 5
    assert x.dtype == torch.float64 and x.device.type == "cpu" and not x.requires_grad
    assert "Dual" in repr(x) and "(5, 4)" in repr(x)
    assert f"{x.sum():.3f}" == f"{x.primal.sum():.3f}"


def test_iterates_over_rows():
    rows = list(dual(5, 4))
    assert len(rows) == 5 and all(is_dual(row) and row.tangents.shape == (3, 4) for row in rows)


def test_helpers_reach_into_structures():
    x = dual(5, 4)
    assert any_dual({"a": [1, (x,)]}) and not any_dual([1, {"a": x.primal}])
    assert constant([1, {"a": (x,)}])[1]["a"][0] is x.primal
    assert lift(x.tangents, 4).shape == (3, 1, 1, 5, 4)
    assert lift(x.tangents, 1) is x.tangents


def test_a_registered_rule_answers_for_function_method_and_in_place_method(monkeypatch):
    monkeypatch.setattr(dual_value, "_RULES", {**dual_value._RULES})
    calls = []

    @register_rule(torch.special.i0e)
    def rule(input):
        calls.append(input.shape)
        return Dual(input.primal, 2 * input.tangents)

    x, tangents = samples(5, 4)
    _, dy = propagate(torch.special.i0e, x, tangents)
    assert calls == [(5, 4)]
    torch.testing.assert_close(dy, 2 * tangents)


def test_method_and_in_place_method_find_the_rule_of_the_function():
    for forward in (torch.erfc, lambda x: x.erfc(), lambda x: (x * 1).erfc_(), torch.special.erfc):
        assert_propagates(forward, *samples(5, 4))


def test_register_rule_wants_functions():
    with pytest.raises(TypeError, match="torch functions"):
        register_rule("relu")


def write_through_view(x):
    base = x * 2
    base.view(-1)[3:7].mul_(3.0)
    return base * x


def write_into_base(x):
    base = x * 2
    view = base[:, 1:3]
    base += x
    return view * base[:, :2]


def write_into_transposed_view(x):
    base = x * 2
    base.t().sin_()
    return base


def write_part(x):
    base = x * 2
    base[:, 0] = x[:, 1] ** 2
    base[1] = 0.5
    base[..., -1:] *= 2
    return base


def write_by_mask(x):
    base = x * 2
    base[base > 0.3] = 1.0
    base[[0, 2], [1, 3]] = x[0, :2]
    return base * x


def overwrite(x):
    base, other = x * 2, x.sin()
    base[:, 1:3].copy_(other[:, :2])
    base[0].zero_()
    base[1].fill_(2.0)
    return base * x


def view_of_view(x):
    base = x * 1
    view = base.view(-1, 2, 2)
    inner = view[:, 0]
    inner += 1
    base *= x
    return inner.repeat(1, 2) * base


def reshape_in_place(x):
    base = x * 2
    flat = base.view(-1)
    base.unsqueeze_(0).squeeze_(0).t_()
    flat *= 3.0
    return base.transpose_(0, 1)


def reshape_square_in_place(x):
    base = (x[:4].T @ x[:4]).sin()
    view = base[0]
    base.t_()
    base[0] *= 2.0
    return x[:4] * base * view


@pytest.mark.parametrize(
    "forward",
    [write_through_view, write_into_base, write_into_transposed_view, write_part]
    + [write_by_mask, overwrite, view_of_view, reshape_in_place, reshape_square_in_place],
    ids=lambda forward: forward.__name__,
)
def test_in_place_functions_reach_bases_and_views(forward):
    assert_propagates(forward, *samples(5, 4))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x + 1,
        lambda x: 1 + x,
        lambda x: x - torch.ones(4, dtype=x.dtype),
        lambda x: torch.add(torch.ones(5, 4, dtype=x.dtype), x),
        lambda x: torch.fmod(x, 100.0),
        lambda x: torch.remainder(x, 100.0),
    ],
)
def test_a_sum_does_not_share_its_tangents(function):
    def forward(x):
        h = function(x)
        v = h[:, :2]
        v.mul_(2)
        return x * h

    assert_propagates(forward, *samples(5, 4))


def test_in_place_functions_leave_the_caller_alone():
    x, tangents = samples(5, 4, n_tangents=1)
    kept = x.clone(), tangents.clone()
    propagate(nn.Sequential(nn.Flatten(), nn.ReLU(inplace=True)), x, tangents)
    assert torch.equal(x, kept[0]) and torch.equal(tangents, kept[1])


@pytest.mark.parametrize(
    "write",
    [
        lambda out, x: out.__setitem__((slice(None), 0), x[:, 0]),
        lambda out, x: out.copy_(x),
        lambda out, x: out.add_(x),
        lambda out, x: out[:, 0].__iadd__(x[:, 0]),
        lambda out, x: torch.add(x, x, out=out),
        lambda out, x: operator.iadd(out, x),
    ],
)
def test_writing_into_a_plain_tensor_is_refused(write):
    def forward(x):
        out = torch.zeros(5, 4, dtype=x.dtype)
        write(out, x)
        return out

    with pytest.raises(RuntimeError, match="carries none"):
        propagate(forward, *samples(5, 4))


@pytest.mark.parametrize(
    "convert",
    [lambda x: x.numpy(), np.asarray, pickle.dumps, copy.copy, lambda x: torch.from_numpy(x)],
    ids=["numpy", "asarray", "pickle", "copy", "from_numpy"],
)
def test_conversions_that_would_lose_tangents_are_refused(convert):
    with pytest.raises(TypeError):
        convert(dual(5, 4))


@pytest.mark.parametrize("name, value", [("data", torch.ones(5, 4)), ("requires_grad", True)])
def test_attributes_cannot_be_set(name, value):
    with pytest.raises(TypeError, match=name):
        setattr(dual(5, 4), name, value)


def test_attributes_are_those_of_the_samples():
    x = dual(5, 4)
    assert not x.is_cuda and x.layout is torch.strided and x.grad is None and x.is_leaf
    assert x.T.shape == x.mT.shape == (4, 5) and is_dual(x.T) and is_dual(x.real)
    assert x.itemsize == 8 and x.grad_fn is None


def test_what_does_not_ask_is_refused():
    with pytest.raises(TypeError, match="compiled code"), torch._C.DisableTorchFunctionSubclass():
        torch.cumsum(dual(5, 4), 0)
    for take in (torch.tensor, torch.Tensor, lambda x: torch.tensor([x, x])):
        with pytest.raises(TypeError):
            take(dual(5, 4))


def test_numbers_are_constants():
    x = dual(5, 4)
    assert float(x[0, 0]) == x.primal[0, 0].item() == x[0, 0].item()
    assert bool(x[0, 0] > x[0, 0] - 1) and x.tolist() == x.primal.tolist()
    assert not is_dual(x > 0) and not is_dual(x.argmax(1)) and not is_dual(x.detach())
    assert not is_dual(x.data) and x.requires_grad_() is x
    assert 7.5 not in x and (x == x).all()


def test_samples_cannot_be_an_index():
    with pytest.raises(TypeError):
        propagate(lambda x: torch.arange(3)[x], *samples(5, 4))


def test_a_gradient_hook_is_refused():
    with pytest.raises(TypeError, match="hook"):
        propagate(lambda x: x.register_hook(print) and x, *samples(5, 4))
