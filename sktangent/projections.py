"""Random combinations of a sample's tangents, whose penalty is an estimate of the whole one."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sktangent._randomness import generator_for


def project(
    tangents: Tensor, derivatives: Tensor | None, n_projections: int
) -> tuple[Tensor, Tensor | None]:
    r"""Combine each sample's tangents, and the derivatives along them, with random signs.

    With independent signs :math:`\varepsilon_{jt} = \pm1`, drawn from the generator of the fit and
    outside of fits from torch's global one,

    .. math::

        v_j = \frac1{\sqrt k} \sum_t \varepsilon_{jt}\, \tau_t, \qquad
        E \sum_{j=1}^k \lVert J v_j - \delta_j \rVert^2 = \sum_t \lVert J \tau_t - d_t \rVert^2,

    where :math:`\delta_j` combines the :math:`d_t` as :math:`v_j` does the :math:`\tau_t`. With
    :math:`r_t = J \tau_t - d_t`, the variance of the estimate is
    :math:`\frac2k \sum_{t \ne u} (r_t \cdot r_u)^2`: Hutchinson's estimator of the trace of the
    Gram matrix of the :math:`r_t` [1]_.

    A tangent along which no derivative is known gets no sign. If what is known differs from output
    to output, each combination is made for an output drawn at random, counts for the outputs of
    which the same is known, and weighs as much more as it is drawn less often.

    Parameters
    ----------
    tangents : torch.Tensor of shape (n_samples, n_tangents, *input_shape)
        The tangent vectors.
    derivatives : torch.Tensor of shape (n_samples, n_tangents, n_outputs) or None
        The derivatives wanted along them, NaN where one is not known.
    n_projections : int
        Number of combinations k.

    Returns
    -------
    tangents : torch.Tensor of shape (n_samples, n_projections, *input_shape)
        The combinations; as many or fewer tangents come back as they are.
    derivatives : torch.Tensor of shape (n_samples, n_projections, n_outputs) or None
        The derivatives wanted along them.

    Raises
    ------
    ValueError
        If ``n_projections`` is not positive.

    References
    ----------
    .. [1] M. F. Hutchinson. "A stochastic estimator of the trace of the influence matrix for
       Laplacian smoothing splines." Communications in Statistics, 1990.

    Examples
    --------
    >>> import torch
    >>> from sktangent.projections import project
    >>> v, _ = project(torch.eye(3).expand(2, 3, 3), None, 1)
    >>> v.abs()
    tensor([[[1., 1., 1.]],
    <BLANKLINE>
            [[1., 1., 1.]]])
    """
    return draw(len(tangents), tangents, derivatives, n_projections).combine(tangents, derivatives)


class Projections(NamedTuple):
    """What was drawn for some samples.

    Parameters
    ----------
    signs : torch.Tensor of shape (n_samples, n_projections, n_tangents) or None
        The signs over the root of their number; None: the tangents stay as they are.
    outputs : torch.Tensor of int of shape (n_samples, n_projections) or None
        The output that each combination is made for, if derivatives are wanted.
    """

    signs: Tensor | None
    outputs: Tensor | None

    def of(self, rows: slice | Tensor) -> Projections:
        """Return what was drawn for some of the samples."""
        return Projections(*(None if part is None else part[rows] for part in self))

    def combine(self, tangents: Tensor, derivatives: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Combine the samples' tangents and the derivatives along them."""
        signs = self.signs
        if signs is None:
            return tangents, derivatives
        if derivatives is not None:
            signs, derivatives = _project_derivatives(signs, self.outputs, derivatives)
        # the same tangents for every sample are one matrix, not one a sample
        repeated = tangents.stride(0) == 0
        combined = signs @ (tangents[0].flatten(1) if repeated else tangents.flatten(2))
        return combined.unflatten(2, tangents.shape[2:]), derivatives


def draw(
    n_samples: int, tangents: Tensor, derivatives: Tensor | None, n_projections: int
) -> Projections:
    """Draw signs for samples that have as many tangents, and derivatives, as some that are given.

    Parameters
    ----------
    n_samples : int
        Number of samples to draw for.
    tangents : torch.Tensor of shape (any, n_tangents, *input_shape)
        Tangents of some samples.
    derivatives : torch.Tensor of shape (any, n_tangents, n_outputs) or None
        The derivatives wanted along them.
    n_projections : int
        Number of combinations.
    """
    if n_projections <= 0:
        raise ValueError(f"n_projections must be positive, got {n_projections}.")
    n_tangents, device = tangents.shape[1], tangents.device
    if n_tangents <= n_projections:
        return Projections(None, None)
    own = {"generator": generator_for(device), "device": device}
    shape = n_samples, n_projections, n_tangents
    signs = torch.randint(2, shape, dtype=tangents.dtype, **own).mul_(2).sub_(1)
    signs.mul_(n_projections**-0.5)
    if derivatives is None:
        return Projections(signs, None)
    return Projections(signs, torch.randint(derivatives.shape[2], shape[:2], **own))


def _project_derivatives(
    signs: Tensor, outputs: Tensor, derivatives: Tensor
) -> tuple[Tensor, Tensor]:
    """Combine derivatives, and leave the tangents out of which none is known."""
    known = ~derivatives.isnan()
    chosen = known.transpose(1, 2).gather(1, outputs[:, :, None].expand_as(signs))
    alike = (known[:, None] == chosen[:, :, :, None]).all(2)
    signs = signs * chosen * alike.to(signs.dtype).mean(2, keepdim=True).rsqrt()
    combined = signs @ derivatives.nan_to_num(nan=0.0)
    return signs, combined.where(alike, torch.nan)
