"""What is asked of samples, tangents, names and numbers that a user gives."""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Collection, Iterator, Sequence
from numbers import Integral, Real

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_array

# What samples must be, in the words of scikit-learn's own validation.
SAMPLES = {"dtype": [np.float64, np.float32], "allow_nd": True}


@contextlib.contextmanager
def validating(values: object, name: str, labels: bool = False) -> Iterator[None]:
    """Let a validation name what it validates, and refuse what it would silently take for numbers.

    Under masks there are numbers that nobody means, and dates are numbers of any unit.

    Parameters
    ----------
    values : object
        What was given.
    name : str
        What to call it.
    labels : bool, default=False
        Whether it need not hold numbers.
    """
    if np.ma.is_masked(values):
        raise ValueError(
            f"{name} is a masked array of which {np.ma.getmaskarray(values).sum()} values are "
            "masked: leave those samples out, or fill them in by its filled()."
        )
    dtypes = [values.dtype] if hasattr(values, "dtype") else getattr(values, "dtypes", ())
    if not labels and any(getattr(dtype, "kind", None) in ("m", "M") for dtype in dtypes):
        raise TypeError(f"{name} must hold numbers, got dates or durations.")
    try:
        yield
    except (TypeError, ValueError, RuntimeError) as error:
        if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", str(error)):
            raise
        kind = ValueError if isinstance(error, ValueError) else TypeError
        raise kind(f"{name} cannot be used: {error}") from error


def check_numbers(values: ArrayLike, name: str, **asked) -> np.ndarray:
    """Return what scikit-learn's ``check_array`` does; whatever it refuses is named."""
    with validating(values, name):
        return check_array(values, input_name=name, **asked)


def check_samples(X: ArrayLike, caller: BaseEstimator) -> np.ndarray:
    """Return X as a dense, finite, floating array of at least two axes and one value."""
    if _is_known_to_pass(X):
        return X
    X = check_numbers(X, "X", estimator=caller, **SAMPLES)
    if X.size == 0:
        raise ValueError(f"X must have at least one value a sample, got shape {X.shape}.")
    return X


def _is_known_to_pass(X: ArrayLike) -> bool:
    """Tell quickly, of most arrays that batches are made of, that nothing is wrong with them."""
    if type(X) is not np.ndarray or X.dtype not in SAMPLES["dtype"] or X.ndim < 2 or X.size == 0:
        return False
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(X.sum()))


def check_tangents(
    tangents: ArrayLike, X: np.ndarray, source: str, keep: Collection = ()
) -> np.ndarray:
    """Return the tangents of samples as one finite array, in the dtype of X.

    Integers become floats. A view that repeats one sample's tangents stays one.

    Parameters
    ----------
    tangents : array-like of shape (n_samples, n_tangents, *input_shape)
        The tangent vectors.
    X : ndarray of shape (n_samples, *input_shape)
        The samples.
    source : str
        What the tangents are called in errors.
    keep : collection of numpy dtypes, default=()
        Other dtypes that they may have.

    Returns
    -------
    V : ndarray of shape (n_samples, n_tangents, *input_shape)
        The tangent vectors.
    """
    V = _as_numbers(tangents, source)
    if V.ndim != X.ndim + 1 or V.shape[0] != X.shape[0] or V.shape[2:] != X.shape[1:]:
        wanted = ", ".join(map(str, (X.shape[0], "n_tangents", *X.shape[1:])))
        hint = _missing_axis(V.shape, X.shape)
        raise ValueError(f"{source} must have shape ({wanted}), got {V.shape}.{hint}")
    if V.shape[1] == 0:
        raise ValueError(f"{source} holds no tangent: its shape is {V.shape}.")
    dtype = V.dtype if V.dtype in keep else X.dtype
    with np.errstate(over="ignore"):
        distinct = distinct_rows(V).astype(dtype, copy=False)
    if not _all_finite(distinct):
        raise ValueError(f"{source} holds NaN, infinity or a value too large for {dtype}.")
    return np.broadcast_to(distinct, V.shape)


def _missing_axis(found: tuple, samples: tuple) -> str:
    if found == samples:
        return " For one tangent, add its axis: V[:, None]."
    if found[1:] == samples[1:]:
        return " For the same ones at every sample: np.broadcast_to(V, (len(X), *V.shape))."
    return ""


def check_derivatives(
    derivatives: ArrayLike, shape: tuple[int, int, int | None], dtype: np.dtype, source: str
) -> np.ndarray:
    """Return the derivatives wanted along tangents as one array, NaN where one is not known.

    Parameters
    ----------
    derivatives : array-like of shape (n_samples, n_tangents) or (n_samples, n_tangents, n_outputs)
        The derivatives.
    shape : tuple
        (n_samples, n_tangents, n_outputs); n_outputs is None where any number will do.
    dtype : numpy dtype
        Precision of the result.
    source : str
        What the derivatives are called in errors.

    Returns
    -------
    d : ndarray of shape (n_samples, n_tangents) or (n_samples, n_tangents, n_outputs)
        The derivatives.
    """
    d = _as_numbers(derivatives, source).astype(dtype, copy=False)
    n_outputs = shape[2]
    by_output = d.ndim == 3 and n_outputs in (None, d.shape[2])
    if d.shape[:2] != shape[:2] or not (by_output or (d.ndim == 2 and n_outputs in (None, 1))):
        wanted = ", ".join(map(str, shape[:2]))
        also = f" or ({wanted})" if n_outputs in (None, 1) else ""
        raise ValueError(
            f"{source} must have shape ({wanted}, {n_outputs or 'n_outputs'}){also}: (n_samples, "
            "n_tangents, n_outputs), or without tangents (n_samples, n_features, n_outputs). Got "
            f"{d.shape}.{_other_axes(d.shape, shape)}"
        )
    if np.isinf(d).any():
        raise ValueError(f"{source} holds infinity; NaN says that one is not known.")
    return d


def _other_axes(found: tuple, wanted: tuple) -> str:
    if found == wanted[:1] and wanted[1] == 1:
        return " For one derivative a sample, add its axis: d[:, None]."
    if len(found) == 3 and (found[0], found[2]) == wanted[:2] and wanted[2] in (None, found[1]):
        return " A Jacobian with the outputs first is J.transpose(0, 2, 1)."
    return ""


def repeats_one_row(array: np.ndarray) -> bool:
    """Tell whether an array is a view that repeats its first row."""
    return array.strides[0] == 0


def distinct_rows(array: np.ndarray) -> np.ndarray:
    """Leave out the copies in a view that repeats its first row."""
    return array[:1] if repeats_one_row(array) else array


def _as_numbers(values: ArrayLike, source: str) -> np.ndarray:
    with validating(values, source):
        try:
            array = np.asarray(values)
            if array.dtype.kind == "O" and array.ndim > 0:
                array = array.astype(np.float64)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"{source} must be one array of numbers: {error}") from error
    if array.dtype.kind not in "fiub":
        given = f"dtype {array.dtype}" if array.ndim > 0 else repr(values)
        raise TypeError(f"{source} must be one array of numbers, got {given}.")
    return array


def _all_finite(array: np.ndarray) -> bool:
    with np.errstate(over="ignore", invalid="ignore"):
        total = array.sum()
    # a sum takes no memory; that it is not finite may be its own overflow
    return bool(np.isfinite(total) or np.isfinite(array).all())


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
            hint = did_you_mean(name, known)
            raise ValueError(f"{parameter} has {name!r}, which is none of {list(known)}.{hint}")
    if len(set(names)) < len(names):
        raise ValueError(f"{parameter} must not hold a name twice, got {names!r}.")
    return names


def did_you_mean(name: object, known: Collection[str]) -> str:
    """Ask for the known name that is the closest to an unknown one; empty if none is close."""
    close = difflib.get_close_matches(name, known, n=1) if isinstance(name, str) else []
    return f" Did you mean {close[0]!r}?" if close else ""


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
    with validating(values, parameter):
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


def check_reach(
    amounts: np.ndarray, limit: float, name: str, of_limit: str = "the size of the frame"
) -> None:
    """Raise ValueError if a transformation goes too far, one way or the other."""
    largest = np.abs(amounts).max(initial=0)
    if largest >= limit:
        raise ValueError(
            f"amounts of {name!r} must be below {limit:g} in size, {of_limit}, got {largest:g}."
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
