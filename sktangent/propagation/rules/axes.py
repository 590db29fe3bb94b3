"""Where a function's axes lie once the tangent axis stands before them."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch

from sktangent.propagation.dual import Dual, Rule, any_dual, is_dual, register_rule


def shift(dim):
    """Say where axes of the samples lie in the tangents: an int, or a sequence of them."""
    if isinstance(dim, (tuple, list)):
        return tuple(shift(one) for one in dim)
    return dim + 1 if dim >= 0 else dim


def n_tangents(*values: object) -> int:
    """Count the tangents that ride on the first value that has any."""
    return next(value.tangents.shape[0] for value in values if is_dual(value))


def tangents_of(value: torch.Tensor | Dual, count: int) -> torch.Tensor:
    """Take the tangents of a value; those of a constant are zero."""
    if is_dual(value):
        return value.tangents
    dtype = value.dtype if value.is_floating_point() else torch.get_default_dtype()
    zero = torch.zeros((), dtype=dtype, device=value.device)
    return zero.expand(count, *value.shape)


def over_rows(function: Callable, tangents: torch.Tensor, ndim: int) -> torch.Tensor:
    """Apply a function of ``ndim`` axes, the first being the batch, to tangents.

    Where the samples came without a batch axis, the tangent axis is the batch.
    """
    if tangents.ndim <= ndim:
        return function(tangents)
    return function(tangents.flatten(0, 1)).unflatten(0, tangents.shape[:2])


def register_linear(*functions: Callable) -> Callable[[Rule], Rule]:
    """Register a rule that holds while ``input``, the first argument, alone carries tangents."""

    def register(rule: Rule) -> Rule:
        @functools.wraps(rule)
        def checked(input, *args, **kwargs):
            if not is_dual(input) or any_dual((args, kwargs)):
                return NotImplemented
            return rule(input, *args, **kwargs)

        return register_rule(*functions)(checked)

    return register


def register_along_axis(*functions: Callable) -> Callable[[Rule], Rule]:
    """Register such a rule of a function that takes an axis.

    Samples without axes have an axis 0 in torch's eyes, which their tangents lack: they are left
    to automatic differentiation.
    """

    def register(rule: Rule) -> Rule:
        @functools.wraps(rule)
        def checked(input, *args, **kwargs):
            return rule(input, *args, **kwargs) if input.ndim else NotImplemented

        return register_linear(*functions)(checked)

    return register


def numpy_names(rule: Rule) -> Rule:
    """Let a rule answer to numpy's names of arguments, as torch's functions do."""
    torch_names = {"axis": "dim", "keepdims": "keepdim"}

    @functools.wraps(rule)
    def renamed(*args, **kwargs):
        return rule(*args, **{torch_names.get(name, name): kwargs[name] for name in kwargs})

    return renamed
