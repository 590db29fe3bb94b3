"""An L2 term by its gradient, for optimizers of every kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from sktangent import _torch


@torch.no_grad()
def add_l2_gradient(optimizers: Sequence[Optimizer], l2: float) -> None:
    """Add the gradient of ``l2 / 2`` times the sum of the squares of the weights.

    Parameters
    ----------
    optimizers : sequence of torch.optim.Optimizer
        They hold the parameters; those of one axis or none, biases, are left out.
    l2 : float
        The weight of the term.

    Examples
    --------
    >>> import torch
    >>> from sktangent.training.decay import add_l2_gradient
    >>> w = torch.nn.Parameter(torch.ones(1, 2))
    >>> w.grad = torch.zeros(1, 2)
    >>> add_l2_gradient([torch.optim.SGD([w])], 0.5)
    >>> w.grad
    tensor([[0.5000, 0.5000]])
    """
    weights = [
        parameter
        for optimizer in optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
        if parameter.grad is not None and parameter.ndim > 1
    ]
    if weights:
        _torch.add_([weight.grad for weight in weights], weights, alpha=l2)


def with_l2_gradient(
    closure: Callable[[], Tensor], optimizers: Sequence[Optimizer], l2: float
) -> Callable[[], Tensor]:
    """Make a closure, which computes loss and gradient, that adds the gradient of an L2 term.

    Parameters
    ----------
    closure : callable
        What an optimizer's ``step`` takes.
    optimizers, l2
        As in :func:`add_l2_gradient`.

    Returns
    -------
    closure : callable
        Returns the loss without the term.
    """

    def with_l2() -> Tensor:
        loss = closure()
        add_l2_gradient(optimizers, l2)
        return loss

    return with_l2
