"""Transformers that act on each feature by itself: found by what they do."""

from __future__ import annotations

import numpy as np

from sktangent.preprocessing.function import Function, spread

_N_PROBES = 8
_N_MASKS = 32
# The same function of the same number may round differently at another place of an array.
_TOLERANCE = 1e-14


def is_elementwise(function: Function, X: np.ndarray, scales: np.ndarray) -> bool:
    """Test whether each output depends on the feature of the same index alone.

    Some features are replaced by those of other samples, again and again others of them: only
    their outputs may change, and to those of the other samples.

    Parameters
    ----------
    function : Function
        T, from (m, n_inputs) to (m, n_outputs).
    X : ndarray of shape (n_samples, n_inputs)
        Samples.
    scales : ndarray of shape (n_inputs,)
        Size of each feature.

    Returns
    -------
    elementwise : bool
        False as well where T fails or is not finite for such inputs.
    """
    rng = np.random.default_rng(0)
    ours = np.resize(X[spread(len(X), _N_PROBES)], (_N_MASKS, X.shape[1]))
    # Towards zero, since many a domain is that of positive numbers, or an interval around zero.
    theirs = np.roll(ours, 1, axis=0) * rng.uniform(0.5, 1.0, size=ours.shape)
    theirs = np.where(theirs == 0, scales, theirs)
    mask = rng.random(ours.shape) < 0.5
    values = function.probe(
        [ours, theirs, np.where(mask, theirs, ours), np.where(mask, ours, theirs)]
    )
    if values is None or values[0].shape != ours.shape:
        return False
    ours, theirs, one, other = values
    error = np.maximum(
        np.abs(one - np.where(mask, theirs, ours)), np.abs(other - np.where(mask, ours, theirs))
    )
    return bool((error <= _TOLERANCE * (np.abs(ours) + np.abs(theirs))).all())
