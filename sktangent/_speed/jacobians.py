r"""How a chain depends on its input and on its parameters, in closed form.

By its input, the Jacobian is a product of weights and slopes. By its parameters, that of both the
output and its directional derivatives: with :math:`h_0 = x`, :math:`\dot h_{0t} = \tau_t`,
:math:`a_l = W_l h_{l-1} + b_l`, :math:`\dot a_{lt} = W_l \dot h_{l-1,t}`, :math:`h_l = f(a_l)`
and :math:`\dot h_{lt} = f'(a_l)\,\dot a_{lt}`, let :math:`g_l` be the gradient of one output by
:math:`a_l`, which is also that of its derivative along :math:`\tau_t` by :math:`\dot a_{lt}`, and
:math:`c_{lt}` the gradient of that derivative by :math:`a_l`:

.. math:: g_{l-1} = f'(a_{l-1}) \, W_l^T g_l, \qquad
          c_{l-1,t} = f'(a_{l-1}) \, W_l^T c_{lt} + f''(a_{l-1}) \, \dot a_{l-1,t} \, W_l^T g_l.

Then the output has the gradient :math:`g_l h_{l-1}^T` by :math:`W_l` and :math:`g_l` by
:math:`b_l`; its derivative :math:`c_{lt} h_{l-1}^T + g_l \dot h_{l-1,t}^T` and :math:`c_{lt}`.
One way forward and one back serve all samples, tangents and outputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sktangent import _torch
from sktangent._speed.chains import Chain


def outputs_and_jacobian(chain: Chain, x: Tensor) -> tuple[Tensor, Tensor]:
    r"""Compute the outputs of a chain and their Jacobian by x, without autograd's bookkeeping.

    With the slopes on the diagonal of :math:`D_l`, the Jacobian is the product
    :math:`W_L D_{L-1} W_{L-1} \cdots D_1 W_1`, taken from the left.

    Parameters
    ----------
    chain : Chain
        The chain.
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
    >>> from sktangent._speed.chains import find_chain
    >>> from sktangent._speed.jacobians import outputs_and_jacobian
    >>> module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))
    >>> x = torch.zeros(5, 2)
    >>> outputs_and_jacobian(find_chain(module, x), x)[1].shape
    torch.Size([5, 1, 2])
    """
    with torch.no_grad():
        pairs = [_torch.weight_and_bias(layer) for layer in chain.linear]
        h, slopes = x.flatten(1), []
        for pair, activation in zip(pairs, chain.activations, strict=True):
            h, slope = F.linear(h, *pair), None
            if activation is not None:
                h, slope = activation.with_slope(h)
            slopes.append(slope)
        J = pairs[-1][0].detach().expand(len(x), -1, -1)
        for (weight, _), slope in zip(pairs[-2::-1], slopes[-2::-1], strict=True):
            J = torch.matmul(J if slope is None else J * slope.unsqueeze(1), weight)
        return h, J.reshape(*J.shape[:2], *x.shape[1:])


class _Layer(NamedTuple):
    """What goes into a linear layer, and of the activation before it f'(a) and f''(a) times ȧ."""

    h: Tensor
    dh: Tensor
    slope: Tensor | None = None
    bent: Tensor | None = None


class ChainByParameters:
    """The output and the directional derivatives of a chain, as a function of its parameters.

    Parameters
    ----------
    chain : Chain
        The chain; what its parameters hold does not matter.
    x : torch.Tensor of shape (n_samples, *input_shape)
        The samples.
    tangents : torch.Tensor of shape (n_samples, n_tangents, *input_shape)
        Their tangents; there may be none.

    Examples
    --------
    >>> import torch
    >>> from sktangent._speed.chains import find_chain
    >>> from sktangent._speed.jacobians import ChainByParameters
    >>> x, tangents = torch.tensor([[3.0]]), torch.ones(1, 1, 1)
    >>> chain = find_chain(torch.nn.Sequential(torch.nn.Linear(1, 1)), x, tangents)
    >>> function = ChainByParameters(chain, x, tangents)
    >>> values, jacobian = function.linearize(torch.tensor([2.0, 1.0]))
    >>> values.flatten().tolist(), jacobian.squeeze().tolist()
    ([7.0, 2.0], [[3.0, 1.0], [1.0, 0.0]])
    """

    def __init__(self, chain: Chain, x: Tensor, tangents: Tensor) -> None:
        self.chain = chain
        self.x, self.tangents = x.flatten(1), tangents.flatten(2)

    def values(self, point: Tensor) -> Tensor:
        """Compute the output, followed by the derivatives, (n, 1 + n_tangents, n_outputs)."""
        *_, last = self._layers(self._split(point))
        return torch.cat([last.h.unsqueeze(1), last.dh], dim=1)

    def linearize(self, point: Tensor) -> tuple[Tensor, Tensor]:
        """Compute these, and what they change by with each parameter, which adds a last axis."""
        pairs = self._split(point)
        *layers, last = self._layers(pairs)
        n_samples, n_tangents, n_outputs = last.dh.shape
        jacobian = last.h.new_empty(n_samples, 1 + n_tangents, n_outputs, len(point))
        g = torch.eye(n_outputs, dtype=point.dtype, device=point.device).expand(n_samples, -1, -1)
        c = g.new_zeros(()).expand(n_samples, n_tangents, n_outputs, n_outputs)
        stop = len(point)
        for i in reversed(range(len(layers))):
            weight, bias = pairs[i]
            if bias is not None:
                block = jacobian[..., stop - len(bias) : stop]
                block[:, 0], block[:, 1:] = g, c
                stop -= len(bias)
            block = jacobian[..., stop - weight.numel() : stop].unflatten(-1, weight.shape)
            _fill_weight(block, layers[i], g, c)
            stop -= weight.numel()
            if i > 0:
                g, c = _go_back(layers[i], g @ weight, c @ weight)
        return torch.cat([last.h.unsqueeze(1), last.dh], dim=1), jacobian

    def _split(self, point: Tensor) -> list[tuple[Tensor, Tensor | None]]:
        parts, start = [], 0
        for layer in self.chain.linear:
            pair = []
            for parameter in (layer.weight, layer.bias):
                if parameter is None:
                    pair.append(None)
                else:
                    stop = start + parameter.numel()
                    pair.append(point[start:stop].view_as(parameter))
                    start = stop
            parts.append(tuple(pair))
        return parts

    def _layers(self, pairs) -> Iterator[_Layer]:
        """Yield what goes into each linear layer, and last what comes out."""
        layer = _Layer(self.x, self.tangents)
        for activation, (weight, bias) in zip(self.chain.activations, pairs, strict=True):
            yield layer
            a, da = F.linear(layer.h, weight, bias), F.linear(layer.dh, weight)
            if activation is None:
                layer = _Layer(a, da)
                continue
            h, slope, curvature = activation.derivatives(a)
            bent = torch.zeros_like(da) if curvature is None else da * curvature.unsqueeze(1)
            layer = _Layer(h, da * slope.unsqueeze(1), slope, bent)
        yield layer


def _fill_weight(block: Tensor, layer: _Layer, g: Tensor, c: Tensor) -> None:
    torch.mul(g.unsqueeze(-1), layer.h[:, None, None, :], out=block[:, 0])
    by_tangents = block[:, 1:]
    torch.mul(g[:, None, :, :, None], layer.dh[:, :, None, None, :], out=by_tangents)
    by_tangents.addcmul_(c.unsqueeze(-1), layer.h[:, None, None, None, :])


def _go_back(layer: _Layer, g: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    if layer.slope is None:  # two linear layers in a row
        return g, c
    c = c * layer.slope[:, None, None]
    c.addcmul_(layer.bent.unsqueeze(2), g.unsqueeze(1))
    return g * layer.slope.unsqueeze(1), c
