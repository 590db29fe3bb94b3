r"""Products of float32 matrices on the CPU, by the faster of two libraries that torch ships.

torch multiplies matrices by MKL. On AMD's processors MKL leaves AVX-512 unused; oneDNN, by which
torch convolves, uses it there, and a large product takes half the time. oneDNN costs more a call,
and copies rows that are transposed, so small products stay with MKL.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from sktangent.propagation.fusing import is_unobserved

# multiplications from which on oneDNN is faster, also between smaller products left to MKL, which
# cuts matrices into other parts for its threads
MIN_WORK = 2**23
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
    >>> from sktangent.propagation.products import linear
    >>> linear(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]]))
    tensor([[11.]])
    """
    if not _is_for_onednn(x, weight, bias):
        return F.linear(x, weight, bias)
    if torch.is_grad_enabled():
        return _Linear.apply(x, weight, bias)
    return _by_onednn(x, weight, bias)


def has_faster_products(x: Tensor) -> bool:
    """Tell whether oneDNN multiplies what x holds faster than torch's own function.

    Parameters
    ----------
    x : torch.Tensor
        The values.

    Returns
    -------
    has : bool
        Whether it does, if there are many of them.
    """
    return (
        x.dtype is torch.float32
        and x.device.type == "cpu"
        and _has_faster_onednn()
        and torch._C._get_mkldnn_enabled()
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
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def _is_for_onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Tell whether oneDNN can compute a product, faster and unseen."""
    return (
        _is_large(x, weight)
        and has_faster_products(x)
        and _fit(x, weight, bias)
        and is_unobserved(*((x, weight) if bias is None else (x, weight, bias)))
    )


def _is_large(x: Tensor, weight: Tensor) -> bool:
    n_columns = weight.shape[0] if weight.ndim == 2 else 0
    if x.ndim < 2 or x.numel() * n_columns < MIN_WORK:
        return False
    return x.is_contiguous() or n_columns >= _MIN_COLUMNS


def _fit(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Tell whether factors fit together; what torch says if not is left to torch."""
    return (
        weight.device.type == "cpu"
        and weight.dtype is x.dtype
        and x.shape[-1] == weight.shape[1]
        and (bias is None or (bias.dtype is x.dtype and bias.shape == weight.shape[:1]))
    )


@functools.cache
def _has_faster_onednn() -> bool:
    processor = torch.cpu.get_capabilities()
    return (
        torch.backends.mkl.is_available()
        and torch.backends.mkldnn.is_available()
        and "AMD" in processor.get("cpu_name", "")
        and processor.get("avx512_f", False)
    )
