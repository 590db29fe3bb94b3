"""Functions that only rearrange numbers: tangents are rearranged as the samples are."""

from __future__ import annotations

from collections.abc import Callable

import torch

from sktangent.propagation.dual import Dual, constant, is_dual, lift, register_rule
from sktangent.propagation.rules.axes import register_along_axis, register_linear, shift


def _view(source: Dual, primal: torch.Tensor, tangents: torch.Tensor) -> Dual:
    return Dual(primal, tangents).view_of(source)


def _sequence(values: tuple, named: dict) -> tuple:
    """Collect sizes or axes that were given one by one, as one sequence or by name."""
    if named:
        (values,) = named.values()
    elif len(values) == 1 and isinstance(values[0], (tuple, list)):
        (values,) = values
    return tuple(values) if isinstance(values, (tuple, list)) else (values,)


def _register_reshape(function: Callable) -> None:
    """Register a function that keeps all numbers in their order: its result says the shape."""

    @register_rule(function)
    def reshaped(input, *args, **kwargs):
        if not is_dual(input):
            return function(input, *constant(args), **constant(kwargs))
        y = function(input.primal, *constant(args), **constant(kwargs))
        return _view(input, y, input.tangents.reshape(input.tangents.shape[0], *y.shape))


for _function in (
    torch.flatten,
    torch.unflatten,
    torch.ravel,
    torch.squeeze,
    torch.unsqueeze,
    torch.Tensor.unflatten,
    torch.Tensor.view_as,
    torch.Tensor.reshape_as,
):
    _register_reshape(_function)


@register_linear(torch.reshape)
def reshape(input, *shape, **named):
    """Give the samples another shape."""
    y = input.primal.reshape(_sequence(shape, named))
    return _view(input, y, input.tangents.reshape(input.tangents.shape[0], *y.shape))


@register_linear(torch.Tensor.view)
def view(input, *shape, **named):
    """View samples in another shape; the tangents may lie otherwise in memory."""
    wanted = _sequence(shape, named)
    if wanted and isinstance(wanted[0], torch.dtype):
        raise TypeError(
            f"view({wanted[0]}) reads the bits of the samples as other numbers, which has no "
            "derivative. Use to(dtype) to convert them."
        )
    y = input.primal.view(wanted)
    return _view(input, y, input.tangents.reshape(input.tangents.shape[0], *y.shape))


@register_linear(torch.permute)
def permute(input, *dims, **named):
    """Reorder the axes."""
    dims = _sequence(dims, named)
    return _view(input, input.primal.permute(dims), input.tangents.permute(0, *shift(dims)))


@register_along_axis(torch.transpose, torch.swapaxes, torch.swapdims)
def transpose(input, *dims, **named):
    """Swap two axes."""
    first, second = (*dims, *named.values())
    y = input.primal.transpose(first, second)
    return _view(input, y, input.tangents.transpose(shift(first), shift(second)))


@register_linear(torch.movedim, torch.moveaxis)
def movedim(input, source, destination):
    """Move axes to other places."""
    y = input.primal.movedim(source, destination)
    return _view(input, y, input.tangents.movedim(shift(source), shift(destination)))


def _reverse_axes(input):
    dims = tuple(reversed(range(input.primal.ndim)))
    return permute(input, dims)


def _transpose_matrices(input):
    return transpose(input, -2, -1)


register_linear(torch.t, torch.Tensor.T.__get__, torch.Tensor.H.__get__)(_reverse_axes)
register_linear(torch.adjoint, torch.Tensor.mT.__get__, torch.Tensor.mH.__get__)(
    _transpose_matrices
)


def _expand(input: Dual, shape: tuple) -> Dual:
    y = input.primal.expand(shape)
    tangents = lift(input.tangents, y.ndim)
    return _view(input, y, tangents.expand(tangents.shape[0], *y.shape))


@register_linear(torch.Tensor.expand, torch.broadcast_to)
def expand(input, *size, implicit=False, **named):
    """Repeat samples along axes of length one."""
    return _expand(input, _sequence(size, named))


@register_rule(torch.Tensor.expand_as)
def expand_as(input, other):
    """Repeat samples along axes of length one, up to the shape of another tensor."""
    return _expand(input, other.shape) if is_dual(input) else input.expand(other.shape)


@register_rule(torch.broadcast_tensors)
def broadcast_tensors(*tensors):
    """Give all tensors their common shape."""
    if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)):
        (tensors,) = tensors
    shape = torch.broadcast_shapes(*(tensor.shape for tensor in tensors))
    return tuple(tensor.expand(shape) for tensor in tensors)


@register_linear(torch.Tensor.repeat)
def repeat(input, *repeats, **named):
    """Lay copies of the samples beside one another."""
    repeats = _sequence(repeats, named)
    return Dual(
        input.primal.repeat(repeats), lift(input.tangents, len(repeats)).repeat(1, *repeats)
    )


@register_linear(torch.tile)
def tile(input, *dims, **named):
    """Lay copies of the samples beside one another, the last axes being meant."""
    dims = _sequence(dims, named)
    missing = input.primal.ndim - len(dims)
    return repeat(input, (1,) * missing + dims)


@register_linear(torch.repeat_interleave)
def repeat_interleave(input, repeats, dim=None, *, output_size=None):
    """Repeat each element of an axis."""
    if dim is None:
        return repeat_interleave(torch.flatten(input), repeats, 0, output_size=output_size)
    y = input.primal.repeat_interleave(repeats, dim, output_size=output_size)
    dy = input.tangents.repeat_interleave(repeats, shift(dim), output_size=output_size)
    return Dual(y, dy)


@register_along_axis(torch.roll)
def roll(input, shifts, dims=()):
    """Move elements along axes, around the ends."""
    y = input.primal.roll(shifts, dims)
    if isinstance(dims, int) or len(dims):
        return Dual(y, input.tangents.roll(shifts, shift(dims)))
    return Dual(y, input.tangents.flatten(1).roll(shifts, 1).view_as(input.tangents))


@register_linear(torch.flip)
def flip(input, *dims, **named):
    """Reverse axes."""
    dims = _sequence(dims, named)
    return Dual(input.primal.flip(dims), input.tangents.flip(shift(dims)))


register_linear(torch.fliplr)(lambda input: flip(input, 1))
register_linear(torch.flipud)(lambda input: flip(input, 0))


@register_linear(torch.rot90)
def rot90(input, k=1, dims=(0, 1)):
    """Turn the plane of two axes."""
    return Dual(torch.rot90(input.primal, k, dims), torch.rot90(input.tangents, k, shift(dims)))


def _register_on_matrices(function: Callable) -> None:
    """Register a linear function of the last axes that takes any number of axes before them."""

    @register_linear(function)
    def on_matrices(input, *args, **kwargs):
        return Dual(
            function(input.primal, *args, **kwargs), function(input.tangents, *args, **kwargs)
        )


for _function in (torch.tril, torch.triu, torch.pixel_shuffle, torch.pixel_unshuffle):
    _register_on_matrices(_function)


@register_linear(torch.channel_shuffle)
def channel_shuffle(input, groups):
    """Mix the groups of channels."""
    y = torch.channel_shuffle(input.primal, groups)
    dy = torch.channel_shuffle(input.tangents.flatten(0, 1), groups)
    return Dual(y, dy.unflatten(0, input.tangents.shape[:2]))


@register_linear(torch.diagonal, torch.linalg.diagonal)
def diagonal(input, offset=0, dim1=0, dim2=1):
    """Read the diagonal of the planes of two axes."""
    y = input.primal.diagonal(offset, dim1, dim2)
    return _view(input, y, input.tangents.diagonal(offset, shift(dim1), shift(dim2)))


@register_linear(torch.diag_embed)
def diag_embed(input, offset=0, dim1=-2, dim2=-1):
    """Write the last axis on the diagonal of planes of zeros."""
    y = torch.diag_embed(input.primal, offset, dim1, dim2)
    return Dual(y, torch.diag_embed(input.tangents, offset, shift(dim1), shift(dim2)))


@register_linear(torch.diag)
def diag(input, diagonal=0):
    """Read the diagonal of a matrix, or write a vector on one."""
    function = torch.diag_embed if input.primal.ndim == 1 else torch.diagonal
    return function(input, diagonal)


@register_linear(torch.Tensor.unfold)
def unfold(input, dimension, size, step):
    """Cut an axis into windows that may overlap."""
    if not input.ndim:  # torch lends it one
        return unfold(torch.unsqueeze(input, 0), dimension, size, step)[0]
    y = input.primal.unfold(dimension, size, step)
    return _view(input, y, input.tangents.unfold(shift(dimension), size, step))


@register_rule(torch.Tensor.as_strided_, torch.as_strided_)
def as_strided_in_place(*args, **kwargs):
    """Refuse to lay samples out anew in place, which other views of them would have to survive."""
    raise RuntimeError("as_strided_ is not supported on samples with tangents. Use as_strided.")
