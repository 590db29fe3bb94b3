"""Tangent vectors of samples and the derivatives wanted along them, checked."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sktangent.training.batches import forward_strides


def compute_tangents(
    tangents: Callable | np.ndarray, X: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """Call the ``tangents`` callable, or take the array, and check what comes.

    Parameters
    ----------
    tangents : callable or array-like of shape (n_samples, n_tangents, *input_shape)
        Where the tangent vectors come from. A callable may return derivatives along with them.
    X : ndarray of shape (n_samples, *input_shape)
        The samples.

    Returns
    -------
    V : ndarray of shape (n_samples, n_tangents, *input_shape)
        The tangent vectors, in the dtype of X.
    derivatives : array-like or None
        What the callable returned along with them, as it is.
    """
    if not callable(tangents):
        return _check_tangents(tangents, X, "tangents"), None
    answer = tangents(X)
    if isinstance(answer, tuple):
        if len(answer) != 2:
            raise ValueError(
                "tangents(X) must return V or (V, derivatives), got a tuple of length "
                f"{len(answer)}."
            )
        return _check_tangents(answer[0], X, "tangents(X)[0]"), answer[1]
    return _check_tangents(answer, X, "tangents(X)"), None


def identity_tangents(X: np.ndarray) -> np.ndarray:
    """Return the coordinate directions of each sample, as a read-only view of one copy."""
    n_inputs = X[0].size
    basis = np.eye(n_inputs, dtype=X.dtype).reshape(n_inputs, *X.shape[1:])
    return np.broadcast_to(basis, (len(X), *basis.shape))


def scale_tangents(V: np.ndarray, scale: np.ndarray | float) -> np.ndarray:
    """Multiply each tangent, or the derivatives along it, by its scale; of a view, one copy.

    Parameters
    ----------
    V : ndarray of shape (n_samples, n_tangents, ...)
        The tangents or derivatives.
    scale : ndarray of shape (n_tangents,) or float
        The scales; 1.0 leaves V as it is.

    Returns
    -------
    V : ndarray of shape (n_samples, n_tangents, ...)
        The products, in the dtype of V.
    """
    if np.ndim(scale) == 0 and scale == 1:
        return V
    scale = np.reshape(scale, (-1, *(1,) * (V.ndim - 2)))
    return np.broadcast_to((_distinct(V) * scale).astype(V.dtype), V.shape)


def moments(values: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the weighted mean and standard deviation of each column; of a constant one, 1."""
    mean = np.average(values, axis=0, weights=weight)
    scale = np.sqrt(np.average((values - mean) ** 2, axis=0, weights=weight))
    return mean, np.where(scale > 10 * np.finfo(values.dtype).eps * np.abs(mean), scale, 1.0)


def check_derivatives(derivatives, shape: tuple[int, int, int], dtype: np.dtype) -> np.ndarray:
    """Check the derivatives wanted, and give them the axis of the outputs.

    Parameters
    ----------
    derivatives : array-like of shape (n_samples, n_tangents) or (n_samples, n_tangents, n_outputs)
        The derivatives, NaN where they are not known.
    shape : tuple of int
        (n_samples, n_tangents, n_outputs).
    dtype : numpy dtype
        Precision of the result.

    Returns
    -------
    derivatives : ndarray of shape (n_samples, n_tangents, n_outputs)
        The derivatives.
    """
    try:
        d = np.asarray(derivatives, dtype=dtype)
    except (TypeError, ValueError) as error:
        raise ValueError(f"derivatives must be one array of numbers: {error}") from error
    if d.shape == shape[:2] and shape[2] == 1:
        d = d[:, :, None]
    if d.shape != shape:
        also = f" or {shape[:2]}" if shape[2] == 1 else ""
        raise ValueError(
            f"derivatives must have shape {shape}{also}: (n_samples, n_tangents, n_outputs), or "
            f"without tangents (n_samples, n_features, n_outputs). Got {d.shape}."
        )
    if np.isinf(d).any():
        raise ValueError("derivatives holds infinity; NaN says that one is not known.")
    return forward_strides(d)


def _check_tangents(V, X: np.ndarray, source: str) -> np.ndarray:
    try:
        V = np.asarray(V)
    except ValueError as error:
        raise ValueError(f"{source} must be one array: {error}") from error
    if not np.issubdtype(V.dtype, np.floating):
        raise TypeError(f"{source} must be floating, got dtype {V.dtype}.")
    if V.ndim != X.ndim + 1 or V.shape[0] != X.shape[0] or V.shape[2:] != X.shape[1:]:
        wanted = ", ".join(map(str, (X.shape[0], "n_tangents", *X.shape[1:])))
        hint = " For one tangent, add its axis: V[:, None]." if V.shape == X.shape else ""
        raise ValueError(f"{source} must have shape ({wanted}), got {V.shape}.{hint}")
    if V.shape[1] == 0:
        raise ValueError(f"{source} holds no tangent: its shape is {V.shape}.")
    with np.errstate(over="ignore"):
        V = V.astype(X.dtype, copy=False)
    if not _all_finite(_distinct(V)):
        raise ValueError(f"{source} holds NaN, infinity or a value too large for {X.dtype}.")
    return forward_strides(V)


def _all_finite(V: np.ndarray) -> bool:
    with np.errstate(over="ignore", invalid="ignore"):
        total = V.sum()
    # a sum takes no memory; that it is not finite may be its own overflow
    return bool(np.isfinite(total) or np.isfinite(V).all())


def is_repeated(V: np.ndarray) -> bool:
    """Tell whether an array is a view that repeats one sample's tangents."""
    return V.strides[0] == 0


def take_tangents(V: np.ndarray, rows: slice | np.ndarray) -> np.ndarray:
    """Take some samples' tangents; of a view that repeats one sample's, a view."""
    if isinstance(rows, slice) or not is_repeated(V):
        return V[rows]
    return np.broadcast_to(V[:1], (len(rows), *V.shape[1:]))


def _distinct(V: np.ndarray) -> np.ndarray:
    """Leave out the copies in a view that repeats one sample's tangents."""
    return V[:1] if is_repeated(V) else V
