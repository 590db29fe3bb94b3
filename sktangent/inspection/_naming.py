"""What tangents and features are called, and in which units their amounts are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

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
        Where they came from; asked for their names if it has ``tangent_names``.
    X : array-like of shape (n_samples, *input_shape)
        The samples.
    V : ndarray of shape (n_samples, n_tangents, *input_shape)
        The tangents.

    Returns
    -------
    names : list of str
        One for each tangent; those that share a name are numbered.
    """
    if hasattr(tangents, "tangent_names"):
        return _numbered(tangents.tangent_names(X))
    if not callable(tangents):
        return _numbered(["tangent"] * V.shape[1])
    name = getattr(tangents, "__name__", type(tangents).__name__)
    return _numbered(["tangent" if name == "<lambda>" else name] * V.shape[1])


def feature_names(X: ArrayLike, n_features: int, estimator=None) -> list[str]:
    """Name the features: after the columns of X, or those that the estimator saw, or by number."""
    columns = getattr(X, "columns", None)
    names = getattr(estimator, "feature_names_in_", None) if columns is None else columns
    if names is None or len(names) != n_features:
        return [f"x{j}" for j in range(n_features)]
    return [str(name) for name in names]


def _numbered(names: Sequence[str]) -> list[str]:
    counts, seen = Counter(names), Counter()
    numbered = []
    for name in names:
        seen[name] += 1
        numbered.append(f"{name} {seen[name]}" if counts[name] > 1 else name)
    return numbered
