"""The refusal of custom autograd functions, which tangents cannot follow, by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import NoReturn

import torch


def refuse_custom_function() -> NoReturn:
    """Refuse a custom autograd function, in whose forward torch turns forward mode off.

    Its backward would be lost: the tangents would take forward's derivative and the parameters
    none at all.
    """
    raise TypeError(
        f"The module calls the custom torch.autograd.Function {_custom_function()}, through which "
        "tangents cannot be propagated. Write its forward in torch functions, or wrap its apply in "
        "a function of your own with a rule."
    )


def _custom_function() -> str:
    """Find the name of the custom function whose forward runs; it only serves the message."""
    forwards = {_code(kind.forward): kind.__name__ for kind in _subclasses(torch.autograd.Function)}
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code in forwards:
            context = next(iter(frame.f_locals.values()), None)
            is_context = isinstance(context, torch.autograd.function.FunctionCtx)
            kind = type(context).__name__.removesuffix("Backward")
            return kind if is_context else forwards[frame.f_code]
        frame = frame.f_back
    return "that returns its input"


def _code(forward: Callable) -> object:
    return getattr(inspect.unwrap(forward), "__code__", None)


def _subclasses(kind: type) -> Iterator[type]:
    for subclass in kind.__subclasses__():
        yield from _subclasses(subclass)
        yield subclass
