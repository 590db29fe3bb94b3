"""The training samples and their tangents: kept, or found batch by batch when memory is short."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np
from sklearn import config_context, get_config
from sklearn.utils import _safe_indexing

from sktangent.estimators.tangent_data import (
    check_derivatives,
    compute_tangents,
    identity_tangents,
    is_repeated,
    scale_tangents,
    take_tangents,
)
from sktangent.training.batches import ComputedRows

# samples whose tangents are computed at once, in bytes of X
_CHUNK = 2**22
# tangents that a sample may have before their number is known
_TANGENTS_EXPECTED = 64

Rows = slice | np.ndarray


class TangentRows:
    """Tangent vectors, and the derivatives wanted along them, of any rows of X.

    Parameters
    ----------
    estimator : TangentPropEstimator
        Its ``tangents_``, preprocessor, scales and weights say what becomes of the tangents.
    frame : DataFrame or ndarray
        The samples as they were given.
    X : ndarray of shape (n_samples, *input_shape)
        The samples.
    tangents : array-like, callable or None
        Tangent vectors in place of those of ``tangents_``.
    derivatives : array-like or None
        The derivatives wanted along them.

    Attributes
    ----------
    with_derivatives : bool
        Whether derivatives are wanted; of those that come with the tangents it is known once some
        have been found.
    shape : tuple of int or None
        (n_tangents, *shape of what the network sees of a sample), once some have been found.
    """

    def __init__(self, estimator, frame, X: np.ndarray, tangents, derivatives) -> None:
        self._estimator = estimator
        self._frame = frame
        self._X = X
        self._source = self._find_source(tangents)
        self._derivatives = derivatives
        self.with_derivatives = derivatives is not None
        self.shape: tuple[int, ...] | None = None
        self._are_checked = False
        self._config = get_config()  # which threads do not share

    def __call__(self, rows: Rows) -> dict[str, np.ndarray]:
        """Find those of some samples."""
        with config_context(**self._config):
            V, d = self._raw(rows)
            if self._derivatives is not None:
                d = self._checked_derivatives(V.shape[1])[rows]
            elif d is not None:
                d = check_derivatives(d, (*V.shape[:2], self._estimator._n_outputs), self._X.dtype)
            scale = self._scale(V.shape[1])
            frame = _safe_indexing(self._frame, rows)
            V = scale_tangents(self._estimator._push_forward(frame, V), scale)
        self.shape = V.shape[1:]
        if d is None:
            return {"tangents": V}
        self.with_derivatives = True
        d = self._estimator._scale_derivatives(d)
        return {"tangents": V, "derivatives": scale_tangents(d, scale)}

    def _raw(self, rows: Rows) -> tuple[np.ndarray, object]:
        if isinstance(self._source, np.ndarray):
            return take_tangents(self._source, rows), None
        return compute_tangents(self._source, self._X[rows])

    def _find_source(self, tangents) -> np.ndarray | Callable:
        if tangents is not None and not callable(tangents):
            return compute_tangents(tangents, self._X)[0]
        if tangents is None and self._estimator.tangents is None:
            return identity_tangents
        return self._estimator.tangents_ if tangents is None else tangents

    def _scale(self, n_tangents: int) -> np.ndarray | float:
        scale = self._estimator._tangent_scale(n_tangents)
        return scale * self._estimator._x_scale if self._source is identity_tangents else scale

    def _checked_derivatives(self, n_tangents: int) -> np.ndarray:
        if not self._are_checked:
            shape = (len(self._X), n_tangents, self._estimator._n_outputs)
            self._derivatives = check_derivatives(self._derivatives, shape, self._X.dtype)
            self._are_checked = True
        return self._derivatives


def keep_or_compute(
    find: Callable[[Rows], dict[str, np.ndarray]], X: np.ndarray, train: Rows, budget: float
) -> dict[str, np.ndarray | ComputedRows]:
    """Keep all training samples' tangents if they fit into a budget, else compute them as needed.

    Parameters
    ----------
    find : callable
        Finds the tangents of some rows.
    X : ndarray of shape (n_samples, *input_shape)
        The samples.
    train : slice or ndarray of int
        The rows of X to train on.
    budget : float
        What the tangents may take, in bytes.

    Returns
    -------
    parts : dict
        The arrays, or in their place rows that are computed when a batch needs them.
    """
    rows = np.arange(len(X))[train]
    chunk = min(_CHUNK, budget / _TANGENTS_EXPECTED)
    chunks = _chunks(rows, max(1, int(chunk // max(1, X[0].nbytes))))
    first_rows = next(chunks)
    first = find(first_rows)
    if is_repeated(first["tangents"]):  # a view that takes no memory
        return find(train)
    if sum(part.nbytes for part in first.values()) * len(rows) / len(first_rows) > budget:
        return {"tangents": ComputedRows(lambda index: find(rows[index]), len(rows))}
    if len(first_rows) == len(rows):
        return first
    whole = {
        name: np.empty((len(rows), *part.shape[1:]), dtype=part.dtype)
        for name, part in first.items()
    }
    done = 0
    for parts in itertools.chain([first], map(find, chunks)):
        n_found = len(parts["tangents"])
        for name, part in parts.items():
            _check_like(part, whole[name])
            whole[name][done : done + n_found] = part
        done += n_found
    return whole


def take_rows(arrays: dict[str, np.ndarray], rows: Rows, budget: float = math.inf) -> dict:
    """Take rows of arrays; where copies would exceed a budget, they are taken when needed."""
    return {name: _take(name, array, rows, budget) for name, array in arrays.items()}


def _take(name: str, array: np.ndarray, rows: Rows, budget: float) -> np.ndarray | ComputedRows:
    if isinstance(rows, slice) or array.nbytes <= budget:
        return array[rows]
    return ComputedRows(lambda index: {name: array[rows[index]]}, len(rows))


def _chunks(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (rows[start : start + size] for start in range(0, len(rows), size))


def _check_like(part: np.ndarray, whole: np.ndarray) -> None:
    if part.shape[1:] != whole.shape[1:]:
        raise ValueError(
            f"tangents(X) returned {whole.shape[1]} tangents for one part of X and {part.shape[1]} "
            "for another; all samples must have as many."
        )
