"""Functions that select elements by their size: the tangents are those of the selected ones."""

from __future__ import annotations

from collections.abc import Callable

import torch

from sktangent.propagation.dual import Dual, register_rule
from sktangent.propagation.rules.axes import numpy_names, register_linear, shift
from sktangent.propagation.rules.reductions import reduced_axes, reduced_sum


def _shared(input: Dual, y: torch.Tensor, kept: torch.Tensor, dim, keepdim: bool) -> Dual:
    """Let elements that tie share the derivative evenly, as torch does."""
    ties = (input.primal == kept).to(y.dtype)
    share = ties / ties.sum(dim, keepdim=True)
    return Dual(y, reduced_sum(input.tangents * share, reduced_axes(input, dim), keepdim))


def _register_extreme(function: Callable) -> Callable:
    @register_linear(function)
    @numpy_names
    def extreme(input, dim=(), keepdim=False):
        y = function(input.primal, dim, keepdim)
        axes = None if dim == () else dim
        return _shared(input, y, function(input.primal, dim, True), axes, keepdim)

    return extreme


for _function in (torch.amax, torch.amin):
    _register_extreme(_function)


def _selected(function: Callable, input: Dual, dim: int, keepdim: bool, *args):
    """Take the values and indices of a function, and the tangents at these indices."""
    result = function(input.primal, *args)
    values, indices = result
    tangents = input.tangents
    if input.primal.ndim:
        places = indices if keepdim else indices.unsqueeze(dim)
        tangents = tangents.gather(shift(dim), places.expand(tangents.shape[0], *places.shape))
        tangents = tangents if keepdim else tangents.squeeze(shift(dim))
    return type(result)((Dual(values, tangents), indices))


def _register_max(function: Callable, elementwise: Callable) -> None:
    @register_rule(function)
    @numpy_names
    def max_or_min(input, dim=None, keepdim=False, *, other=None):
        other = dim if isinstance(dim, torch.Tensor) else other
        if other is not None:
            return elementwise(input, other)
        if dim is not None:
            return _selected(function, input, dim, keepdim, dim, keepdim)
        y = function(input.primal)
        return _shared(input, y, y, None, False)


_register_max(torch.max, torch.maximum)
_register_max(torch.min, torch.minimum)


def _register_median(function: Callable) -> None:
    @register_linear(function)
    @numpy_names
    def median(input, dim=None, keepdim=False):
        if dim is not None:
            return _selected(function, input, dim, keepdim, dim, keepdim)
        y = function(input.primal)
        return _shared(input, y, y, None, False)


_register_median(torch.median)
_register_median(torch.nanmedian)


@register_linear(torch.mode)
@numpy_names
def mode(input, dim=-1, keepdim=False):
    """Most frequent value of an axis."""
    return _selected(torch.mode, input, dim, keepdim, dim, keepdim)


@register_linear(torch.kthvalue)
@numpy_names
def kthvalue(input, k, dim=-1, keepdim=False):
    """Value with a given rank of an axis."""
    return _selected(torch.kthvalue, input, dim, keepdim, k, dim, keepdim)


@register_linear(torch.topk)
def topk(input, k, dim=-1, largest=True, sorted=True):
    """Largest or smallest values of an axis."""
    return _selected(torch.topk, input, dim, True, k, dim, largest, sorted)


@register_linear(torch.sort)
def sort(input, dim=-1, descending=False, *, stable=False):
    """Values of an axis in order."""

    def sort_stably(x):
        return torch.sort(x, stable=stable, dim=dim, descending=descending)

    return _selected(sort_stably, input, dim, True)


def _register_cumulative(function: Callable) -> None:
    @register_linear(function)
    def cumulative(input, dim):
        return _selected(function, input, dim, True, dim)


_register_cumulative(torch.cummax)
_register_cumulative(torch.cummin)


@register_linear(torch.aminmax)
def aminmax(input, *, dim=None, keepdim=False):
    """Smallest and largest value."""
    dims = () if dim is None else dim
    extremes = torch.amin(input, dims, keepdim), torch.amax(input, dims, keepdim)
    return torch.return_types.aminmax(extremes)
