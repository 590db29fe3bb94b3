"""What a fitted estimator answers with: outputs, derivatives, and how training went."""

from __future__ import annotations

import math

import numpy as np
from scipy import sparse
from sklearn.utils import _safe_indexing, check_array
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import nn

from sktangent.estimators.parameters import SkorchParameters
from sktangent.estimators.tangent_data import compute_tangents, identity_tangents
from sktangent.preprocessing import push_forward
from sktangent.training.batches import forward_strides
from sktangent.training.history import EpochHistory

# identity tangents that are pushed forward at once, at most
_PUSHED_AT_ONCE = 16384


class FittedNet(SkorchParameters):
    """Samples through the fitted preprocessor and net, in the units of X and the network's."""

    @property
    def module_(self) -> nn.Module:
        """The trained network."""
        return self.net_.module_

    @property
    def history_(self) -> EpochHistory:
        """What skorch recorded: a row for every epoch, with its batches."""
        return self.net_.history

    @property
    def loss_curve_(self) -> list[float]:
        """The training loss of every epoch, penalty included."""
        return [row["train_loss"] for row in self.history_ if "train_loss" in row]

    @property
    def penalty_curve_(self) -> list[float]:
        """The penalty of every epoch, before it is multiplied by the penalty weight."""
        return [row["train_penalty"] for row in self.history_ if "train_penalty" in row]

    @property
    def n_iter_(self) -> int:
        """Number of epochs trained."""
        return len(self.loss_curve_)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "net_")

    def _check_input(self, X: np.ndarray) -> np.ndarray:
        if X.shape[1:] != self._input_shape:
            raise ValueError(
                f"X holds samples of shape {X.shape[1:]}; fit saw shape {self._input_shape}."
            )
        return forward_strides(X.astype(self._dtype, copy=False))

    def _preprocess(self, given, X: np.ndarray) -> np.ndarray:
        """Turn samples into what the network sees."""
        if not hasattr(self, "preprocessor_"):
            return X
        Z = self.preprocessor_.transform(frame_or(given, X))
        Z = Z.toarray() if sparse.issparse(Z) else Z
        Z = check_array(Z, dtype=self._dtype, allow_nd=True, input_name="preprocessor output")
        return forward_strides(Z)

    def _push_forward(self, X, V: np.ndarray) -> np.ndarray:
        if not hasattr(self, "preprocessor_"):
            return V
        pushed = push_forward(self.preprocessor_, X, V).astype(self._dtype, copy=False)
        return forward_strides(pushed)

    def _check_samples(self, X) -> tuple[np.ndarray, np.ndarray]:
        """Check samples to predict for, and return them as given and as the network sees them."""
        check_is_fitted(self)
        given = X
        X = validate_data(self, X, dtype=(np.float64, np.float32), allow_nd=True, reset=False)
        X = self._check_input(X)
        return X, self._preprocess(given, X)

    def _outputs(self, X) -> np.ndarray:
        """Compute the network's outputs, (n_samples, n_outputs)."""
        _, Z = self._check_samples(X)
        return self.net_.forward(Z).numpy()

    def _directional_derivatives(self, X, tangents) -> np.ndarray:
        """Compute those of the network's outputs, (n_samples, n_tangents, n_outputs)."""
        given = X
        X, Z = self._check_samples(X)
        source = getattr(self, "tangents_", None) if tangents is None else tangents
        if source is None:
            raise ValueError("tangents must be given: the estimator has no tangents of its own.")
        V = self._push_forward(frame_or(given, X), compute_tangents(source, X)[0])
        return self.net_.directional_derivative(Z, V)

    def _jacobian(self, X) -> np.ndarray:
        """Compute that of the network's outputs, (n_samples, n_outputs, *input_shape)."""
        given = X
        X, Z = self._check_samples(X)
        J = self.net_.jacobian(Z)
        if not hasattr(self, "preprocessor_"):
            return J
        frame, by_x = frame_or(given, X), np.empty((*J.shape[:2], X[0].size), dtype=J.dtype)
        for rows in np.array_split(np.arange(len(X)), math.ceil(X.size / _PUSHED_AT_ONCE)):
            V = self._push_forward(_safe_indexing(frame, rows), identity_tangents(X[rows]))
            V = V.reshape(*V.shape[:2], -1)
            by_x[rows] = J[rows].reshape(*J[rows].shape[:2], -1) @ V.swapaxes(1, 2)
        return by_x.reshape(*J.shape[:2], *X.shape[1:])


def frame_or(given, X: np.ndarray):
    """Return the samples as they were given if that is a data frame, else as an array."""
    return given if hasattr(given, "columns") else X
