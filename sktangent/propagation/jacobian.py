"""The whole Jacobian of a module, by the cheaper of two ways, and derivatives of many samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from sktangent._speed.chains import find_chain
from sktangent._speed.jacobians import outputs_and_jacobian
from sktangent.propagation.engine import propagate

# a pass back costs about as much as propagating two tangents
_TANGENTS_PER_BACKWARD = 2
_ROWS_AT_ONCE = 16384


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
    return value_and_jacobian(module, x)[1]


def value_and_jacobian(module: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """Compute each sample's outputs along with their Jacobian, as :func:`jacobian` does.

    Parameters
    ----------
    module : callable
        Maps ``x`` to outputs of shape (n_samples, n_outputs), each sample by itself.
    x : torch.Tensor of shape (n_samples, *input_shape)
        The samples.

    Returns
    -------
    y : torch.Tensor of shape (n_samples, n_outputs)
        The outputs.
    J : torch.Tensor of shape (n_samples, n_outputs, *input_shape)
        The Jacobian.

    Examples
    --------
    >>> import torch
    >>> from sktangent.propagation.jacobian import value_and_jacobian
    >>> value_and_jacobian(lambda x: x.prod(1, keepdim=True), torch.tensor([[2.0, 3.0]]))
    (tensor([[6.]]), tensor([[[3., 2.]]]))
    """
    chain = find_chain(module, x)
    if chain is not None and chain.linear[-1].out_features <= x[0].numel():
        return outputs_and_jacobian(chain, x)
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        y = module(leaf)
        if y.shape[1] * _TANGENTS_PER_BACKWARD < x[0].numel():
            return y.detach(), _backward(leaf, y)
    return y.detach(), _forward(module, x)


def pieces_of(
    x: Tensor, rows_each: int, device: str | torch.device | None = None
) -> Iterator[Tensor]:
    """Cut samples so that a piece takes about the memory of a batch to predict for.

    Parameters
    ----------
    x : torch.Tensor of shape (n_samples, ...)
        The samples.
    rows_each : int
        The rows that will be worked on for one sample.
    device : str or torch.device, default=None
        Where the pieces are to be. None: where the samples are.

    Yields
    ------
    piece : torch.Tensor
        Some of them.

    Examples
    --------
    >>> import torch
    >>> from sktangent.propagation.jacobian import pieces_of
    >>> [len(piece) for piece in pieces_of(torch.arange(3.0), rows_each=10_000)]
    [1, 1, 1]
    """
    size = max(1, _ROWS_AT_ONCE // rows_each)
    parts = (x,) if len(x) <= size else x.split(size)
    return (part.to(device) for part in parts)


def in_pieces(
    function: Callable[..., Tensor],
    *tensors: Tensor,
    rows_each: int,
    device: str | torch.device | None = None,
) -> Tensor:
    """Apply a function to a few samples at a time, in about the memory of a batch to predict for.

    Parameters
    ----------
    function : callable
        Takes as many tensors as are given, and returns one; the first axis of each is that of the
        samples.
    *tensors : torch.Tensor of shape (n_samples, ...)
        What it is applied to.
    rows_each : int
        The rows that the function works on for one sample.
    device : str or torch.device, default=None
        Where the function works. None: where the tensors are.

    Returns
    -------
    result : torch.Tensor of shape (n_samples, ...)
        What the function returns for all samples, on the CPU.

    Examples
    --------
    >>> import torch
    >>> from sktangent.propagation.jacobian import in_pieces
    >>> in_pieces(torch.square, torch.arange(3.0), rows_each=10_000)
    tensor([0., 1., 4.])
    """
    pieces = zip(*(pieces_of(tensor, rows_each, device) for tensor in tensors), strict=True)
    return torch.cat([function(*piece).cpu() for piece in pieces])


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
