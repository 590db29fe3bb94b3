"""The random numbers of a fit: its own, whatever other threads draw.

What this project draws itself, it draws from generators of the fit. Code that can draw from torch's
global generators only (dropout, a user's constructor or ``forward``) finds the fit's numbers in
their place, one thread at a time; code that is known to draw nothing runs free.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import partial

import numpy as np
import torch
from torch import nn

from sktangent._speed.observers import is_watched

_KNOWN_CODE = ("torch.nn.", "torch.optim.", "sktangent.")
# whose constructors draw nothing, or from the fit's generators
_KNOWN_CONSTRUCTORS = ("torch.nn.modules.loss", "torch.nn.modules.activation", "sktangent.")
_DRAWING_FILE = "torch.nn.modules.dropout"
_DRAWING = (nn.RReLU, nn.FractionalMaxPool2d, nn.FractionalMaxPool3d)


class _Randomness:
    """Generators on the CPU and on the device of a fit."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self.generators = {
            each: torch.Generator(each).manual_seed(seed) for each in {torch.device("cpu"), device}
        }
        self.drawing: tuple[tuple, bool] = ((), False)
        self._seed, self._device, self._apart = seed, device, None

    def generator(self, device: torch.device) -> torch.Generator:
        kinds = {each.type: generator for each, generator in self.generators.items()}
        return kinds[device.type]

    def apart(self, index: int) -> _Randomness:
        """Return other random numbers, for the one of several processes that has this index."""
        if self._apart is None:
            seed = np.random.SeedSequence([self._seed, index]).generate_state(1)
            self._apart = _Randomness(int(seed[0]), self._device)
        return self._apart

    def is_drawn_by(self, parts: tuple) -> bool:
        """Tell whether parts of a net draw; they are looked through once in a fit."""
        if self.drawing[0] != parts:
            self.drawing = parts, any(map(may_draw, parts))
        return self.drawing[1]


_own: ContextVar[_Randomness | None] = ContextVar("sktangent_randomness", default=None)
# torch's global generators belong to the whole process
_global_generators = threading.RLock()


@contextlib.contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Give the fit that runs in this thread random numbers of its own.

    Parameters
    ----------
    seed : int
        Where its generators start.
    device : torch.device
        Where the network is.

    Examples
    --------
    >>> import torch
    >>> from sktangent._randomness import generator_for, seeded
    >>> with seeded(0, torch.device("cpu")):
    ...     torch.rand(2, generator=generator_for("cpu"))
    tensor([0.4963, 0.7682])
    """
    with _using(_Randomness(seed, torch.device(device))):
        yield


@contextlib.contextmanager
def _using(randomness: _Randomness) -> Iterator[None]:
    token = _own.set(randomness)
    try:
        yield
    finally:
        _own.reset(token)


def generator_for(device: torch.device | str) -> torch.Generator | None:
    """Return the fit's generator on a device; outside of fits None, which is torch's global one."""
    own = _own.get()
    return None if own is None else own.generator(torch.device(device))


def drawing_apart(index: int | None) -> contextlib.AbstractContextManager:
    """Let one of the processes that fit together draw what the others do not see, as dropout is.

    How much they draw depends on their samples; what they draw in common stays in step.

    Parameters
    ----------
    index : int or None
        Which process this is. None: it is alone, and nothing changes.
    """
    own = _own.get()
    return contextlib.nullcontext() if own is None or index is None else _using(own.apart(index))


def generator_states() -> dict[str, torch.Tensor]:
    """Read the states of the fit's generators, by their devices; outside of fits there are none."""
    own = _own.get()
    generators = {} if own is None else own.generators
    return {str(device): generator.get_state() for device, generator in generators.items()}


def set_generator_states(states: dict[str, torch.Tensor]) -> None:
    """Put the fit's generators into states that :func:`generator_states` has read."""
    for device, state in states.items():
        generator_for(device).set_state(state.cpu())


@contextlib.contextmanager
def in_place_of_global() -> Iterator[None]:
    """Put the fit's random numbers in the place of torch's global ones, and these back at the end.

    Other fits wait meanwhile for what they would do under it. Outside of fits nothing changes.
    """
    own = _own.get()
    if own is None:
        yield
        return
    with _global_generators, contextlib.ExitStack() as stack:
        stack.callback(_own.reset, _own.set(None))
        for device, generator in own.generators.items():
            stack.enter_context(_swapped(device, generator))
        yield


def drawing_for(*parts: object) -> contextlib.AbstractContextManager:
    """Let parts of a net draw from the fit's random numbers, if they draw any.

    Parameters
    ----------
    *parts : nn.Module, torch.optim.Optimizer or callable
        What is to be called.
    """
    own = _own.get()
    if own is None or not own.is_drawn_by(parts):
        return contextlib.nullcontext()
    return in_place_of_global()


def constructing(constructor: Callable, kwargs: dict) -> contextlib.AbstractContextManager:
    """Let a constructor draw from the fit's random numbers, if it may draw from global ones.

    Parameters
    ----------
    constructor : callable
        What is to be called.
    kwargs : dict
        Its arguments; some of them may be constructors that it calls.
    """
    called = (constructor, *filter(callable, kwargs.values()))
    if all(_is_of(_KNOWN_CONSTRUCTORS, each) for each in called):
        return contextlib.nullcontext()
    return in_place_of_global()


def may_draw(part: object) -> bool:
    """Tell whether a module, an optimizer or a function may draw random numbers.

    Only of torch's code, and of this project's, is it known that it does not.

    Examples
    --------
    >>> from torch import nn
    >>> from sktangent._randomness import may_draw
    >>> may_draw(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
    False
    >>> may_draw(nn.Sequential(nn.Linear(2, 2), nn.Dropout()))
    True
    """
    if isinstance(part, nn.Module):
        return any(map(_module_may_draw, part.modules()))
    return not _is_of(_KNOWN_CODE, getattr(type(part), "step", part))


def _module_may_draw(module: nn.Module) -> bool:
    kind = type(module)
    if kind.__call__ is not nn.Module.__call__ or is_watched(module):
        return True
    forward = getattr(kind, "forward", None)  # a script module has none
    draws = (
        isinstance(module, _DRAWING)
        or getattr(forward, "__module__", None) == _DRAWING_FILE
        or bool(getattr(module, "dropout", False))  # recurrent layers and attention
    )
    return draws or not _is_of(_KNOWN_CODE, forward)


def _is_of(rooms: tuple[str, ...], function: Callable | None) -> bool:
    return (getattr(function, "__module__", None) or "").startswith(rooms)


@contextlib.contextmanager
def _swapped(device: torch.device, generator: torch.Generator) -> Iterator[None]:
    get_state, set_state = _global_state(device)
    before = get_state()
    set_state(generator.get_state())
    try:
        yield
    finally:
        generator.set_state(get_state())
        set_state(before)


def _global_state(device: torch.device) -> tuple[Callable, Callable]:
    """Return the functions that read and write the state of a device's global generator."""
    if device.type == "cpu":
        return torch.get_rng_state, torch.set_rng_state
    if device.type == "cuda":
        set_state = torch.cuda.set_rng_state
        return partial(torch.cuda.get_rng_state, device), partial(set_state, device=device)
    kind = getattr(torch, device.type)
    return kind.get_rng_state, kind.set_rng_state
