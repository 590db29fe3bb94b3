"""The contract of every kind of tangents."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator

from sktangent._checks import check_multipliers, check_samples
from sktangent._html import DocumentationLink


class BaseTangents(DocumentationLink, BaseEstimator):
    """A callable that gives each sample its tangent vectors, and moves it along them.

    Subclasses store their parameters untouched in ``__init__`` and answer :meth:`_tangents`,
    :meth:`_move` and :meth:`tangent_names`, where they validate them; :meth:`_combine` where
    they can combine tangents before computing them.
    """

    # Whether a combination is had for less than the tangents that it combines.
    _combines_first = False

    def __call__(self, X: ArrayLike) -> np.ndarray:
        """Compute the tangent vectors of samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, *input_shape)
            The samples.

        Returns
        -------
        V : ndarray of shape (n_samples, n_tangents, *input_shape)
            The tangent vectors, float32 where X is float32, otherwise float64.

        Raises
        ------
        TypeError
            If X is sparse, or a parameter has the wrong type.
        ValueError
            If X is empty, has no feature axis or holds NaN or infinity, or a parameter has a
            value that does not fit it or X.
        """
        return self._tangents(check_samples(X, self))

    def move(self, X: ArrayLike, amounts: ArrayLike) -> np.ndarray:
        r"""Move samples along their orbits, each by amounts of its own.

        The derivative by the amounts, at zero, is the tangents: for small amounts a the moved
        sample is :math:`x + \sum_t a_t \tau_t`.

        Parameters
        ----------
        X : array-like of shape (n_samples, *input_shape)
            The samples.
        amounts : array-like of shape (n_samples, n_tangents)
            How far to move each sample along each of its tangents, in the tangents' units.

        Returns
        -------
        moved : ndarray of the shape of X
            The moved samples, float32 where X is float32, otherwise float64.

        Raises
        ------
        TypeError
            As the call, or if the amounts are not numbers.
        ValueError
            As the call, or if the amounts have another shape, hold NaN or infinity, or carry a
            sample out of its frame.
        """
        X = check_samples(X, self)
        shape = (len(X), len(self.tangent_names(X)))
        return self._move(X, check_multipliers(amounts, shape, "amounts"))

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
        X = check_samples(X, self)
        shape = (len(X), -1, len(self.tangent_names(X)))
        return self._combine(X, check_multipliers(coefficients, shape, "coefficients"))

    def tangent_names(self, X: ArrayLike) -> list[str]:
        """Name the transformation that each tangent belongs to.

        Parameters
        ----------
        X : array-like of shape (n_samples, *input_shape)
            Samples, of which only the shape counts.

        Returns
        -------
        names : list of str
            One for each tangent; a name that several share stands there as often.

        Raises
        ------
        TypeError, ValueError
            As the call.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define tangent_names.")

    def _tangents(self, X: np.ndarray) -> np.ndarray:
        raise NotImplementedError(f"{type(self).__name__} does not define _tangents.")

    def _move(self, X: np.ndarray, amounts: np.ndarray) -> np.ndarray:
        return X + linear_combinations(self._tangents(X), amounts[:, np.newaxis])[:, 0]

    def _combine(self, X: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
        return linear_combinations(self._tangents(X), coefficients)


def linear_combinations(V: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """Return combinations (n, k, *input_shape) of tangents V (n, n_tangents, *input_shape)."""
    flat = V.reshape(*V.shape[:2], -1)
    return (coefficients.astype(V.dtype) @ flat).reshape(*coefficients.shape[:2], *V.shape[2:])
