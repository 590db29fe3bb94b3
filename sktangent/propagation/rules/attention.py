"""Attention, written out: the fused kernels have no second derivative."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from sktangent.propagation.dual import register_rule


@register_rule(F.scaled_dot_product_attention)
def _attention(
    query,
    key,
    value,
    attn_mask=None,
    dropout_p=0.0,
    is_causal=False,
    scale=None,
    enable_gqa=False,
):
    if is_causal and attn_mask is not None:
        raise RuntimeError(
            "scaled_dot_product_attention takes either attn_mask or is_causal=True, got both."
        )
    if enable_gqa:
        key = key.repeat_interleave(query.size(-3) // key.size(-3), -3)
        value = value.repeat_interleave(query.size(-3) // value.size(-3), -3)
    factor = 1 / math.sqrt(query.size(-1)) if scale is None else scale
    scores = torch.matmul(query * factor, key.transpose(-2, -1))
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if attn_mask is None:
        return torch.matmul(_weights(scores, dropout_p), value)
    empty = _is_empty(attn_mask)
    weights = _weights(_masked(scores, attn_mask, empty), dropout_p)
    return torch.matmul(weights, value).masked_fill(empty, 0.0)


def _weights(scores, dropout_p):
    weights = torch.softmax(scores, -1)
    return F.dropout(weights, dropout_p) if dropout_p > 0 else weights


def _is_empty(mask):
    """Tell which rows attend to nothing; torch's answer to them is zero."""
    if mask.dtype == torch.bool:
        return mask.any(-1, keepdim=True).logical_not()
    return (mask == -math.inf).all(-1, keepdim=True)


def _masked(scores, mask, empty):
    """Mask all rows but the empty ones, which have no softmax."""
    if mask.dtype == torch.bool:
        return scores.masked_fill((mask | empty).logical_not(), -math.inf)
    return scores + mask.masked_fill(empty, 0.0)


@register_rule(torch.cdist)
def _cdist(x1, x2, p=2.0, compute_mode=None):
    differences = x1.unsqueeze(-2) - x2.unsqueeze(-3)
    return torch.linalg.vector_norm(differences, p, -1)


@register_rule(F.pdist)
def _pdist(input, p=2.0):
    i, j = torch.triu_indices(input.size(0), input.size(0), 1)
    return torch.linalg.vector_norm(input[i] - input[j], p, -1)
