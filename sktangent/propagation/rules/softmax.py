"""Softmax and its kin: weights w = exp(x) / Σ exp(x), and what is made of them."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from sktangent.propagation.dual import Dual
from sktangent.propagation.rules.axes import numpy_names, register_linear, shift
from sktangent.propagation.rules.reductions import reduced_axes, reduced_sum


def _axis(input: Dual, dim: int | None) -> int:
    """Choose the axis as torch does where none is named."""
    if dim is not None:
        return dim
    return 0 if input.primal.ndim in (0, 1, 3) else 1


def _softmax(input: Dual, dim: int, dtype: torch.dtype | None) -> Dual:
    weights = torch.softmax(input.primal, dim, dtype=dtype)
    weighted = input.tangents * weights
    axis = shift(dim) if input.primal.ndim else 0
    total = weighted.sum(axis, keepdim=True) if input.primal.ndim else weighted
    return Dual(weights, weighted - weights * total)


def _log_softmax(input: Dual, dim: int, dtype: torch.dtype | None) -> Dual:
    y = torch.log_softmax(input.primal, dim, dtype=dtype)
    weighted = input.tangents * y.exp()
    total = weighted.sum(shift(dim), keepdim=True) if input.primal.ndim else weighted
    return Dual(y, input.tangents - total)


@register_linear(F.softmax)
def functional_softmax(input, dim=None, _stacklevel=3, dtype=None):
    """Softmax; J τ = w ∘ (τ − w·τ)."""
    return _softmax(input, _axis(input, dim), dtype)


@register_linear(torch.softmax, torch.special.softmax)
@numpy_names
def softmax(input, dim, dtype=None):
    """Softmax; J τ = w ∘ (τ − w·τ)."""
    return _softmax(input, dim, dtype)


@register_linear(F.log_softmax)
def functional_log_softmax(input, dim=None, _stacklevel=3, dtype=None):
    """Logarithm of softmax; J τ = τ − w·τ."""
    return _log_softmax(input, _axis(input, dim), dtype)


@register_linear(torch.log_softmax, torch.special.log_softmax)
@numpy_names
def log_softmax(input, dim, *, dtype=None):
    """Logarithm of softmax; J τ = τ − w·τ."""
    return _log_softmax(input, dim, dtype)


@register_linear(F.softmin)
def softmin(input, dim=None, _stacklevel=3, dtype=None):
    """Softmax of the negative."""
    return _softmax(Dual(-input.primal, -input.tangents), _axis(input, dim), dtype)


@register_linear(torch.logsumexp, torch.special.logsumexp)
@numpy_names
def logsumexp(input, dim, keepdim=False):
    """Logarithm of a sum of exponentials; J τ = w·τ."""
    kept = torch.logsumexp(input.primal, dim, keepdim=True)
    # a row of -inf alone has no weights, and no slope
    weights = (input.primal - kept.masked_fill(kept == -torch.inf, 0.0)).exp()
    dy = reduced_sum(input.tangents * weights, reduced_axes(input, dim), keepdim)
    return Dual(torch.logsumexp(input.primal, dim, keepdim), dy)
