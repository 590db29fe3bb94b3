"""Dropout: one mask for a sample and its tangents, drawn as a plain forward pass draws it."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from sktangent.propagation.dual import Dual
from sktangent.propagation.rules.axes import register_linear


def _register_dropout(functional: Callable, *others: Callable) -> None:
    """Register a dropout that multiplies by a mask; torch, given ones, draws that same mask."""

    @register_linear(functional)
    def dropout(input, p=0.5, training=True, inplace=False):
        if not training or p == 0:
            return input
        mask = functional(torch.ones_like(input.primal), p, True)
        return _finish(input, Dual(input.primal * mask, input.tangents * mask), inplace)

    if others:

        @register_linear(*others)
        def torch_dropout(input, p, train):
            return dropout(input, p, train)


def _finish(input: Dual, result: Dual, inplace: bool) -> Dual:
    return input.assign(result) if inplace else result


_register_dropout(F.dropout, torch.dropout)
_register_dropout(F.dropout1d)
_register_dropout(F.dropout2d)
_register_dropout(F.dropout3d)

# α′ of self-normalizing networks: what SELU tends to for very negative inputs
_ALPHA = 1.7580993408473766


def _register_alpha_dropout(functional: Callable, plain: Callable) -> None:
    """Register a dropout that writes -α′ and then restores mean and variance: y = x·scale + shift.

    Given ones, torch returns scale + shift where an element is kept and a smaller number where it
    is dropped, so the mask can be read off.
    """

    @register_linear(functional)
    def dropout(input, p=0.5, training=False, inplace=False):
        if not training or p == 0:
            return input
        if p == 1:
            return _finish(input, input * 0.0, inplace)
        gain = 1.0 / ((_ALPHA**2 * p + 1.0) * (1.0 - p)) ** 0.5
        probe = functional(torch.ones_like(input.primal), p, True)
        mask = (probe > _ALPHA * gain * p).to(probe.dtype)
        scale, shift = mask * gain, (mask - 1.0) * (_ALPHA * gain) + _ALPHA * gain * p
        result = Dual(input.primal * scale + shift, input.tangents * scale)
        return _finish(input, result, inplace)

    @register_linear(plain)
    def torch_dropout(input, p, train):
        return dropout(input, p, train)


_register_alpha_dropout(F.alpha_dropout, torch.alpha_dropout)
_register_alpha_dropout(F.feature_alpha_dropout, torch.feature_alpha_dropout)


@register_linear(torch.feature_dropout)
def feature_dropout(input, p, train):
    """Drop whole channels."""
    if not train:
        return input
    mask = torch.feature_dropout(torch.ones_like(input.primal), p, True)
    return Dual(input.primal * mask, input.tangents * mask)
