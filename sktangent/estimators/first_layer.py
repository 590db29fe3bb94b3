"""The first layer of a new network, made for the samples and for the derivatives known of them."""

from __future__ import annotations

import numpy as np
import torch

from sktangent._checks import repeats_one_row
from sktangent.estimators.tangent_rows import moments
from sktangent.modules import MLP

# the smallest mean square of a derivative that is told from zero, as a part of their mean
_SMALLEST_SENSITIVITY = 0.01
# by how much multiples of single precision may differ, as a part of their length
_ROUNDING = 1e-6


def make_first_layer_for(module: MLP, x: np.ndarray, inputs: dict) -> None:
    """Let a new network see samples in the standard units of their features.

    Where derivatives along the same directions are known of all samples, the more the target
    changes along a direction, the larger the weights along it are.

    Parameters
    ----------
    module : MLP
        The network, as it was drawn.
    x : ndarray of shape (n_samples, *input_shape)
        The samples.
    inputs : dict
        What the net trains on.
    """
    x = x.reshape(len(x), -1)
    mean, scale = moments(x, np.ones(len(x)))
    first = module[0].weight
    tangents, derivatives = inputs.get("tangents"), inputs.get("derivatives")
    shared = None
    if isinstance(derivatives, np.ndarray) and isinstance(tangents, np.ndarray):
        shared = _shared_directions(tangents.reshape(*tangents.shape[:2], -1))
    if shared is not None:
        directions, factors = shared
        weight = inputs.get("sample_weight", np.ones(len(x)))[:, None, None]
        weight = weight * inputs.get("derivative_weight", 1.0) * np.square(factors)
        known = np.divide(
            derivatives, factors, out=np.full_like(derivatives, np.nan), where=factors > 0
        )
        map_ = stretch(directions / scale, known, weight)
        with torch.no_grad():
            first.copy_(first @ torch.as_tensor(map_).to(first))
    module.expect(*(torch.as_tensor(s).to(first) for s in (mean, scale)))


def stretch(tangents: np.ndarray, derivatives: np.ndarray, weight: np.ndarray) -> np.ndarray:
    r"""Find the coordinates in which a function changes alike along all directions.

    Of the second moment :math:`C = \sum_i s_i \nabla f(x_i) \nabla f(x_i)^T` of gradients
    (Constantine 2015: its largest eigenvectors span the active subspace), divided by the mean
    eigenvalue, the stretch is :math:`C^{1/2}`. Initial weights that are multiplied by it vary a
    unit along what matters: of the ten inputs of :math:`\sin(\sum_k k x_k / 5)`, along one.

    Parameters
    ----------
    tangents : ndarray of shape (n_tangents, n_features)
        The directions in which derivatives are known, the same for all samples. Across all of
        them, the function is taken to change as it does along them on average.
    derivatives : ndarray of shape (n_samples, n_tangents, n_outputs)
        The derivatives, NaN where one is not known.
    weight : ndarray that broadcasts to the shape of ``derivatives``
        The weight of each of them; that of a product of two is the geometric mean.

    Returns
    -------
    stretch : ndarray of shape (n_features, n_features)
        A symmetric positive definite matrix, of which the square has the mean eigenvalue 1.

    References
    ----------
    P. G. Constantine: *Active Subspaces*, 2015.

    Examples
    --------
    Of 3 a + 4 b, all that is seen is along (3, 4), but for what cannot be told from zero:

    >>> import numpy as np
    >>> from sktangent.estimators.first_layer import stretch
    >>> map_ = stretch(np.eye(2), np.array([[[3.0], [4.0]]]), np.ones(1))
    >>> (map_ @ [3, 4]).round(2), (map_ @ [4, -3]).round(2)
    (array([4.23, 5.64]), array([ 0.4, -0.3]))
    """
    root = np.sqrt(weight) * ~np.isnan(derivatives) * tangents.any(axis=1)[:, None]
    known = root.any(axis=(0, 2))
    tangents, root = tangents[known].astype(np.float64), root[:, known].astype(np.float64)
    d = np.where(root > 0, derivatives[:, known], 0) * root
    d /= np.abs(d).max(initial=np.finfo(d.dtype).tiny)  # of which the squares do not overflow
    moment = _products(d) / np.maximum(_products(root), np.finfo(d.dtype).tiny)
    inverse = np.linalg.pinv(tangents)
    moment = inverse @ moment @ inverse.T
    across = np.eye(len(inverse)) - inverse @ tangents
    moment += across * (np.trace(moment) / max(len(tangents), 1))
    values, vectors = np.linalg.eigh(moment)
    values = np.maximum(values, _SMALLEST_SENSITIVITY * values.mean())
    if not values.any():  # a constant
        return np.eye(len(values))
    return vectors * np.sqrt(values / values.mean()) @ vectors.T


def _shared_directions(tangents: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Find directions of which all samples' tangents are multiples, as weights make them.

    Returns the longest of each, (n_tangents, n_features), and the samples' factors, (n_samples,
    n_tangents, 1); None if there are no such directions.
    """
    if repeats_one_row(tangents):
        return tangents[0], np.ones((1, tangents.shape[1], 1))
    lengths = np.linalg.norm(tangents, axis=2)
    longest = lengths.argmax(axis=0)
    every = np.arange(tangents.shape[1])
    directions, most = tangents[longest, every], lengths[longest, every]
    factors = np.divide(lengths, most, out=np.zeros_like(lengths), where=most > 0)[:, :, None]
    error = np.abs(tangents - factors * directions).max(axis=(0, 2))
    return (directions, factors) if (error <= _ROUNDING * most).all() else None


def _products(d: np.ndarray) -> np.ndarray:
    """Sum up the products of each two tangents' numbers over samples and outputs."""
    return np.tensordot(d, d, axes=((0, 2), (0, 2)))
