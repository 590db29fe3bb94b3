"""What tangents and transformers ask of samples, names and numbers that a user gives."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence
from numbers import Integral, Real

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_array

# What samples must be, in the words of scikit-learn's own validation.
SAMPLES = {"dtype": [np.float64, np.float32], "allow_nd": True}


def check_samples(X: ArrayLike, caller: BaseEstimator) -> np.ndarray:
    """Return X as a dense, finite, floating array of at least two axes and one value."""
    if _is_known_to_pass(X):
        return X
    X = check_array(X, estimator=caller, input_name="X", **SAMPLES)
    if X.size == 0:
        raise ValueError(f"X must have at least one value a sample, got shape {X.shape}.")
    return X


def _is_known_to_pass(X: ArrayLike) -> bool:
    """Tell quickly, of most arrays that batches are made of, that nothing is wrong with them."""
    if type(X) is not np.ndarray or X.dtype not in SAMPLES["dtype"] or X.ndim < 2 or X.size == 0:
        return False
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(X.sum()))


def check_names(names: str | Sequence[str], known: Collection[str], parameter: str) -> list[str]:
    """Return distinct known names as a list, or say which one is wrong and what was meant."""
    names = [names] if isinstance(names, str) else names
    # A set is refused: it has no order, and the tangents do.
    ordered = isinstance(names, (Sequence, np.ndarray))
    if not ordered or not all(isinstance(name, str) for name in names):
        raise TypeError(f"{parameter} must be a sequence of names, got {names!r}.")
    names = [str(name) for name in names]
    if not names:
        raise ValueError(f"{parameter} must hold at least one name, got {names!r}.")
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"{parameter} has {name!r}, which is none of {list(known)}.{hint}")
    if len(set(names)) < len(names):
        raise ValueError(f"{parameter} must not hold a name twice, got {names!r}.")
    return names


def check_nonnegative(value: float, parameter: str) -> float:
    """Return a finite number that is zero or more as a float."""
    if not isinstance(value, Real) or isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{parameter} must be a number, got {value!r}.")
    if not 0 <= value < float("inf"):
        raise ValueError(f"{parameter} must be finite and zero or more, got {value!r}.")
    return float(value)


def check_multipliers(values: ArrayLike, shape: tuple[int, ...], parameter: str) -> np.ndarray:
    """Return finite numbers of the shape of tangents' multipliers, in double precision.

    Parameters
    ----------
    values : array-like
        What was given.
    shape : tuple of int
        (n_samples, n_tangents), or (n_samples, -1, n_tangents) for any number of combinations.
    parameter : str
        What to call them.

    Returns
    -------
    values : ndarray of that shape
        The numbers.
    """
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{parameter} must be one array of numbers: {error}") from error
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{parameter} must be numbers, got dtype {array.dtype}.")
    sizes_fit = len(array.shape) == len(shape) and all(
        wanted in (-1, size) for size, wanted in zip(array.shape, shape, strict=True)
    )
    if not sizes_fit:
        names = ("n_samples", "n_tangents") if len(shape) == 2 else ("n_samples", "k", "n_tangents")
        sizes = ", ".join("k" if size == -1 else str(size) for size in shape)
        raise ValueError(
            f"{parameter} must have shape ({', '.join(names)}), here ({sizes}), got {array.shape}."
        )
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"{parameter} holds NaN or infinity.")
    return array


def check_reach(amounts: np.ndarray, limit: float, name: str) -> None:
    """Raise ValueError if a displacement carries the content over the whole frame."""
    largest = np.abs(amounts).max(initial=0)
    if largest >= limit:
        raise ValueError(
            f"amounts of {name!r} must be below {limit:g}, or nothing of the frame is left in it, "
            f"got {largest:g}."
        )


def check_count(value: int, parameter: str) -> int:
    """Return an integer that is one or more as an int."""
    if not isinstance(value, Integral) or isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{parameter} must be an integer, got {value!r}.")
    if value < 1:
        raise ValueError(f"{parameter} must be at least 1, got {value!r}.")
    return int(value)


def check_choice(value: object, choices: Sequence[str | bool], parameter: str) -> str | bool:
    """Return the choice that the value is, or say which there are."""
    # 1 is no True, and the == of an array is no answer.
    if isinstance(value, (str, bool, np.bool_)):
        for choice in choices:
            if value == choice:
                return choice
    raise ValueError(f"{parameter} must be one of {list(choices)}, got {value!r}.")
