"""Tangents along the coordinates of the input, single or together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import validate_data

from sktangent._checks import check_multipliers, check_names, check_numbers, check_samples
from sktangent.tangents._base import BaseTangents


class FeatureTangents(BaseTangents):
    r"""Directions in the space of the features: the same for every sample.

    The tangent of feature j is the unit vector :math:`e_j`, and :math:`J e_j` is the model's
    partial derivative by that feature. With every feature, the penalty
    :math:`\sum_j \| J e_j \|^2` is the squared Frobenius norm of the Jacobian. A group G of
    features moves together, along :math:`\sum_{j \in G} e_j`; any other direction is given by
    its entries. The tangents come in this order: features, groups, directions.

    The unit of a feature's tangent is one unit of the feature: where features differ in scale,
    the penalty weighs them accordingly. A group moves each of its features by one unit, and a
    direction is as long as it is given.

    Parameters
    ----------
    features : int or str, array-like of int, str or bool, or None, default=None
        Which features, in the order of the tangents. Indices may be negative, as in indexing;
        names are those of a data frame's columns; a boolean mask has one entry a feature. None
        means all, or none where there are groups or directions. Of inputs with several axes it
        counts the flattened input.
    groups : sequence of array-like of int, str or bool, default=None
        One tangent for each group, whose features are chosen as above.
    directions : array-like or sequence of dict, default=None
        One tangent for each, as a vector, together (n_directions, *input_shape), or as its entries
        by index or name:
        ``{"height": 1.0, "weight": -0.5}``, zero elsewhere. A single vector or dict will do.

    Attributes
    ----------
    n_features_in_ : int
        Length of the second axis of X in :meth:`fit`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns in :meth:`fit`, if all of them are strings.

    Notes
    -----
    Names need columns: those of the data frame that the tangents are called with, or else of the
    one in :meth:`fit`. Without names, :meth:`fit` is not needed.

    The answer is a read-only view that repeats one sample's directions
    (:func:`numpy.broadcast_to`), so its memory is that of ``n_tangents * n_features`` numbers
    for any number of samples. Copy it before writing to it.

    References
    ----------
    .. [1] P. Simard, B. Victorri, Y. LeCun, J. Denker. Tangent Prop - a formalism for
       specifying selected invariances in an adaptive network. NIPS 4, 895-903, 1991.

    Examples
    --------
    >>> from sktangent.tangents import FeatureTangents
    >>> FeatureTangents(features=[2, 0])([[0.5, 1.0, 1.5]])
    array([[[0., 0., 1.],
            [1., 0., 0.]]])

    By name, two that rise together, and one that falls as another rises:

    >>> import pandas as pd
    >>> X = pd.DataFrame({"length": [2.0], "width": [1.0], "age": [7.0]})
    >>> tangents = FeatureTangents(
    ...     "age", groups=[["length", "width"]], directions={"length": 1, "width": -0.5}
    ... )
    >>> tangents(X)
    array([[[ 0. ,  0. ,  1. ],
            [ 1. ,  1. ,  0. ],
            [ 1. , -0.5,  0. ]]])
    """

    def __init__(
        self,
        features: ArrayLike | None = None,
        groups: Sequence[ArrayLike] | None = None,
        directions: ArrayLike | Mapping | Sequence[Mapping] | None = None,
    ):
        self.features = features
        self.groups = groups
        self.directions = directions

    def fit(self, X: ArrayLike, y: object = None) -> Self:
        """Remember the names of the columns.

        Parameters
        ----------
        X : array-like of shape (n_samples, *input_shape)
            The samples; a data frame where names are used.
        y : None
            Ignored.

        Returns
        -------
        self : FeatureTangents
            The tangents themselves.

        Raises
        ------
        TypeError
            If some column names are strings and others are not.
        """
        validate_data(self, X, skip_check_array=True)
        return self

    def __call__(self, X: ArrayLike) -> np.ndarray:
        """Compute the tangent vectors of samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, *input_shape)
            The samples.

        Returns
        -------
        V : ndarray of shape (n_samples, n_tangents, *input_shape)
            The tangent vectors, float32 where X is float32, otherwise float64; read-only.

        Raises
        ------
        TypeError
            If X is sparse, or a parameter has the wrong type.
        ValueError
            If X is empty, has no feature axis or holds NaN or infinity, or a parameter has a
            value that does not fit it or X.
        """
        samples, directions, _ = self._along(X)
        return np.broadcast_to(directions, (len(samples), *directions.shape))

    def move(self, X: ArrayLike, amounts: ArrayLike) -> np.ndarray:
        r"""Move samples along straight lines, :math:`x + \sum_t a_t \tau_t`.

        Parameters
        ----------
        X : array-like of shape (n_samples, *input_shape)
            The samples.
        amounts : array-like of shape (n_samples, n_tangents)
            How far to move each sample along each of its tangents, in their units.

        Returns
        -------
        moved : ndarray of the shape of X
            The moved samples, float32 where X is float32, otherwise float64.

        Raises
        ------
        TypeError, ValueError
            As the call, or if the amounts are not finite numbers of that shape.

        Examples
        --------
        >>> from sktangent.tangents import FeatureTangents
        >>> FeatureTangents(features=[0, 2]).move([[1.0, 2.0, 3.0]], [[0.5, -1.0]])
        array([[1.5, 2. , 2. ]])
        """
        samples, directions, _ = self._along(X)
        amounts = check_multipliers(amounts, (len(samples), len(directions)), "amounts")
        return samples + _sums(amounts, directions)

    def combine(self, X: ArrayLike, coefficients: ArrayLike) -> np.ndarray:
        r"""Compute linear combinations of tangent vectors, :math:`\sum_t c_{kt} \tau_t`.

        Parameters
        ----------
        X : array-like of shape (n_samples, *input_shape)
            The samples.
        coefficients : array-like of shape (n_samples, k, n_tangents)
            Those of k combinations for each sample.

        Returns
        -------
        V : ndarray of shape (n_samples, k, *input_shape)
            The combinations, float32 where X is float32, otherwise float64.

        Raises
        ------
        TypeError, ValueError
            As the call, or if the coefficients are not finite numbers of that shape.
        """
        samples, directions, _ = self._along(X)
        shape = (len(samples), -1, len(directions))
        return _sums(check_multipliers(coefficients, shape, "coefficients"), directions)

    def tangent_names(self, X: ArrayLike) -> list[str]:
        """Name the tangents: ``x0``, or the column's name; ``group0``; ``direction0``.

        Parameters
        ----------
        X : array-like of shape (n_samples, *input_shape)
            The samples; a data frame where names are used.

        Returns
        -------
        names : list of str
            One for each tangent.

        Raises
        ------
        TypeError, ValueError
            As the call.
        """
        return self._along(X)[2]

    def _along(self, X: ArrayLike) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """Return the samples, the directions of each, (n_tangents, *input_shape), and names."""
        samples = check_samples(X, self)
        shape = samples.shape[1:]
        names = _column_names(X)
        if names is None and hasattr(self, "feature_names_in_"):
            names = list(self.feature_names_in_)
        directions, names = self._directions(_Columns(math.prod(shape), names), shape)
        return samples, directions.astype(samples.dtype).reshape(len(directions), *shape), names

    def _directions(
        self, columns: _Columns, shape: tuple[int, ...]
    ) -> tuple[np.ndarray, list[str]]:
        """Return the directions of one sample, flat, in double precision, and their names."""
        given = (self.features, self.groups, self.directions)
        if all(part is None for part in given):
            return np.eye(columns.count), columns.labels(range(columns.count))
        parts, names = [], []
        if self.features is not None:
            indices = columns.indices(self.features, "features")
            parts.extend(columns.sums([[index] for index in indices]))
            names.extend(columns.labels(indices))
        if self.groups is not None:
            groups = _check_groups(self.groups)
            parts.extend(columns.sums([columns.indices(group, "groups") for group in groups]))
            names.extend(f"group{i}" for i in range(len(groups)))
        if self.directions is not None:
            directions = _check_directions(self.directions, columns, shape)
            parts.extend(directions)
            names.extend(f"direction{i}" for i in range(len(directions)))
        return np.stack(parts), names


class _Columns:
    """How many features there are, and their names if they have any."""

    def __init__(self, count: int, names: list[str] | None):
        if names is not None and len(names) != count:
            raise ValueError(f"X has {count} features; fit saw {len(names)} columns.")
        self.count = count
        self.names = names

    def indices(self, chosen: ArrayLike, parameter: str) -> np.ndarray:
        """Return distinct indices from 0 to ``count - 1``."""
        given, chosen = chosen, _as_array(chosen, parameter)
        if chosen.ndim > 1 or chosen.size == 0:
            raise ValueError(
                f"{parameter} must be a list of at least one index, or a mask, got {given!r}."
            )
        if chosen.dtype == bool:
            chosen = self._from_mask(chosen, parameter)
        elif chosen.dtype == object:
            chosen = self._from_names(chosen, parameter)
        if not np.issubdtype(chosen.dtype, np.integer):
            raise TypeError(
                f"{parameter} must be integer indices or a boolean mask, or names, got {given!r}."
            )
        if chosen.min() < -self.count or chosen.max() >= self.count:
            raise ValueError(
                f"{parameter} must lie between {-self.count} and {self.count - 1}, since X has "
                f"{self.count} features, got {given!r}."
            )
        # Signed, since the remainder of an unsigned index may not hold the count.
        chosen = chosen.astype(np.intp) % self.count
        if len(np.unique(chosen)) < len(chosen):
            raise ValueError(f"{parameter} must not hold an index twice, got {given!r}.")
        return chosen

    def labels(self, indices: Iterable[int]) -> list[str]:
        """Return the columns' names, or ``x`` and their number where they have none."""
        return [f"x{index}" if self.names is None else self.names[index] for index in indices]

    def sums(self, groups: list[ArrayLike]) -> np.ndarray:
        """Return, for each group of indices, the sum of their unit vectors."""
        directions = np.zeros((len(groups), self.count))
        for direction, group in zip(directions, groups, strict=True):
            direction[group] = 1
        return directions

    def _from_mask(self, mask: np.ndarray, parameter: str) -> np.ndarray:
        if len(mask) != self.count or not mask.any():
            raise ValueError(
                f"{parameter}, as a mask, must have {self.count} entries, as X has features, and "
                f"at least one of them True, got {len(mask)} entries, {mask.sum()} True."
            )
        return np.flatnonzero(mask)

    def _from_names(self, chosen: np.ndarray, parameter: str) -> np.ndarray:
        """Replace names by indices, and leave what else there is."""
        wanted = [one for one in chosen if isinstance(one, str)]
        if wanted and self.names is None:
            raise ValueError(
                f"{parameter} has the name {wanted[0]!r}, but the columns have no names: call the "
                "tangents with a data frame, or fit them to one first."
            )
        if wanted:
            check_names(wanted, self.names, parameter)
        return np.array([self.names.index(one) if isinstance(one, str) else one for one in chosen])


def _as_array(chosen: ArrayLike, parameter: str) -> np.ndarray:
    """Return an array of one axis or more, of objects where there are names."""
    try:
        array = np.atleast_1d(np.asarray(chosen))
        named = array.dtype.kind in "UOT"
        return np.atleast_1d(np.asarray(chosen, dtype=object)) if named else array
    except ValueError:
        raise ValueError(
            f"{parameter} must be a list of at least one index, or a mask, got {chosen!r}."
        ) from None


def _column_names(X: ArrayLike) -> list[str] | None:
    columns = getattr(X, "columns", None)
    if columns is None or not all(isinstance(name, str) for name in columns):
        return None
    return list(columns)


def _check_groups(groups: Sequence[ArrayLike]) -> Sequence[ArrayLike]:
    listed = isinstance(groups, (Sequence, np.ndarray)) and not isinstance(groups, str)
    if not listed or any(np.ndim(group) == 0 for group in groups):
        raise TypeError(f"groups must be a list of groups, each of them a list, got {groups!r}.")
    if len(groups) == 0:
        raise ValueError("groups must hold at least one group, got an empty list.")
    return groups


def _check_directions(
    directions: ArrayLike | Mapping | Sequence[Mapping], columns: _Columns, shape: tuple[int, ...]
) -> np.ndarray:
    """Return directions of shape (n_directions, n_features)."""
    if isinstance(directions, Mapping):
        directions = [directions]
    if isinstance(directions, Sequence) and any(isinstance(one, Mapping) for one in directions):
        if not all(isinstance(one, Mapping) for one in directions):
            raise TypeError("directions must be vectors, or dicts, and not both together.")
        directions = [_from_entries(one, columns) for one in directions]
        shape = (columns.count,)
    directions = check_numbers(
        directions, "directions", dtype=np.float64, ensure_2d=False, allow_nd=True
    )
    if directions.shape == shape:
        directions = directions[np.newaxis]
    if directions.shape[1:] not in (shape, (columns.count,)):
        wanted = ", ".join(map(str, ("n_directions", *shape)))
        raise ValueError(f"directions must have shape ({wanted}), got {directions.shape}.")
    return directions.reshape(len(directions), -1)


def _from_entries(entries: Mapping, columns: _Columns) -> np.ndarray:
    direction = np.zeros(columns.count)
    direction[columns.indices(list(entries), "directions")] = list(entries.values())
    return direction


def _sums(factors: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Return sums of the directions, each times its factor along the last axis of those."""
    flat = directions.reshape(len(directions), -1)
    return (factors.astype(flat.dtype) @ flat).reshape(*factors.shape[:-1], *directions.shape[1:])
