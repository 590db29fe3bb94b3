"""Recurrent layers and cells, step by step in functions that have rules of their own."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from sktangent import _torch
from sktangent.propagation.dual import register_rule

# A cell takes the projected input of one step and its state, and returns output and new state.
Cell = Callable[..., tuple]


def _simple_step(activation: Callable) -> Cell:
    def step(projected, state, weight, bias, projection=None):
        (h,) = state
        return (activation(projected + F.linear(h, weight, bias)),)

    return step


def _gru_step(projected, state, weight, bias, projection=None):
    (h,) = state
    x_reset, x_update, x_new = projected.chunk(3, -1)
    h_reset, h_update, h_new = F.linear(h, weight, bias).chunk(3, -1)
    reset, update = torch.sigmoid(x_reset + h_reset), torch.sigmoid(x_update + h_update)
    new = torch.tanh(x_new + reset * h_new)
    return (new + update * (h - new),)


def _lstm_step(projected, state, weight, bias, projection=None):
    h, c = state
    gates = projected + F.linear(h, weight, bias)
    enter, forget, candidate, leave = gates.chunk(4, -1)
    c = torch.sigmoid(forget) * c + torch.sigmoid(enter) * torch.tanh(candidate)
    h = torch.sigmoid(leave) * torch.tanh(c)
    return (h if projection is None else F.linear(h, projection), c)


def _direction(step: Cell, sequence, state: tuple, weights: dict, reverse: bool) -> tuple:
    """Run one direction of one layer over a sequence that has time first."""
    projected = F.linear(sequence, weights["input"], weights["input_bias"])
    steps = list(projected.unbind(0))
    outputs = []
    for one in reversed(steps) if reverse else steps:
        state = step(one, state, weights["hidden"], weights["hidden_bias"], weights["projection"])
        outputs.append(state[0])
    return torch.stack(outputs[::-1] if reverse else outputs), state


def _weights(params: list, has_biases: bool, has_projection: bool):
    """Cut the flat list of parameters into one dictionary a layer and direction."""
    names = ["input", "hidden"]
    names += ["input_bias", "hidden_bias"] if has_biases else []
    names += ["projection"] if has_projection else []
    absent = dict.fromkeys(("input_bias", "hidden_bias", "projection"))
    for start in range(0, len(params), len(names)):
        part = params[start : start + len(names)]
        yield {**absent, **dict(zip(names, part, strict=True))}


def _run(step, input, states, weights, dropout, train, bidirectional, batch_first) -> tuple:
    """Run all layers and return the output sequence and the last states, stacked."""
    sequence = input.transpose(0, 1) if batch_first else input
    directions = 2 if bidirectional else 1
    finals = []
    for first in range(0, len(weights), directions):
        if first and dropout and train:
            sequence = F.dropout(sequence, dropout, True)
        outputs = []
        for place in range(first, first + directions):
            state = tuple(kind[place] for kind in states)
            output, state = _direction(step, sequence, state, weights[place], place > first)
            outputs.append(output)
            finals.append(state)
        sequence = torch.cat(outputs, -1) if bidirectional else outputs[0]
    last = tuple(torch.stack(kind) for kind in zip(*finals, strict=True))
    return sequence.transpose(0, 1) if batch_first else sequence, last


def _refuse_packed(params: object) -> None:
    if not isinstance(params, (tuple, list)):
        raise TypeError(
            "Packed sequences cannot carry tangents. Give the recurrent layer padded sequences, "
            "and mask its output."
        )


@register_rule(torch.lstm)
def lstm(input, hx, params, has_biases, *args):
    """Long short-term memory, with or without a projected output."""
    _refuse_packed(params)
    num_layers, dropout, train, bidirectional, batch_first = args
    states = tuple(hx)
    has_projection = states[0].shape[-1] != states[1].shape[-1]
    weights = list(_weights(params, has_biases, has_projection))
    output, (h, c) = _run(
        _lstm_step, input, states, weights, dropout, train, bidirectional, batch_first
    )
    return output, h, c


def _register_layer(function: Callable, step: Cell) -> None:
    @register_rule(function)
    def layer(input, hx, params, has_biases, *args):
        _refuse_packed(params)
        num_layers, dropout, train, bidirectional, batch_first = args
        weights = list(_weights(params, has_biases, False))
        output, (h,) = _run(step, input, (hx,), weights, dropout, train, bidirectional, batch_first)
        return output, h


def _register_cell(function: Callable, step: Cell) -> None:
    @register_rule(function)
    def cell(input, hx, w_ih, w_hh, b_ih=None, b_hh=None):
        (h,) = step(F.linear(input, w_ih, b_ih), (hx,), w_hh, b_hh)
        return h


for _step, _functions in {
    _simple_step(torch.tanh): (torch.rnn_tanh, torch.rnn_tanh_cell),
    _simple_step(torch.relu): (torch.rnn_relu, torch.rnn_relu_cell),
    _gru_step: (torch.gru, torch.gru_cell),
}.items():
    _register_layer(_functions[0], _step)
    _register_cell(_functions[1], _step)


@register_rule(torch.lstm_cell)
def lstm_cell(input, hx, w_ih, w_hh, b_ih=None, b_hh=None):
    """One step of long short-term memory."""
    return _lstm_step(F.linear(input, w_ih, b_ih), tuple(hx), w_hh, b_hh)


@register_rule(*_torch.PACKING)
def pack_padded_sequence(*args, **kwargs):
    """Refuse, as the recurrent layers do."""
    _refuse_packed(None)
