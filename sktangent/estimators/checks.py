"""What an estimator checks of the arrays that it is given."""

from __future__ import annotations

import warnings

import numpy as np
from scipy import sparse
from sklearn.base import RegressorMixin
from sklearn.model_selection import train_test_split
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils.validation import _check_sample_weight, validate_data

from sktangent._checks import validating
from sktangent._tables import with_zeros_for_words
from sktangent.estimators.build import resolve_dtype
from sktangent.training.batches import forward_strides

# of samples of this size Adam's first steps overshoot, and no penalty says so
_LARGE, _N_LOOKED_AT = 1e3, 1000


class ChecksData:
    """How samples, targets and weights are checked, before training and before predictions."""

    def _check_data(
        self, X, y, fresh: bool, incremental: bool, classes
    ) -> tuple[np.ndarray, np.ndarray]:
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None."
            )
        X = self._validate(X, fresh)
        with validating(y, "y", labels=not isinstance(self, RegressorMixin)):
            y = check_array(y, accept_sparse="csr", ensure_2d=False, dtype=None, input_name="y")
            check_consistent_length(X, y)
            if fresh:
                self._sparse_target = type(y) if sparse.issparse(y) else None
            y = y.toarray() if sparse.issparse(y) else y
            if y.ndim == 2 and y.shape[1] == 1:
                y = column_or_1d(y, warn=True)
            y = self._check_target(y, fresh, incremental, classes)
        if fresh:
            self._input_shape, self._dtype = X.shape[1:], X.dtype
        if self.autocast is not None and self._dtype != np.float32:
            raise ValueError(
                f"autocast={self.autocast!r} is for float32, and the network has {self._dtype}; "
                "set dtype='float32'."
            )
        return self._check_input(X), y

    def _validate(self, X, fresh: bool = False) -> np.ndarray:
        """Check samples; columns that only a preprocessor can read become zeros."""
        dtype = resolve_dtype(self.dtype if fresh else None)
        X = X if self.preprocessor is None else with_zeros_for_words(X)
        with validating(X, "X"):
            return validate_data(self, X, dtype=dtype, allow_nd=True, reset=fresh)

    def _check_weight(self, X, y, sample_weight) -> np.ndarray:
        with validating(sample_weight, "sample_weight"):
            weight = _check_sample_weight(
                sample_weight, X, dtype=np.float64, ensure_non_negative=True
            )
        with validating(None, "class_weight"):
            factor = self._target_weight(y)
            if not (np.isfinite(factor).all() and np.min(factor) >= 0):
                raise ValueError("class_weight must be finite and zero or more.")
        weight = weight * factor
        if not weight.any():
            raise ValueError("sample_weight, times class_weight, is zero for every sample.")
        return weight

    def _split(self, y: np.ndarray, weight: np.ndarray):
        """Find the samples to train on, those of weight zero left out, and those to validate on."""
        counted = np.flatnonzero(weight)
        if self.early_stopping:
            with validating(None, "early_stopping"):
                return train_test_split(
                    counted,
                    test_size=self.validation_fraction,
                    random_state=self._random_state,
                    stratify=self._stratify(y[counted]),
                )
        return (slice(None) if len(counted) == len(weight) else counted), None

    def _check_input(self, X: np.ndarray) -> np.ndarray:
        if X.shape[1:] != self._input_shape:
            raise ValueError(
                f"X holds samples of shape {X.shape[1:]}; fit saw shape {self._input_shape}."
            )
        with np.errstate(over="ignore"):
            converted = X.astype(self._dtype, copy=False)
        if converted is not X and not np.isfinite(converted).all():
            raise ValueError(f"X holds values too large for the network's {self._dtype}.")
        return forward_strides(converted)


def warn_of_scale(x: np.ndarray) -> None:
    """Tell that samples are too large for a network whose weights start small.

    Parameters
    ----------
    x : ndarray of shape (n_samples, *input_shape)
        What the network sees.
    """
    some = x[:_N_LOOKED_AT]
    with np.errstate(over="ignore"):
        squares = np.square(some.reshape(len(some), -1), dtype=np.float64)
        sizes = np.sqrt(squares.mean(axis=0))
    if sizes.max() > _LARGE:
        warnings.warn(
            f"Feature {sizes.argmax()} has a root mean square of {sizes.max():.2g}, and training "
            "needs features of about unit size, or what is learned may be far off. Set "
            "preprocessor=StandardScaler(); tangents and derivatives stay in the units of X.",
            UserWarning,
            stacklevel=7,
        )
