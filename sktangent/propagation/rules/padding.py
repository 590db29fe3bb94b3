"""Padding, and the patches of images."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from sktangent.propagation.dual import Dual
from sktangent.propagation.rules.axes import over_rows, register_linear


@register_linear(F.pad, torch.constant_pad_nd)
def pad(input, pad, mode="constant", value=None):
    """Write a border around the last axes; a constant one has zero tangents."""
    if not isinstance(mode, str):  # torch.constant_pad_nd(input, pad, value)
        mode, value = "constant", mode
    y = F.pad(input.primal, pad, mode, value)
    if mode == "constant":
        return Dual(y, F.pad(input.tangents, pad))
    padded_axes = len(pad) // 2
    return Dual(y, over_rows(lambda t: F.pad(t, pad, mode), input.tangents, padded_axes + 2))


@register_linear(F.unfold)
def unfold(input, *args, **kwargs):
    """Lay out the patches of images as columns."""
    y = F.unfold(input.primal, *args, **kwargs)
    return Dual(y, over_rows(lambda t: F.unfold(t, *args, **kwargs), input.tangents, 4))


@register_linear(F.fold)
def fold(input, *args, **kwargs):
    """Add patches up to images."""
    y = F.fold(input.primal, *args, **kwargs)
    return Dual(y, over_rows(lambda t: F.fold(t, *args, **kwargs), input.tangents, 3))
