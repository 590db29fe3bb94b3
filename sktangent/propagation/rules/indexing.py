"""Functions that pick elements by position or mask, and functions that fill such places."""

from __future__ import annotations

from collections.abc import Callable

import torch

from sktangent.propagation.dual import Dual, any_dual, constant, lift, register_rule
from sktangent.propagation.rules.axes import (
    n_tangents,
    register_along_axis,
    register_linear,
    shift,
    tangents_of,
)


def _as_tuple(index: object) -> tuple:
    return index if isinstance(index, tuple) else (index,)


def _is_basic(entry: object) -> bool:
    """Tell whether an index entry makes a view: an int, a slice, None or an ellipsis."""
    if isinstance(entry, torch.Tensor):
        return entry.ndim == 0 and entry.dtype is not torch.bool and entry.dtype is not torch.uint8
    return entry is None or entry is Ellipsis or isinstance(entry, slice) or _is_int(entry)


def _is_int(entry: object) -> bool:
    return isinstance(entry, int) and not isinstance(entry, bool)


def _splits_arrays(index: tuple) -> bool:
    """Tell whether slices stand between index arrays, which sends their axes to the front."""
    arrays = [place for place, entry in enumerate(index) if not _is_basic(entry)]
    if not arrays:
        return False
    between = index[arrays[0] : arrays[-1]]
    return any(e is None or e is Ellipsis or isinstance(e, slice) for e in between)


def _tangents_last(index: tuple) -> tuple:
    """Index values that have the tangent axis last; an ellipsis must not swallow it."""
    return (*index, slice(None)) if any(entry is Ellipsis for entry in index) else index


def _pick(tangents: torch.Tensor, index: tuple) -> torch.Tensor:
    if _splits_arrays(index):
        return tangents.movedim(0, -1)[_tangents_last(index)].movedim(-1, 0)
    return tangents[(slice(None), *index)]


@register_rule(torch.Tensor.__getitem__)
def getitem(input, index):
    """Pick elements: ``input[index]``."""
    if any_dual(index):
        raise TypeError("Samples with tangents cannot serve as an index.")
    if isinstance(index, list) and not all(isinstance(entry, int) for entry in index):
        return NotImplemented  # an array in the eyes of a new torch, a tuple in those of an old one
    index = _as_tuple(index)
    picked = Dual(input.primal[index], _pick(input.tangents, index))
    return picked.view_of(input) if all(map(_is_basic, index)) else picked


def _lack_axes(*values: object) -> bool:
    """Tell whether torch lends one of the values an axis, which its tangents lack."""
    return any(isinstance(value, torch.Tensor) and value.ndim == 0 for value in values)


def _register_along_axis(function: Callable, is_view: bool) -> None:
    @register_along_axis(function)
    def along_axis(input, dim, *args, **kwargs):
        y = function(input.primal, dim, *args, **kwargs)
        result = Dual(y, function(input.tangents, shift(dim), *args, **kwargs))
        return result.view_of(input) if is_view else result


for _function, _is_view in {
    torch.narrow: True,
    torch.select: True,
    torch.index_select: False,
}.items():
    _register_along_axis(_function, _is_view)


@register_along_axis(torch.gather)
def gather(input, dim, index, *, sparse_grad=False):
    """Pick one element along an axis for each entry of an index."""
    y = input.primal.gather(dim, index)
    places = index.expand(input.tangents.shape[0], *index.shape)
    return Dual(y, input.tangents.gather(shift(dim), places))


@register_along_axis(torch.take_along_dim)
def take_along_dim(input, indices, dim=None):
    """Pick elements along an axis at places that are broadcast."""
    y = torch.take_along_dim(input.primal, indices, dim)
    if dim is None:
        return Dual(y, input.tangents.flatten(1)[:, indices.flatten()])
    places = lift(indices.unsqueeze(0), input.primal.ndim)
    return Dual(y, torch.take_along_dim(input.tangents, places, shift(dim)))


@register_along_axis(torch.take)
def take(input, index):
    """Pick elements by their place in the flattened tensor."""
    return Dual(input.primal.take(index), input.tangents.flatten(1)[:, index])


@register_linear(torch.masked_select)
def masked_select(input, mask):
    """Pick the elements under a mask, in one row."""
    input, mask = torch.broadcast_tensors(input, mask)
    return getitem(input, mask)


@register_rule(torch.masked_scatter)
def masked_scatter(input, mask, source):
    """Write successive values where a mask says so."""
    y = torch.masked_scatter(constant(input), mask, constant(source))
    count = n_tangents(input, source)
    dy = torch.broadcast_to(lift(tangents_of(input, count), y.ndim), (count, *y.shape)).clone()
    mask = mask.expand(y.shape)
    dy[:, mask] = tangents_of(source, count).flatten(1)[:, : int(mask.sum())]
    return Dual(y, dy)


@register_along_axis(torch.index_fill)
def index_fill(input, dim, index, value):
    """Write one value into slices of an axis."""
    y = input.primal.index_fill(dim, index, value)
    return Dual(y, input.tangents.index_fill(shift(dim), index, 0.0))


@register_rule(torch.index_add)
def index_add(input, dim, index, source, *, alpha=1):
    """Add to slices of an axis."""
    if _lack_axes(input, index, source):
        return NotImplemented
    y = torch.index_add(constant(input), dim, index, constant(source), alpha=alpha)
    count = n_tangents(input, source)
    base, added = tangents_of(input, count), tangents_of(source, count)
    return Dual(y, torch.index_add(base, shift(dim), index, added, alpha=alpha))


@register_rule(torch.index_copy)
def index_copy(input, dim, index, source):
    """Write slices of an axis."""
    if _lack_axes(input, index, source):
        return NotImplemented
    y = torch.index_copy(constant(input), dim, index, constant(source))
    count = n_tangents(input, source)
    base, written = tangents_of(input, count), tangents_of(source, count)
    return Dual(y, torch.index_copy(base, shift(dim), index, written))


@register_rule(torch.scatter)
def scatter(input, dim, index, src=None, *, value=None, reduce=None):
    """Write one element along an axis for each entry of an index."""
    if reduce is not None or _lack_axes(input, index):
        return NotImplemented
    src = value if src is None else src
    y = torch.scatter(constant(input), dim, index, constant(src))
    count = n_tangents(input, src)
    places = index.expand(count, *index.shape)
    written = tangents_of(src, count) if isinstance(src, torch.Tensor) else 0.0
    return Dual(y, torch.scatter(tangents_of(input, count), shift(dim), places, written))


@register_rule(torch.scatter_add)
def scatter_add(input, dim, index, src):
    """Add one element along an axis for each entry of an index."""
    if _lack_axes(input, index, src):
        return NotImplemented
    y = torch.scatter_add(constant(input), dim, index, constant(src))
    count = n_tangents(input, src)
    places = index.expand(count, *index.shape)
    base, added = tangents_of(input, count), tangents_of(src, count)
    return Dual(y, torch.scatter_add(base, shift(dim), places, added))
