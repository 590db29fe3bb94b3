"""Running sums whose torch formula cannot be differentiated in reverse twice."""

from __future__ import annotations

import torch

from sktangent.propagation.dual import Dual, register_rule


@register_rule(torch.logcumsumexp)
def _logcumsumexp(input, dim):
    if not input.ndim:
        return NotImplemented
    # each output is a mean of the tangents up to it, weighted by exp(x_j - y_i)
    x = input.primal.movedim(dim, -1)
    y = torch.logcumsumexp(x, -1)
    after = torch.ones(x.shape[-1], x.shape[-1], dtype=torch.bool, device=x.device).triu(1)
    weights = torch.exp((x.unsqueeze(-2) - y.unsqueeze(-1)).masked_fill(after, -torch.inf))
    axis = dim if dim < 0 else dim + 1
    tangents = input.tangents.movedim(axis, -1).unsqueeze(-2)
    dy = (tangents * weights).sum(-1)
    return Dual(y.movedim(-1, dim), dy.movedim(-1, axis))
