"""When a custom autograd function may do at once what torch functions do one by one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sktangent import _torch


def is_unobserved(*tensors: Tensor) -> bool:
    """Tell whether a shortcut may do at once what torch functions do one by one.

    Neither a mode nor a transformation must want to see the single functions: a compiler fuses
    plain functions better, autocast must choose dtypes for forward and backward alike, and
    torch.func's transforms look into plain functions only.
    """
    return (
        all(type(tensor) in (Tensor, nn.Parameter) for tensor in tensors)
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled(tensors[0].device.type)
        and not _torch.are_batched(*tensors)
        and not _torch.is_any_mode_on()
        and not torch.jit.is_tracing()
    )


def is_watched(module: nn.Module) -> bool:
    """Tell whether a module has hooks, or a forward of its own, that a shorter way would miss."""
    return _torch.has_hooks(module) or "forward" in vars(module)
