r"""The L2 weight that the data speak for, in least squares.

Too small a weight fits the noise of data that have some, and too large a one holds back what could
be fitted exactly. Of the evidence, the probability of the data with the parameters integrated out
(MacKay 1992), the best weights are a fixed point of few numbers. Each parameter tensor has a weight
of its own, since those of a first and of a last layer differ by orders of magnitude; with one
weight for all, the errors from noisy data were about as large on Rastrigin's function, three times
on Branin's and nine times on Friedman's.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

# columns that are multiplied at once: the narrower, the less is wasted on symmetry
_SMALLEST_BLOCK, _BLOCKS = 64, 6


class Evidence(NamedTuple):
    """What residuals say of L2 weights.

    Attributes
    ----------
    log : float
        The logarithm of the evidence, but for a constant; infinite if it cannot be calculated.
    decays : list of float
        The weights of which there would be most, if nothing else changed.
    """

    log: float
    decays: list[float]


def evidence(
    decays: list[float], sizes: list[int], point: Tensor, residuals: Tensor, jacobian: Tensor
) -> Evidence:
    r"""Tell how far L2 weights explain the residuals, and which would explain them best.

    With m residuals, whose variance is integrated out too, the evidence at a minimum is

    .. math:: -\tfrac{m}{2} \log\Bigl(\lVert r \rVert^2
              + \sum_g \Lambda_g \lVert \theta_g \rVert^2\Bigr)
              - \tfrac12 \log \det (J^T J + \Lambda) + \tfrac12 \log \det \Lambda.

    Of parameters :math:`\theta_g`, the data determine
    :math:`\gamma_g = \sum_{j \in g} (1 - \Lambda_g (J^T J + \Lambda)^{-1}_{jj})`. What is not
    fitted has the variance :math:`\sigma^2 = \lVert r \rVert^2 / (m - \gamma)`, and the best
    :math:`\Lambda_g` is :math:`\sigma^2 \gamma_g / \lVert \theta_g \rVert^2`.

    Parameters
    ----------
    decays : list of float
        :math:`\Lambda_g`, positive, of :math:`\lVert r \rVert^2 + \sum_g \Lambda_g \lVert
        \theta_g \rVert^2`.
    sizes : list of int
        Entries of each :math:`\theta_g` in the point.
    point : torch.Tensor of shape (n_parameters,)
        All parameters.
    residuals : torch.Tensor of shape (n_residuals,)
        r at the point.
    jacobian : torch.Tensor of shape (n_residuals, n_parameters)
        J there.

    Returns
    -------
    evidence : Evidence
        The evidence, and better weights.

    References
    ----------
    D. J. C. MacKay: *Bayesian interpolation*, Neural Computation 4, 1992.

    Examples
    --------
    Of ten measurements of two numbers, the one at 1, the other at 0, with an error of 0.1:

    >>> import torch
    >>> from sktangent.training.evidence import evidence
    >>> jacobian = torch.eye(2).double().repeat(5, 1)
    >>> residuals = torch.tensor([0.1, -0.1] * 5).double()
    >>> point = torch.tensor([1.0, 1e-2]).double()
    >>> found = evidence([0.1, 0.1], [1, 1], point, residuals, jacobian)
    >>> [round(decay, 3) for decay in found.decays]
    [0.012, 121.951]
    >>> evidence([0.01, 100.0], [1, 1], point, residuals, jacobian).log > found.log
    True
    """
    everywhere = torch.cat([point.new_full((n,), d) for n, d in zip(sizes, decays, strict=True)])
    scaled = jacobian * everywhere.rsqrt()
    is_wide = jacobian.shape[1] > jacobian.shape[0]
    matrix = lower_gram(scaled.t() if is_wide else scaled)
    matrix.diagonal().add_(1.0)
    factor, info = torch.linalg.cholesky_ex(matrix)
    if info.item():  # the data determine more than can be calculated
        return Evidence(math.inf, decays)
    determined = _determined(factor, scaled if is_wide else None)
    tiny = torch.finfo(point.dtype).tiny
    square = residuals.square().sum().item()
    variance = square / max(len(residuals) - determined.sum().item(), torch.finfo(point.dtype).eps)
    found = [
        variance * gamma.sum().item() / max(theta.square().sum().item(), tiny)
        for gamma, theta in zip(determined.split(sizes), point.split(sizes), strict=True)
    ]
    cost = max(square + (everywhere @ point.square()).item(), tiny)
    log_determinant = factor.diagonal().log().sum().item()
    return Evidence(-0.5 * len(residuals) * math.log(cost) - log_determinant, found)


def _determined(factor: Tensor, scaled: Tensor | None) -> Tensor:
    """Tell for each parameter by how much the data determine it, from 0 to 1."""
    if scaled is not None:
        return torch.linalg.solve_triangular(factor, scaled, upper=False).square().sum(0)
    right = torch.eye(len(factor), dtype=factor.dtype, device=factor.device)
    return 1 - torch.linalg.solve_triangular(factor, right, upper=False).square().sum(0)


def lower_gram(matrix: Tensor) -> Tensor:
    r"""Compute the lower triangle of :math:`A^T A`; above it, not all is filled in.

    Parameters
    ----------
    matrix : torch.Tensor of shape (m, n)
        A.

    Returns
    -------
    gram : torch.Tensor of shape (n, n)
        The product.
    """
    n = matrix.shape[1]
    gram = matrix.new_zeros(n, n)
    width = max(_SMALLEST_BLOCK, -(-n // _BLOCKS))
    for start in range(0, n, width):
        stop = min(start + width, n)
        torch.mm(matrix[:, start:].t(), matrix[:, start:stop], out=gram[start:, start:stop])
    return gram
