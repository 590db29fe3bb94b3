"""What tangents and features are called, and in which units their amounts are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from sktangent.tangents import (
    FeatureTangents,
    ImageTangents,
    SeriesTangents,
    TangentUnion,
    TransformTangents,
)

_MOST_TERMS = 4
_AT_THE_EDGE = "pixels at the edge"
_UNITS = {
    "translation_x": "pixels",
    "translation_y": "pixels",
    "rotation": _AT_THE_EDGE,
    "scaling": _AT_THE_EDGE,
    "hyperbolic_axis": _AT_THE_EDGE,
    "hyperbolic_diagonal": _AT_THE_EDGE,
    "brightness": "intensity",
    "shift": "sample steps",
    "stretch": "sample steps at the ends",
    "warp": "sample steps at most",
    "offset": "units of the signal",
    "slope": "units of the signal at the ends",
    "curvature": "units of the signal at the ends",
    "gain": "times the signal",
    "contrast": "times the departure from the mean",
    "scatter": "times the departure from its offset",
}


def unit_of(name: str) -> str:
    """Tell the unit of the amount of a tangent of that name."""
    name = name.rsplit("\n", 1)[-1].rsplit("__", 1)[-1].split(" ", 1)[0]
    return _UNITS.get(name, "units of the tangent")


def tangent_names(tangents, X: ArrayLike, V: np.ndarray) -> list[str]:
    """Name the tangents V of the samples X.

    Parameters
    ----------
    tangents : callable or array-like
        Where they came from.
    X : array-like of shape (n_samples, *input_shape)
        The samples.
    V : ndarray of shape (n_samples, n_tangents, *input_shape)
        The tangents.

    Returns
    -------
    names : list of str
        One for each tangent.
    """
    names = _names(tangents, X, V)
    if names is None or len(names) != V.shape[1]:
        return [f"tangent {t}" for t in range(V.shape[1])]
    return names


def feature_names(X: ArrayLike, n_features: int, estimator=None) -> list[str]:
    """Name the features: after the columns of X, or those that the estimator saw, or by number."""
    columns = getattr(X, "columns", None)
    names = getattr(estimator, "feature_names_in_", None) if columns is None else columns
    if names is None or len(names) != n_features:
        return [f"x{j}" for j in range(n_features)]
    return [str(name) for name in names]


def _names(tangents, X: ArrayLike, V: np.ndarray) -> list[str] | None:
    if isinstance(tangents, TangentUnion):
        return _names_of_union(tangents, X, V)
    if isinstance(tangents, ImageTangents):
        return _listed(tangents.transforms)
    if isinstance(tangents, SeriesTangents):
        return _names_of_series(tangents)
    if isinstance(tangents, FeatureTangents):
        return _names_of_directions(V[0], feature_names(X, V[0, 0].size, tangents))
    if isinstance(tangents, TransformTangents):
        return _names_of_transforms(tangents)
    if callable(tangents) and V.shape[1] == 1:
        return [getattr(tangents, "__name__", type(tangents).__name__).replace("<lambda>", "τ")]
    return None


def _names_of_union(union: TangentUnion, X: ArrayLike, V: np.ndarray) -> list[str] | None:
    kinds = {
        name: kind
        for name, kind in union.get_params().items()
        if "__" not in name and name not in ("tangents", "weights")
    }
    kinds.update(getattr(union, "tangents_", ()))
    names, start = [], 0
    for prefix, kind in kinds.items():
        answer = kind(X)
        own = answer[0] if isinstance(answer, tuple) else answer
        found = _names(kind, X, own)
        if found is None or len(found) != own.shape[1]:
            found = [str(t) for t in range(own.shape[1])]
        names += [f"{prefix}__{name}" for name in found]
        start += own.shape[1]
    return names if start == V.shape[1] else None


def _names_of_series(tangents: SeriesTangents) -> list[str]:
    counts = {"warp": tangents.n_warps}
    return [
        f"{name} {k + 1}" if name in counts else name
        for name in _listed(tangents.transforms)
        for k in range(counts.get(name, 1))
    ]


def _names_of_transforms(tangents: TransformTangents) -> list[str]:
    transforms = tangents.transform
    transforms = [transforms] if callable(transforms) else transforms
    counts = tangents.n_parameters
    counts = counts if isinstance(counts, Sequence) else [counts] * len(transforms)
    return [
        _name_of(transform) if count is None else f"{_name_of(transform)} {k}"
        for transform, count in zip(transforms, counts, strict=True)
        for k in range(count or 1)
    ]


def _names_of_directions(directions: np.ndarray, features: Sequence[str]) -> list[str]:
    return [
        _name_of_direction(direction, features)
        for direction in directions.reshape(len(directions), -1)
    ]


def _name_of_direction(direction: np.ndarray, features: Sequence[str]) -> str:
    moved = np.flatnonzero(direction)
    terms = [
        features[j] if direction[j] == 1 else f"{direction[j]:.3g} {features[j]}"
        for j in moved[:_MOST_TERMS]
    ]
    rest = ["..."] if len(moved) > _MOST_TERMS else []
    return " + ".join(terms + rest) or "nothing"


def _name_of(function) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _listed(names: str | Sequence[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)
