"""From samples, as they were given, to what the network sees, and tangents along with them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from sklearn.utils import _safe_indexing

from sktangent._checks import check_numbers
from sktangent.preprocessing import push_forward
from sktangent.training.batches import forward_strides

# numbers in the coordinate directions that are pushed forward at once, at most
_PUSHED_AT_ONCE = 2**24


@dataclass(frozen=True)
class InputMap:
    """The way of samples and their tangents to the network.

    Attributes
    ----------
    preprocessor : transformer or None
        The fitted preprocessor; None: the network sees samples as they are.
    dtype : numpy dtype
        Precision of the network.
    """

    preprocessor: object
    dtype: np.dtype

    def transform(self, frame, X: np.ndarray) -> np.ndarray:
        """Turn samples, as they were given and as an array, into what the network sees."""
        if self.preprocessor is None:
            return X
        Z = self.preprocessor.transform(frame)
        Z = Z.toarray() if sparse.issparse(Z) else Z
        Z = check_numbers(Z, "preprocessor output", dtype=self.dtype, allow_nd=True)
        return forward_strides(Z)

    def push_forward(self, frame, V: np.ndarray) -> np.ndarray:
        """Turn tangents of samples into those of what the network sees."""
        if self.preprocessor is None:
            return V
        pushed = push_forward(self.preprocessor, frame, V).astype(self.dtype, copy=False)
        return forward_strides(pushed)

    def pull_back(self, frame, X: np.ndarray, J: np.ndarray) -> np.ndarray:
        """Turn a Jacobian with respect to what the network sees into that with respect to X.

        Parameters
        ----------
        frame : DataFrame or ndarray
            The samples as they were given.
        X : ndarray of shape (n_samples, *input_shape)
            The samples.
        J : ndarray of shape (n_samples, n_outputs, *output_shape)
            The Jacobian behind the preprocessor.

        Returns
        -------
        J : ndarray of shape (n_samples, n_outputs, *input_shape)
            The Jacobian through it.
        """
        if self.preprocessor is None:
            return J
        behind = J.reshape(*J.shape[:2], -1)
        through = np.empty((*J.shape[:2], X[0].size), dtype=J.dtype)
        for rows, inputs in _blocks(len(X), X[0].size):
            V = _directions(X[rows], inputs)
            W = self.push_forward(_safe_indexing(frame, rows), V).reshape(*V.shape[:2], -1)
            through[rows, :, inputs] = behind[rows] @ W.swapaxes(1, 2)
        return through.reshape(*J.shape[:2], *X.shape[1:])


def _directions(X: np.ndarray, inputs: slice) -> np.ndarray:
    """Return some of the coordinate directions, for each sample a view of the same."""
    n_directions = inputs.stop - inputs.start
    basis = np.eye(n_directions, X[0].size, inputs.start, dtype=X.dtype)
    return np.broadcast_to(
        basis.reshape(n_directions, *X.shape[1:]), (len(X), n_directions, *X.shape[1:])
    )


def _blocks(n_samples: int, n_inputs: int) -> Iterator[tuple[slice, slice]]:
    """Cut samples times inputs into blocks whose directions take bounded memory."""
    n_directions = max(1, min(n_inputs, _PUSHED_AT_ONCE // n_inputs))
    n_rows = max(1, _PUSHED_AT_ONCE // (n_directions * n_inputs))
    for row in range(0, n_samples, n_rows):
        for first in range(0, n_inputs, n_directions):
            last = min(first + n_directions, n_inputs)
            yield slice(row, min(row + n_rows, n_samples)), slice(first, last)
