"""Random combinations of tangents, of which those are asked that combine before they compute."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn import get_config
from sklearn.utils import _safe_indexing

from sktangent._checks import check_tangents
from sktangent.estimators.tangent_rows import NetworkUnits, compute_tangents, computing
from sktangent.training.batches import forward_strides
from sktangent.training.computed_rows import ComputedRows

# bytes of all samples' tangents, up to which keeping and reading them costs less
_CHEAP_TO_KEEP = 2**25


def pays_to_combine(
    tangents, X: np.ndarray, derivatives, weight, n_projections: int | None, skorch_params: dict
) -> bool:
    """Tell whether combinations are had for less than all tangents, and mean as much.

    Parameters
    ----------
    tangents : callable or array-like
        Where tangents come from.
    X : ndarray of shape (n_samples, *input_shape)
        The samples.
    derivatives, weight : array-like or None
        The derivatives wanted along the tangents and their weights, which cannot be combined here.
    n_projections : int or None
        How many combinations are wanted of each sample.
    skorch_params : dict
        The estimator's parameters that are meant for skorch; a loader of torch's takes arrays only.
    """
    if n_projections is None or derivatives is not None or weight is not None:
        return False
    combines = callable(tangents) and callable(getattr(tangents, "combine", None))
    has_loader = any(name.startswith("iterator_train__") for name in skorch_params)
    if not combines or not getattr(tangents, "_combines_first", True) or has_loader:
        return False
    V, derivatives = compute_tangents(tangents, X[:1])
    is_much = V.nbytes * len(X) > _CHEAP_TO_KEEP
    return is_much and derivatives is None and n_projections < V.shape[1]


def draw_signs(random: np.random.Generator, n_samples: int, k: int, n_tangents: int) -> np.ndarray:
    """Draw the signs of k combinations for each sample; see :mod:`sktangent.projections`."""
    return random.integers(0, 2, (n_samples, k, n_tangents)) * 2 - 1


def combinations(tangents: Callable, X: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """Ask tangents for combinations, scaled so that their penalty is that of all on average."""
    V = tangents.combine(X, signs / np.sqrt(signs.shape[1]))
    return forward_strides(check_tangents(V, X, "tangents.combine(X, coefficients)"))


class DrawnRows:
    """What is computed of samples from random numbers, drawn anew whenever it is asked for.

    The numbers of a batch are drawn by ``_draw(rows)`` and handed to the call behind its rows.

    Parameters
    ----------
    frame : DataFrame or ndarray
        The samples as they were given.
    X : ndarray of shape (n_samples, *input_shape)
        The samples.
    tangents : callable
        The tangents.
    units : NetworkUnits
        What becomes of samples and tangents on the way to the network.
    seed : int
        Where the random numbers start.
    """

    with_derivatives = False

    def __init__(
        self, frame, X: np.ndarray, tangents: Callable, units: NetworkUnits, seed: int
    ) -> None:
        self._frame = frame
        self._X = X
        self._tangents = tangents
        self._units = units
        self.random = np.random.default_rng(seed)
        self._config = get_config()  # which threads do not share

    def computed(self, train: slice | np.ndarray) -> ComputedRows:
        """Stand for what is computed of some samples."""
        rows = np.arange(len(self._X))[train]
        return ComputedRows(self, len(self._X), draw=self._draw).subset(rows)


class CombinedRows(DrawnRows):
    """Combinations of samples' tangents.

    Parameters
    ----------
    frame, X, tangents, units
        As of :class:`DrawnRows`; the tangents have a ``combine``.
    n_projections : int
        How many combinations of each sample.
    seed : int
        Where the random numbers start.
    """

    def __init__(
        self,
        frame,
        X: np.ndarray,
        tangents: Callable,
        units: NetworkUnits,
        n_projections: int,
        seed: int,
    ) -> None:
        super().__init__(frame, X, tangents, units, seed)
        self._k = n_projections
        self.shape = compute_tangents(tangents, X[:1])[0].shape[1:]

    def __call__(self, rows: np.ndarray, signs: np.ndarray) -> dict[str, np.ndarray]:
        """Compute combinations of the tangents of some samples."""
        with computing(self._config, rows, len(self._X)):
            V = combinations(self._tangents, self._X[rows], signs)
            V = self._units.inputs.push_forward(_safe_indexing(self._frame, rows), V)
        return {"tangents": V}

    def _draw(self, rows: np.ndarray) -> tuple[np.ndarray]:
        return (draw_signs(self.random, len(rows), self._k, self.shape[0]),)
