"""Pooling over windows, by their mean or their largest element."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from sktangent.propagation.dual import Dual
from sktangent.propagation.rules.axes import over_rows, register_linear


def _at(tangents: torch.Tensor, indices: torch.Tensor, n_axes: int) -> torch.Tensor:
    """Pick the tangents of the elements that were largest in their windows."""
    count = tangents.shape[0]
    flat = indices.flatten(-n_axes)
    picked = tangents.flatten(-n_axes).gather(-1, flat.expand(count, *flat.shape))
    return picked.view(count, *indices.shape)


def _register_max(with_indices: Callable, plain: tuple, n_axes: int) -> None:
    """Register a pooling function that says where in its input each output was found."""

    @register_linear(with_indices)
    def pool_with_indices(input, *args, **kwargs):
        y, indices = with_indices(input.primal, *args, **kwargs)
        return Dual(y, _at(input.tangents, indices, n_axes)), indices

    @register_linear(*plain)
    def pool(input, *args, return_indices=False, **kwargs):
        result = pool_with_indices(input, *args, **kwargs)
        return result if return_indices else result[0]


def _register_mean(function: Callable, n_axes: int) -> None:
    @register_linear(function)
    def pool(input, *args, **kwargs):
        y = function(input.primal, *args, **kwargs)
        dy = over_rows(lambda t: function(t, *args, **kwargs), input.tangents, n_axes + 2)
        return Dual(y, dy)


def _register_unpool(function: Callable, n_axes: int) -> None:
    @register_linear(function)
    def unpool(input, indices, *args, **kwargs):
        tangents, rank = input.tangents, n_axes + 2
        y = function(input.primal, indices, *args, **kwargs)
        places = indices.expand(tangents.shape)
        if tangents.ndim > rank:
            tangents, places = tangents.flatten(0, 1), places.flatten(0, 1)
        dy = function(tangents, places, *args, **kwargs)
        return Dual(y, dy.view(input.tangents.shape[0], *y.shape))


for _n in (1, 2, 3):
    _name = f"max_pool{_n}d"
    _register_max(
        getattr(F, f"{_name}_with_indices"), (getattr(F, _name), getattr(torch, _name)), _n
    )
    _name = f"adaptive_max_pool{_n}d"
    _register_max(getattr(F, f"{_name}_with_indices"), (getattr(F, _name),), _n)
    _register_mean(getattr(F, f"avg_pool{_n}d"), _n)
    _register_mean(getattr(F, f"adaptive_avg_pool{_n}d"), _n)
    _register_unpool(getattr(F, f"max_unpool{_n}d"), _n)

for _n in (2, 3):
    _register_max(
        getattr(F, f"fractional_max_pool{_n}d_with_indices"),
        (getattr(F, f"fractional_max_pool{_n}d"),),
        _n,
    )
