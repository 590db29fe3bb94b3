r"""The L2 weight that the data speak for, in least squares.

Too small a weight fits the noise of data that have some, and too large a one holds back what could
be fitted exactly. Of the evidence, the probability of the data with the parameters integrated out
(MacKay 1992), the best weights are a fixed point of few numbers. Each parameter tensor has a weight
of its own, since those of a first and of a last layer differ by orders of magnitude; with one
weight for all, the errors from noisy data were about as large on Rastrigin's function, three times
on Branin's and nine times on Friedman's.
"""

from __future__ import annotations

import torch
from torch import Tensor

_LARGEST_CHANGE = 10.0
# columns that are multiplied at once: the narrower, the less is wasted on symmetry
_SMALLEST_BLOCK, _BLOCKS = 64, 6


def more_evident(
    decays: list[float],
    sizes: list[int],
    point: Tensor,
    residuals: Tensor,
    jacobian: Tensor,
    caution: float = 1.0,
) -> list[float]:
    r"""Move the L2 weights towards those that explain the residuals best.

    Of parameters :math:`\theta_g`, the data determine
    :math:`\gamma_g = \sum_{j \in g} (1 - \Lambda_g (J^T J + \Lambda)^{-1}_{jj})`. Of m residuals,
    what is not fitted has the variance :math:`\sigma^2 = \lVert r \rVert^2 / (m - \gamma)`, and
    :math:`\Lambda_g` is :math:`\sigma^2 \gamma_g / \lVert \theta_g \rVert^2`.

    Parameters
    ----------
    decays : list of float
        :math:`\Lambda_g` so far, positive, of :math:`\lVert r \rVert^2 + \sum_g \Lambda_g \lVert
        \theta_g \rVert^2`.
    sizes : list of int
        Entries of each :math:`\theta_g` in the point.
    point : torch.Tensor of shape (n_parameters,)
        All parameters.
    residuals : torch.Tensor of shape (n_residuals,)
        r at the point.
    jacobian : torch.Tensor of shape (n_residuals, n_parameters)
        J there.
    caution : float, default=1.0
        How many times what the evidence says the weights are to be. The count of what is determined
        takes residuals for linear in the parameters, so that it hides some of the noise where they
        were bent to it.

    Returns
    -------
    decays : list of float
        The new ones, changed tenfold at most.

    References
    ----------
    D. J. C. MacKay: *Bayesian interpolation*, Neural Computation 4, 1992.

    Examples
    --------
    Of ten measurements of two numbers, the one at 1, the other at 0, with an error of 0.1:

    >>> import torch
    >>> from sktangent.training.evidence import more_evident
    >>> jacobian = torch.eye(2).double().repeat(5, 1)
    >>> residuals = torch.tensor([0.1, -0.1] * 5).double()
    >>> point = torch.tensor([1.0, 1e-9]).double()
    >>> [round(decay, 3) for decay in more_evident([0.1, 0.1], [1, 1], point, residuals, jacobian)]
    [0.012, 1.0]
    """
    everywhere = torch.cat([point.new_full((n,), d) for n, d in zip(sizes, decays, strict=True)])
    determined = _determined(jacobian, everywhere)
    if determined is None:
        return decays
    spare = len(residuals) - determined.sum().item()
    variance = residuals.square().sum().item() / max(spare, torch.finfo(point.dtype).eps)
    found = []
    for decay, gamma, theta in zip(
        decays, determined.split(sizes), point.split(sizes), strict=True
    ):
        square = max(theta.square().sum().item(), torch.finfo(point.dtype).tiny)
        wanted = caution * variance * gamma.sum().item() / square
        found.append(min(max(wanted, decay / _LARGEST_CHANGE), decay * _LARGEST_CHANGE))
    return found


def _determined(jacobian: Tensor, decay: Tensor) -> Tensor | None:
    """Tell for each parameter by how much the data determine it, from 0 to 1."""
    is_wide = jacobian.shape[1] > jacobian.shape[0]
    scaled = jacobian * decay.rsqrt()
    matrix = lower_gram(scaled.t() if is_wide else scaled)
    matrix.diagonal().add_(1.0)
    factor, info = torch.linalg.cholesky_ex(matrix)
    if info.item():  # the data determine more than can be calculated
        return None
    right = scaled if is_wide else torch.eye(len(factor), dtype=factor.dtype, device=factor.device)
    squares = torch.linalg.solve_triangular(factor, right, upper=False).square().sum(0)
    return squares if is_wide else 1 - squares


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
