"""What must not change when training goes on: with the network of the last fit, or after a kill."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable

import joblib
import numpy as np
import torch
from torch import nn

from sktangent._plain import to_plain
from sktangent._randomness import generator_states
from sktangent._tables import is_frame
from sktangent._version import __version__
from sktangent.estimators.build import optimizer_class
from sktangent.net import TangentPropNet
from sktangent.training.checkpoints import Checkpoint
from sktangent.training.distributed import rank

_FIXED = (
    "module",
    "hidden_layer_sizes",
    "activation",
    "criterion",
    "penalty_on",
    "normalize_y",
    "preprocessor",
    "device",
    "callbacks",
)
_FIXED_PREFIXES = ("module__", "criterion__", "optimizer__", "compile__")
_FREE = ("criterion__penalty_weight", "optimizer__lr")
# parameters that the result of a fit does not depend on
_IDLE = ("accelerator", "checkpoint", "verbose", "warm_start")


def note(value):
    """Note what a parameter is, down to the parameters inside it, so that :func:`is_same` can tell.

    Parameters
    ----------
    value : object
        The parameter.

    Returns
    -------
    noted : object
        The note; it does not change with what is set in the parameter later.
    """
    if hasattr(value, "get_params") and not isinstance(value, type):
        return {"": type(value), **note(value.get_params(deep=False))}
    if isinstance(value, dict):
        return {key: note(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [note(part) for part in value]
    return value


def is_same(noted, value) -> bool:
    """Tell whether a parameter is what was noted."""
    return _are_same(noted, note(value))


def fixed_params(estimator) -> dict:
    """Collect the parameters that a network is built with and keeps.

    Parameters
    ----------
    estimator : TangentPropEstimator
        The estimator.

    Returns
    -------
    params : dict
        Their names and notes.
    """
    params = estimator.get_params(deep=False)
    return {
        name: note(value)
        for name, value in params.items()
        if name in _FIXED or (name.startswith(_FIXED_PREFIXES) and name not in _FREE)
    }


def check_can_go_on(estimator, before: dict, net: TangentPropNet, dtype: np.dtype) -> None:
    """Refuse parameters that the network of the last fit cannot follow.

    Parameters
    ----------
    estimator : TangentPropEstimator
        The estimator.
    before : dict
        What :func:`fixed_params` told when the network was built.
    net : TangentPropNet
        The net of the last fit.
    dtype : numpy dtype
        Its precision.

    Raises
    ------
    ValueError
        If one has changed.
    """
    now = fixed_params(estimator)
    names = [
        name for name in sorted({*before, *now}) if not _are_same(before.get(name), now.get(name))
    ]
    if estimator.dtype is not None and np.dtype(estimator.dtype) != dtype:
        names.append("dtype")
    named = optimizer_class(estimator.optimizer)
    if named != "auto" and named is not type(net.optimizer_):
        names.append("optimizer")
    if names:
        raise ValueError(
            f"{', '.join(names)} changed, and training goes on with the network of the last fit, "
            "which cannot follow. Put the old value back, or call fit with warm_start=False."
        )


def open_checkpoint(estimator, net: TangentPropNet, find, **data) -> Checkpoint | None:
    """Find the file of a fit that is about to train, if its parameters say that there is to be one.

    Parameters
    ----------
    estimator : TangentPropEstimator
        The estimator.
    net : TangentPropNet
        The net as training begins.
    find : TangentRows, CombinedRows, MovedRows or None
        Where tangents come from; some draw random numbers.
    **data : object
        What ``fit`` was given, by name.

    Returns
    -------
    checkpoint : Checkpoint or None
        The file.

    Raises
    ------
    ValueError
        If several processes fit together.
    """
    if estimator.checkpoint is None:
        return None
    if rank() is not None:
        raise ValueError(
            "checkpoint keeps the state of one process; with an accelerator of several set None."
        )
    params = estimator.get_params(deep=False)
    parts = {
        **{name: value for name, value in params.items() if name not in _IDLE},
        **{f"{name} in fit": value for name, value in data.items()},
        "class": type(estimator),
        "versions": (__version__, torch.__version__),
        "initial network": (net.module_.state_dict(), net.optimizer_.state_dict()),
        "random numbers": generator_states(),
    }
    fit = {name: joblib.hash(_letters(note(part))) for name, part in parts.items()}
    return Checkpoint(estimator.checkpoint, fit, [find.random] if hasattr(find, "random") else [])


def _letters(noted, around: tuple = ()):
    """Turn a note into letters that are the same in every process."""
    if isinstance(noted, dict):
        return {str(key): _letters(part, around) for key, part in noted.items()}
    if isinstance(noted, list):
        return [_letters(part, around) for part in noted]
    inside = _inside(noted)
    if inside is not None:
        own = type(noted), id(getattr(noted, "__self__", noted))
        return "" if own in around else _letters(note(inside), (*around, own))
    try:
        return joblib.hash(to_plain(noted))
    except Exception:  # what cannot be pickled
        return type(noted).__qualname__


def _inside(noted) -> dict | list | None:
    """Tell what an object is made of, where its pickle may differ from process to process."""
    if isinstance(noted, nn.Module):
        return {"": type(noted), **noted.state_dict()}
    if is_frame(noted):
        return [(str(name), np.asarray(noted[name])) for name in noted.columns]
    if isinstance(noted, functools.partial):
        return [noted.func, noted.args, noted.keywords]
    if inspect.ismethod(noted):
        return [noted.__func__, noted.__self__]
    if inspect.isfunction(noted):
        return _code_of(noted)
    return {"": type(noted), **vars(noted)} if _is_of_attributes(noted) else None


def _is_of_attributes(noted) -> bool:
    if isinstance(noted, type) or inspect.ismodule(noted):
        return False
    ways = ("__reduce__", "__reduce_ex__")
    has_own_way = any(getattr(type(noted), way) is not getattr(object, way) for way in ways)
    return hasattr(noted, "__dict__") and not has_own_way


def _code_of(function: Callable) -> list:
    code = function.__code__
    constants = [x for x in code.co_consts if isinstance(x, (int, float, str))]
    given = [function.__defaults__, inspect.getclosurevars(function).nonlocals]
    return [function.__qualname__, code.co_code, code.co_names, constants, given]


def _are_same(a, b) -> bool:
    if a is b:
        return True
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_are_same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_are_same, a, b))
    try:
        return bool(np.all(a == b)) and np.shape(a) == np.shape(b)
    except (TypeError, ValueError):
        return False
