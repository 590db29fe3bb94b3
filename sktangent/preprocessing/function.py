"""A fitted transformer as a plain function of arrays in double precision."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from sktangent._tables import is_frame, named_like


def unwrap(X: Any) -> np.ndarray:
    """Return the values of an array or a DataFrame."""
    return X.to_numpy() if is_frame(X) else X


def name(transformer: Any) -> str:
    """Return what a message calls the transformer."""
    return type(transformer).__name__


def transform(transformer: Any, X: Any) -> Any:
    """Transform samples, and tell an unfitted transformer from a failing one.

    Parameters
    ----------
    transformer : transformer
        The transformer.
    X : ndarray or DataFrame of float64
        The samples, which are left as they are.

    Returns
    -------
    Y : ndarray or DataFrame of float64
        The transformed samples, dense.
    """
    try:
        # A copy, since a transformer with copy=False writes into what it is given.
        Y = transformer.transform(X.copy() if hasattr(X, "copy") else X)
    except NotFittedError:
        raise
    except Exception:
        # Without fit, a user's transformer fails with anything, an AttributeError as a rule.
        check_is_fitted(transformer)
        raise
    values = _dense(Y, transformer, len(X))
    return named_like(Y, values)


class Function:
    """A fitted transformer as a function of flat samples.

    Parameters
    ----------
    transformer : transformer
        The fitted transformer.
    X : ndarray or DataFrame of shape (n_samples, *input_shape)
        Samples whose shape and column names the transformer gets.

    Attributes
    ----------
    name : str
        What messages call the transformer.
    eps : float
        Precision of the outputs so far.
    """

    def __init__(self, transformer: Any, X: Any) -> None:
        self.transformer = transformer
        self.name = name(transformer)
        self.eps = np.finfo(np.float64).eps
        self._like = X[:0]
        self._input_shape = X.shape[1:]

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Map (m, n_inputs) to (m, n_outputs); the transformer may overwrite ``points``."""
        points = points.reshape(-1, *self._input_shape)
        with np.errstate(all="ignore"):
            Y = self.transformer.transform(named_like(self._like, points))
        if getattr(Y, "dtype", None) in (np.float16, np.float32):
            self.eps = np.finfo(Y.dtype).eps
        return flatten(_dense(Y, self.transformer, len(points)))

    def probe(self, parts: list[np.ndarray]) -> list[np.ndarray] | None:
        """Map several arrays of made-up inputs; None where that fails or is not finite."""
        with warnings.catch_warnings():
            # A transformer's complaints about such inputs do not concern the user.
            warnings.simplefilter("ignore")
            try:
                values = self(np.vstack(parts))
            except Exception:
                # Whatever it raises, the answer is that it cannot take them.
                return None
        if not np.isfinite(values).all():
            return None
        return np.split(values, np.cumsum([len(part) for part in parts])[:-1])


def spread(n: int, n_chosen: int) -> np.ndarray:
    """Return at most ``n_chosen`` indices, evenly from 0 to n - 1."""
    return np.unique(np.linspace(0, n - 1, n_chosen).round().astype(int))


def flatten(values: np.ndarray, n_leading: int = 1) -> np.ndarray:
    """Flatten all axes behind the leading ones."""
    leading = values.shape[:n_leading]
    return values.reshape(*leading, math.prod(values.shape[n_leading:]))


def _dense(Y: Any, transformer: Any, n_samples: int) -> np.ndarray:
    if sparse.issparse(Y):
        Y = Y.toarray()
    try:
        if np.iscomplexobj(Y):
            raise TypeError("complex numbers")
        values = np.asarray(Y, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"transformer must return real numbers, but {name(transformer)} does not: {error}."
        ) from error
    if values.shape[:1] != (n_samples,):
        raise ValueError(
            f"transformer must return a row for each sample, but {name(transformer)} made shape "
            f"{values.shape} of {n_samples} samples."
        )
    return values
