"""What the sensitivity display is made from: outputs that count, and profiles with slopes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import is_classifier

from sktangent._outputs import is_exact, jacobian_of, outputs_of
from sktangent._tables import named_like


def chosen_outputs(estimator, X, n_outputs: int) -> list[int]:
    """Leave out the first of two classes, whose probability is one minus the second's."""
    has_proba = is_classifier(estimator) and hasattr(estimator, "predict_proba")
    if has_proba and n_outputs == 2 and np.ndim(estimator.predict(X[:1])) == 1:
        return [1]
    return list(range(n_outputs))


def output_names(estimator, chosen: list[int]) -> list[str]:
    """Name the outputs, of a classifier after its classes."""
    classes = getattr(estimator, "classes_", None) if is_classifier(estimator) else None
    if classes is None or len(classes) <= max(chosen):
        return [f"output {o}" for o in chosen]
    if chosen == [0] and len(classes) == 2:  # a decision function, of the second class
        return [f"class {classes[1]}"]
    return [f"class {classes[o]}" for o in chosen]


def check_features(profiled: Sequence[int], n_features: int) -> np.ndarray:
    """Return the numbers of features as an array, if that is what they are."""
    chosen = np.asarray(profiled)
    is_right = chosen.ndim == 1 and len(chosen) > 0 and np.issubdtype(chosen.dtype, np.integer)
    if not is_right or chosen.min() < 0 or chosen.max() >= n_features:
        raise ValueError(
            f"profiled must be numbers of the {n_features} features, got {profiled!r}."
        )
    return chosen


def check_middle(middle: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Return the place that profiles run through, if it has the shape of a sample."""
    if middle.shape != samples.shape[1:]:
        raise ValueError(f"at must have shape {samples.shape[1:]}, got {middle.shape}.")
    return middle


def check_derivatives(derivatives: ArrayLike, J: np.ndarray) -> np.ndarray:
    """Return derivatives in the layout of the Jacobian."""
    d = np.asarray(derivatives, dtype=np.float64)
    n_samples, n_outputs, n_features = J.shape
    if d.ndim == 2 and n_outputs == 1:
        d = d[:, :, np.newaxis]
    if d.shape != (n_samples, n_features, n_outputs):
        raise ValueError(
            f"derivatives must have shape {(n_samples, n_features, n_outputs)}, "
            f"(n_samples, n_features, n_outputs), got {np.shape(derivatives)}."
        )
    if np.isnan(d).all():
        raise ValueError("derivatives must hold one that is known, got NaN alone.")
    return d.swapaxes(1, 2)


def ends(samples: np.ndarray, profiled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the least and the greatest value of each profiled feature."""
    columns = samples.reshape(len(samples), -1)[:, profiled].astype(np.float64)
    return columns.min(axis=0), columns.max(axis=0)


def profile(estimator, X, samples, middle, profiled, grids) -> tuple[np.ndarray, np.ndarray]:
    """Compute the outputs, and the partial derivatives by the profiled feature, on its grid."""
    rows = np.broadcast_to(middle.ravel(), (*grids.shape, middle.size)).copy()
    for panel, j in enumerate(profiled):
        rows[panel, :, j] = grids[panel]
    rows = rows.reshape(-1, *samples.shape[1:]).astype(samples.dtype)
    given = named_like(X, rows)
    values = outputs_of(estimator)(given).reshape(*grids.shape, -1)
    if is_exact(estimator):
        J = jacobian_of(estimator, given, rows).reshape(*values.shape, -1)
        return values, np.stack([J[panel, :, :, j] for panel, j in enumerate(profiled)])
    steps = np.where(grids[:, 1] > grids[:, 0], grids[:, 1] - grids[:, 0], 1.0)
    return values, np.gradient(values, axis=1) / steps[:, None, None]
