"""Batch normalization, whose statistics are constants with respect to a sample's tangent.

    y = weight * (x - mean) / std + bias,    J τ = weight * τ / std

The statistics of a training batch still depend on the parameters of earlier layers, so std, in
J τ, keeps its place in the graph from which the penalty's gradient is taken.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from sktangent.propagation.dual import Dual, any_dual, is_dual, register_rule


@register_rule(F.batch_norm)
def batch_norm(
    input,
    running_mean=None,
    running_var=None,
    weight=None,
    bias=None,
    training=False,
    momentum=0.1,
    eps=1e-5,
):
    """Normalize each channel over the batch; running statistics are updated once."""
    if input.ndim < 2:  # torch takes such a tensor where it is empty
        return NotImplemented
    statistics = running_mean, running_var
    if not is_dual(input) or any_dual((weight, bias)):
        normalized = F.batch_norm(input, *statistics, None, None, training, momentum, eps)
        return affine(normalized, weight, bias)
    y = F.batch_norm(input.primal, *statistics, weight, bias, training, momentum, eps)
    if training:
        running_var = _batch_variance(input.primal)
    return Dual(y, _scale(input.tangents, running_var, weight, eps))


def _batch_variance(x: torch.Tensor) -> torch.Tensor:
    return x.var((0, *range(2, x.ndim)), correction=0)


def _scale(tangents: torch.Tensor, variance: torch.Tensor, weight, eps: float) -> torch.Tensor:
    """Multiply tangents by weight / std.

    torch's kernel for evaluation does it in one pass, and so does its backward.
    """
    factor = (variance + eps).rsqrt()
    if weight is not None:
        factor = factor * weight
    rows, zero, one = tangents.flatten(0, 1), torch.zeros_like(variance), torch.ones_like(variance)
    scaled = F.batch_norm(rows, zero.detach(), one.detach(), factor, None, False, 0.0, 0.0)
    return scaled.view(tangents.shape)


def affine(normalized, weight, bias):
    """Multiply by a weight and add a bias, one of each a channel, as Duals may be."""
    shape = (-1,) + (1,) * (normalized.ndim - 2)
    if weight is not None:
        normalized = normalized * weight.reshape(shape)
    return normalized if bias is None else normalized + bias.reshape(shape)


@register_rule(torch.batch_norm)
def torch_batch_norm(
    input, weight, bias, running_mean, running_var, training, momentum, eps, cudnn_enabled
):
    """Normalize each channel over the batch, in the spelling of torch's own namespace."""
    return batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
