r"""Elementwise functions of mathematics: :math:`y = f(x)`, :math:`\dot y = f'(x)\,\dot x`.

Each states its slope in torch functions, and torch differentiates it again. To add one, add a row
to the table.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from sktangent.propagation.dual import Dual, is_dual, lift, register_rule


@register_rule(torch.logit, torch.special.logit)
def _logit(input, eps=None):
    x = input.primal
    slope = 1 / (x * (1 - x))
    if eps is not None:
        inside = (x >= eps) & (x <= 1 - eps)
        kept = torch.where(inside, x, 0.5)
        slope = torch.where(inside, 1 / (kept * (1 - kept)), 0.0)
    return Dual(torch.logit(x, eps), input.tangents * slope)


@register_rule(torch.sinc, torch.special.sinc)
def _sinc(input):
    x = math.pi * input.primal
    y = torch.sinc(input.primal)
    # (cos x - sinc x) / x loses all digits near zero, where the series is exact
    near = x.abs() < 0.02
    away = torch.where(near, 1.0, x)
    quotient = (torch.cos(away) - torch.sin(away) / away) / away
    square = torch.where(near, x, 0.0).square()
    series = x * (-1 / 3 + square * (1 / 30 - square * (1 / 840 - square / 45360)))
    return Dual(y, input.tangents * (math.pi * torch.where(near, series, quotient)))


@register_rule(torch.nan_to_num)
def _nan_to_num(input, nan=0.0, posinf=None, neginf=None):
    y = torch.nan_to_num(input.primal, nan, posinf, neginf)
    return Dual(y, torch.where(torch.isfinite(input.primal), input.tangents, 0.0))


_SQRT_PI = math.sqrt(math.pi)

# name in torch: slope, from x and y = f(x)
_SLOPES = {
    "exp": lambda x, y: y,
    "exp2": lambda x, y: y * math.log(2),
    "expm1": lambda x, y: y + 1,
    "log": lambda x, y: 1 / x,
    "log2": lambda x, y: 1 / (x * math.log(2)),
    "log10": lambda x, y: 1 / (x * math.log(10)),
    "log1p": lambda x, y: 1 / (1 + x),
    "sin": lambda x, y: torch.cos(x),
    "cos": lambda x, y: -torch.sin(x),
    "tan": lambda x, y: 1 + y * y,
    "asin": lambda x, y: torch.rsqrt(1 - x * x),
    "acos": lambda x, y: -torch.rsqrt(1 - x * x),
    "atan": lambda x, y: 1 / (1 + x * x),
    "sinh": lambda x, y: torch.cosh(x),
    "cosh": lambda x, y: torch.sinh(x),
    "asinh": lambda x, y: torch.rsqrt(x * x + 1),
    "acosh": lambda x, y: torch.rsqrt(x * x - 1),
    "atanh": lambda x, y: 1 / (1 - x * x),
    "sqrt": lambda x, y: 0.5 / y,
    "rsqrt": lambda x, y: -0.5 * y * y * y,
    "reciprocal": lambda x, y: -y * y,
    "square": lambda x, y: 2 * x,
    "abs": lambda x, y: torch.sign(x),
    "erf": lambda x, y: torch.exp(-x * x) * (2 / _SQRT_PI),
    "erfc": lambda x, y: torch.exp(-x * x) * (-2 / _SQRT_PI),
    "erfinv": lambda x, y: torch.exp(y * y) * (_SQRT_PI / 2),
    "lgamma": lambda x, y: torch.digamma(x),
    "digamma": lambda x, y: torch.polygamma(1, x),
    "i0": lambda x, y: torch.special.i1(x),
    "deg2rad": lambda x, y: math.pi / 180,
    "rad2deg": lambda x, y: 180 / math.pi,
    "frac": lambda x, y: 1,
    "neg": lambda x, y: -1,
}

# the same functions under other names
_ALIASES = {
    "arcsin": "asin",
    "arccos": "acos",
    "arctan": "atan",
    "arcsinh": "asinh",
    "arccosh": "acosh",
    "arctanh": "atanh",
    "absolute": "abs",
    "negative": "neg",
    "fabs": "abs",
}

_SPECIAL = {
    "exp2": "exp2",
    "expm1": "expm1",
    "log1p": "log1p",
    "erf": "erf",
    "erfc": "erfc",
    "erfinv": "erfinv",
    "gammaln": "lgamma",
    "digamma": "digamma",
    "psi": "digamma",
    "i0": "i0",
}


def _by_slope(function: Callable, slope: Callable) -> Callable:
    def rule(input):
        if input.primal.is_complex():
            return NotImplemented
        y = function(input.primal)
        return Dual(y, input.tangents * slope(input.primal, y))

    return rule


def _register_slopes() -> None:
    for name, slope in _SLOPES.items():
        aliases = [alias for alias, meant in _ALIASES.items() if meant == name]
        functions = [getattr(torch, known) for known in [name, *aliases] if hasattr(torch, known)]
        functions += [
            getattr(torch.special, known) for known, meant in _SPECIAL.items() if meant == name
        ]
        operator = getattr(torch.Tensor, f"__{name}__", None)
        functions += [operator] if operator is not None else []
        register_rule(*functions)(_by_slope(getattr(torch, name), slope))


_register_slopes()


@register_rule(torch.special.ndtr)
def _ndtr(input):
    x = input.primal
    density = torch.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
    return Dual(torch.special.ndtr(x), input.tangents * density)


@register_rule(torch.special.entr)
def _entr(input):
    x = input.primal
    return Dual(torch.special.entr(x), input.tangents * (-torch.log(x) - 1))


# Functions of two values, each of which may carry tangents ----------------------------------------


def _by_slopes(function: Callable, slopes: Callable) -> Callable:
    """Make a rule from ``slopes(a, b, y)``, the slopes in a and in b."""

    def rule(input, other):
        if not all(isinstance(value, torch.Tensor) for value in (input, other)):
            return NotImplemented
        a = input.primal if is_dual(input) else input
        b = other.primal if is_dual(other) else other
        y = function(a, b)
        terms = [
            lift(value.tangents, y.ndim) * slope
            for value, slope in zip((input, other), slopes(a, b, y), strict=True)
            if is_dual(value)
        ]
        return Dual(y, sum(terms[1:], start=terms[0]))

    return rule


def _hypot_slopes(a, b, y):
    return a / y, b / y


def _atan2_slopes(a, b, y):
    scale = 1 / (a * a + b * b)
    return b * scale, -a * scale


def _logaddexp_slopes(a, b, y):
    share = torch.sigmoid(a - b)
    return share, 1 - share


register_rule(torch.hypot)(_by_slopes(torch.hypot, _hypot_slopes))
register_rule(torch.atan2, torch.arctan2)(_by_slopes(torch.atan2, _atan2_slopes))
register_rule(torch.logaddexp)(_by_slopes(torch.logaddexp, _logaddexp_slopes))
