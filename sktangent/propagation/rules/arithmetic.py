"""Sums, products, powers and choices between values, any of which may carry tangents."""

from __future__ import annotations

from collections.abc import Callable

import torch

from sktangent.propagation.dual import Dual, constant, is_dual, lift, register_rule

Tensor = torch.Tensor


def _ndim(value: object) -> int:
    return value.ndim if isinstance(value, torch.Tensor) else 0


def _result(y: torch.Tensor, tangents: torch.Tensor) -> Dual:
    """Pair a result with tangents that still lack its dtype or its broadcast shape."""
    if tangents.dtype != y.dtype:
        tangents = tangents.to(y.dtype)
    if tangents.shape[1:] != y.shape:
        tangents = lift(tangents, y.ndim).expand(-1, *y.shape)
    return Dual(y, tangents)


# Sums ---------------------------------------------------------------------------------------------


@register_rule(torch.add, Tensor.__add__, Tensor.__radd__)
def _add(input, other, *, alpha=1):
    if is_dual(input):
        if not is_dual(other):
            # of its own, lest writing into views of the sum reach the tangents of the input
            tangents = input.tangents.clone()
            return _result(torch.add(input.primal, other, alpha=alpha), tangents)
        y = torch.add(input.primal, other.primal, alpha=alpha)
        a, b = lift(input.tangents, y.ndim), lift(other.tangents, y.ndim)
        return Dual(y, torch.add(a, b, alpha=alpha))
    if not is_dual(other):
        return NotImplemented
    tangents = other.tangents * alpha
    if not isinstance(input, torch.Tensor):
        return _result(torch.mul(other.primal, alpha) + input, tangents)
    return _result(torch.add(input, other.primal, alpha=alpha), tangents)


@register_rule(torch.sub, torch.subtract, Tensor.__sub__)
def _sub(input, other, *, alpha=1):
    return _add(input, other, alpha=-alpha)


@register_rule(torch.rsub, Tensor.__rsub__)
def _rsub(input, other, *, alpha=1):
    return _add(other, input, alpha=-alpha)


# Products -----------------------------------------------------------------------------------------


@register_rule(torch.mul, torch.multiply, Tensor.__mul__, Tensor.__rmul__)
def _mul(input, other):
    if not is_dual(input):
        input, other = other, input
    a, b = input.primal, constant(other)
    y = a * b
    tangents = lift(input.tangents, y.ndim) * b
    if is_dual(other):
        tangents = torch.addcmul(tangents, lift(other.tangents, y.ndim), a)
    return _result(y, tangents)


@register_rule(torch.div, torch.divide, torch.true_divide, Tensor.__truediv__, Tensor.__div__)
def _div(input, other, *, rounding_mode=None):
    a, b = constant(input), constant(other)
    if rounding_mode is not None:
        return torch.div(a, b, rounding_mode=rounding_mode)
    y = a / b
    if not is_dual(other):
        return _result(y, lift(input.tangents, y.ndim) / b)
    tangents = -lift(other.tangents, y.ndim) * y
    if is_dual(input):
        tangents = lift(input.tangents, y.ndim) + tangents
    return _result(y, tangents / b)


@register_rule(Tensor.__rdiv__, Tensor.__rtruediv__)
def _rdiv(input, other):
    return _div(other, input)


@register_rule(torch.addcmul)
def _addcmul(input, tensor1, tensor2, *, value=1):
    return input + value * (tensor1 * tensor2)


@register_rule(torch.addcdiv)
def _addcdiv(input, tensor1, tensor2, *, value=1):
    return input + value * (tensor1 / tensor2)


@register_rule(torch.lerp)
def _lerp(input, end, weight):
    return input + weight * (end - input)


@register_rule(torch.remainder, torch.fmod, Tensor.__mod__)
def _remainder(input, other):
    return NotImplemented


# Powers -------------------------------------------------------------------------------------------


@register_rule(torch.pow, Tensor.__pow__)
def _pow(input, exponent):
    return _power(torch.pow, input, exponent)


@register_rule(torch.float_power)
def _float_power(input, exponent):
    return _pow(_double(input), _double(exponent))


def _double(value):
    return value.double() if isinstance(value, torch.Tensor) else value


def _power(function: Callable, input, exponent):
    if not is_dual(exponent):
        return _power_of(function, input, exponent)
    a, b = constant(input), exponent.primal
    y = function(a, b)
    base = a if isinstance(a, torch.Tensor) else y.new_tensor(a)
    # 0 ** b stays 0 while b changes; its logarithm must not reach any gradient
    logarithm = torch.log(torch.where(base == 0, 1, base))
    tangents = lift(exponent.tangents, y.ndim) * (y * logarithm)
    if is_dual(input):
        tangents = tangents + _power_of(function, input, b).tangents
    return _result(y, tangents)


def _power_of(function: Callable, input: Dual, exponent: torch.Tensor | float) -> Dual:
    y = function(input.primal, exponent)
    x = input.primal.to(y.dtype)
    if isinstance(exponent, torch.Tensor):
        slope = torch.where(exponent == 0, 0.0, exponent * function(x, exponent - 1))
    elif exponent == 0:
        slope = torch.zeros_like(x)
    elif exponent == 2:
        slope = 2 * x
    else:
        slope = exponent * function(x, exponent - 1)
    return _result(y, lift(input.tangents, y.ndim) * slope)


@register_rule(Tensor.__rpow__)
def _rpow(input, other):
    return _pow(other, input)


@register_rule(torch.xlogy, torch.special.xlogy)
def _xlogy(input, other):
    a, b = constant(input), constant(other)
    y = torch.xlogy(a, b)
    tangents = 0.0
    if is_dual(input):
        logarithm = torch.where(a == 0, torch.log(torch.where(b <= 0, 1, b)), torch.log(b))
        tangents = lift(input.tangents, y.ndim) * logarithm
    if is_dual(other):
        tangents = tangents + lift(other.tangents, y.ndim) * (a / b)
    return _result(y, tangents)


# Choices ------------------------------------------------------------------------------------------


@register_rule(torch.where)
def _where(condition, input=None, other=None):
    if input is None or is_dual(condition):
        return NotImplemented
    y = torch.where(condition, constant(input), constant(other))
    chosen = [
        lift(value.tangents, y.ndim).to(y.dtype) if is_dual(value) else y.new_zeros(())
        for value in (input, other)
    ]
    return _result(y, torch.where(condition, *chosen))


@register_rule(Tensor.where)
def _where_method(input, condition, other):
    return _where(condition, input, other)


@register_rule(torch.clamp, torch.clip)
def _clamp(input, min=None, max=None):
    if is_dual(min) or is_dual(max) or not is_dual(input):
        return NotImplemented
    y = torch.clamp(input.primal, min, max)
    inside = torch.ones((), dtype=torch.bool, device=y.device)
    if min is not None:
        inside = inside & (input.primal >= min)
    if max is not None:
        inside = inside & (input.primal <= max)
    return _result(y, torch.where(inside, lift(input.tangents, y.ndim), 0.0))


@register_rule(torch.clamp_min)
def _clamp_min(input, min):
    return _clamp(input, min=min)


@register_rule(torch.clamp_max)
def _clamp_max(input, max):
    return _clamp(input, max=max)


def _choose(function: Callable, wins: Callable, input, other):
    """Follow the winner of two values; where they are equal, half of each, as torch does."""
    a, b = constant(input), constant(other)
    y = function(a, b)
    share = torch.where(a == b, 0.5, wins(a, b).to(y.dtype))
    tangents = 0.0
    if is_dual(input):
        tangents = lift(input.tangents, y.ndim) * share
    if is_dual(other):
        tangents = tangents + lift(other.tangents, y.ndim) * (1 - share)
    return _result(y, tangents)


@register_rule(torch.maximum)
def _maximum(input, other):
    return _choose(torch.maximum, torch.gt, input, other)


@register_rule(torch.minimum)
def _minimum(input, other):
    return _choose(torch.minimum, torch.lt, input, other)


@register_rule(torch.fmax)
def _fmax(input, other):
    return NotImplemented


@register_rule(torch.fmin)
def _fmin(input, other):
    return NotImplemented


@register_rule(torch.masked_fill)
def _masked_fill(input, mask, value):
    if is_dual(mask):
        return NotImplemented
    y = torch.masked_fill(constant(input), mask, constant(value))
    kept = lift(input.tangents, y.ndim) if is_dual(input) else y.new_zeros(())
    new = value.tangents.reshape(-1, *(1,) * y.ndim) if is_dual(value) else y.new_zeros(())
    return _result(y, torch.where(mask, new, kept))
