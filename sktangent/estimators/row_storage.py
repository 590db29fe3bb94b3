"""Where training finds the rows of its arrays: kept, or computed when memory is short."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np

from sktangent._checks import repeats_one_row
from sktangent._memory import described, memory_for
from sktangent.estimators.tangent_rows import TangentRows
from sktangent.training.computed_rows import ComputedRows

# samples whose tangents are computed at once, in bytes of X
_CHUNK = 2**22
# tangents that a sample may have before their number is known
_TANGENTS_EXPECTED = 64

_COMPUTE_AS_NEEDED = (
    "Lower sklearn.set_config(working_memory=...): what takes more is computed batch by batch."
)

Rows = slice | np.ndarray


def keep_or_compute(
    find: TangentRows, X: np.ndarray, train: Rows, budget: float
) -> dict[str, np.ndarray | ComputedRows]:
    """Keep all training samples' tangents if they fit into a budget, else compute them as needed.

    What is kept is in C order, in which a sample is one piece of memory: gathering batches from
    other orders, as ``np.broadcast_to(...).astype(...)`` makes them, costs several times as much.

    Parameters
    ----------
    find : TangentRows
        Finds the tangents of some rows.
    X : ndarray of shape (n_samples, *input_shape)
        The samples.
    train : slice or ndarray of int
        The rows of X to train on.
    budget : float
        What the tangents may take, in bytes.

    Returns
    -------
    parts : dict
        The arrays, or in their place rows that are computed when a batch needs them.
    """
    rows = np.arange(len(X))[train]
    chunk = min(_CHUNK, budget / _TANGENTS_EXPECTED)
    chunks = _chunks(train, len(rows), max(1, int(chunk // max(1, X[0].nbytes))))
    first = find(next(chunks))
    V = first["tangents"]
    # a view takes no memory; a single row looks like one
    if (repeats_one_row(V) and len(V) > 1) or (isinstance(train, slice) and find.is_view(V)):
        return find(train)
    if sum(part.nbytes for part in first.values()) * len(rows) / len(V) > budget:
        return {"tangents": ComputedRows(lambda index: find(rows[index]), len(rows))}
    if len(V) == len(rows):
        return {name: np.ascontiguousarray(part) for name, part in first.items()}
    whole = {name: _empty(name, len(rows), part) for name, part in first.items()}
    done = 0
    for parts in itertools.chain([first], map(find, chunks)):
        n_found = len(parts["tangents"])
        for name, part in parts.items():
            whole[name][done : done + n_found] = part
        done += n_found
    return whole


def _empty(name: str, n_rows: int, part: np.ndarray) -> np.ndarray:
    shape = (n_rows, *part.shape[1:])
    with memory_for(f"the {name}, {described(shape, part.itemsize)}", _COMPUTE_AS_NEEDED):
        return np.empty(shape, dtype=part.dtype)


def take_rows(arrays: dict[str, np.ndarray], rows: Rows, budget: float = math.inf) -> dict:
    """Take rows of arrays, in C order; where copies would exceed a budget, only when needed."""
    return {name: _take(name, array, rows, budget) for name, array in arrays.items()}


def _take(name: str, array: np.ndarray, rows: Rows, budget: float) -> np.ndarray | ComputedRows:
    if array.nbytes <= budget:
        return np.ascontiguousarray(array[rows])
    if isinstance(rows, slice):
        return array[rows]
    return ComputedRows(lambda index: {name: array[rows[index]]}, len(rows))


def _chunks(rows: Rows, n_rows: int, size: int) -> Iterator[Rows]:
    windows = (slice(start, start + size) for start in range(0, n_rows, size))
    # of all rows, slices: they are views
    return windows if isinstance(rows, slice) else (rows[window] for window in windows)
