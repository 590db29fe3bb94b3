"""Functions whose result carries no tangents: it is an index, a size, a truth value, a step."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from sktangent.propagation.dual import constant, register_rule

# Truth values, indices, counts, steps; what torch itself gives no gradient.
_STEPS = """
    eq ne lt le gt ge equal greater greater_equal less less_equal not_equal isclose allclose isin
    logical_and logical_or logical_not logical_xor any all
    isnan isinf isfinite isposinf isneginf isreal signbit
    argmax argmin argsort argwhere nonzero count_nonzero searchsorted bucketize histc bincount
    unique unique_consecutive
    sign heaviside round floor ceil trunc fix floor_divide
    bernoulli multinomial poisson
"""

# What is asked of a tensor's form, not of its values.
_FORM = """
    numel is_floating_point is_complex is_nonzero is_same_size is_signed is_conj is_neg
    result_type
"""

_MAKERS = """
    zeros_like ones_like empty_like full_like rand_like randn_like randint_like
"""

_METHODS = """
    __eq__ __ne__ __lt__ __le__ __gt__ __ge__ __bool__ __int__ __float__ __index__ __contains__
    __and__ __or__ __xor__ __invert__ __floordiv__ __rfloordiv__ __len__
    size dim ndimension nelement stride storage_offset is_contiguous is_pinned is_shared
    element_size get_device data_ptr has_names item tolist
    new_tensor new_zeros new_ones new_empty new_full
"""


def _without_tangents(function: Callable) -> Callable:
    def rule(*args, **kwargs):
        return function(*constant(args), **constant(kwargs))

    return rule


def _register_constants() -> None:
    for name in f"{_STEPS} {_FORM} {_MAKERS}".split():
        for home in (torch, torch.Tensor):
            function = getattr(home, name, None)
            if function is not None:
                register_rule(function)(_without_tangents(function))
    for name in _METHODS.split():
        function = getattr(torch.Tensor, name, None)
        if function is not None:
            register_rule(function)(_without_tangents(function))
    register_rule(F.one_hot)(_without_tangents(F.one_hot))


_register_constants()


@register_rule(torch.detach, torch.Tensor.detach, torch.Tensor.data.__get__)
def _detach(input):
    return input.expose().detach()


@register_rule(torch.Tensor.numpy, torch.Tensor.__array__, torch.Tensor.__dlpack__)
def _numpy(input, *args, **kwargs):
    raise TypeError(
        "The module converts samples with tangents to another library's array, where the tangents "
        "would be lost. Call detach() first where a constant is meant."
    )


@register_rule(torch.detach_, torch.Tensor.detach_)
def _detach_in_place(input):
    raise TypeError("detach_ on samples with tangents is not supported. Use detach.")


@register_rule(torch.Tensor.register_hook)
def _register_hook(input, hook):
    raise TypeError(
        "The module registers a gradient hook on samples with tangents, whose gradient comes in "
        "two parts. Register the hook on a parameter or on the output instead."
    )
