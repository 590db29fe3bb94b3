r"""Chains propagated by outputs that go back to the inputs, where they are fewer than the tangents.

With :math:`a_l = W_l h_{l-1} + b_l` and :math:`h_l = f(a_l)`, the gradient of output o by
:math:`a_l` is :math:`v_l = f'(a_l)\,g_l`, that by :math:`h_{l-1}` is :math:`g_{l-1} = W_l^T v_l`,
from :math:`v_L = e_o`; its derivative along a tangent is :math:`g_0^T \tau_t`. With a bar for the
gradient of the loss, :math:`\bar g_0 = \sum_t \bar{\dot y}_t \tau_t`, and then, from the first
layer on and summed over the outputs,

.. math:: \bar v_l = W_l\,\bar g_{l-1}, \quad \bar g_l = f'(a_l)\,\bar v_l, \qquad
          \bar W_l \mathrel{+}= v_l\,\bar g_{l-1}^T, \quad
          \bar a_l \mathrel{+}= f''(a_l)\,g_l\,\bar v_l,

before the way back of the values. One output and twenty tangents take the work of two rows a
sample, not of twenty-one: the twin networks of Huge and Savine, *Differential Machine Learning*,
2020, section 3, with products by any tangents behind them. A fit of 2,000 points with 20 gradients
(20-100-100-1, Adam) takes 0.41 of the time (two cores of an Intel Xeon).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sktangent._speed.products import linear
from sktangent._speed.twice_back import goes_by_rules, gradients_by_rules, without_autocast
from sktangent.propagation.rules.activations import Activation

# in multiplications of a product: the passes over a number of a hidden layer, and a multiplication
# of a sample's own tangents, in small products, by its Jacobian or the gradient by that
_PASSES, _BY_OWN_TANGENTS, _BY_SHARED_TANGENTS = 100, 30, 4


def is_possible(activations: Sequence[Activation | None], *inputs: Tensor) -> bool:
    """Tell whether layers are as expected, and no gradients by the inputs are wanted."""
    *hidden, last = activations
    is_usual = bool(hidden) and last is None and None not in hidden
    return is_usual and not any(tensor.requires_grad for tensor in inputs)


def takes_less(weights: Sequence[torch.Size], n_tangents: int, are_shared: bool) -> bool:
    """Tell whether to go back takes less work.

    A way is two products with a layer's weights for each row of a sample, three behind the first.
    Tangents that all samples share come through the first layer once for all.

    Parameters
    ----------
    weights : sequence of (int, int)
        The shapes of the layers' weights.
    n_tangents : int
        Tangents of a sample.
    are_shared : bool
        Whether they are the same for all samples.
    """
    first, *others = map(math.prod, weights)
    n_outputs, n_inputs = weights[-1][0], weights[0][1]
    units = _PASSES * sum(n_units for n_units, _ in weights[:-1])
    of_first = 0 if are_shared else 2 * n_tangents * first
    forward = of_first + n_tangents * (3 * sum(others) + units)
    by_tangents = _BY_SHARED_TANGENTS if are_shared else _BY_OWN_TANGENTS
    back = n_outputs * (3 * (first + sum(others)) + units)
    return back + by_tangents * n_outputs * n_tangents * n_inputs < forward


class _Hidden(NamedTuple):
    """A hidden layer: h, f'(a) and f''(a), and of the outputs the gradients g and v."""

    h: Tensor
    slope: Tensor
    curvature: Tensor | None
    g: Tensor
    v: Tensor


class ReversePropagation(torch.autograd.Function):
    """Outputs and derivatives along tangents, as of a chain; the arguments are those of both."""

    @staticmethod
    def forward(ctx, activations, x, tangents, *params):
        """Compute them, of shape (n_samples, n_outputs) and (n_samples, n_tangents, n_outputs)."""
        y, dy, hidden = propagate(activations, x, tangents, params)
        ctx.activations = activations
        ctx.n_inputs = 2 + len(params)
        ctx.save_for_backward(x, tangents, *params, *itertools.chain(*hidden))
        return y, dy

    @staticmethod
    def backward(ctx, y_bar, dy_bar):
        """Compute the gradients by the parameters."""
        saved, needed = ctx.saved_tensors, ctx.needs_input_grad[1:]
        inputs, size = saved[: ctx.n_inputs], len(_Hidden._fields)
        if goes_by_rules(y_bar, dy_bar):
            return None, *gradients_by_rules(ctx.activations, inputs, needed, y_bar, dy_bar)
        hidden = [_Hidden(*saved[i : i + size]) for i in range(ctx.n_inputs, len(saved), size)]
        with without_autocast(y_bar):
            return None, None, None, *_go_back(inputs, needed[2:], hidden, y_bar, dy_bar)


def propagate(
    activations, x: Tensor, tangents: Tensor, params
) -> tuple[Tensor, Tensor, list[_Hidden]]:
    """Compute the outputs, their derivatives along the tangents, and what the way back needs."""
    *values, y = _values(activations, x.flatten(1), params)
    hidden = _pull(values, params)
    return y, _along(linear(hidden[0].v, params[0].t()), tangents), hidden


def _values(activations, h: Tensor, params) -> list:
    """Compute h, f'(a) and f''(a) of each hidden layer, and last the outputs."""
    found = []
    for activation, weight, bias in zip(activations, params[::2], params[1::2], strict=True):
        a = linear(h, weight, bias)
        if activation is not None:
            found.append(activation.derivatives(a))
            h = found[-1][0]
    return [*found, a]


def _pull(values: list, params) -> list[_Hidden]:
    """Go back from the outputs; what comes to a layer has shape (n_samples, n_outputs, n_units)."""
    found = []
    g = params[-2].unsqueeze(0)
    for i in reversed(range(len(values))):
        v = g * values[i][1].unsqueeze(1)
        found.append(_Hidden(*values[i], g, v))
        if i > 0:
            g = linear(v, params[2 * i].t())
    return found[::-1]


def are_shared(tangents: Tensor) -> bool:
    """Tell whether tangents are the same for all samples."""
    return len(tangents) > 1 and tangents.stride(0) == 0


def _along(jacobian: Tensor, tangents: Tensor) -> Tensor:
    if are_shared(tangents):
        along = linear(jacobian, tangents[0].flatten(1)).transpose(1, 2)
        return along.clone(memory_format=torch.contiguous_format)  # a view could not be changed
    return torch.bmm(tangents.flatten(2), jacobian.transpose(1, 2))


def _by_jacobian(dy_bar: Tensor, tangents: Tensor) -> Tensor:
    by_outputs = dy_bar.transpose(1, 2)
    if are_shared(tangents):
        return linear(by_outputs, tangents[0].flatten(1).t())
    return torch.bmm(by_outputs, tangents.flatten(2))


def _go_back(
    inputs, needed, hidden: list[_Hidden], y_bar: Tensor, dy_bar: Tensor
) -> list[Tensor | None]:
    x, tangents, *params = inputs
    grads: list[Tensor | None] = [None] * len(params)
    by_a = []
    by_g = _by_jacobian(dy_bar, tangents)
    for i, layer in enumerate(hidden):
        if needed[2 * i]:
            grads[2 * i] = linear(layer.v.flatten(0, 1).t(), by_g.flatten(0, 1).t())
        by_v = linear(by_g, params[2 * i])
        by_a.append(None if layer.curvature is None else (layer.g * by_v).sum(1))
        by_g = by_v.mul_(layer.slope.unsqueeze(1))
    grads[-2] = by_g.sum(0)
    a_bar = y_bar
    for i in reversed(range(1 + len(hidden))):
        if needed[2 * i]:
            h = hidden[i - 1].h if i > 0 else x.flatten(1)
            grads[2 * i] += linear(a_bar.t(), h.t())
        if needed[2 * i + 1]:
            grads[2 * i + 1] = a_bar.sum(0)
        if not any(needed[: 2 * i]):
            break
        layer = hidden[i - 1]
        a_bar = linear(a_bar, params[2 * i].t()).mul_(layer.slope)
        if layer.curvature is not None:
            a_bar.addcmul_(layer.curvature, by_a[i - 1])
    return grads
