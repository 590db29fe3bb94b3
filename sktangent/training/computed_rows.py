"""Rows of arrays that are computed when a batch needs them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

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
    draw : callable, default=None
        Takes the row numbers of a whole batch and returns a tuple of arrays of as many rows, or
        None, which ``function`` takes behind its own. It is called in the order of the batches,
        whatever threads and processes do: for random numbers.
    takes_long : bool, default=False
        Whether computing takes about as long as training on what was computed, so that a thread
        for it pay on the CPU too.

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

    def __init__(
        self,
        function: Callable[..., dict],
        n_rows: int,
        draw: Callable[[np.ndarray], tuple] | None = None,
        takes_long: bool = False,
    ) -> None:
        self.function = function
        self.n_rows = n_rows
        self.draw = draw
        self.takes_long = takes_long

    def __len__(self) -> int:
        return self.n_rows

    def __getitem__(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        return self.planned(rows)()

    def planned(
        self, rows: np.ndarray, part: slice = slice(None)
    ) -> Callable[[], dict[str, np.ndarray]]:
        """Draw what all rows of a batch need, and return what is left to do for a part of them."""
        drawn = () if self.draw is None else self.draw(rows)
        own = (None if values is None else values[part] for values in drawn)
        return partial(self.function, rows[part], *own)

    def subset(self, index: np.ndarray) -> ComputedRows:
        """Return some of the rows, as rows that are computed when they are needed."""
        draw = self.draw
        return ComputedRows(
            lambda rows, *drawn: self.function(index[rows], *drawn),
            len(index),
            draw=None if draw is None else lambda rows: draw(index[rows]),
            takes_long=self.takes_long,
        )
