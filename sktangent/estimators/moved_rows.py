"""Training samples moved at random along their orbits, and their tangents there."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from sklearn.utils import _safe_indexing

from sktangent._checks import check_nonnegative, did_you_mean
from sktangent._tables import is_frame, like_frame
from sktangent.estimators.combined_rows import DrawnRows, combinations, draw_signs
from sktangent.estimators.tangent_rows import (
    NetworkUnits,
    check_as_many,
    compute_tangents,
    computing,
)
from sktangent.training.batches import forward_strides


def moves_samples(augment) -> bool:
    """Tell whether a value of ``augment`` asks for moves at all."""
    amounts = augment.values() if isinstance(augment, Mapping) else [augment or 0]
    return any(amount != 0 for amount in amounts)


def largest_amounts(augment, tangents: Callable, X: np.ndarray) -> np.ndarray:
    """Find how far samples may be moved along each tangent.

    Parameters
    ----------
    augment : float or dict of str to float
        The largest amounts: along all tangents, or by the names of transformations, zero for
        those left out. A name means every tangent of which it is the name or a part of it, as
        ``"image"`` and ``"rotation"`` are of ``"image__rotation"``.
    tangents : callable
        The tangents.
    X : ndarray of shape (n_samples, *input_shape)
        Some samples.

    Returns
    -------
    amounts : ndarray of shape (n_tangents,)
        The largest amounts.

    Raises
    ------
    TypeError
        If the tangents cannot move samples, or an amount is not a number.
    ValueError
        If an amount is negative, not finite or too large for the samples, or if a name is
        unknown.
    """
    if not callable(getattr(tangents, "move", None)):
        raise TypeError(
            f"augment={augment!r} needs tangents that can move samples, by move(X, amounts); "
            f"got {tangents!r}, which has no move. All of sktangent.tangents have one, and "
            "TransformTangents gives one to a function that transforms samples."
        )
    amounts = _by_name(augment, tangents, X) if isinstance(augment, Mapping) else augment
    if not isinstance(augment, Mapping):
        n_tangents = compute_tangents(tangents, X[:1])[0].shape[1]
        amounts = np.full(n_tangents, check_nonnegative(augment, "augment"))
    _try_to_move(augment, tangents, X[:1], amounts)
    return amounts


class MovedRows(DrawnRows):
    """Samples that are moved anew whenever they are asked for, and their tangents there.

    Parameters
    ----------
    frame : DataFrame or ndarray
        The samples as they were given.
    X : ndarray of shape (n_samples, *input_shape)
        The samples.
    tangents : callable
        The tangents, with a ``move``.
    amounts : ndarray of shape (n_tangents,)
        How far, at most, to move samples along each tangent, one way or the other.
    units : NetworkUnits
        What becomes of samples and tangents on the way to the network.
    with_tangents : bool
        Whether the tangents are wanted.
    n_projections : int or None
        So many random combinations of the tangents are wanted, of which tangents that have a
        ``combine`` are asked directly; see :func:`~sktangent.projections.project`.
    seed : int
        Where the random numbers start.
    """

    def __init__(
        self,
        frame,
        X: np.ndarray,
        tangents: Callable,
        amounts: np.ndarray,
        units: NetworkUnits,
        with_tangents: bool,
        n_projections: int | None,
        seed: int,
    ) -> None:
        super().__init__(frame, X, tangents, units, seed)
        self._amounts = amounts
        self._with_tangents = with_tangents
        are_fewer = n_projections is not None and n_projections < len(amounts)
        combines = with_tangents and are_fewer and hasattr(tangents, "combine")
        self._n_combinations = n_projections if combines else None
        self.shape = (len(amounts), *X.shape[1:])

    def __call__(self, rows: np.ndarray, amounts: np.ndarray, signs) -> dict[str, np.ndarray]:
        """Move some samples, and find their tangents, or combinations, where they come to lie."""
        with computing(self._config, rows, len(self._X)):
            X = self._X[rows]
            moved = _check_moved(self._tangents.move(X, amounts), X)
            frame = moved
            if is_frame(self._frame):
                frame = like_frame(_safe_indexing(self._frame, rows), moved)
            inputs = self._units.inputs
            parts = {"x": inputs.transform(frame, moved)}
            if self._with_tangents:
                parts["tangents"] = inputs.push_forward(frame, self._tangents_of(moved, signs))
        return parts

    def _draw(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Draw how far to move samples, and with which signs to combine their tangents."""
        shape = (len(rows), len(self._amounts))
        amounts = self.random.uniform(-1, 1, shape) * self._amounts
        k = self._n_combinations
        if k is None:
            return amounts, None
        return amounts, draw_signs(self.random, len(rows), k, shape[1])

    def _tangents_of(self, X: np.ndarray, signs: np.ndarray | None) -> np.ndarray:
        if signs is not None:
            return combinations(self._tangents, X, signs)
        V = _invariant(*compute_tangents(self._tangents, X))
        check_as_many(V, len(self._amounts))
        return V


def _by_name(augment: Mapping, tangents: Callable, X: np.ndarray) -> np.ndarray:
    if not callable(getattr(tangents, "tangent_names", None)):
        raise ValueError(
            f"augment must be a number where tangents have no names (tangent_names(X)), got "
            f"{augment!r}."
        )
    names = list(tangents.tangent_names(X[:1]))
    amounts = np.zeros(len(names))
    for name, amount in augment.items():
        chosen = [f"__{name}__" in f"__{known}__" for known in names]
        if not any(chosen):
            known = list(dict.fromkeys(names))
            hint = did_you_mean(name, known)
            raise ValueError(
                f"augment has {name!r}, which is none of the transformations {known}.{hint}"
            )
        if amounts[chosen].any():
            raise ValueError(f"augment must not name a transformation twice, got {augment!r}.")
        amounts[chosen] = check_nonnegative(amount, f"augment[{name!r}]")
    return amounts


def _try_to_move(augment, tangents: Callable, X: np.ndarray, amounts: np.ndarray) -> None:
    """Move a sample as far as it goes, and look at its tangents, before training relies on it."""
    for sign in (1, -1):
        try:
            moved = tangents.move(X, sign * amounts[np.newaxis])
        except (TypeError, ValueError) as error:
            raise type(error)(f"augment={augment!r} cannot be followed: {error}") from error
        moved = _check_moved(moved, X)
        _invariant(*compute_tangents(tangents, moved))


def _check_moved(moved, X: np.ndarray) -> np.ndarray:
    moved = np.asarray(moved)
    if moved.shape != X.shape:
        raise ValueError(f"tangents.move(X, amounts) must return {X.shape}, got {moved.shape}.")
    moved = moved.astype(X.dtype, copy=False)
    if not np.isfinite(moved).all():
        raise ValueError(f"tangents.move(X, amounts) returned NaN or infinity for {X.dtype}.")
    return forward_strides(moved)


def _invariant(V: np.ndarray, derivatives) -> np.ndarray:
    """Return tangents along which nothing but invariance is wanted."""
    if derivatives is not None and np.any(np.asarray(derivatives, dtype=V.dtype) != 0):
        raise ValueError(
            "augment cannot go with wanted derivatives other than zero, as tangents(X) returns: "
            "samples that move would need targets that move."
        )
    return V
