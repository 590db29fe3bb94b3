"""Functions that reduce axes to sums, means, spreads and products."""

from __future__ import annotations

import torch

from sktangent.propagation.dual import Dual
from sktangent.propagation.rules.axes import (
    numpy_names,
    register_along_axis,
    register_linear,
    shift,
)


def reduced_axes(input: Dual, dim: int | tuple | list | None) -> tuple:
    """Say which axes of the tangents a reduction takes away: all but theirs where none is named."""
    if input.primal.ndim == 0:  # torch lets it have an axis 0, which the tangents lack
        return ()
    if dim is None or (not isinstance(dim, int) and len(dim) == 0):
        return tuple(range(1, input.tangents.ndim))
    return shift((dim,) if isinstance(dim, int) else tuple(dim))


def reduced_sum(tangents: torch.Tensor, axes: tuple, keepdim: bool = False) -> torch.Tensor:
    """Sum over axes, over none where none is given (torch would take all)."""
    return tangents.sum(axes, keepdim=keepdim) if axes else tangents


def n_reduced(input: Dual, axes: tuple) -> int:
    """Count the elements that go into each result of a reduction."""
    count = 1
    for axis in axes:
        count *= input.tangents.shape[axis]
    return count


@register_linear(torch.sum)
@numpy_names
def sum_(input, dim=None, keepdim=False, *, dtype=None):
    """Sum."""
    y = torch.sum(input.primal, dim, keepdim, dtype=dtype)
    dy = reduced_sum(input.tangents.to(y.dtype), reduced_axes(input, dim), keepdim)
    return Dual(y, dy)


@register_linear(torch.mean)
@numpy_names
def mean(input, dim=None, keepdim=False, *, dtype=None):
    """Mean."""
    y = torch.mean(input.primal, dim, keepdim, dtype=dtype)
    axes = reduced_axes(input, dim)
    dy = input.tangents.mean(axes, keepdim, dtype=dtype) if axes else input.tangents.clone()
    return Dual(y, dy)


@register_linear(torch.nansum)
@numpy_names
def nansum(input, dim=None, keepdim=False, *, dtype=None):
    """Sum of what is not NaN."""
    y = torch.nansum(input.primal, dim, keepdim, dtype=dtype)
    counted = input.tangents.masked_fill(input.primal.isnan(), 0.0).to(y.dtype)
    return Dual(y, reduced_sum(counted, reduced_axes(input, dim), keepdim))


@register_linear(torch.nanmean)
@numpy_names
def nanmean(input, dim=None, keepdim=False, *, dtype=None):
    """Mean of what is not NaN."""
    count = input.primal.isnan().logical_not().sum(dim, keepdim)
    return nansum(input, dim, keepdim, dtype=dtype) / count


@register_along_axis(torch.cumsum)
@numpy_names
def cumsum(input, dim, *, dtype=None):
    """Sum of all elements up to each."""
    y = torch.cumsum(input.primal, dim, dtype=dtype)
    return Dual(y, torch.cumsum(input.tangents, shift(dim), dtype=dtype))


@register_linear(torch.trace)
def trace(input):
    """Sum of a matrix's diagonal."""
    return torch.diagonal(input).sum()


def _spread_arguments(dim, unbiased, keepdim, correction) -> tuple:
    """Read ``var(unbiased)``, ``var(dim, unbiased)`` and ``var(dim, correction=)``."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    if unbiased is not None:
        correction = int(unbiased)
    return dim, keepdim, 1 if correction is None else correction


def _variance(input: Dual, dim, keepdim: bool, correction: float) -> Dual:
    axes = reduced_axes(input, dim)
    centered = input.primal - input.primal.mean(dim, keepdim=True)
    freedom = n_reduced(input, axes) - correction
    variance = torch.var(input.primal, dim, correction=correction, keepdim=keepdim)
    slope = centered * (2.0 / freedom if freedom > 0 else float("nan"))
    return Dual(variance, reduced_sum(input.tangents * slope, axes, keepdim))


def _deviation(variance: Dual) -> Dual:
    """Take the root; where nothing varies, torch takes zero for the slope of the root."""
    none = variance.primal == 0
    deviation = variance.primal.masked_fill(none, 1.0).sqrt().masked_fill(none, 0.0)
    slope = 0.5 / deviation.masked_fill(none, torch.inf)
    return Dual(deviation, variance.tangents * slope)


@register_linear(torch.var)
@numpy_names
def var(input, dim=None, unbiased=None, keepdim=False, *, correction=None):
    """Variance."""
    return _variance(input, *_spread_arguments(dim, unbiased, keepdim, correction))


@register_linear(torch.std)
@numpy_names
def std(input, dim=None, unbiased=None, keepdim=False, *, correction=None):
    """Root of the variance."""
    return _deviation(var(input, dim, unbiased, keepdim, correction=correction))


@register_linear(torch.var_mean)
@numpy_names
def var_mean(input, dim=None, unbiased=None, keepdim=False, *, correction=None):
    """Variance and mean."""
    dim, keepdim, correction = _spread_arguments(dim, unbiased, keepdim, correction)
    return var(input, dim, keepdim=keepdim, correction=correction), mean(input, dim, keepdim)


@register_linear(torch.std_mean)
@numpy_names
def std_mean(input, dim=None, unbiased=None, keepdim=False, *, correction=None):
    """Root of the variance, and mean."""
    dim, keepdim, correction = _spread_arguments(dim, unbiased, keepdim, correction)
    return std(input, dim, keepdim=keepdim, correction=correction), mean(input, dim, keepdim)


@register_linear(torch.prod)
@numpy_names
def prod(input, dim=None, keepdim=False, *, dtype=None):
    """Product: each tangent is weighed with the product of all other elements."""
    if dim is None:
        return prod(torch.flatten(input), 0, dtype=dtype)
    if dtype is not None:
        input = input.to(dtype)
    if input.primal.ndim == 0:
        return input
    others = _products_of_others(input.primal.movedim(dim, -1)).movedim(-1, dim)
    dy = (input.tangents * others).sum(shift(dim), keepdim=keepdim)
    return Dual(torch.prod(input.primal, dim, keepdim), dy)


def _products_of_others(x: torch.Tensor) -> torch.Tensor:
    """Multiply, along the last axis, all elements but one; a division would fail at zero."""
    one = torch.ones_like(x[..., :1])
    before = torch.cat([one, x[..., :-1]], -1).cumprod(-1)
    after = torch.cat([one, x.flip(-1)[..., :-1]], -1).cumprod(-1).flip(-1)
    return before * after
