"""The chain rule through scikit-learn's compositions, down to single transformers."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.utils import _safe_indexing

from sktangent._tables import columns_without_numbers, is_frame, named_like
from sktangent.preprocessing.affine import is_affine, linear_part
from sktangent.preprocessing.differences import differentiate
from sktangent.preprocessing.elementwise import is_elementwise
from sktangent.preprocessing.function import Function, flatten, transform, unwrap
from sktangent.preprocessing.smoothness import check_slopes

# Smallest feature scale, relative to the feature's usual absolute value: below it, moving
# a sample by a fraction of the scale would round too much of the motion away.
_SMALLEST_SCALE = 1e-3


def push(transformer: Any, X: Any, V: np.ndarray) -> tuple[Any, np.ndarray]:
    r"""Transform samples, and push their tangents forward.

    Parameters
    ----------
    transformer : transformer or "passthrough"
        A fitted transformer.
    X : ndarray or DataFrame of shape (n_samples, *input_shape), float64
        The samples, finite.
    V : ndarray of shape (n_samples, n_tangents, *input_shape), float64
        Their tangents, finite.

    Returns
    -------
    Y : ndarray or DataFrame of shape (n_samples, *output_shape), float64
        :math:`T(x)`.
    W : ndarray of shape (n_samples, n_tangents, *output_shape), float64
        :math:`J_T(x) \tau`.
    """
    if transformer is None or isinstance(transformer, str):
        return X, V
    rule = _rule(transformer, X)
    if rule is _push_pipeline:
        return rule(transformer, X, V)
    Y = transform(transformer, X)
    return Y, rule(transformer, X, V, unwrap(Y))


def _rule(transformer: Any, X: Any) -> Callable:
    # Exactly these classes: a subclass may override transform, and then is a function like any
    # other. That is true of every transformer; the chain rule only gains digits and time.
    kind = type(transformer)
    if kind is Pipeline:
        return _push_pipeline
    if kind is FeatureUnion:
        return _push_union
    if kind is ColumnTransformer and _takes_columns_apart(transformer, X):
        return _push_columns
    return _push_function


def _push_pipeline(pipeline: Pipeline, X: Any, V: np.ndarray) -> tuple[Any, np.ndarray]:
    for _, step in pipeline.steps:
        X, V = push(step, X, V)
    return X, V


def _push_union(union: FeatureUnion, X: Any, V: np.ndarray, Y: np.ndarray) -> np.ndarray:
    weights = union.transformer_weights or {}
    parts = [
        push(part, X, V)[1] * weights.get(name, 1.0)
        for name, part in union.transformer_list
        if part != "drop"
    ]
    return np.concatenate(parts, axis=2) if parts else np.zeros((*V.shape[:2], *Y.shape[1:]))


def _takes_columns_apart(transformer: ColumnTransformer, X: Any) -> bool:
    # A scalar gives its transformer one column without a feature axis. And a DataFrame may hold
    # the named columns in another order than the one that positions refer to.
    scalar = any(
        isinstance(columns, (str, Integral)) for _, _, columns in transformer.transformers_
    )
    names = getattr(transformer, "feature_names_in_", None)
    moved = names is not None and is_frame(X) and list(X.columns) != list(names)
    return not scalar and not moved


def _push_columns(
    transformer: ColumnTransformer, X: Any, V: np.ndarray, Y: np.ndarray
) -> np.ndarray:
    weights = transformer.transformer_weights or {}
    positions = named_like(X, np.arange(X.shape[1])[None])
    W = np.zeros((*V.shape[:2], *Y.shape[1:]))
    for name, part, columns in transformer.transformers_:
        place = transformer.output_indices_[name]
        if place.start == place.stop:
            continue
        chosen = unwrap(_safe_indexing(positions, columns, axis=1)).ravel()
        pushed = push(part, _safe_indexing(X, chosen, axis=1), V[:, :, chosen])[1]
        W[:, :, place] = pushed * weights.get(name, 1.0)
    return W


def _push_function(transformer: Any, X: Any, V: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """Push tangents through one transformer, as a function that nothing is known about."""
    function = Function(transformer, X)
    if not np.isfinite(Y).all():
        raise ValueError(f"transformer {function.name} turns X into NaN or infinity.")
    x, y = flatten(unwrap(X)), flatten(Y)
    rows = flatten(V, n_leading=2).reshape(-1, x.shape[1])
    moving = np.flatnonzero(rows.any(axis=1))
    W = np.zeros((len(rows), y.shape[1]))
    # No motion, no derivative: a one-hot encoder is welcome where no tangent moves its columns.
    if len(moving) > 0:
        if columns_without_numbers(X):
            raise TypeError(
                f"transformer {function.name} reads columns that hold no numbers along with those "
                "that tangents move along: put it into a ColumnTransformer, behind its own columns."
            )
        every = slice(None) if len(moving) == len(rows) else moving
        W[every] = _push_rows(function, x, y, rows[every], moving // V.shape[1])
    return W.reshape(*V.shape[:2], *Y.shape[1:])


def _push_rows(
    function: Function, x: np.ndarray, y: np.ndarray, rows: np.ndarray, sample: np.ndarray
) -> np.ndarray:
    """Push flat tangents forward, each that of the sample of that index; in order."""
    magnitudes = _fill_gaps(np.abs(x).max(axis=0))
    u, lengths = _normalize(rows, magnitudes)
    if is_affine(function, x, u, magnitudes):
        return linear_part(function, u) * lengths
    scales = _feature_scales(x)
    if is_elementwise(function, x, scales):
        moves = np.zeros(x.shape, dtype=bool)
        first = np.unique(sample, return_index=True)[1]
        moves[sample[first]] = np.logical_or.reduceat(rows != 0, first, axis=0)
        # Powers of two, so that neither the multiplication nor the division rounds.
        unit = np.exp2(np.round(np.log2(scales)))
        slopes = _slopes(function, x, y, unit * moves, elementwise=True) / unit
        return slopes[sample] * rows
    u, lengths = _normalize(rows, scales)
    return _slopes(function, x[sample], y[sample], u) * lengths


def _slopes(
    function: Function, x: np.ndarray, y: np.ndarray, u: np.ndarray, elementwise: bool = False
) -> np.ndarray:
    slopes, refusal = differentiate(function, x, y, u, elementwise)
    check_slopes(slopes, refusal, function, x, y, u)
    return slopes.value


def _feature_scales(x: np.ndarray) -> np.ndarray:
    """Return the spread of each feature, positive also where there is none."""
    low, usual, high = np.percentile(x, [25, 50, 75], axis=0)
    # A few large values may make up nearly all of the standard deviation.
    spread = np.where(high > low, np.minimum(x.std(axis=0), high - low), x.std(axis=0))
    spread = np.maximum(spread, _SMALLEST_SCALE * np.abs(usual))
    # One sample, or a constant feature, has no spread.
    return _fill_gaps(np.where(np.ptp(x, axis=0) == 0, np.abs(x).max(axis=0), spread))


def _fill_gaps(scales: np.ndarray) -> np.ndarray:
    return np.where(scales == 0, scales.max() or 1.0, scales)


def _normalize(V: np.ndarray, scales: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shorten tangents to about the feature scales; lengths are powers of two and round nothing."""
    largest = (np.abs(V) * (1 / scales)).max(axis=1, keepdims=True)
    lengths = np.exp2(np.clip(np.frexp(largest)[1], -1000, 1000))
    return V * (1 / lengths), lengths
