"""What a union asks of its kinds, any callables, and how it checks what they answer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from sktangent._checks import check_derivatives, check_tangents
from sktangent.tangents._base import linear_combinations


def names_of(kind: Callable, name: str, X: ArrayLike) -> list[str]:
    """Return the names of a kind's tangents, empty where it gives none."""
    if hasattr(kind, "tangent_names"):
        return list(kind.tangent_names(X))
    one = X[:1]
    V, _ = check_answer(kind(one), name, np.asarray(one))
    return [""] * V.shape[1]


def count_of(kind: Callable, name: str, X: ArrayLike) -> int:
    return len(names_of(kind, name, X))


def check_moved(moved: ArrayLike, name: str, X: np.ndarray) -> np.ndarray:
    moved = np.asarray(moved)
    if moved.shape != X.shape:
        raise ValueError(
            f"move of {name!r} must return the shape of X, {X.shape}, got {moved.shape}."
        )
    return moved.astype(X.dtype, copy=False)


def combinations_of(
    kind: Callable, name: str, X: ArrayLike, samples: np.ndarray, coefficients: np.ndarray
) -> np.ndarray:
    if hasattr(kind, "combine"):
        return kind.combine(X, coefficients)
    V, d = check_answer(kind(X), name, samples)
    if d is not None and np.any(d != 0):
        raise ValueError(
            f"The tangents of {name!r} come with derivatives other than zero, which combine(X, "
            "coefficients) cannot return."
        )
    return linear_combinations(V, coefficients)


def check_answer(
    answer: ArrayLike | tuple, name: str, X: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the tangents of one kind, and the derivatives wanted along them."""
    V, d = answer if isinstance(answer, tuple) else (answer, None)
    V = check_tangents(V, X, f"tangents of {name!r}")
    if d is None:
        return V, None
    return V, check_derivatives(d, (*V.shape[:2], None), X.dtype, f"derivatives of {name!r}")


def join_derivatives(
    answers: list[tuple[np.ndarray, np.ndarray | None]], factors: np.ndarray
) -> np.ndarray:
    shapes = {d.shape[2:] for _, d in answers if d is not None}
    if len(shapes) > 1:
        raise ValueError(
            f"The derivatives of the kinds must be for the same outputs, got the shapes "
            f"{sorted(shapes)} behind (n_samples, n_tangents)."
        )
    outputs, dtype = shapes.pop(), next(d.dtype for _, d in answers if d is not None)
    parts = [
        np.zeros((*V.shape[:2], *outputs), dtype=dtype) if d is None else factor * d
        for (V, d), factor in zip(answers, factors.astype(dtype), strict=True)
    ]
    return np.concatenate(parts, axis=1)
