"""What propagate must agree with: plain double-precision autograd, reverse over reverse."""

import contextlib
import copy
import math
from unittest import mock

import pytest
import torch

from sktangent.propagation import propagate


def double_backward(module, x, tangents):
    """Return y and J τ of a module by differentiating its vector-Jacobian product once more."""
    if not x.requires_grad:
        x = x.detach().requires_grad_()
    y = module(x)
    if not y.requires_grad:
        return y, y.new_zeros(x.shape[0], tangents.shape[1], *y.shape[1:])
    v = torch.zeros_like(y, requires_grad=True)
    (vjp,) = torch.autograd.grad(y, x, v, create_graph=True, allow_unused=True)
    if vjp is None or not vjp.requires_grad:
        return y, y.new_zeros(x.shape[0], tangents.shape[1], *y.shape[1:])
    columns = [
        torch.autograd.grad(
            vjp,
            v,
            tangents[:, t],
            create_graph=True,
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )[0]
        for t in range(tangents.shape[1])
    ]
    return y, torch.stack(columns, dim=1)


def penalty_gradients(y, dy, inputs):
    """Return the gradients of a penalty on y and dy with respect to some inputs."""
    generator = torch.Generator().manual_seed(7)
    weights = torch.randn(y.shape, generator=generator, dtype=y.dtype)
    penalty = (y * weights).sum() + ((dy - 0.3) ** 2).sum()
    if not penalty.requires_grad:
        return [torch.zeros_like(value) for value in inputs]
    gradients = torch.autograd.grad(penalty, inputs, allow_unused=True)
    return [
        torch.zeros_like(value) if gradient is None else gradient
        for value, gradient in zip(inputs, gradients, strict=True)
    ]


def assert_propagates(module, x, tangents, rtol=1e-10, reference=None, seed=0):
    """Check propagate's y, J τ and penalty gradients (parameters and x) against autograd.

    ``reference`` is called in place of a copy of ``module`` where autograd's answer for the module
    itself is not the wanted one. Random numbers start from the same seed on both sides.
    """
    module, x, tangents = _double(module), x.detach().double(), tangents.detach().double()
    reference = copy.deepcopy(module) if reference is None else _double(reference)
    ours = _evaluate(propagate, module, x, tangents, seed)
    theirs = _evaluate(double_backward, reference, x, tangents, seed)
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        actual = ours[name]
        assert actual.shape == expected.shape, (name, actual.shape, expected.shape)
        scale = max(expected.abs().max().item() if expected.numel() else 0.0, 1e-12)
        assert torch.isfinite(expected).all(), f"{name}: the reference is not finite"
        error = (actual - expected).abs().max().item() / scale if expected.numel() else 0.0
        assert error <= rtol, f"{name}: relative error {error:.2e}"


def assert_propagates_or_refuses(module, x, tangents, *, name, **kwargs):
    """Check the same where this torch can differentiate the module twice, else what is refused."""
    if differentiates_twice(module, x, tangents):
        assert_propagates(module, x, tangents, **kwargs)
    else:
        with pytest.raises(NotImplementedError, match=name):
            propagate(_double(module), x.double(), tangents.double())


def differentiates_twice(module, x, tangents):
    """Ask torch itself."""
    try:
        _evaluate(double_backward, _double(copy.deepcopy(module)), x, tangents, seed=0)
    except RuntimeError as error:
        assert "is not implemented" in str(error), error
        return False
    return True


def as_matrix(function, *shape):
    """Write a linear function of each sample as a matrix, which any torch differentiates twice."""
    n_inputs = math.prod(shape[1:])
    basis = torch.eye(n_inputs, dtype=torch.float64).view(-1, 1, *shape[1:]).expand(-1, *shape)
    columns = torch.stack([function(vector) for vector in basis], dim=-1)
    return lambda x: (columns.flatten(1, -2) @ x.flatten(1).unsqueeze(-1)).view(columns.shape[:-1])


def _double(module):
    return module.double() if isinstance(module, torch.nn.Module) else module


def _evaluate(differentiate, module, x, tangents, seed):
    x = x.clone().requires_grad_()
    named = dict(module.named_parameters()) if isinstance(module, torch.nn.Module) else {}
    named = {name: value for name, value in named.items() if value.requires_grad}
    torch.manual_seed(seed)
    y, dy = differentiate(module, x, tangents)
    gradients = penalty_gradients(y, dy, [x, *named.values()])
    values = dict(zip(["gradient of x", *named], gradients, strict=True))
    return {"y": y.detach(), "dy": dy.detach(), **values}


@contextlib.contextmanager
def forbid_fallback():
    """Fail where propagate leaves a function to automatic differentiation.

    Functions that torch wrote in Python may be entered, if what they call has rules.
    """

    def refuse(func, *args):
        raise AssertionError(f"no rule took {getattr(func, '__name__', func)}")

    with mock.patch("sktangent.propagation.fallback._reverse_twice", refuse):
        yield


def assert_has_rule(module, x, tangents):
    """Check that rules alone take the tangents through a module."""
    with forbid_fallback():
        propagate(_double(module), x.double(), tangents.double())


def samples(*shape, n_tangents=3, seed=0):
    """Return random samples of that shape, and tangents for them, in double precision."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(*shape, generator=generator, dtype=torch.float64)
    tangents = torch.randn(
        shape[0], n_tangents, *shape[1:], generator=generator, dtype=torch.float64
    )
    return x, tangents
