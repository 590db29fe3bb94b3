r"""Activations: they scale the tangents by their slope.

:math:`y = f(x)`, :math:`\dot y = f'(x)\,\dot x`. Curved ones state their slope in functions that
torch differentiates again; where it has a fused kernel for the slope, its backward kernel for a
gradient of one, that is the fastest. Piecewise linear ones scale the tangents by that kernel.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from sktangent.propagation.dual import Dual, call, in_place, is_dual, register_rule

aten = torch.ops.aten


def _register_activation(*functions: Callable) -> Callable:
    """Register a rule for activations that can be asked to work in place."""

    def register(rule):
        def with_inplace(*args, inplace=False, **kwargs):
            return in_place(rule, *args, **kwargs) if inplace else rule(*args, **kwargs)

        register_rule(*functions)(with_inplace)
        return rule

    return register


# Curved functions ---------------------------------------------------------------------------------


def _slope(kernel: Callable, x: torch.Tensor, *args, **kwargs) -> torch.Tensor:
    # ones in full: an expanded one would keep the fastest kernels from being used
    return kernel(torch.ones_like(x), x, *args, **kwargs)


@register_rule(torch.tanh, F.tanh)
def _tanh(input):
    y = torch.tanh(input.primal)
    return Dual(y, input.tangents * (1 - y * y))


@register_rule(torch.sigmoid, F.sigmoid, torch.special.expit)
def _sigmoid(input):
    y = torch.sigmoid(input.primal)
    return Dual(y, input.tangents * (y * (1 - y)))


@register_rule(F.gelu)
def _gelu(input, *, approximate="none"):
    slope = _slope(aten.gelu_backward.default, input.primal, approximate=approximate)
    return Dual(F.gelu(input.primal, approximate=approximate), input.tangents * slope)


@_register_activation(F.silu)
def _silu(input):
    y, sigmoid = F.silu(input.primal), torch.sigmoid(input.primal)
    return Dual(y, input.tangents * (sigmoid + y * (1 - sigmoid)))


@_register_activation(F.mish)
def _mish(input):
    x = input.primal
    tanh = torch.tanh(F.softplus(x))
    slope = tanh + x * torch.sigmoid(x) * (1 - tanh * tanh)
    return Dual(F.mish(x), input.tangents * slope)


@register_rule(F.softplus)
def _softplus(input, beta=1.0, threshold=20.0):
    x = input.primal
    slope = _slope(aten.softplus_backward.default, x, beta, threshold)
    return Dual(F.softplus(x, beta, threshold), input.tangents * slope)


def _exponential(input: Dual, y: torch.Tensor, alpha=1.0, scale=1.0, rate=1.0) -> Dual:
    """Follow scale * x for positive x, else scale * alpha * (exp(rate * x) - 1)."""
    one = torch.ones_like(y)
    slope = aten.elu_backward.default(one, alpha, scale, rate, False, input.primal)
    return Dual(y, input.tangents * slope)


@_register_activation(F.elu)
def _elu(input, alpha=1.0):
    return _exponential(input, F.elu(input.primal, alpha), alpha)


@_register_activation(F.selu, torch.selu)
def _selu(input):
    y = torch.selu(input.primal)
    return _exponential(input, y, 1.6732632423543772, 1.0507009873554805)


@_register_activation(F.celu, torch.celu)
def _celu(input, alpha=1.0):
    return _exponential(input, torch.celu(input.primal, alpha), alpha, 1.0, 1.0 / alpha)


@register_rule(F.logsigmoid)
def _logsigmoid(input):
    return Dual(F.logsigmoid(input.primal), input.tangents * torch.sigmoid(-input.primal))


# Piecewise linear functions: torch's own backward kernel scales the tangents ----------------------


def _scale(x: Dual, y: torch.Tensor, kernel: Callable, *args) -> Dual:
    # the slope is piecewise constant: nothing flows back through x, so its graph is left out
    return Dual(y, kernel(x.tangents, x.primal.detach().expand_as(x.tangents), *args))


@_register_activation(F.relu, torch.relu)
def _relu(input):
    return _scale(input, torch.relu(input.primal), aten.threshold_backward.default, 0)


@_register_activation(F.relu6)
def _relu6(input):
    return _scale(input, F.relu6(input.primal), aten.hardtanh_backward.default, 0.0, 6.0)


@_register_activation(F.hardtanh)
def _hardtanh(input, min_val=-1.0, max_val=1.0):
    y = F.hardtanh(input.primal, min_val, max_val)
    return _scale(input, y, aten.hardtanh_backward.default, min_val, max_val)


@_register_activation(F.leaky_relu)
def _leaky_relu(input, negative_slope=0.01):
    y = F.leaky_relu(input.primal, negative_slope)
    return _scale(input, y, aten.leaky_relu_backward.default, negative_slope, False)


@_register_activation(F.threshold, torch.threshold)
def _threshold(input, threshold, value):
    y = F.threshold(input.primal, threshold, value)
    return _scale(input, y, aten.threshold_backward.default, threshold)


@_register_activation(F.hardsigmoid)
def _hardsigmoid(input):
    # torch's kernel for the slope has no derivative
    inside = (input.primal > -3) & (input.primal < 3)
    return Dual(F.hardsigmoid(input.primal), torch.where(inside, input.tangents / 6, 0.0))


@register_rule(F.hardshrink, torch.hardshrink)
def _hardshrink(input, lambd=0.5):
    return _scale(input, F.hardshrink(input.primal, lambd), aten.hardshrink_backward.default, lambd)


@register_rule(F.softshrink)
def _softshrink(input, lambd=0.5):
    return _scale(input, F.softshrink(input.primal, lambd), aten.softshrink_backward.default, lambd)


@_register_activation(F.rrelu, torch.rrelu)
def _rrelu(input, lower=1.0 / 8, upper=1.0 / 3, training=False):
    if not training:
        return _leaky_relu(input, (lower + upper) / 2)
    x = input.primal
    y = F.rrelu(x, lower, upper, training=True)
    # the noise that was drawn is the ratio of output to input; it is 1 where x >= 0
    noise = torch.where(x < 0, y / torch.where(x < 0, x, 1), 1).detach()
    return Dual(y, input.tangents * noise)


@register_rule(F.prelu, torch.prelu)
def _prelu(input, weight):
    if not is_dual(input) or is_dual(weight):
        return NotImplemented
    x = input.primal
    shape = [1] * x.ndim
    if x.ndim > 1:
        shape[1] = weight.numel()
    slope = torch.where(x > 0, 1, weight.reshape(shape))
    return Dual(F.prelu(x, weight), input.tangents * slope)


@_register_activation(F.hardswish)
def _hardswish(input):
    x = input.primal
    slope = torch.where(x <= -3, 0.0, torch.where(x < 3, x / 3 + 0.5, 1.0))
    return Dual(F.hardswish(x), input.tangents * slope)


@register_rule(F.softsign)
def _softsign(input):
    x = input.primal
    return Dual(F.softsign(x), input.tangents / (1 + x.abs()).square())


@register_rule(F.tanhshrink)
def _tanhshrink(input):
    tanh = torch.tanh(input.primal)
    return Dual(input.primal - tanh, input.tangents * tanh.square())


@register_rule(F.glu)
def _glu(input, dim=-1):
    value, gate = call(torch.chunk, (input, 2, dim), {})
    return value * call(torch.sigmoid, (gate,), {})
