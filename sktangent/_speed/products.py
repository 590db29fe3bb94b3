r"""Products of float32 matrices on the CPU, by the faster of two libraries that torch ships.

torch multiplies matrices by MKL. On AMD's processors MKL leaves AVX-512 unused; oneDNN, by which
torch convolves, uses it there: a large product takes half the time, and a fit of 784-256-256-10
with six tangents 0.69 of it. oneDNN costs more a call, and copies rows that are transposed, so
small products stay with MKL.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sktangent import _torch
from sktangent._speed import are_shortcuts_on
from sktangent._speed.observers import is_unobserved

# multiplications from which on oneDNN is faster, also between smaller products left to MKL, which
# cuts matrices into other parts for its threads
_MIN_WORK = 2**23
# output columns that repay a copy of the rows
_MIN_COLUMNS = 192


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    r"""Compute :math:`x W^T + b`, as :func:`torch.nn.functional.linear` does.

    It can be differentiated as often as that.

    Parameters
    ----------
    x : torch.Tensor of shape (..., n_inputs)
        The rows.
    weight : torch.Tensor of shape (n_outputs, n_inputs)
        W.
    bias : torch.Tensor of shape (n_outputs,), default=None
        b.

    Returns
    -------
    y : torch.Tensor of shape (..., n_outputs)
        The products.

    Examples
    --------
    >>> import torch
    >>> from sktangent._speed.products import linear
    >>> linear(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]]))
    tensor([[11.]])
    """
    if not _pays(x, weight, bias):
        return F.linear(x, weight, bias)
    if torch.is_grad_enabled():
        return _Linear.apply(x, weight, bias)
    return _by_onednn(x, weight, bias)


def multiply_by_onednn(layers: Iterable[nn.Module], x: Tensor, n_rows: int) -> bool:
    """Tell whether oneDNN computes a product of any of some layers.

    Parameters
    ----------
    layers : iterable of nn.Module
        The layers.
    x : torch.Tensor
        The samples that the network takes.
    n_rows : int
        Rows that a layer multiplies.

    Returns
    -------
    multiply_by_onednn : bool
        Whether it computes one.
    """
    return _is_for_onednn(x) and any(
        n_rows * layer.in_features * layer.out_features >= _MIN_WORK
        for layer in layers
        if type(layer) is nn.Linear
    )


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return _by_onednn(x, weight, bias)

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        for_x, for_weight, for_bias = ctx.needs_input_grad
        rows = _as_matrix(grad)
        return (
            linear(grad, weight.t()) if for_x else None,
            linear(rows.t(), _as_matrix(x).t()) if for_weight else None,
            rows.sum(0) if for_bias else None,
        )


def _as_matrix(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1])


def _by_onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return _torch.linear_by_onednn(x, weight, bias)


def _pays(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Tell whether oneDNN can compute a product, faster and unseen."""
    factors = (x, weight) if bias is None else (x, weight, bias)
    return (
        weight.ndim == 2
        and x.ndim >= 2
        and x.numel() * weight.shape[0] >= _MIN_WORK
        and all(map(_is_for_onednn, factors))
        and (x.is_contiguous() or weight.shape[0] >= _MIN_COLUMNS)
        and _fit(x, weight, bias)
        and is_unobserved(*factors)
    )


def _is_for_onednn(x: Tensor) -> bool:
    return (
        type(x) in (Tensor, nn.Parameter)
        and x.dtype is torch.float32
        and x.device.type == "cpu"
        and x.layout is torch.strided
        and not x.is_nested
        and are_shortcuts_on()
        and _has_faster_onednn()
        and torch.backends.mkldnn.enabled
    )


def _fit(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Tell whether shapes fit, of which errors are left to torch, and strides are oneDNN's."""
    return (
        x.shape[-1] == weight.shape[1]
        and (weight.is_contiguous() or weight.t().is_contiguous())
        and (bias is None or (bias.shape == weight.shape[:1] and bias.is_contiguous()))
    )


@functools.cache
def _has_faster_onednn() -> bool:
    processor = _torch.processor()
    return (
        torch.backends.mkl.is_available()
        and torch.backends.mkldnn.is_available()
        and "AMD" in processor.get("cpu_name", "")
        and processor.get("avx512_f", False)
    )
