r"""Many networks and their derivatives along tangents, by tangents that go forward.

The formulas are those of :mod:`sktangent._speed.chains`, with samples and tangents in the last
axis: a row of a fold's inputs is sample b moved along no tangent (t = 0) or tangent t, in column
t B + b.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from sktangent._speed.stacked_batches import Batch
from sktangent.propagation.rules.activations import Activation


def propagate(
    params: list[Tensor], activations: tuple[Activation | None, ...], batch: Batch
) -> tuple[Tensor, Tensor, Callable[[Tensor, Tensor], None]]:
    """Compute the outputs of all networks, and their derivatives along the tangents.

    Parameters
    ----------
    params : list of torch.Tensor
        The weight (n_nets, n_outputs, n_inputs) and bias (n_nets, n_outputs) of each layer in turn,
        of the networks of the first fold before those of the second.
    activations : tuple of Activation or None
        What follows each layer.
    batch : Batch
        The samples of each fold.

    Returns
    -------
    y : torch.Tensor of shape (n_folds, n_candidates, n_outputs, n_samples)
        The outputs.
    dy : torch.Tensor of shape (n_folds, n_candidates, n_outputs, n_tangents, n_samples)
        Their derivatives.
    go_back : callable
        Takes the gradients of the losses by both, and sets those by the parameters.
    """
    n_samples = batch.n_samples
    layers = list(_layers(params, activations, batch))
    out = layers[-1].h.view(len(batch.x), -1, *layers[-1].h.shape[1:])

    def go_back(by_y: Tensor, by_dy: Tensor) -> None:
        gradient = torch.cat([by_y, by_dy.flatten(3)], dim=3).flatten(0, 1)
        _go_back(params, batch, layers, gradient)

    return out[..., :n_samples], out[..., n_samples:].unflatten(3, (-1, n_samples)), go_back


class _Layer(NamedTuple):
    """What comes out of a layer: before and behind its activation, values and then tangents."""

    a: Tensor
    h: Tensor
    slope: Tensor | None = None
    curvature: Tensor | None = None


def _layers(
    params: list[Tensor], activations: tuple[Activation | None, ...], batch: Batch
) -> Iterator[_Layer]:
    n_folds, n_samples = len(batch.x), batch.n_samples
    h = None
    for weight, bias, activation in zip(params[::2], params[1::2], activations, strict=True):
        if h is None:
            by_fold = weight.view(n_folds, -1, weight.shape[2])
            a = torch.bmm(by_fold, batch.x.transpose(1, 2)).view(*weight.shape[:2], -1)
        else:
            a = torch.bmm(weight, h)
        a[..., :n_samples] += bias.unsqueeze(2)
        layer = _activate(a, activation, n_samples)
        h = layer.h
        yield layer


def _go_back(params: list[Tensor], batch: Batch, layers: list[_Layer], gradient: Tensor) -> None:
    n_samples = batch.n_samples
    for i in reversed(range(len(layers))):
        weight, bias = params[2 * i], params[2 * i + 1]
        bias.grad = gradient[..., :n_samples].sum(2)
        if i == 0:
            by_fold = gradient.view(len(batch.x), -1, gradient.shape[2])
            weight.grad = torch.bmm(by_fold, batch.x).view_as(weight)
            return
        weight.grad = torch.bmm(gradient, layers[i - 1].h.transpose(1, 2))
        gradient = torch.bmm(weight.transpose(1, 2), gradient)
        _through_activation(layers[i - 1], gradient, n_samples)


def _activate(a: Tensor, activation: Activation | None, n_samples: int) -> _Layer:
    if activation is None:
        return _Layer(a, a)
    value, slope, curvature = activation.derivatives(a[..., :n_samples])
    h = torch.empty_like(a)
    h[..., :n_samples] = value
    torch.mul(_tangents(a, n_samples), slope.unsqueeze(2), out=_tangents(h, n_samples))
    return _Layer(a, h, slope, curvature)


def _through_activation(layer: _Layer, gradient: Tensor, n_samples: int) -> None:
    """Turn the gradient by what comes out of an activation, in place, into that by what goes in."""
    if layer.slope is None:
        return
    values, tangents = gradient[..., :n_samples], _tangents(gradient, n_samples)
    values.mul_(layer.slope)
    if layer.curvature is not None and tangents.shape[2]:
        bent = (_tangents(layer.a, n_samples) * tangents).sum(2)
        values.addcmul_(layer.curvature, bent)
    tangents.mul_(layer.slope.unsqueeze(2))


def _tangents(a: Tensor, n_samples: int) -> Tensor:
    return a[..., n_samples:].unflatten(2, ((a.shape[2] - n_samples) // n_samples, n_samples))
