"""When a custom autograd function may do at once what torch functions do one by one."""

from __future__ import annotations

import torch
from torch import nn


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


def is_watched(module: nn.Module) -> bool:
    """Tell whether a module has hooks, or a forward of its own, that a shorter way would miss."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or "forward" in vars(module)
    )
