"""The derivatives of a net's module, exact and in batches."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch

from sktangent.propagation import propagate
from sktangent.propagation.jacobian import jacobian
from sktangent.training.batches import as_tensor

_ROWS = 16384


class NetDerivatives:
    """What a skorch net answers about the derivatives of its module."""

    def directional_derivative(self, X, tangents) -> np.ndarray:
        """Compute the derivatives of the module's outputs along tangent vectors, in batches.

        Parameters
        ----------
        X : ndarray or torch.Tensor of shape (n_samples, *input_shape)
            The samples.
        tangents : ndarray or torch.Tensor of shape (n_samples, n_tangents, *input_shape)
            Their tangent vectors.

        Returns
        -------
        dy : ndarray of shape (n_samples, n_tangents, n_outputs)
            The directional derivatives, with the module in evaluation mode.
        """
        self._set_training(False)
        parts = []
        with torch.no_grad():
            for window in _windows(len(X), 1 + tangents.shape[1]):
                x = as_tensor(X[window]).to(self.device)
                tau = as_tensor(tangents[window]).to(self.device)
                parts.append(propagate(self.module_, x, tau)[1].cpu())
        return torch.cat(parts).numpy()

    def jacobian(self, X) -> np.ndarray:
        """Compute the Jacobian of the module's outputs, in batches.

        Parameters
        ----------
        X : ndarray or torch.Tensor of shape (n_samples, *input_shape)
            The samples.

        Returns
        -------
        J : ndarray of shape (n_samples, n_outputs, *input_shape)
            The Jacobian, with the module in evaluation mode.
        """
        self._set_training(False)
        parts = [
            jacobian(self.module_, as_tensor(X[window]).to(self.device)).cpu()
            for window in _windows(len(X), 1 + math.prod(X.shape[1:]))
        ]
        return torch.cat(parts).numpy()


def _windows(n_samples: int, rows_each: int) -> Iterator[slice]:
    """Cut samples so that a piece takes about as much memory as a batch to predict for."""
    size = max(1, _ROWS // rows_each)
    return (slice(start, start + size) for start in range(0, n_samples, size))
