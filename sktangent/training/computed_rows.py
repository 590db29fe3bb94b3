"""Rows of arrays that are computed when a batch needs them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


class ComputedRows:
    """Arrays of which the rows are computed when a batch needs them.

    In a dict of samples it stands for all the arrays that ``function`` returns.

    Parameters
    ----------
    function : callable
        Takes row numbers, an ndarray of int of shape (n,), and returns a dict of ndarrays with n
        rows each. It may be called from another thread.
    n_rows : int
        Number of rows that there are.

    Examples
    --------
    >>> import numpy as np
    >>> from sktangent.training.batches import TensorBatches
    >>> from sktangent.training.computed_rows import ComputedRows
    >>> squares = ComputedRows(lambda rows: {"square": rows**2}, 4)
    >>> batches = TensorBatches({"x": np.arange(4), "square": squares}, batch_size=2)
    >>> [X["square"].tolist() for X, _ in batches]
    [[0, 1], [4, 9]]
    """

    def __init__(self, function: Callable[[np.ndarray], dict], n_rows: int) -> None:
        self.function = function
        self.n_rows = n_rows

    def __len__(self) -> int:
        return self.n_rows

    def __getitem__(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        return self.function(rows)

    def part(self, rows: np.ndarray, part: slice) -> dict[str, np.ndarray]:
        """Compute a part of some rows."""
        return self.function(rows[part])

    def subset(self, index: np.ndarray) -> ComputedRows:
        """Return some of the rows, as rows that are computed when they are needed."""
        return ComputedRows(lambda rows: self.function(index[rows]), len(index))


class DrawnRows(ComputedRows):
    """Rows computed from random numbers, drawn for all of a batch whatever part of it is wanted.

    Parameters
    ----------
    function : callable
        Takes row numbers and the slice of them that is wanted, and returns as in ComputedRows.
    n_rows : int
        Number of rows that there are.
    """

    def __getitem__(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        return self.function(rows, slice(None))

    def part(self, rows: np.ndarray, part: slice) -> dict[str, np.ndarray]:
        """Compute a part of some rows, with the numbers that it has in the whole."""
        return self.function(rows, part)

    def subset(self, index: np.ndarray) -> DrawnRows:
        """Return some of the rows, as rows that are computed when they are needed."""
        return DrawnRows(lambda rows, part: self.function(index[rows], part), len(index))
