"""Affine transformers: found by what they do, evaluated without cancellation."""

from __future__ import annotations

import numpy as np

from sktangent.preprocessing.function import Function, spread

# The affine rule is tested at the data's own scale and at these powers of two times it. The last
# is where tangents are evaluated: so far out that no digit of a tangent drowns in an offset.
_EXPONENTS = (0, 20, 40)
_FAR = _EXPONENTS[-1]
_N_PROBES = 8
# Matrix products of thousands of features round to about 1e-13 of their terms. A transformer that
# bends by less than this is affine for every purpose of ours.
_TOLERANCE = 1e-11


def is_affine(
    function: Function,
    X: np.ndarray,
    directions: np.ndarray,
    scales: np.ndarray,
) -> bool:
    r"""Test :math:`T(a + b) - T(a) - T(b) + T(0) = 0` from the data's scale to far beyond.

    Parameters
    ----------
    function : Function
        T, from (m, n_inputs) to (m, n_outputs).
    X : ndarray of shape (n_samples, n_inputs)
        Samples; some of them, and random ones, are the places a.
    directions : ndarray of shape (n_directions, n_inputs)
        Tangents of about the length of ``scales``; some of them, and random ones, are b.
    scales : ndarray of shape (n_inputs,)
        Largest absolute value of each feature.

    Returns
    -------
    affine : bool
        False as well where T fails or is not finite for such inputs.
    """
    rng = np.random.default_rng(0)
    near = X[spread(len(X), _N_PROBES)]
    given = directions[spread(len(directions), _N_PROBES)]
    b = np.vstack([rng.normal(size=near.shape) * scales, given])
    # Random places as well: the samples may all be zero. They count what T cancels inside, as the
    # mean of a far-off feature, into its size.
    wide = rng.normal(size=near.shape) * scales
    n = len(b)
    a = np.vstack([np.resize(near, b.shape), np.resize(wide, b.shape)])
    far = [2.0**exponent * b for exponent in _EXPONENTS]
    sums = [np.vstack([a[:n] + b, a[n:] + b]) for b in far]
    values = function.probe([np.zeros((1, X.shape[1])), a, *far, *sums])
    if values is None:
        return False
    origin, at_a, *rest = values
    for at_b, at_sum in zip(rest[: len(far)], rest[len(far) :], strict=True):
        size = np.max([_largest(v) for v in (origin, at_a, at_b, at_sum)], axis=0)
        if not (np.abs(at_sum - at_a - np.tile(at_b, (2, 1)) + origin) <= _TOLERANCE * size).all():
            return False
    return True


def linear_part(function: Function, directions: np.ndarray) -> np.ndarray:
    r"""Return :math:`A u = (T(c u) - T(0)) / c` of an affine T, with a large c.

    ``T(x + u) - T(x)`` would lose the digits that x is larger than u. Here the difference only
    takes away an offset that is small beside ``T(c u)``; c is a power of two, so scaling is exact.

    Parameters
    ----------
    function : Function
        T, from (m, n_inputs) to (m, n_outputs).
    directions : ndarray of shape (n_directions, n_inputs)
        The u, of about the size of the features.

    Returns
    -------
    images : ndarray of shape (n_directions, n_outputs)
        Each A u.
    """
    origin = function(np.zeros((1, directions.shape[1])))
    return (function(2.0**_FAR * directions) - origin) * 2.0**-_FAR


def _largest(values: np.ndarray) -> np.ndarray:
    return np.abs(values).max(axis=0)
