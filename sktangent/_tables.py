"""Data frames, of pandas or polars, without importing either."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np


def is_frame(X: Any) -> bool:
    """Tell whether X is a data frame."""
    return hasattr(X, "columns") and hasattr(X, "dtypes")


def frame_or(given: Any, X: np.ndarray) -> Any:
    """Return the samples as they were given if that is a data frame, else as an array."""
    return given if is_frame(given) else X


def columns_without_numbers(X: Any) -> list[int]:
    """Find the columns of strings, categories, dates and the like."""
    if not is_frame(X):
        return []
    return [index for index, dtype in enumerate(X.dtypes) if not _is_of_numbers(dtype)]


def with_zeros_for_words(X: Any) -> Any:
    """Put zeros in the place of columns that hold no numbers."""
    columns = columns_without_numbers(X)
    return _with_columns(X, columns, np.zeros(X.shape)) if columns else X


def like_frame(frame: Any, values: np.ndarray) -> Any:
    """Return values in the form that as many samples were given in, under the same columns.

    Columns without numbers keep what they hold.
    """
    if not is_frame(frame):
        return values
    if len(columns := columns_without_numbers(frame)):
        return _with_columns(frame, sorted({*range(frame.shape[1])} - {*columns}), values)
    return named_like(frame, values)


def named_like(frame: Any, values: np.ndarray) -> Any:
    """Return any number of samples, all of them numbers, under the columns of a frame."""
    if not is_frame(frame):
        return values
    if _is_of_pandas(frame):
        return type(frame)(values, columns=frame.columns)
    return type(frame)(values, schema=list(frame.columns), orient="row")


def _with_columns(frame: Any, columns: Iterable[int], values: np.ndarray) -> Any:
    if _is_of_pandas(frame):
        frame = frame.copy()
        for column in columns:
            frame.isetitem(column, values[:, column])
        return frame
    series = type(frame.to_series(0))
    return frame.with_columns([series(frame.columns[i], values[:, i]) for i in columns])


def _is_of_pandas(frame: Any) -> bool:
    return hasattr(frame, "iloc")


def _is_of_numbers(dtype: Any) -> bool:
    kind = getattr(dtype, "kind", None)  # numpy's types and those of pandas have one
    return kind in set("biuf") if kind else dtype.is_numeric() or str(dtype) == "Boolean"
