"""Writing into samples: what is overwritten loses its tangents and takes on the new ones."""

from __future__ import annotations

import torch

from sktangent.propagation.dual import (
    Dual,
    any_dual,
    constant,
    is_dual,
    lift,
    refuse_plain_target,
    register_rule,
)


@register_rule(torch.Tensor.__setitem__)
def _setitem(target, index, value):
    if not is_dual(target):
        refuse_plain_target("Assignment to an index", target)
    if any_dual(index):
        raise TypeError("Samples with tangents cannot serve as an index.")
    primal, tangents = target.primal.clone(), target.tangents.clone()
    primal[index] = constant(value)
    for t in range(len(tangents)):
        tangents[t][index] = value.tangents[t] if is_dual(value) else 0.0
    target.assign(Dual(primal, tangents))


@register_rule(torch.Tensor.copy_)
def _copy(target, source, non_blocking=False):
    if not is_dual(target):
        refuse_plain_target("copy_", target)
    primal = constant(source).expand_as(target.primal).clone()
    if is_dual(source):
        tangents = lift(source.tangents, primal.ndim).expand_as(target.tangents).clone()
    else:
        tangents = torch.zeros_like(target.tangents)
    return target.assign(Dual(primal, tangents))


@register_rule(torch.Tensor.fill_, torch.fill_)
def _fill(target, value):
    return _copy(target, torch.as_tensor(value) if not is_dual(value) else value)


@register_rule(torch.Tensor.zero_, torch.zero_)
def _zero(target):
    return _copy(target, target.primal.new_zeros(()))


@register_rule(torch.Tensor.requires_grad_)
def _requires_grad(target, requires_grad=True):
    return target
