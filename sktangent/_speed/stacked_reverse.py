r"""Many networks and their derivatives along tangents, by outputs that go back to the inputs.

The formulas are those of :mod:`sktangent._speed.reverse_chains`. Columns of a network are sample b
for output o in column o B + b.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from sktangent._speed.reverse_chains import is_possible, takes_less
from sktangent._speed.stacked_batches import Batch
from sktangent.propagation.rules.activations import Activation


def goes_back(
    params: list[Tensor], activations: tuple[Activation | None, ...], n_tangents: int
) -> bool:
    """Tell whether to go back: it can, and takes less work."""
    shapes = [weight.shape[-2:] for weight in params[::2]]
    return is_possible(activations) and takes_less(shapes, n_tangents, are_shared=False)


def propagate(
    params: list[Tensor], activations: tuple[Activation | None, ...], batch: Batch
) -> tuple[Tensor, Tensor, Callable[[Tensor, Tensor], None]]:
    """Compute what :func:`sktangent._speed.stacked_forward.propagate` does, where it can be.

    Parameters
    ----------
    params, activations, batch
        As there; :func:`goes_back` tells whether it can.

    Returns
    -------
    y, dy, go_back
        As there.
    """
    n_samples = batch.n_samples
    x = batch.x[:, :n_samples]
    tangents = batch.x[:, n_samples:].unflatten(1, (-1, n_samples)).transpose(1, 2)
    *hidden, y = _values(params, activations, x)
    pulled = _pull(params, hidden)
    jacobian = torch.bmm(pulled[0].v.flatten(2).transpose(1, 2), params[0])
    dy = _along(jacobian, tangents)

    def go_back(by_y: Tensor, by_dy: Tensor) -> None:
        extra = _back_from_jacobian(params, hidden, pulled, _by_jacobian(by_dy, tangents))
        _back_from_outputs(params, hidden, x, by_y.flatten(0, 1), extra)

    n_folds, n_outputs = len(x), y.shape[1]
    return y.unflatten(0, (n_folds, -1)), dy.unflatten(1, (-1, n_outputs)), go_back


class _Hidden(NamedTuple):
    """A hidden layer: h, f'(a) and f''(a), each of shape (n_nets, n_units, n_samples)."""

    h: Tensor
    slope: Tensor
    curvature: Tensor | None


class _Pulled(NamedTuple):
    """The gradients g and v of the outputs, of shape (n_nets, n_units, n_outputs, n_samples)."""

    g: Tensor
    v: Tensor


def _values(
    params: list[Tensor], activations: tuple[Activation | None, ...], x: Tensor
) -> Iterator[_Hidden | Tensor]:
    """Yield the hidden layers, and last the outputs."""
    first, bias = params[:2]
    a = torch.bmm(first.view(len(x), -1, first.shape[2]), x.transpose(1, 2))
    a = a.view(*bias.shape, -1).add_(bias.unsqueeze(2))
    for activation, weight, bias in zip(activations, params[2::2], params[3::2], strict=False):
        layer = _Hidden(*activation.derivatives(a))
        yield layer
        a = torch.baddbmm(bias.unsqueeze(2), weight, layer.h)
    yield a


def _pull(params: list[Tensor], hidden: list[_Hidden]) -> list[_Pulled]:
    """Go back from the outputs, and return what comes to each hidden layer."""
    n_outputs, n_samples = params[-1].shape[1], hidden[0].h.shape[2]
    found = []
    g = params[-2].transpose(1, 2).unsqueeze(3).expand(-1, -1, -1, n_samples)
    for i in reversed(range(len(hidden))):
        v = g * hidden[i].slope.unsqueeze(2)
        found.append(_Pulled(g, v))
        if i > 0:
            g = torch.bmm(params[2 * i].transpose(1, 2), v.flatten(2))
            g = g.unflatten(2, (n_outputs, n_samples))
    return found[::-1]


def _along(jacobian: Tensor, tangents: Tensor) -> Tensor:
    """Multiply, of shape (n_folds, n_candidates * n_outputs, n_tangents, n_samples)."""
    rows = jacobian.view(len(tangents), -1, tangents.shape[1], jacobian.shape[2])
    products = [
        torch.bmm(J.transpose(0, 1), tau.transpose(1, 2))
        for J, tau in zip(rows, tangents, strict=True)
    ]
    return torch.stack(products).permute(0, 2, 3, 1)


def _by_jacobian(by_dy: Tensor, tangents: Tensor) -> Tensor:
    """Find the gradients by the Jacobians, (n_nets, n_outputs * n_samples, n_inputs)."""
    n_folds, n_candidates, n_outputs, _, n_samples = by_dy.shape
    n_inputs = tangents.shape[3]
    found = by_dy.new_empty(n_folds, n_candidates * n_outputs, n_samples, n_inputs)
    for out, delta, tau in zip(found, by_dy.flatten(1, 2), tangents, strict=True):
        out.copy_(torch.bmm(delta.permute(2, 0, 1), tau).transpose(0, 1))
    return found.view(-1, n_outputs * n_samples, n_inputs)


def _back_from_jacobian(
    params: list[Tensor], hidden: list[_Hidden], pulled: list[_Pulled], by_jacobian: Tensor
) -> list[Tensor | None]:
    """Set the gradients by the weights, and return those by what goes into the activations."""
    by_a = []
    by_g = by_jacobian.transpose(1, 2)
    for i, (layer, (g, v)) in enumerate(zip(hidden, pulled, strict=True)):
        weight = params[2 * i]
        weight.grad = torch.bmm(v.flatten(2), by_g.transpose(1, 2))
        by_v = torch.bmm(weight, by_g).view_as(v)
        curvature = layer.curvature
        by_a.append(None if curvature is None else (g * by_v).sum(2).mul_(curvature))
        by_g = by_v.mul_(layer.slope.unsqueeze(2)).flatten(2)
    by_outputs = by_g.unflatten(2, pulled[-1].v.shape[2:])
    params[-2].grad = by_outputs.sum(3).transpose(1, 2).contiguous()
    return by_a


def _back_from_outputs(
    params: list[Tensor],
    hidden: list[_Hidden],
    x: Tensor,
    gradient: Tensor,
    by_a: list[Tensor | None],
) -> None:
    """Go back from the outputs as usual, and add what has come by other ways."""
    for i in reversed(range(1 + len(hidden))):
        weight, bias = params[2 * i : 2 * i + 2]
        bias.grad = gradient.sum(2)
        if i == 0:
            by_fold = weight.grad.view(len(x), -1, weight.shape[2])
            by_fold.baddbmm_(gradient.view(len(x), -1, gradient.shape[2]), x)
            return
        layer = hidden[i - 1]
        weight.grad.baddbmm_(gradient, layer.h.transpose(1, 2))
        gradient = torch.bmm(weight.transpose(1, 2), gradient).mul_(layer.slope)
        if by_a[i - 1] is not None:
            gradient += by_a[i - 1]
