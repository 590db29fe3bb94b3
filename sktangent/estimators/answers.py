"""What a fitted estimator computes for samples: outputs, and how they change."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from sktangent._memory import described, memory_for
from sktangent._randomness import in_place_of_global, seeded
from sktangent._tables import frame_or
from sktangent.estimators.input_map import InputMap
from sktangent.estimators.tangent_rows import compute_tangents


class Answers:
    """How outputs and derivatives are computed."""

    def _outputs(self, X) -> np.ndarray:
        """Compute the network's outputs, (n_samples, n_outputs)."""
        Z = self._check_samples(X)[2]
        with self._predicting(Z):
            return self.net_.forward(Z).numpy()

    def _directional_derivatives(self, X, tangents) -> np.ndarray:
        """Compute those of the network's outputs, (n_samples, n_tangents, n_outputs)."""
        frame, X, Z = self._check_samples(X)
        source = getattr(self, "tangents_", None) if tangents is None else tangents
        if source is None:
            raise ValueError("tangents must be given: the estimator has no tangents of its own.")
        with self._predicting(Z):
            V = compute_tangents(source, X)[0]
            return self.net_.directional_derivative(Z, self._input_map().push_forward(frame, V))

    def _outputs_and_jacobian(self, X) -> tuple[np.ndarray, np.ndarray]:
        """Compute the network's outputs, and their Jacobian by X."""
        frame, X, Z = self._check_samples(X)
        with self._predicting(Z):
            y, J = self.net_.forward_with_jacobian(Z)
            return y, self._input_map().pull_back(frame, X, J)

    @contextlib.contextmanager
    def _predicting(self, Z: np.ndarray) -> Iterator[None]:
        """Let a network that draws do so from numbers of its own, the same in every call."""
        what = f"the answers for samples of {described(Z.shape, Z.itemsize)}"
        with memory_for(what, "Ask for fewer samples at a time."):
            if not self._draws:
                yield
                return
            with seeded(0, torch.device(self.net_.device)), in_place_of_global():
                yield

    def _check_samples(self, X) -> tuple:
        """Check samples to predict for: as they were given, as X, and as the network sees them."""
        if self._is_checked(X):
            return X, X, X
        check_is_fitted(self)
        given = X
        X = self._check_input(self._validate(X))
        frame = frame_or(given, X)
        return frame, X, self._input_map().transform(frame, X)

    def _is_checked(self, X) -> bool:
        """Tell whether samples are as the network takes them, in a tenth of the time of a check."""
        return (
            type(X) is np.ndarray
            and hasattr(self, "net_")
            and X.dtype == self._dtype
            and X.flags.c_contiguous
            and X.shape[1:] == self._input_shape
            and len(X) > 0
            and not hasattr(self, "preprocessor_")
            and not hasattr(self, "feature_names_in_")
            and np.isfinite(X.sum())
        )

    def _input_map(self) -> InputMap:
        return InputMap(getattr(self, "preprocessor_", None), self._dtype)
