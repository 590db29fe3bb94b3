"""Where a derivative has no meaning: borders of a domain, kinks, jumps."""

from __future__ import annotations

from textwrap import shorten

import numpy as np

from sktangent.preprocessing.differences import Slopes
from sktangent.preprocessing.function import Function, spread

# A sample may sit on a kink by chance; more than this share of the entries does not.
_TOLERATED_SHARE = 0.05
_N_NO_CHANCE = 8
# Relative: what two step sizes may differ by, and what the two sides may.
_STEPS_DIFFER = 1e-3
_SIDES_DIFFER = 1e-2
# Times the bound of an output that is rounded once: sums of many terms round more, and otherwise
# in a batch of another size, and where the derivative is zero there is nothing else.
_ROUNDING = 100
_N_JUMP_PROBES = 32
_N_BISECTIONS = 40


def check_slopes(
    slopes: Slopes,
    refusal: Exception | None,
    function: Function,
    x: np.ndarray,
    y: np.ndarray,
    u: np.ndarray,
) -> None:
    """Raise ValueError unless the derivatives exist.

    Parameters
    ----------
    slopes : Slopes
        The derivatives of ``function`` at x along u.
    refusal : Exception or None
        What the function raised beside x, if it did.
    function : Function
        The transformer.
    x, u : ndarray of shape (n_directions, n_inputs)
        Places and directions.
    y : ndarray of shape (n_directions, n_outputs)
        The transformed places.
    """
    if not np.isfinite(slopes.error).all():
        _raise_at_border(slopes, refusal, function.name)
    size, noise = slopes.size(), _ROUNDING * slopes.noise
    kinked = slopes.gap > _SIDES_DIFFER * size + noise
    rough = slopes.error > _STEPS_DIFFER * size + noise
    share = _share_without_slope(kinked | rough, ~slopes.flat)
    if share > _TOLERATED_SHARE:
        raise ValueError(
            f"transformer {function.name} has a kink or a jump at {share:.0%} of the entries that "
            "change along the tangents: its derivative from the left is not that from the right, "
            "so no tangent can be pushed forward through it. Use a smooth transformer in its place."
        )
    jumping = _find_jump(slopes.flat, function, x, y, u)
    if jumping is not None:
        raise ValueError(
            f"transformer {function.name} is piecewise constant: output {jumping} jumps, and does "
            "not change at all next to any sample, so its derivative has no meaning. Use a smooth "
            "transformer in its place."
        )


def _share_without_slope(bad: np.ndarray, moving: np.ndarray) -> float:
    """Return the bad share of what moves, in all outputs or in one that is bad for the most part.

    A few bad entries in one output among many may all be chance.
    """
    n_bad, n_moving = bad.sum(axis=0), moving.sum(axis=0)
    hopeless = (n_bad > 0.5 * n_moving) & (n_bad >= _N_NO_CHANCE)
    one_output = n_bad[hopeless] / n_moving[hopeless]
    return max(n_bad.sum() / max(n_moving.sum(), 1), one_output.max(initial=0.0))


def _raise_at_border(slopes: Slopes, refusal: Exception | None, name: str) -> None:
    if refusal is not None:
        said = shorten(str(refusal), 300)
        raise ValueError(
            f"transformer {name} refuses samples next to X, at x + h τ or x - h τ for every step h "
            f"that was tried, so it has no derivative along the tangents: {said}"
        ) from refusal
    rows = np.count_nonzero(~np.isfinite(slopes.error).all(axis=1))
    raise ValueError(
        f"transformer {name} gives NaN or infinity next to X, at x + h τ or x - h τ for every step "
        f"h that was tried, along {rows} of {len(slopes.error)} tangents: those samples lie on the "
        "border of its domain."
    )


def _find_jump(
    flat: np.ndarray, function: Function, x: np.ndarray, y: np.ndarray, u: np.ndarray
) -> int | None:
    """Return an output that is constant beside every sample and jumps farther out, if any.

    Constant is not enough: an output may not depend on the tangent, or be a spline's far from
    its support. So a place where it starts to change is bisected: over a vanishing distance a
    continuous function changes by next to nothing.
    """
    suspects = np.flatnonzero(flat.all(axis=0))
    if len(suspects) == 0:
        return None
    rows = spread(len(x), _N_JUMP_PROBES)
    for side in (1, -1):
        changed = _values(function, x[rows] + side * u[rows], y[rows]) != y[rows]
        outputs = suspects[changed[:, suspects].any(axis=0)][:_N_JUMP_PROBES]
        if len(outputs) == 0:
            continue
        first = changed[:, outputs].argmax(axis=0)
        jumps = _bisect(function, x, y, side * u, rows[first], outputs)
        if jumps.any():
            return int(outputs[jumps.argmax()])
    return None


def _bisect(
    function: Function,
    x: np.ndarray,
    y: np.ndarray,
    u: np.ndarray,
    rows: np.ndarray,
    outputs: np.ndarray,
) -> np.ndarray:
    """Tell, for each row and its output, whether it jumps where it first changes along u."""
    x, y, u = x[rows], y[rows], u[rows]
    each = np.arange(len(rows))
    low, high = np.zeros(len(rows)), np.ones(len(rows))
    start = y[each, outputs]
    initial = change = _values(function, x + u, y)[each, outputs] - start
    for _ in range(_N_BISECTIONS):
        middle = (low + high) / 2
        moved = _values(function, x + middle[:, None] * u, y)[each, outputs] - start
        low = np.where(moved == 0, middle, low)
        high = np.where(moved == 0, high, middle)
        change = np.where(moved == 0, change, moved)
    return np.abs(change) > 1e-3 * np.abs(initial)


def _values(function: Function, points: np.ndarray, unchanged: np.ndarray) -> np.ndarray:
    """Return T(points); what T refuses counts as unchanged."""
    try:
        values = function(points)
    except Exception:
        return unchanged
    return np.where(np.isfinite(values), values, unchanged)
