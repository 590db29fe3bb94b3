"""Gaussian blur and differentiation of samples on a regular grid, as one matrix an axis.

Beyond its ends a signal keeps its last value. A matrix holds the border rule in its first and
last rows, so that a filter over many signals is a matrix product.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

_GAUSSIAN_TRUNCATE = 4.0
# The spline's kernel shrinks by 0.268 a sample: 32 samples reach 1e-18.
_SPLINE_RADIUS = 32


@lru_cache(maxsize=64)
def gaussian_matrix(size: int, sigma: float) -> np.ndarray:
    """Return the matrix that blurs a signal with a Gaussian.

    The weights are those of :func:`scipy.ndimage.gaussian_filter1d` with ``mode="nearest"``:
    sampled at whole steps, cut at four standard deviations, scaled to sum one.

    Parameters
    ----------
    size : int
        Number of samples of the signal.
    sigma : float
        Standard deviation in sample steps; zero gives the identity.

    Returns
    -------
    matrix : ndarray of shape (size, size)
        Read-only; ``matrix @ signal`` is the blurred signal.
    """
    radius = int(_GAUSSIAN_TRUNCATE * sigma + 0.5)
    # Below this sigma the neighbour's weight is under exp(-32), and zero has no quotient.
    steps = np.arange(-radius, radius + 1) / max(sigma, 0.125)
    weights = np.exp(-0.5 * steps**2)
    return _edge_replicating_matrix(weights / weights.sum(), size)


@lru_cache(maxsize=64)
def derivative_matrix(size: int) -> np.ndarray:
    r"""Return the matrix that differentiates the cubic spline through a signal.

    The slopes m of the interpolating cubic spline at its knots solve
    :math:`m_{i-1} + 4 m_i + m_{i+1} = 3 (f_{i+1} - f_{i-1})`. Their error on a wave of
    angular frequency ω is :math:`\omega^4 / 180` of the slope, against :math:`\omega^2 / 6`
    for central differences.

    Parameters
    ----------
    size : int
        Number of samples of the signal.

    Returns
    -------
    matrix : ndarray of shape (size, size)
        Read-only; ``matrix @ signal`` is the slope per sample step.
    """
    # 1 / (z + 4 + 1/z) has the impulse response c ρ^|k|, with ρ the root inside the unit circle.
    root = np.sqrt(3.0) - 2.0
    steps = np.arange(-_SPLINE_RADIUS - 1, _SPLINE_RADIUS + 2)
    response = root ** np.abs(steps) * (1 - root) / (6 * (1 + root))
    return _edge_replicating_matrix(3 * (response[:-2] - response[2:]), size)


def _edge_replicating_matrix(kernel: np.ndarray, size: int) -> np.ndarray:
    radius = len(kernel) // 2
    rows = np.arange(size)[:, np.newaxis]
    columns = np.clip(rows + np.arange(-radius, radius + 1), 0, size - 1)
    matrix = np.zeros((size, size))
    np.add.at(matrix, (rows, columns), kernel)
    matrix.flags.writeable = False
    return matrix
