"""Tangents learned from data: where neighbours lie, or how repeated measurements differ."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from hashlib import blake2b
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.neighbors import NearestNeighbors
from sklearn.utils.validation import (
    check_consistent_length,
    check_is_fitted,
    validate_data,
)

from sktangent._checks import SAMPLES, check_choice, check_count, check_numbers, validating
from sktangent.tangents._base import BaseTangents

_SCALES = ("deviation", "unit")
_SAME_CLASS = ("auto", True, False)
# Values worked on at once, of all neighbours of some samples.
_CHUNK_VALUES = 2**20


class NeighborTangents(BaseTangents):
    r"""Directions in which the data itself varies around a sample.

    Around a sample x the k nearest others lie close to a tangent plane of whatever manifold the
    data fills. Its directions are the principal ones of these neighbours: with :math:`\mu`
    their mean, and

    .. math:: \frac{1}{\sqrt k} (x_1 - \mu, \dots, x_k - \mu)^T = U S V^T,

    the tangents are :math:`\tau_c = s_c v_c`, or :math:`v_c`, for the leading components c.
    So the model is told not to change along the variation that a class has anyway, as the
    manifold tangent classifier does [1]_; where that one reads the directions off a contractive
    autoencoder, they come here from local principal component analysis, which needs enough data
    to fill the neighbourhoods [2]_.

    With ``pairs`` the tangents come from objects that were measured twice: from the differences
    :math:`\delta_p` of the k pairs nearest to x, in place of :math:`x_p - \mu` above. With
    as many components as neighbours, the penalty of the tangents
    :math:`s_c v_c` is then the mean penalty of the differences themselves.

    Parameters
    ----------
    n_components : int, default=2
        How many tangents a sample has, at most ``n_neighbors - 1``, or ``n_neighbors`` with
        ``pairs``, and at most the number of features.
    n_neighbors : int, default=10
        k above. Where fewer are there (in a small class, among few pairs), all of them count.
    pairs : array-like of shape (n_pairs, 2, *input_shape), default=None
        Two measurements of each of some objects, in the units of X. They are near a sample if
        the mean of the two is. The samples in :meth:`fit` and their classes then have no part.
    scale : {"deviation", "unit"}, default="deviation"
        ``"deviation"``: :math:`s_c v_c`, as long as the standard deviation of the neighbours
        along it (or the root mean square of the differences). The penalty then bears on
        each direction as far as the data goes along it. ``"unit"``: :math:`v_c`, of length
        one, whatever the spread.
    same_class : {"auto", True, False}, default="auto"
        Whether the neighbours of a sample in :meth:`fit` are sought in its own class.
        ``"auto"``: if y is given, one-dimensional, and not floating, as targets of regression
        are. True takes every distinct value of y for a class.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The classes in :meth:`fit`, if they have a part.
    n_features_in_ : int
        Length of the second axis of X in :meth:`fit`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns in :meth:`fit`, if all of them are strings.

    Notes
    -----
    A sample that was there in :meth:`fit`, in the same numbers, is recognized, in any batch: it
    is not its own neighbour, and its class is known. (Of equal samples in several classes, the
    first counts.) The class of any other sample is unknown, so its neighbours are sought among
    all samples.

    Samples of several axes are compared flat, by Euclidean distance: features of large numbers
    decide who is near. Put features of different kinds onto one scale before.

    Where the neighbours span fewer directions than ``n_components``, the tangents left over are
    zero, and without effect. The sign of a tangent means nothing: its largest entry is positive.

    ``move`` goes along straight lines, :math:`x + \sum_c a_c \tau_c`: the tangent plane is all that
    is known of the manifold. A sample that was moved is another one, whose class is unknown.

    References
    ----------
    .. [1] S. Rifai, Y. Dauphin, P. Vincent, Y. Bengio, X. Muller. The manifold tangent
       classifier. NIPS 24, 2294-2302, 2011.
    .. [2] Y. Bengio, M. Monperrus. Non-local manifold tangent learning. NIPS 17, 129-136, 2004.

    Examples
    --------
    On a circle the tangent is at right angles to the radius:

    >>> import numpy as np
    >>> from sktangent.tangents import NeighborTangents
    >>> angle = np.linspace(0, 2 * np.pi, 100, endpoint=False)
    >>> circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    >>> tangents = NeighborTangents(n_components=1, n_neighbors=4, scale="unit").fit(circle)
    >>> tangents([[1.0, 0.0]]).round(6) + 0.0
    array([[[0., 1.]]])

    Two instruments that measured the same objects, the second a little higher in the third value:

    >>> first = np.random.default_rng(0).normal(size=(6, 3))
    >>> pairs = np.stack([first, first + [0, 0, 0.2]], axis=1)
    >>> NeighborTangents(n_components=1, pairs=pairs).fit(first)(first[:1]).round(6) + 0.0
    array([[[0. , 0. , 0.2]]])
    """

    def __init__(
        self,
        n_components: int = 2,
        n_neighbors: int = 10,
        pairs: ArrayLike | None = None,
        scale: str = "deviation",
        same_class: bool | str = "auto",
    ):
        self.n_components = n_components
        self.n_neighbors = n_neighbors
        self.pairs = pairs
        self.scale = scale
        self.same_class = same_class

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Keep the samples, or the pairs, for the search of neighbours.

        Parameters
        ----------
        X : array-like of shape (n_samples, *input_shape)
            The samples.
        y : array-like of shape (n_samples,), default=None
            Their classes; see ``same_class``.

        Returns
        -------
        self : NeighborTangents
            The fitted tangents.

        Raises
        ------
        TypeError
            If X is sparse, or a parameter has the wrong type.
        ValueError
            If X or the pairs are empty, do not fit one another or hold NaN or infinity, if y
            does not fit X, or if there are too few samples or pairs for ``n_components``.

        Warns
        -----
        UserWarning
            If classes have too few samples for ``n_components``.
        """
        with validating(X, "X"):
            X = validate_data(self, X, **SAMPLES)
        check_choice(self.scale, _SCALES, "scale")
        same_class = check_choice(self.same_class, _SAME_CLASS, "same_class")
        self._input_shape = X.shape[1:]
        vars(self).pop("classes_", None)
        if self.pairs is not None:
            self._fit_pairs(X.shape[1:])
        else:
            self._fit_samples(X.reshape(len(X), -1), _check_classes(X, y, same_class))
        return self

    def _fit_pairs(self, input_shape: tuple[int, ...]) -> None:
        pairs = check_numbers(self.pairs, "pairs", **SAMPLES)
        if pairs.shape[1:] != (2, *input_shape):
            wanted = ", ".join(map(str, ("n_pairs", 2, *input_shape)))
            raise ValueError(f"pairs must have shape ({wanted}), got {pairs.shape}.")
        pairs = pairs.reshape(len(pairs), 2, -1)
        self._check_components(pairs.shape[-1], len(pairs), spare=0)
        self._points = pairs[:, 1] - pairs[:, 0]
        self._search = NearestNeighbors().fit(pairs.mean(axis=1))

    def _fit_samples(self, X: np.ndarray, y: np.ndarray | None) -> None:
        self._check_components(X.shape[1], len(X) - 1, spare=1)
        self._points = X
        self._search = NearestNeighbors().fit(X)
        self._members = [np.arange(len(X))]
        self._class_of = np.zeros(len(X), dtype=int)
        self._searches = [self._search]
        self._known = _digests(X)
        if y is None:
            return
        self.classes_, self._class_of = np.unique(y, return_inverse=True)
        self._members = [np.flatnonzero(self._class_of == c) for c in range(len(self.classes_))]
        self._searches = [NearestNeighbors().fit(X[members]) for members in self._members]
        few = [len(members) <= self.n_components + 1 for members in self._members]
        if any(few):
            warnings.warn(
                f"These classes have too few samples for n_components={self.n_components}: "
                f"{list(self.classes_[few])}. Some of their tangents are zero. If y holds no "
                "classes, set same_class=False.",
                UserWarning,
                stacklevel=3,
            )

    def _check_components(self, n_features: int, n_available: int, spare: int) -> None:
        """Check the numbers; ``spare`` directions are lost to the mean."""
        n_components = check_count(self.n_components, "n_components")
        n_neighbors = check_count(self.n_neighbors, "n_neighbors")
        most = min(n_features, n_neighbors - spare)
        if n_components > most:
            raise ValueError(
                f"n_components must be at most {most}, with {n_features} features and "
                f"n_neighbors={n_neighbors}, got {n_components}."
            )
        if n_available < n_components + spare:
            raise ValueError(
                f"n_components={n_components} needs at least {n_components + spare} "
                f"{'other samples' if spare else 'pairs'}, got {n_available}."
            )

    def tangent_names(self, X: ArrayLike) -> list[str]:
        """Name the tangents: ``component0``, ``component1`` and so on.

        Parameters
        ----------
        X : array-like of shape (n_samples, *input_shape)
            Ignored.

        Returns
        -------
        names : list of str
            One for each tangent.

        Raises
        ------
        TypeError, ValueError
            If ``n_components`` is not a count.
        """
        return [f"component{i}" for i in range(check_count(self.n_components, "n_components"))]

    def _tangents(self, X: np.ndarray) -> np.ndarray:
        check_is_fitted(self)
        if X.shape[1:] != self._input_shape:
            raise ValueError(
                f"X holds samples of shape {X.shape[1:]}; fit saw shape {self._input_shape}."
            )
        flat = X.reshape(len(X), -1)
        V = np.zeros((len(X), self.n_components, flat.shape[1]), dtype=X.dtype)
        step = max(1, _CHUNK_VALUES // (self.n_neighbors * flat.shape[1]))
        for rows, neighbors in self._neighborhoods(flat):
            for start in range(0, len(rows), step):
                chunk = slice(start, start + step)
                points = self._points[neighbors[chunk]]
                if self.pairs is None:
                    points = points - points.mean(axis=1, keepdims=True)
                found = _principal_directions(points, self.n_components, self.scale == "unit")
                V[rows[chunk], : found.shape[1]] = found
        return V.reshape(len(X), self.n_components, *X.shape[1:])

    def _neighborhoods(self, X: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield rows of X, and which points are the neighbours of each."""
        known = self._recognize(X) if self.pairs is None else np.full(len(X), -1)
        new = np.flatnonzero(known < 0)
        if len(new):
            k = min(self.n_neighbors, len(self._points))
            yield new, self._search.kneighbors(X[new], k, return_distance=False)
        old = np.flatnonzero(known >= 0)
        for c in np.unique(self._class_of[known[old]]) if len(old) else ():
            rows = old[self._class_of[known[old]] == c]
            members = self._members[c]
            k = min(self.n_neighbors, len(members) - 1)
            if k:
                found = self._searches[c].kneighbors(X[rows], k + 1, return_distance=False)
                yield rows, _without(members[found], known[rows])

    def _recognize(self, X: np.ndarray) -> np.ndarray:
        """Return where each sample stood in fit, or -1."""
        found = np.array([self._known.get(digest, -1) for digest in _digest_rows(X)])
        # Digests are of rounded values; in X's own precision they may differ.
        same = (self._points[found].astype(X.dtype, copy=False) == X).all(axis=1)
        return np.where(same, found, -1)


def _check_classes(X: np.ndarray, y: ArrayLike | None, same_class: bool | str) -> np.ndarray | None:
    """Return the classes of the samples, if they have a part."""
    if same_class is False or (y is None and same_class == "auto"):
        return None
    if y is None:
        raise ValueError("same_class=True needs y: call fit(X, y).")
    check_consistent_length(X, y)
    y = np.asarray(y)
    if same_class == "auto" and (y.ndim != 1 or y.dtype.kind == "f"):
        return None
    if y.ndim != 1:
        raise ValueError(f"same_class=True needs one class a sample, got y of shape {y.shape}.")
    return y


def _digests(X: np.ndarray) -> dict[bytes, int]:
    known: dict[bytes, int] = {}
    for row, digest in enumerate(_digest_rows(X)):
        known.setdefault(digest, row)
    return known


def _digest_rows(X: np.ndarray) -> Iterator[bytes]:
    # In single precision, so that samples are known again after a change of dtype; the sum
    # makes one zero of the two.
    with np.errstate(over="ignore"):
        rows = X.astype(np.float32) + np.float32(0)
    return (blake2b(row.tobytes(), digest_size=16).digest() for row in rows)


def _without(neighbors: np.ndarray, itself: np.ndarray) -> np.ndarray:
    """Drop each row's own point, or its last neighbour where equal points took its place."""
    drop = neighbors == itself[:, np.newaxis]
    drop[~drop.any(axis=1), -1] = True
    return neighbors[~drop].reshape(len(neighbors), -1)


def _principal_directions(points: np.ndarray, n_components: int, unit: bool) -> np.ndarray:
    """Return (n, at most n_components, n_features) from points (n, n_points, n_features)."""
    _, sizes, directions = np.linalg.svd(points, full_matrices=False)
    directions, kept = directions[:, :n_components], sizes[:, :n_components]
    largest = np.abs(directions).argmax(axis=2, keepdims=True)
    signs = np.sign(np.take_along_axis(directions, largest, axis=2))
    # Directions without any spread are arbitrary.
    floor = max(points.shape[1:]) * np.finfo(points.dtype).eps * sizes[:, :1]
    lengths = np.ones_like(kept) if unit else kept / np.sqrt(points.shape[1])
    return directions * signs * np.where(kept > floor, lengths, 0)[..., np.newaxis]
