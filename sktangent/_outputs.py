"""What any fitted estimator answers with, as numbers, and how that changes with the samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from sklearn.base import is_classifier
from sklearn.utils import _safe_indexing

from sktangent._tables import is_frame, named_like
from sktangent.estimators.tangent_rows import compute_tangents

# how far samples are moved, in their spread: near the derivative, and far enough for a tree to see
STEP = 2.0**-6
_ROWS = 16384


def is_exact(estimator) -> bool:
    """Tell whether an estimator has derivatives of its own."""
    return hasattr(estimator, "directional_derivative") and hasattr(estimator, "jacobian")


def outputs_of(estimator) -> Callable[[object], np.ndarray]:
    """Find the method whose output is compared, as one of numbers, (n_samples, n_outputs)."""
    for name in ("predict_proba", "decision_function"):
        method = getattr(estimator, name, None)
        if method is not None:
            return lambda X: as_columns(method(X))
    if not hasattr(estimator, "predict"):
        raise TypeError(
            f"estimator must have predict_proba, decision_function or predict, got {estimator!r}."
        )
    if not is_classifier(estimator):
        return lambda X: as_columns(estimator.predict(X))
    classes = estimator.classes_
    return lambda X: (estimator.predict(X)[:, None] == classes).astype(np.float64)


def as_columns(output) -> np.ndarray:
    """Return an output as (n_samples, n_outputs), in double precision."""
    if isinstance(output, list):  # of several targets, as forests give it
        output = np.concatenate(output, axis=1)
    return np.asarray(output, dtype=np.float64).reshape(len(output), -1)


def changes(outputs: Callable, given, samples: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """Compute f(x + m) - f(x - m) for all moves m of all samples, (n_samples, n_moves, n_out)."""
    moves = moves.reshape(*moves.shape[:2], *samples.shape[1:])
    both = np.stack([samples[:, None] + moves, samples[:, None] - moves])
    rows = named_like(given, both.reshape(-1, *samples.shape[1:]).astype(samples.dtype))
    ahead, behind = outputs(rows).reshape(*both.shape[:3], -1)
    return ahead - behind


def tangents_at(tangents, X, samples: np.ndarray) -> np.ndarray:
    """Compute tangent vectors from the samples as they were given, a data frame for example."""
    if callable(tangents) and is_frame(X):
        return compute_tangents(lambda _: tangents(X), samples)[0]
    return compute_tangents(tangents, samples)[0]


def windows(n_samples: int, rows_each: int) -> Iterator[slice]:
    """Cut samples into windows that stand for a bounded number of rows."""
    size = max(1, _ROWS // rows_each)
    return (slice(start, start + size) for start in range(0, n_samples, size))


def jacobian_of(estimator, X, samples: np.ndarray) -> np.ndarray:
    """Compute the Jacobian of the outputs, (n_samples, n_outputs, n_features).

    Estimators of sktangent are differentiated exactly, others by central differences, a 64th of
    each feature's standard deviation to either side.

    Parameters
    ----------
    estimator : estimator
        A fitted one.
    X : array-like of shape (n_samples, *input_shape)
        The samples as they were given, a data frame for example.
    samples : ndarray of shape (n_samples, *input_shape)
        The same as an array.

    Returns
    -------
    J : ndarray of shape (n_samples, n_outputs, n_features)
        The Jacobian, the input's axes in one.
    """
    if is_exact(estimator):
        output = {"output": "proba"} if is_classifier(estimator) else {}
        J = estimator.jacobian(X, **output)
        return J.reshape(*J.shape[:2], -1).astype(np.float64)
    flat = samples.reshape(len(samples), -1)
    spread = flat.std(axis=0, dtype=np.float64)
    steps = STEP * np.where(spread > 0, spread, 1.0)
    outputs, moves = outputs_of(estimator), np.diag(steps)
    parts = []
    for rows in windows(len(samples), 2 * len(steps)):
        common = np.broadcast_to(moves, (len(samples[rows]), *moves.shape))
        change = changes(outputs, _safe_indexing(X, rows), samples[rows], common)
        parts.append(change / (2 * steps[:, None]))
    return np.concatenate(parts).swapaxes(1, 2)
