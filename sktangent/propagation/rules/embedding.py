"""Look-up by whole numbers, along which nothing can be differentiated."""

from __future__ import annotations

from typing import NoReturn

import torch
import torch.nn.functional as F

from sktangent.propagation.dual import is_dual, register_rule


@register_rule(F.embedding, F.embedding_bag)
def functional_lookup(input, weight, *args, **kwargs):
    """Refuse to look samples up; a table that is made from samples is left to autograd."""
    return _refuse() if is_dual(input) else NotImplemented


@register_rule(torch.embedding, torch.embedding_bag)
def lookup(weight, indices, *args, **kwargs):
    """Refuse to look samples up, in the spelling of torch's own namespace."""
    return _refuse() if is_dual(indices) else NotImplemented


def _refuse() -> NoReturn:
    raise TypeError(
        "An embedding looks up rows by whole numbers, along which there are no tangents. Give the "
        "network the embedded vectors, or another continuous input, in place of the indices."
    )
