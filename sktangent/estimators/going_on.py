"""What must not change when training goes on with the network of the last fit."""

from __future__ import annotations

import numpy as np

from sktangent.estimators.build import optimizer_class
from sktangent.net import TangentPropNet

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
