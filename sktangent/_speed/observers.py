"""When a custom autograd function may do at once what torch functions do one by one."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from sktangent._speed import are_shortcuts_on


def is_unobserved(*tensors: Tensor) -> bool:
    """Tell whether a shortcut may do at once what torch functions do one by one.

    Neither a mode nor a transformation must want to see the single functions: a compiler fuses
    plain functions better, autocast must choose dtypes for forward and backward alike, and
    torch.func's transforms look into plain functions only.
    """
    return (
        are_shortcuts_on()
        and all(type(tensor) in (Tensor, nn.Parameter) for tensor in tensors)
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled(tensors[0].device.type)
        and not are_batched(*tensors)
        and forward_ad._current_level < 0
        and not torch._C._is_torch_function_mode_enabled()
        and torch._C._len_torch_dispatch_stack() == 0
        and not torch.jit.is_tracing()
    )


def are_batched(*tensors: Tensor) -> bool:
    """Tell whether tensors stand for many of their kind, as gradients do that are taken at once."""
    return torch._C._are_functorch_transforms_active() or any(
        torch._C._functorch.is_legacy_batchedtensor(tensor) for tensor in tensors
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
