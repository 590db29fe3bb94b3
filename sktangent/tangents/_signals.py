"""Signals over equal or unequal positions, blurred and differentiated along their last axis.

Positions count in mean sample steps, from 0 to length - 1. Beyond its ends a signal keeps its
last value, as if it had been sampled on with the steps that it ends with.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import solve_banded
from scipy.sparse import csr_array

_GAUSSIAN_TRUNCATE = 4.0
# Along equal steps over a constant, the slopes of a cubic spline shrink by this factor a sample.
_SPLINE_DECAY = np.sqrt(3.0) - 2.0
# Knots beyond each end: there the spline is the last value up to 0.268 ** margin.
_MARGIN = 12
# Steps of a flow for each unit of its steepest slope, for an error of 1e-6 of the way.
_STEPS = 10


def differentiate(signals: np.ndarray, positions: np.ndarray) -> np.ndarray:
    r"""Return the slopes, at its knots, of the cubic spline through each signal.

    With :math:`h_i` the step behind sample i and :math:`\delta_i` the mean slope over it, the
    slopes m solve

    .. math:: h_i m_{i-1} + 2 (h_{i-1} + h_i) m_i + h_{i-1} m_{i+1}
              = 3 (h_i \delta_{i-1} + h_{i-1} \delta_i).

    On equal steps they are what :func:`sktangent._frames.derivative_matrix` gives,
    in a time that is linear in the length.

    Parameters
    ----------
    signals : ndarray of shape (n_signals, length)
        The values, at least two each.
    positions : ndarray of shape (length,)
        Where they were sampled, increasing.

    Returns
    -------
    slopes : ndarray of shape (n_signals, length)
        Per unit of position, in the dtype of the signals.
    """
    steps = np.diff(positions)
    before, behind = np.concatenate([steps[:1], steps]), np.concatenate([steps, steps[-1:]])
    matrix = np.zeros((3, len(positions)))
    matrix[1] = 2 * (before + behind)
    matrix[0, 1:], matrix[2, :-1] = before[:-1], behind[1:]
    # The first slope outside is the decay times the last one inside.
    matrix[1, 0] += _SPLINE_DECAY * behind[0]
    matrix[1, -1] += _SPLINE_DECAY * before[-1]

    # Signals as columns, each of them contiguous, as the solver wants them.
    secants = np.zeros((len(positions) + 1, len(signals)), dtype=signals.dtype, order="F")
    np.divide(np.diff(signals).T, _column(steps, signals.dtype), out=secants[1:-1])
    right = _column(3 * behind, signals.dtype) * secants[:-1]
    right += _column(3 * before, signals.dtype) * secants[1:]
    bands = matrix.astype(signals.dtype)
    return solve_banded((1, 1), bands, right, overwrite_b=True, check_finite=False).T


def interpolate(signals: np.ndarray, positions: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Look signals up, between their samples by the spline of :func:`differentiate`.

    Parameters
    ----------
    signals : ndarray of shape (n_signals, n_channels, length)
        The values.
    positions : ndarray of shape (length,)
        Where they were sampled, increasing.
    places : ndarray of shape (n_signals, length)
        Where to look each signal up.

    Returns
    -------
    values : ndarray of the shape of the signals
        In their dtype.
    """
    slopes = differentiate(signals.reshape(-1, len(positions)), positions).reshape(signals.shape)
    decay = _SPLINE_DECAY ** np.arange(1, _MARGIN + 1, dtype=signals.dtype)
    edges = [(0, 0), (0, 0), (_MARGIN, _MARGIN)]
    signals, slopes = np.pad(signals, edges, mode="edge"), np.pad(slopes, edges, mode="edge")
    slopes[..., :_MARGIN] *= decay[::-1]
    slopes[..., -_MARGIN:] *= decay
    knots = _carried_on(positions, _MARGIN, _MARGIN)

    places = np.clip(places, knots[0], knots[-1])
    left = np.clip(np.searchsorted(knots, places, side="right") - 1, 0, len(knots) - 2)
    step = np.diff(knots)[left]
    t = ((places - knots[left]) / step)[:, np.newaxis].astype(signals.dtype)
    step, left = step[:, np.newaxis].astype(signals.dtype), left[:, np.newaxis]
    value, slope = (
        [np.take_along_axis(a, left + i, -1) for i in (0, 1)] for a in (signals, slopes)
    )
    rise = value[1] - value[0]
    bend = t * (1 - t) * ((1 - t) * (step * slope[0] - rise) - t * (step * slope[1] - rise))
    return value[0] + t * rise + bend


def flow_back(
    positions: np.ndarray, shift: np.ndarray, stretch: np.ndarray, warp: np.ndarray
) -> np.ndarray:
    r"""Find where the content came from that a displacement carried to the positions.

    The content flows for a unit of time by the velocity
    :math:`g(s) = a + b u + \sum_k c_k \sin(k \pi s)`, with :math:`u = 2 s - 1`; this is the
    flow by -g, solved by the Runge-Kutta method of fourth order.

    Parameters
    ----------
    positions : ndarray of shape (length,)
        In sample steps, from 0 on.
    shift, stretch, warp : ndarrays of shape (n_signals, n_amounts)
        a and b, of one column or none, and the c_k; they are computed in their dtype.

    Returns
    -------
    places : ndarray of shape (n_signals, length)
        In sample steps.
    """
    length, dtype = positions[-1], warp.dtype
    start = (positions / length).astype(dtype)
    modes = (np.pi * np.arange(1, warp.shape[1] + 1)).astype(dtype)
    a, b = (-part.sum(axis=1, keepdims=True) / length.astype(dtype) for part in (shift, stretch))
    c = -warp / length.astype(dtype)

    def velocity(moved: np.ndarray) -> np.ndarray:
        s = start + moved
        total = a + b * (2 * s - 1)
        for amount, mode in zip(c.T, modes, strict=True):
            total += amount[:, np.newaxis] * np.sin(mode * s)
        return total

    steepest = (2 * np.abs(b[:, 0]) + np.abs(c) @ modes).max(initial=0)
    n_steps = 2 + int(_STEPS * steepest)
    h = 1 / n_steps
    # What has been moved so far is small, and keeps its digits in single precision.
    moved = np.zeros((len(shift), len(positions)), dtype=dtype)
    for _ in range(n_steps):
        first = velocity(moved)
        second = velocity(moved + h / 2 * first)
        third = velocity(moved + h / 2 * second)
        moved += h / 6 * (first + 2 * (second + third) + velocity(moved + h * third))
    return positions + moved * length


def gaussian(positions: np.ndarray, sigma: float) -> csr_array:
    """Return the matrix that blurs a signal with a Gaussian.

    A sample weighs as much as the stretch of the axis that it stands for. On equal steps the
    weights are those of :func:`scipy.ndimage.gaussian_filter1d` with ``mode="nearest"``:
    sampled at the positions, cut at four standard deviations, scaled to sum one.

    Parameters
    ----------
    positions : ndarray of shape (length,)
        Where the signal was sampled, increasing.
    sigma : float
        Standard deviation in units of the positions; zero gives the identity.

    Returns
    -------
    matrix : csr_array of shape (length, length)
        ``matrix @ signal`` is the blurred signal.
    """
    length = len(positions)
    radius = int(_GAUSSIAN_TRUNCATE * sigma + 0.5)
    places, n_before = _extended(positions, radius)
    # Rounding must not drop a sample that lies at the very radius.
    reach = radius + 1e-9
    first = np.searchsorted(places, positions - reach)
    last = np.searchsorted(places, positions + reach)
    columns = first[:, np.newaxis] + np.arange((last - first).max())
    inside = columns < last[:, np.newaxis]
    columns = np.minimum(columns, len(places) - 1)
    # Below this sigma the weight a step away is under exp(-32), and zero has no quotient.
    distances = (places[columns] - positions[:, np.newaxis]) / max(sigma, 0.125)
    weights = np.exp(-0.5 * distances**2) * np.gradient(places)[columns] * inside
    weights /= weights.sum(axis=1, keepdims=True)
    rows = np.broadcast_to(np.arange(length)[:, np.newaxis], columns.shape)
    columns = np.clip(columns - n_before, 0, length - 1)
    shape = (length, length)
    return csr_array((weights[inside], (rows[inside], columns[inside])), shape=shape)


def _extended(positions: np.ndarray, radius: int) -> tuple[np.ndarray, int]:
    """Return the positions, carried on beyond both ends, and how many come in front."""
    first, last = positions[1] - positions[0], positions[-1] - positions[-2]
    n_before, n_behind = int(radius / first) + 1, int(radius / last) + 1
    return _carried_on(positions, n_before, n_behind), n_before


def _carried_on(positions: np.ndarray, n_before: int, n_behind: int) -> np.ndarray:
    first, last = positions[1] - positions[0], positions[-1] - positions[-2]
    before = positions[0] - first * np.arange(n_before, 0, -1)
    behind = positions[-1] + last * np.arange(1, n_behind + 1)
    return np.concatenate([before, positions, behind])


def _column(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    return values[:, np.newaxis].astype(dtype)
