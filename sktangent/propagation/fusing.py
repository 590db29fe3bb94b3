"""When a rule may use a custom autograd function of its own."""

from __future__ import annotations

import torch


def can_fuse(tensor: torch.Tensor) -> bool:
    """Tell whether a custom autograd function may be used in place of plain torch functions.

    A compiler fuses plain functions better, autocast must choose dtypes for forward and backward
    alike, and torch.func's transforms look into plain functions only.
    """
    return not (
        torch.compiler.is_compiling()
        or torch.is_autocast_enabled(tensor.device.type)
        or torch._C._are_functorch_transforms_active()
    )
