"""The tangents of samples and the derivatives wanted along them, in the network's units."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn import config_context, get_config
from sklearn.utils import _safe_indexing, check_array

from sktangent._checks import check_derivatives, check_tangents, distinct_rows, repeats_one_row
from sktangent.estimators.input_map import InputMap
from sktangent.training.batches import forward_strides


@dataclass(frozen=True)
class NetworkUnits:
    """How tangents and derivatives in the units of X and y become the network's.

    Attributes
    ----------
    inputs : InputMap
        The way of samples and tangents to the network.
    target_scale : ndarray of shape (n_outputs,)
        What derivatives are divided by.
    feature_scale : ndarray of shape (n_features,) or None
        What derivatives by the features themselves are measured in.
    tangent_weight : array-like of shape (n_tangents,) or None
        A factor for each tangent's term in the penalty.
    """

    inputs: InputMap
    target_scale: np.ndarray
    feature_scale: np.ndarray | None = None
    tangent_weight: object = None


class TangentRows:
    """Tangent vectors, and the derivatives wanted along them, of any rows of X.

    Parameters
    ----------
    frame : DataFrame or ndarray
        The samples as they were given.
    X : ndarray of shape (n_samples, *input_shape)
        The samples.
    tangents : callable, array-like or None
        Where tangent vectors come from; None: they are the coordinate directions.
    derivatives : array-like or None
        The derivatives wanted along them.
    units : NetworkUnits
        What becomes of both.

    Attributes
    ----------
    with_derivatives : bool
        Whether derivatives are wanted; of those that come with the tangents it is known once some
        have been found.
    """

    def __init__(self, frame, X: np.ndarray, tangents, derivatives, units: NetworkUnits) -> None:
        self._frame = frame
        self._X = X
        self._by_feature = tangents is None
        self._source = _coordinate_directions(X) if tangents is None else tangents
        if not callable(self._source):
            self._source = compute_tangents(self._source, X)[0]
        self._derivatives = derivatives
        self._units = units
        self.with_derivatives = derivatives is not None
        self._are_checked = False
        self._config = get_config()  # which threads do not share

    def __call__(self, rows: slice | np.ndarray) -> dict[str, np.ndarray]:
        """Find those of some samples."""
        units = self._units
        with config_context(**self._config):
            V, d = self._raw(rows)
            if self._derivatives is not None:
                d = self._checked_derivatives(V.shape[1])[rows]
            elif d is not None:
                d = _with_outputs(d, (*V.shape[:2], len(units.target_scale)), V.dtype)
            scale = self._scale(V.shape[1])
            V = units.inputs.push_forward(_safe_indexing(self._frame, rows), V)
        if d is None:
            return {"tangents": scaled(V, scale)}
        self.with_derivatives = True
        d = (d / units.target_scale).astype(d.dtype)
        return {"tangents": scaled(V, scale), "derivatives": scaled(d, scale)}

    def _raw(self, rows: slice | np.ndarray) -> tuple[np.ndarray, object]:
        if callable(self._source):
            return compute_tangents(self._source, self._X[rows])
        if isinstance(rows, slice) or not repeats_one_row(self._source):
            return self._source[rows], None
        return np.broadcast_to(self._source[:1], (len(rows), *self._source.shape[1:])), None

    def _scale(self, n_tangents: int) -> np.ndarray | float:
        """Tell what to multiply each tangent by, and the derivatives wanted along it."""
        scale = tangent_scale(self._units, n_tangents)
        return scale * self._units.feature_scale if self._by_feature else scale

    def _checked_derivatives(self, n_tangents: int) -> np.ndarray:
        if not self._are_checked:
            shape = (len(self._X), n_tangents, len(self._units.target_scale))
            self._derivatives = _with_outputs(self._derivatives, shape, self._X.dtype)
            self._are_checked = True
        return self._derivatives


def compute_tangents(tangents: Callable | np.ndarray, X: np.ndarray) -> tuple[np.ndarray, object]:
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
        return forward_strides(check_tangents(tangents, X, "tangents")), None
    answer = tangents(X)
    if not isinstance(answer, tuple):
        return forward_strides(check_tangents(answer, X, "tangents(X)")), None
    if len(answer) != 2:
        raise ValueError(
            f"tangents(X) must return V or (V, derivatives), got a tuple of length {len(answer)}."
        )
    return forward_strides(check_tangents(answer[0], X, "tangents(X)[0]")), answer[1]


def moments(values: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the weighted mean and standard deviation of each column; of a constant one, 1."""
    mean = np.average(values, axis=0, weights=weight)
    scale = np.sqrt(np.average((values - mean) ** 2, axis=0, weights=weight))
    return mean, np.where(scale > 10 * np.finfo(values.dtype).eps * np.abs(mean), scale, 1.0)


def _coordinate_directions(X: np.ndarray) -> np.ndarray:
    n_inputs = X[0].size
    basis = np.eye(n_inputs, dtype=X.dtype).reshape(n_inputs, *X.shape[1:])
    return np.broadcast_to(basis, (len(X), *basis.shape))


def _with_outputs(derivatives, shape: tuple[int, int, int], dtype: np.dtype) -> np.ndarray:
    """Check the derivatives wanted, and give them the axis of the outputs."""
    d = check_derivatives(derivatives, shape, dtype, "derivatives")
    return forward_strides(d.reshape(shape))


def tangent_scale(units: NetworkUnits, n_tangents: int) -> np.ndarray | float:
    """Tell what tangents are multiplied by so that their terms in the penalty have their weight."""
    weight = units.tangent_weight
    if weight is None:
        return 1.0
    weight = check_array(weight, dtype=np.float64, ensure_2d=False, input_name="derivative_weight")
    if weight.shape != (n_tangents,):
        raise ValueError(
            f"derivative_weight must have shape ({n_tangents},), a factor for each tangent; "
            f"got {weight.shape}."
        )
    if (weight < 0).any():
        raise ValueError(f"derivative_weight must not be negative, got {weight.min()}.")
    return np.sqrt(weight)


def scaled(V: np.ndarray, scale: np.ndarray | float) -> np.ndarray:
    """Multiply each tangent, or the derivatives along it, by its scale; of a view, one copy."""
    if np.ndim(scale) == 0 and scale == 1:
        return V
    scale = np.reshape(scale, (-1, *(1,) * (V.ndim - 2)))
    return np.broadcast_to((distinct_rows(V) * scale).astype(V.dtype), V.shape)
