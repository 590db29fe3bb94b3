"""Functions that copy or convert a tensor: dtype, device, layout in memory."""

from __future__ import annotations

from typing import NoReturn

import torch

from sktangent.propagation.dual import Dual, is_dual, register_rule
from sktangent.propagation.rules.axes import over_rows, register_linear

_RANKS = {torch.channels_last: 4, torch.channels_last_3d: 5}


def _in_memory_format(function, tangents: torch.Tensor, memory_format) -> torch.Tensor:
    """Call a function that arranges memory; formats with channels last fix the number of axes."""
    rank = _RANKS.get(memory_format, tangents.ndim)
    return over_rows(lambda rows: function(rows, memory_format), tangents, rank)


@register_linear(torch.clone)
def clone(input, *, memory_format=torch.preserve_format):
    """Copy."""
    dy = _in_memory_format(
        lambda rows, kind: rows.clone(memory_format=kind), input.tangents, memory_format
    )
    return Dual(input.primal.clone(memory_format=memory_format), dy)


@register_linear(torch.Tensor.contiguous)
def contiguous(input, memory_format=torch.contiguous_format):
    """Lay samples out in memory in order."""
    dy = _in_memory_format(
        lambda rows, kind: rows.contiguous(memory_format=kind), input.tangents, memory_format
    )
    return Dual(input.primal.contiguous(memory_format=memory_format), dy).view_of(input)


@register_rule(torch.Tensor.to)
def to(input, *args, memory_format=torch.preserve_format, **kwargs):
    """Convert to another dtype, device or layout; whole numbers carry no tangents."""
    if not is_dual(input):
        (other,) = args
        return input.to(other.primal, memory_format=memory_format, **kwargs)
    args = tuple(value.primal if is_dual(value) else value for value in args)
    y = input.primal.to(*args, memory_format=memory_format, **kwargs)
    if not y.is_floating_point():
        return y
    dy = _in_memory_format(
        lambda rows, kind: rows.to(device=y.device, dtype=y.dtype, memory_format=kind),
        input.tangents,
        memory_format,
    )
    return Dual(y, dy).view_of(input)


@register_linear(torch.Tensor.type)
def type_(input, dtype=None, non_blocking=False):
    """Convert to another dtype, or name the present one."""
    if dtype is None:
        return input.primal.type()
    return to(input, torch.empty(0).type(dtype).dtype if isinstance(dtype, str) else dtype)


@register_rule(torch.Tensor.type_as)
def type_as(input, other):
    """Convert to the dtype of another tensor."""
    return input.to(other.dtype)


def _register_conversion(name: str, dtype: torch.dtype) -> None:
    @register_linear(getattr(torch.Tensor, name))
    def convert(input, **kwargs):
        return to(input, dtype, **kwargs)


for _name, _dtype in {
    "half": torch.float16,
    "bfloat16": torch.bfloat16,
    "float": torch.float32,
    "double": torch.float64,
    "int": torch.int32,
    "long": torch.int64,
    "bool": torch.bool,
}.items():
    _register_conversion(_name, _dtype)


@register_linear(torch.Tensor.cpu)
def cpu(input, **kwargs):
    """Move to the processor's memory."""
    return to(input, "cpu", **kwargs)


@register_linear(torch.Tensor.cuda)
def cuda(input, device=None, non_blocking=False, **kwargs):
    """Move to a graphics processor's memory."""
    target = "cuda" if device is None else device
    return to(input, torch.device(target), non_blocking=non_blocking, **kwargs)


def _register_nothing_done(function) -> None:
    """Register a function that gives real numbers back as they are."""

    @register_linear(function)
    def nothing_done(input):
        return NotImplemented if input.dtype.is_complex else input


for _function in (
    torch.positive,
    torch.Tensor.__pos__,
    torch.real,
    torch.conj,
    torch.conj_physical,
    torch.resolve_conj,
    torch.resolve_neg,
):
    _register_nothing_done(_function)


def _register_refused_layout(name: str) -> None:
    @register_rule(getattr(torch.Tensor, name))
    def refuse(*args, **kwargs) -> NoReturn:
        raise TypeError(f"{name} gives a layout in which samples cannot carry tangents.")


for _name in ("to_sparse", "to_sparse_coo", "to_sparse_csr", "to_sparse_csc", "to_mkldnn"):
    _register_refused_layout(_name)
