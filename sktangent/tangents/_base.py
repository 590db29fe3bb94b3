"""The contract of every kind of tangents."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator

from sktangent._checks import check_samples
from sktangent._html import DocumentationLink


class BaseTangents(DocumentationLink, BaseEstimator):
    """A callable that gives each sample its tangent vectors.

    Subclasses store their parameters untouched in ``__init__`` and answer :meth:`_tangents`,
    where they validate them.
    """

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

    def _tangents(self, X: np.ndarray) -> np.ndarray:
        raise NotImplementedError(f"{type(self).__name__} does not define _tangents.")
