"""Functions that join tensors or take them apart."""

from __future__ import annotations

from collections.abc import Callable

import torch

from sktangent.propagation.dual import Dual, constant, register_rule
from sktangent.propagation.rules.axes import n_tangents, register_linear, shift, tangents_of


@register_rule(torch.cat, torch.concat, torch.concatenate)
def cat(tensors, dim=0, *, axis=None):
    """Join tensors along an axis; a constant among them has zero tangents."""
    dim = dim if axis is None else axis
    y = torch.cat(constant(tuple(tensors)), dim)
    # torch.cat lets an empty vector stand among tensors of any shape
    parts = [value for value in tensors if value.ndim == y.ndim]
    count = n_tangents(*tensors)
    dy = torch.cat([tangents_of(value, count) for value in parts], shift(dim))
    return Dual(y, dy.to(y.dtype))


@register_rule(torch.stack)
def stack(tensors, dim=0):
    """Join tensors along a new axis."""
    y = torch.stack(constant(tuple(tensors)), dim)
    count = n_tangents(*tensors)
    dy = torch.stack([tangents_of(value, count) for value in tensors], shift(dim))
    return Dual(y, dy.to(y.dtype))


@register_rule(torch.hstack)
def hstack(tensors):
    """Join tensors along their second axis, vectors along their only one."""
    tensors = [_at_least(value, 1) for value in tensors]
    return torch.cat(tensors, 0 if tensors[0].ndim == 1 else 1)


@register_rule(torch.vstack, torch.row_stack)
def vstack(tensors):
    """Join tensors along their first axis, vectors as rows."""
    return torch.cat([_at_least(value, 2) for value in tensors], 0)


@register_rule(torch.column_stack)
def column_stack(tensors):
    """Join tensors along their second axis, vectors as columns."""
    return torch.cat([v.reshape(-1, 1) if v.ndim < 2 else v for v in tensors], 1)


@register_rule(torch.dstack)
def dstack(tensors):
    """Join tensors along their third axis."""
    matrices = [_at_least(value, 2) for value in tensors]
    return torch.cat([v.unsqueeze(-1) if v.ndim == 2 else v for v in matrices], 2)


def _at_least(value, ndim: int):
    return value.reshape((1,) * (ndim - value.ndim) + tuple(value.shape))


def _parts(source: Dual, primals: tuple, tangents: tuple) -> tuple:
    return tuple(Dual(y, dy).view_of(source) for y, dy in zip(primals, tangents, strict=True))


@register_rule(torch.split, torch.Tensor.split, torch.split_with_sizes)
def split(tensor, split_size=None, dim=0, **named):
    """Take apart into pieces of given sizes; torch names the sizes in several ways."""
    size = next(iter(named.values()), split_size)
    return _parts(tensor, tensor.primal.split(size, dim), tensor.tangents.split(size, shift(dim)))


@register_linear(torch.chunk)
def chunk(input, chunks, dim=0):
    """Take apart into a number of pieces."""
    return _parts(input, input.primal.chunk(chunks, dim), input.tangents.chunk(chunks, shift(dim)))


@register_linear(torch.tensor_split)
def tensor_split(input, indices_or_sections=None, dim=0, **named):
    """Take apart at given places, or into a number of nearly equal pieces."""
    where = next(iter(named.values()), indices_or_sections)
    y = input.primal.tensor_split(where, dim)
    return _parts(input, y, input.tangents.tensor_split(where, shift(dim)))


def _register_unsafe(function: Callable, safe: Callable) -> None:
    """Register a function whose parts, or else the whole, are used once one changes in place."""

    @register_linear(function)
    def parts(input, *args, **kwargs):
        return tuple(Dual(part.primal, part.tangents) for part in safe(input, *args, **kwargs))


_register_unsafe(torch.unsafe_chunk, chunk)
_register_unsafe(torch.unsafe_split, split)
_register_unsafe(torch.unsafe_split_with_sizes, split)


@register_linear(torch.hsplit)
def hsplit(input, *where, **named):
    """Take apart along the second axis, vectors along their only one."""
    return tensor_split(input, *where, dim=0 if input.ndim == 1 else 1, **named)


@register_linear(torch.vsplit)
def vsplit(input, *where, **named):
    """Take apart along the first axis."""
    return tensor_split(input, *where, dim=0, **named)


@register_linear(torch.dsplit)
def dsplit(input, *where, **named):
    """Take apart along the third axis."""
    return tensor_split(input, *where, dim=2, **named)


@register_linear(torch.unbind)
def unbind(input, dim=0):
    """Take apart into the slices of an axis."""
    return _parts(input, input.primal.unbind(dim), input.tangents.unbind(shift(dim)))
