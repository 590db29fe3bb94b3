r"""Activations: they scale the tangents by their slope.

:math:`y = f(x)`, :math:`\dot y = f'(x)\,\dot x`. Curved ones state their slope in functions that
torch differentiates again; where it has a fused kernel for the slope, its backward kernel for a
gradient of one, that is the fastest. Piecewise linear ones scale the tangents by that kernel.

What else is to be known of an activation (its module and its names, whether it is piecewise linear,
its curvature) is noted beside its rule, for those who ask.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sktangent.propagation.dual import Dual, call, in_place, is_dual, register_rule

aten = torch.ops.aten

Derivatives = tuple[Tensor, Tensor, Tensor | None]


class Activation(NamedTuple):
    """What is known of an activation.

    Parameters
    ----------
    functions : tuple of callable
        The torch functions that compute it.
    module : nn.Module class or None
        The module that does.
    names : tuple of str
        What users call it.
    is_piecewise_linear : bool
        Whether its slope is constant between kinks.
    derivatives : callable or None
        Takes a and returns f(a), f'(a) and f''(a), None where that is zero everywhere; autograd
        need not follow. Only the commonest state their curvature.
    slope : callable or None
        Takes a and returns f(a) and f'(a), where that is sooner done than by ``derivatives``.
    """

    functions: tuple[Callable, ...] = ()
    module: type[nn.Module] | None = None
    names: tuple[str, ...] = ()
    is_piecewise_linear: bool = False
    derivatives: Callable[[Tensor], Derivatives] | None = None
    slope: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None

    def with_slope(self, a: Tensor) -> tuple[Tensor, Tensor]:
        """Compute f(a) and f'(a), of an activation that states its derivatives."""
        return self.derivatives(a)[:2] if self.slope is None else self.slope(a)


ACTIVATIONS: list[Activation] = [Activation(module=nn.Identity, names=("identity",))]


def _register(*functions: Callable, **known) -> Callable:
    """Register a rule for an activation, and note what is known of it."""

    def register(rule):
        register_rule(*functions)(rule)
        ACTIVATIONS.append(Activation(functions, **known))
        return rule

    return register


def _register_with_inplace(*functions: Callable, **known) -> Callable:
    """Do so for one that can be asked to work in place."""

    def register(rule):
        def with_inplace(*args, inplace=False, **kwargs):
            return in_place(rule, *args, **kwargs) if inplace else rule(*args, **kwargs)

        _register(*functions, **known)(with_inplace)
        return rule

    return register


# Curved functions ---------------------------------------------------------------------------------


def _slope(kernel: Callable, x: Tensor, *args, **kwargs) -> Tensor:
    # ones in full: an expanded one would keep the fastest kernels from being used
    return kernel(torch.ones_like(x), x, *args, **kwargs)


def _slope_of_tanh(y: Tensor) -> Tensor:
    return 1 - y * y


def _derivatives_of_tanh(a: Tensor) -> Derivatives:
    y = torch.tanh(a)
    slope = _slope_of_tanh(y)
    return y, slope, (-2 * y).mul_(slope)


@_register(torch.tanh, F.tanh, module=nn.Tanh, names=("tanh",), derivatives=_derivatives_of_tanh)
def _tanh(input):
    y = torch.tanh(input.primal)
    return Dual(y, input.tangents * _slope_of_tanh(y))


def _slope_of_sigmoid(y: Tensor) -> Tensor:
    return y * (1 - y)


def _derivatives_of_sigmoid(a: Tensor) -> Derivatives:
    y = torch.sigmoid(a)
    slope = _slope_of_sigmoid(y)
    return y, slope, slope * (1 - 2 * y)


@_register(
    *(torch.sigmoid, F.sigmoid, torch.special.expit),
    module=nn.Sigmoid,
    names=("sigmoid", "logistic"),
    derivatives=_derivatives_of_sigmoid,
)
def _sigmoid(input):
    y = torch.sigmoid(input.primal)
    return Dual(y, input.tangents * _slope_of_sigmoid(y))


def _derivatives_of_gelu(a: Tensor) -> Derivatives:
    square = a * a
    density = (square * -0.5).exp_().mul_(1 / math.sqrt(2 * math.pi))
    below = torch.special.ndtr(a)
    return a * below, torch.addcmul(below, a, density), density.mul_(2 - square)


def _gelu_with_slope(a: Tensor) -> tuple[Tensor, Tensor]:
    return F.gelu(a), _slope(aten.gelu_backward.default, a)


@_register(
    F.gelu,
    module=nn.GELU,
    names=("gelu",),
    derivatives=_derivatives_of_gelu,
    slope=_gelu_with_slope,
)
def _gelu(input, *, approximate="none"):
    slope = _slope(aten.gelu_backward.default, input.primal, approximate=approximate)
    return Dual(F.gelu(input.primal, approximate=approximate), input.tangents * slope)


def _derivatives_of_silu(a: Tensor) -> Derivatives:
    sigmoid = torch.sigmoid(a)
    y, rest = a * sigmoid, 1 - sigmoid
    slope = torch.addcmul(sigmoid, y, rest)
    return y, slope, (1 - 2 * sigmoid).mul_(a).add_(2).mul_(rest).mul_(sigmoid)


@_register_with_inplace(F.silu, module=nn.SiLU, names=("silu",), derivatives=_derivatives_of_silu)
def _silu(input):
    y, sigmoid = F.silu(input.primal), torch.sigmoid(input.primal)
    return Dual(y, input.tangents * torch.addcmul(sigmoid, y, 1 - sigmoid))


@_register_with_inplace(F.mish, module=nn.Mish, names=("mish",))
def _mish(input):
    x = input.primal
    tanh = torch.tanh(F.softplus(x))
    slope = tanh + x * torch.sigmoid(x) * (1 - tanh * tanh)
    return Dual(F.mish(x), input.tangents * slope)


@_register(F.softplus, module=nn.Softplus, names=("softplus",))
def _softplus(input, beta=1.0, threshold=20.0):
    x = input.primal
    slope = _slope(aten.softplus_backward.default, x, beta, threshold)
    return Dual(F.softplus(x, beta, threshold), input.tangents * slope)


def _exponential(input: Dual, y: Tensor, alpha=1.0, scale=1.0, rate=1.0) -> Dual:
    """Follow scale * x for positive x, else scale * alpha * (exp(rate * x) - 1)."""
    one = torch.ones_like(y)
    slope = aten.elu_backward.default(one, alpha, scale, rate, False, input.primal)
    return Dual(y, input.tangents * slope)


@_register_with_inplace(F.elu, module=nn.ELU, names=("elu",))
def _elu(input, alpha=1.0):
    return _exponential(input, F.elu(input.primal, alpha), alpha)


@_register_with_inplace(F.selu, torch.selu)
def _selu(input):
    y = torch.selu(input.primal)
    return _exponential(input, y, 1.6732632423543772, 1.0507009873554805)


@_register_with_inplace(F.celu, torch.celu)
def _celu(input, alpha=1.0):
    return _exponential(input, torch.celu(input.primal, alpha), alpha, 1.0, 1.0 / alpha)


@_register(F.logsigmoid)
def _logsigmoid(input):
    return Dual(F.logsigmoid(input.primal), input.tangents * torch.sigmoid(-input.primal))


# Piecewise linear functions: torch's own backward kernel scales the tangents ----------------------


def _scale(x: Dual, y: Tensor, kernel: Callable, *args) -> Dual:
    # the slope is piecewise constant: nothing flows back through x, so its graph is left out
    return Dual(y, kernel(x.tangents, x.primal.detach().expand_as(x.tangents), *args))


def _derivatives_of_relu(a: Tensor) -> Derivatives:
    return torch.relu(a), (a > 0).to(a.dtype), None


@_register_with_inplace(
    *(F.relu, torch.relu),
    module=nn.ReLU,
    names=("relu",),
    is_piecewise_linear=True,
    derivatives=_derivatives_of_relu,
)
def _relu(input):
    return _scale(input, torch.relu(input.primal), aten.threshold_backward.default, 0)


@_register_with_inplace(F.relu6, is_piecewise_linear=True)
def _relu6(input):
    return _scale(input, F.relu6(input.primal), aten.hardtanh_backward.default, 0.0, 6.0)


@_register_with_inplace(F.hardtanh, is_piecewise_linear=True)
def _hardtanh(input, min_val=-1.0, max_val=1.0):
    y = F.hardtanh(input.primal, min_val, max_val)
    return _scale(input, y, aten.hardtanh_backward.default, min_val, max_val)


@_register_with_inplace(F.leaky_relu, is_piecewise_linear=True)
def _leaky_relu(input, negative_slope=0.01):
    y = F.leaky_relu(input.primal, negative_slope)
    return _scale(input, y, aten.leaky_relu_backward.default, negative_slope, False)


@_register_with_inplace(F.threshold, torch.threshold, is_piecewise_linear=True)
def _threshold(input, threshold, value):
    y = F.threshold(input.primal, threshold, value)
    return _scale(input, y, aten.threshold_backward.default, threshold)


@_register_with_inplace(F.hardsigmoid, is_piecewise_linear=True)
def _hardsigmoid(input):
    # torch's kernel for the slope has no derivative
    inside = (input.primal > -3) & (input.primal < 3)
    return Dual(F.hardsigmoid(input.primal), torch.where(inside, input.tangents / 6, 0.0))


@_register(F.hardshrink, torch.hardshrink, is_piecewise_linear=True)
def _hardshrink(input, lambd=0.5):
    return _scale(input, F.hardshrink(input.primal, lambd), aten.hardshrink_backward.default, lambd)


@_register(F.softshrink, is_piecewise_linear=True)
def _softshrink(input, lambd=0.5):
    return _scale(input, F.softshrink(input.primal, lambd), aten.softshrink_backward.default, lambd)


@_register_with_inplace(F.rrelu, torch.rrelu, is_piecewise_linear=True)
def _rrelu(input, lower=1.0 / 8, upper=1.0 / 3, training=False):
    if not training:
        return _leaky_relu(input, (lower + upper) / 2)
    x = input.primal
    y = F.rrelu(x, lower, upper, training=True)
    # the noise that was drawn is the ratio of output to input; it is 1 where x >= 0
    noise = torch.where(x < 0, y / torch.where(x < 0, x, 1), 1).detach()
    return Dual(y, input.tangents * noise)


@_register(F.prelu, torch.prelu, is_piecewise_linear=True)
def _prelu(input, weight):
    if not is_dual(input) or is_dual(weight):
        return NotImplemented
    x = input.primal
    shape = [1] * x.ndim
    if x.ndim > 1:
        shape[1] = weight.numel()
    slope = torch.where(x > 0, 1, weight.reshape(shape))
    return Dual(F.prelu(x, weight), input.tangents * slope)


@_register_with_inplace(F.hardswish)
def _hardswish(input):
    x = input.primal
    slope = torch.where(x <= -3, 0.0, torch.where(x < 3, x / 3 + 0.5, 1.0))
    return Dual(F.hardswish(x), input.tangents * slope)


@_register(F.softsign)
def _softsign(input):
    x = input.primal
    return Dual(F.softsign(x), input.tangents / (1 + x.abs()).square())


@_register(F.tanhshrink)
def _tanhshrink(input):
    tanh = torch.tanh(input.primal)
    return Dual(input.primal - tanh, input.tangents * tanh.square())


@register_rule(F.glu)
def _glu(input, dim=-1):
    value, gate = call(torch.chunk, (input, 2, dim), {})
    return value * call(torch.sigmoid, (gate,), {})
