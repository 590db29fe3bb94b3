"""Central differences whose step adapts to each sample, tangent and output."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from sktangent.preprocessing.function import Function

# In units of the feature scales, tried in this order where the one before is not good enough:
# small ones for steep places and for the border of a domain, a large one for a transformer that
# rounds more than it tells. None: relative to the sample itself, for features whose spread says
# nothing of the small ones among them.
_STEPS = (2.0**-8, 2.0**-14, None, 2.0**-20, 2.0**-26, 2.0**-32, 2.0**-38, 2.0**-3)
# What rounding takes, relative to eps, is 1 / h, and what the extrapolation leaves out is h**4, so
# the best step goes with eps**(1 / 5).
_SINGLE_PRECISION_FACTOR = 2.0**5
# Largest step, relative to each coordinate of the sample, that keeps its sign.
_STEP_WITHIN_SIGN = 2.0**-6
_GOOD_ENOUGH = 1e-8


@dataclass
class Slopes:
    """Derivatives along directions, and how far they can be trusted.

    Attributes
    ----------
    value : ndarray of shape (n_directions, n_outputs)
        The derivative.
    error : ndarray of shape (n_directions, n_outputs)
        Estimate of its error; infinite where there is no finite derivative.
    noise : ndarray of shape (n_directions, n_outputs)
        Bound of the part of the error that rounding explains.
    gap : ndarray of shape (n_directions, n_outputs)
        Derivative to the right minus derivative to the left, absolute, where it does not shrink
        with the step; elsewhere 0.
    flat : ndarray of shape (n_directions, n_outputs)
        True where the output does not change at all.
    change : ndarray of shape (n_directions, n_outputs)
        Absolute change of the output over one step, divided by the step: about the slope, but
        not zero where a curve is stationary.
    """

    value: np.ndarray
    error: np.ndarray
    noise: np.ndarray
    gap: np.ndarray
    flat: np.ndarray
    change: np.ndarray

    @classmethod
    def unknown(cls, shape: tuple[int, int]) -> Slopes:
        """Return slopes of which nothing is known."""
        zeros = np.zeros((4, *shape))
        nan, inf = np.full(shape, np.nan), np.full(shape, np.inf)
        return cls(nan, inf, zeros[0], zeros[1], zeros[2] > 0, zeros[3])

    def size(self) -> np.ndarray:
        """Return what an error is small against: the change, or a tenth of a usual slope."""
        return self.change + 0.1 * np.median(np.nan_to_num(np.abs(self.value)), axis=0)

    def replace(self, rows: np.ndarray, other: Slopes) -> None:
        """Take from ``other`` the entries of these rows that are more trustworthy."""
        old = np.abs(self.value[rows])
        # Below its resolution a transformer that rounds looks constant, and is not.
        lost = other.flat & ~self.flat[rows] & (self.error[rows] < 0.01 * old)
        # With the bound, lest two noisy estimates that agree by chance win.
        better = (other.error + other.noise < self.error[rows] + self.noise[rows]) & ~lost
        for field in fields(self):
            mine = getattr(self, field.name)
            mine[rows] = np.where(better, getattr(other, field.name), mine[rows])


def differentiate(
    function: Function, x: np.ndarray, y: np.ndarray, u: np.ndarray, elementwise: bool = False
) -> tuple[Slopes, Exception | None]:
    r"""Differentiate T at x along u by extrapolated central differences.

    With :math:`D(h) = (T(x + h u) - T(x - h u)) / 2h`, the value is
    :math:`(4 D(h/4) - D(h/2)) / 3`, of fourth order in h, and its error is judged by
    :math:`(4 D(h/2) - D(h)) / 3`. Rows that are not good enough are done again with other steps,
    and each entry keeps its best.

    Parameters
    ----------
    function : Function
        T, from (m, n_inputs) to (m, n_outputs).
    x : ndarray of shape (n_directions, n_inputs)
        Where to differentiate.
    y : ndarray of shape (n_directions, n_outputs)
        T(x).
    u : ndarray of shape (n_directions, n_inputs)
        Directions of about the size of the features.
    elementwise : bool, default=False
        Whether each output depends on the input of the same index alone, so that each may have
        a step of its own.

    Returns
    -------
    slopes : Slopes
        The derivatives.
    refusal : Exception or None
        What T raised at the last step that it refused, if any.
    """
    slopes, refusal = _slopes(function, x, y, u, _STEPS[0], elementwise)
    for step in _STEPS[1:]:
        good = slopes.error <= _GOOD_ENOUGH * slopes.size() + slopes.noise
        rows = np.flatnonzero(~good.all(axis=1))
        if len(rows) == 0:
            break
        again, refused = _slopes(function, x[rows], y[rows], u[rows], step, elementwise)
        refusal = refused or refusal
        slopes.replace(rows, again)
    return slopes, refusal


def _slopes(
    function: Function,
    x: np.ndarray,
    y: np.ndarray,
    u: np.ndarray,
    step: float | None,
    elementwise: bool,
) -> tuple[Slopes, Exception | None]:
    factor = 1.0 if function.eps < 1e-12 else _SINGLE_PRECISION_FACTOR
    refusal = None
    if step is not None:
        try:
            return _central(function, x, y, u, np.full((len(x), 1), step * factor)), None
        except Exception as error:
            refusal = error
    # Most transformers that refuse inputs want them positive. The exception does not say which
    # rows went too far, so then all are kept on their side of zero.
    step = _within_sign(x, u, step or _STEPS[0], elementwise)
    try:
        return _central(function, x, y, u, step), refusal
    except Exception as error:
        return Slopes.unknown(y.shape), error


def _within_sign(x: np.ndarray, u: np.ndarray, step: float, elementwise: bool) -> np.ndarray:
    stays = (u == 0) | (x == 0)
    reach = np.where(stays, np.inf, np.abs(x) / np.where(stays, 1.0, np.abs(u)))
    if not elementwise:
        reach = reach.min(axis=1, keepdims=True)
    largest = np.minimum(reach * _STEP_WITHIN_SIGN, step)
    # A power of two, so that dividing by the step rounds nothing.
    return np.exp2(np.floor(np.log2(largest)))


def _central(
    function: Function, x: np.ndarray, y: np.ndarray, u: np.ndarray, step: np.ndarray
) -> Slopes:
    slopes, gaps, changes, flat = [], [], [], True
    for h in (step, step / 2, step / 4):
        ahead, behind = function(x + h * u), function(x - h * u)
        with np.errstate(all="ignore"):
            slopes.append((ahead - behind) / (2 * h))
            gaps.append(np.abs((ahead - y) + (behind - y)) / h)
            changes.append(np.maximum(np.abs(ahead - y), np.abs(behind - y)) / h)
        flat = flat & (ahead == y) & (behind == y)
    with np.errstate(all="ignore"):
        noise = 8 * function.eps * np.maximum(np.abs(ahead), np.abs(behind)) / h
        before, value = (
            (4 * fine - coarse) / 3 for coarse, fine in zip(slopes, slopes[1:], strict=False)
        )
        error = np.abs(value - before)
        # Of a smooth function the gap is proportional to the step, here a quarter of the first.
        gap = np.where(gaps[2] > 0.5 * gaps[0] + noise, gaps[2], 0.0)
    finite = np.isfinite(value) & np.isfinite(error)
    return Slopes(
        value=np.where(finite, value, np.nan),
        error=np.where(finite, error, np.inf),
        noise=np.where(finite, noise, 0.0),
        gap=gap,
        flat=flat,
        change=np.where(finite, changes[0], 0.0),
    )
