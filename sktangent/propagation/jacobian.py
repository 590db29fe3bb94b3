"""The whole Jacobian of a module, by the cheaper of two ways."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sktangent.propagation.engine import propagate

# a pass back costs about as much as propagating two tangents
_TANGENTS_PER_BACKWARD = 2


def jacobian(module: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Compute the Jacobian of each sample's outputs with respect to its inputs.

    Propagates one tangent for each input, or goes back once from each output, whichever is
    cheaper. The result takes no part in differentiation.

    Parameters
    ----------
    module : callable
        Maps ``x`` to outputs of shape (n_samples, n_outputs), each sample by itself.
    x : torch.Tensor of shape (n_samples, *input_shape)
        The samples.

    Returns
    -------
    J : torch.Tensor of shape (n_samples, n_outputs, *input_shape)
        The Jacobian.

    Examples
    --------
    >>> import torch
    >>> from sktangent.propagation.jacobian import jacobian
    >>> jacobian(lambda x: x.prod(1, keepdim=True), torch.tensor([[2.0, 3.0]]))
    tensor([[[3., 2.]]])
    """
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        y = module(leaf)
        if y.shape[1] * _TANGENTS_PER_BACKWARD < x[0].numel():
            return _backward(leaf, y)
    return _forward(module, x)


def _backward(x: Tensor, y: Tensor) -> Tensor:
    if not y.requires_grad:
        return x.new_zeros(len(x), y.shape[1], *x.shape[1:])
    rows = [
        torch.autograd.grad(
            y[:, output].sum(), x, retain_graph=True, allow_unused=True, materialize_grads=True
        )[0]
        for output in range(y.shape[1])
    ]
    return torch.stack(rows, dim=1)


@torch.no_grad()
def _forward(module: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    n_inputs = x[0].numel()
    basis = torch.eye(n_inputs, dtype=x.dtype, device=x.device)
    tangents = basis.reshape(n_inputs, *x.shape[1:]).expand(len(x), n_inputs, *x.shape[1:])
    dy = propagate(module, x, tangents)[1]
    return dy.transpose(1, 2).reshape(len(x), dy.shape[2], *x.shape[1:])
