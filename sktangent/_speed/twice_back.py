"""The way back through a chain: where it must itself be followed, and by what it is not changed."""

from __future__ import annotations

import contextlib

import torch
import torch.nn.functional as F
from torch import Tensor

from sktangent import _torch
from sktangent.propagation.dual import Dual


def goes_by_rules(y_bar: Tensor, dy_bar: Tensor) -> bool:
    """Tell whether the way back must itself be followed."""
    return torch.is_grad_enabled() or _torch.are_batched(y_bar, dy_bar)


def without_autocast(y_bar: Tensor) -> contextlib.AbstractContextManager:
    """Go back as on the way forward, when autocast was off."""
    device = y_bar.device.type
    if torch.is_autocast_enabled(device):
        return torch.autocast(device, enabled=False)
    return contextlib.nullcontext()


def gradients_by_rules(activations, inputs, needed, y_bar: Tensor, dy_bar: Tensor) -> list:
    """Go back by autograd, over the rules: for gradients of gradients, and many at once."""
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        # of their own, for inputs may be the same, or one made of another
        inputs = [None if tensor is None else tensor.view_as(tensor) for tensor in inputs]
        if not create_graph:
            inputs = [
                None if tensor is None else tensor.detach().requires_grad_(is_needed)
                for tensor, is_needed in zip(inputs, needed, strict=True)
            ]
        x, tangents, *params = inputs
        value = Dual(x.clone(), tangents.transpose(0, 1).clone()).flatten(1)
        for activation, weight, bias in zip(activations, params[::2], params[1::2], strict=True):
            value = F.linear(value, weight, bias)
            value = value if activation is None else activation.functions[0](value)
        pairs = ((value.primal, y_bar), (value.tangents.transpose(0, 1), dy_bar))
    outputs, bars = zip(*(pair for pair in pairs if pair[0].requires_grad), strict=True)
    wanted = [tensor for tensor, is_needed in zip(inputs, needed, strict=True) if is_needed]
    found = iter(
        torch.autograd.grad(outputs, wanted, bars, create_graph=create_graph, allow_unused=True)
    )
    return [next(found) if is_needed else None for is_needed in needed]
