"""Norms of vectors."""

from __future__ import annotations

import torch

from sktangent.propagation.dual import Dual
from sktangent.propagation.rules.axes import register_linear
from sktangent.propagation.rules.reductions import reduced_axes, reduced_sum


@register_linear(torch.linalg.vector_norm)
def vector_norm(x, ord=2, dim=None, keepdim=False, *, dtype=None):
    """Length of vectors, the p-th root of the sum of p-th powers."""
    if dtype is not None:
        x = x.to(dtype)
    slope = _slope(x.primal, ord, dim)
    if slope is None:
        return NotImplemented
    y = torch.linalg.vector_norm(x.primal, ord, dim, keepdim)
    return Dual(y, reduced_sum(x.tangents * slope, reduced_axes(x, dim), keepdim))


def _slope(x: torch.Tensor, ord: float, dim) -> torch.Tensor | None:
    """Differentiate a norm; at a vector of zeros torch takes zero."""
    if ord == 1:
        return x.sign()
    length = torch.linalg.vector_norm(x, ord, dim, keepdim=True)
    zero = length == 0
    if abs(ord) == torch.inf:
        ties = (x.abs() == length).to(x.dtype)
        return x.sign() * (ties / ties.sum(dim, keepdim=True))
    unit = x / length.masked_fill(zero, torch.inf)
    if ord == 2:
        return unit
    if ord > 2:
        return unit.sign() * unit.abs() ** (ord - 1)
    return None


@register_linear(torch.norm, torch.Tensor.norm)
def norm(input, p="fro", dim=None, keepdim=False, out=None, dtype=None):
    """Norm of vectors, in torch's older spelling."""
    if p == "nuc" or out is not None:
        return NotImplemented
    order = 2 if p in ("fro", None) else p
    return torch.linalg.vector_norm(input, order, dim, keepdim, dtype=dtype)


@register_linear(torch.linalg.norm)
def linalg_norm(A, ord=None, dim=None, keepdim=False, *, dtype=None):
    """Norm of vectors; norms of matrices are left to automatic differentiation."""
    is_vector = isinstance(dim, int) or (A.primal.ndim == 1 and dim is None)
    if ord is not None and not is_vector:
        return NotImplemented
    order = 2 if ord is None else ord
    return torch.linalg.vector_norm(A, order, dim, keepdim, dtype=dtype)
