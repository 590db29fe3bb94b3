r"""Levenberg-Marquardt, for least squares with as many parameters as fit into a square matrix.

From residuals r and their Jacobian J, and the L2 term :math:`\frac\lambda2 \lVert W \rVert^2` with
:math:`\Lambda = \lambda / 2` on the weights' diagonal, a step solves

.. math:: (J^T J + \Lambda + \mu I)\, v = -(J^T r + \Lambda \theta)

by Cholesky, or with more parameters than residuals the smaller dual equations. Along v the
residuals bend; their second directional derivative :math:`r_{vv}`, from one more evaluation, gives
the acceleration :math:`(J^T J + \Lambda + \mu I)\, a = -J^T r_{vv}`, and the step is
:math:`v + a / 2` (Transtrum, Sethna 2012). On nets it halves the steps or better, and ends at a
loss that is lower by orders of magnitude. The gain ratio sets :math:`\mu` as in Nielsen (1999).

``scipy.optimize.least_squares`` takes a singular value decomposition ("trf") or a QR ("lm", which
needs at least as many residuals as parameters) of J in each step, many times the work of a Cholesky
of the smaller square, and does not bend its steps. With an L2 weight of 1e-10, from the same start,
50 evaluations of "trf", of "lm", and 50 iterations here took on one core, and left of the squares:
Rastrigin's function from 100 points with gradients, 100 units, 1.1 s and 6e-4, 1.8 s and 7e-4,
0.2 s and 3e-6; Friedman's from 100 points, 12-12 units, 0.6 s and 3e-6, 0.8 s and 2e-6, 0.1 s and
4e-8.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor

from sktangent.training.evidence import evidence, lower_gram

# the finite difference along a step, and the longest acceleration that is trusted, as parts of it
_DIFFERENCE, _LONGEST_ACCELERATION = 0.1, 0.75
_TRIALS = 30
# a gain that is smaller, as a part of the loss, is lost in rounding
_ROUNDING = 1e-14
# the L2 weight at first, as a part of a mean squared residual
_FIRST_DECAY = 1e-2
# what the L2 weights are to be over what the evidence says, where only noise is left: the count of
# what the data determine takes residuals for linear in the parameters, so that it hides some of the
# noise where they were bent to it. 1 - R² of values from data with 1 % noise, at 4, 8 and 16, was
# 5.0e-5, 4.8e-5 and 4.1e-5 on Rastrigin's function, 1.2e-4, 1.0e-4 and 9e-5 on the camel's, 1.9e-4,
# 1.6e-4 and 9e-5 on Ishigami's, 1.7e-5, 1.8e-5 and 1.8e-5 on Friedman's, 3.7e-5, 3.8e-5 and 5.1e-5
# on Branin's (medians of 8)
_CAUTION = 16.0
_LARGEST_CHANGE = 10.0
# the part of the loss that is left after iterations which have not come far, and by how much the
# logarithm of the evidence rises where they have come far all the same
_SLOW, _RISE = 0.8, 1.0
# the part of the first loss that is left once the net has begun to follow the data; before, a loss
# that no longer falls tells of an L2 weight that is too large, and not of noise
_EXPLAINED = 0.01
# residuals whose squares sum up to less are small enough for any use
_ENOUGH = 1e-9


class Problem(Protocol):
    """What is minimized: residuals as a function of a point, one number for each parameter.

    The points may be the parameters themselves, or a linear function of them, layer by layer.
    """

    def start(self) -> Tensor:
        """Return the point that the parameters stand for."""

    def move_to(self, point: Tensor) -> None:
        """Set the parameters to what a point stands for."""

    def residuals(self, point: Tensor) -> Tensor:
        """Compute the residuals."""

    def linearize(self, point: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the residuals and their Jacobian, (n_residuals, n_parameters)."""


class LevenbergMarquardt(torch.optim.Optimizer):
    r"""Gauss-Newton with damping, for sums of squares.

    It minimizes :math:`\lVert r \rVert^2 + \frac\lambda2 \sum \lVert W \rVert^2`, the second sum
    over all parameters of two or more axes, which leaves biases out. The residuals must be a
    deterministic function of the parameters: a full batch, no dropout.

    Parameters
    ----------
    params : iterable of torch.nn.Parameter
        The parameters.
    lr : float, default=1e-3
        The damping at the start, as a part of the largest diagonal entry of :math:`J^T J`.
    max_iter : int, default=10
        Iterations in one call of ``step``; the damping is kept from call to call.
    weight_decay : float or None, default=0.0
        :math:`\lambda`; the weights are those of the problem's points. None: for each parameter,
        biases too, one of its own, chosen anew after each call of ``step`` by
        :func:`~sktangent.training.evidence.evidence`.

    Raises
    ------
    ValueError
        If a value is out of range.

    References
    ----------
    H. B. Nielsen: *Damping parameter in Marquardt's method*, 1999. M. K. Transtrum, J. P. Sethna:
    *Improvements to the Levenberg-Marquardt algorithm for nonlinear least-squares minimization*,
    2012.

    Examples
    --------
    >>> import torch
    >>> from sktangent.training.least_squares import LeastSquares
    >>> from sktangent.training.levenberg_marquardt import LevenbergMarquardt
    >>> layer = torch.nn.Sequential(torch.nn.Linear(1, 1).double())
    >>> x = torch.tensor([[0.0], [1.0], [2.0]]).double()
    >>> optimizer = LevenbergMarquardt(layer.parameters())
    >>> residuals = optimizer.step(LeastSquares(layer, x, 3 * x + 1))
    >>> [round(p.item(), 4) for p in layer.parameters()]
    [3.0, 1.0]
    """

    def __init__(
        self,
        params: Iterable[torch.nn.Parameter],
        lr: float = 1e-3,
        max_iter: int = 10,
        weight_decay: float | None = 0.0,
    ) -> None:
        if weight_decay is not None and not weight_decay >= 0:
            raise ValueError(f"weight_decay must be >= 0, got {weight_decay}.")
        if not lr > 0:
            raise ValueError(f"lr must be > 0, got {lr}.")
        if max_iter < 1:
            raise ValueError(f"max_iter must be >= 1, got {max_iter}.")
        super().__init__(params, {"lr": lr, "max_iter": max_iter, "weight_decay": weight_decay})
        if len(self.param_groups) > 1:
            raise ValueError("LevenbergMarquardt takes one group of parameters.")

    @torch.no_grad()
    def step(self, problem: Problem) -> Tensor:
        """Take up to ``max_iter`` iterations.

        Parameters
        ----------
        problem : Problem
            The residuals.

        Returns
        -------
        residuals : torch.Tensor of shape (n_residuals,)
            Those at the point that the parameters have reached.
        """
        state = self.state[self.param_groups[0]["params"][0]]
        point = problem.start()
        first = residuals = problem.residuals(point)
        decays = self._decays(first)
        decay = self._spread(decays, point)
        for _ in range(self.param_groups[0]["max_iter"]):
            try:
                found = self._iterate(problem, point, decay)
            finally:
                problem.move_to(point)  # what was tried may have left them elsewhere
            if found is None:
                break
            point, residuals = found
            problem.move_to(point)
        if self.param_groups[0]["weight_decay"] is None and residuals is not first:
            state["decays"] = self._next_decays(problem, point, decays, first, residuals)
        return residuals

    def _next_decays(
        self, problem: Problem, point: Tensor, decays: list[float], first: Tensor, residuals: Tensor
    ) -> list[float]:
        """Choose the L2 weights of the next step by what the iterations of this one have left."""
        state = self.state[self.param_groups[0]["params"][0]]
        start = state.setdefault("first_loss", first.square().sum().item())
        before, loss = first.square().sum().item(), residuals.square().sum().item()
        state["follows"] = state.get("follows", False) or loss < _EXPLAINED * start
        is_slow = loss > _SLOW * before
        if is_slow and not state["follows"]:
            return [decay / 10 for decay in decays]
        sizes = [p.numel() for p in self._trained()]
        found = evidence(decays, sizes, point, *problem.linearize(point))
        if math.isinf(found.log):
            return decays
        # what is not fitted yet looks like noise, but the evidence rises while it is being fitted
        rises = found.log > state.get("evidence", -math.inf) + _RISE
        state["evidence"] = found.log
        state["is_noise"] = is_slow and (state.get("is_noise", False) or not rises)
        if state["is_noise"]:
            return _towards(decays, [_CAUTION * decay for decay in found.decays])
        pairs = zip(decays, _towards(decays, found.decays), strict=True)
        return [min(pair) for pair in pairs]

    def _trained(self) -> list[Tensor]:
        return [p for p in self.param_groups[0]["params"] if p.requires_grad]

    def _decays(self, residuals: Tensor) -> list[float]:
        r"""Tell :math:`\Lambda` for each parameter."""
        weight_decay, params = self.param_groups[0]["weight_decay"], self._trained()
        if weight_decay is not None:
            return [0.5 * weight_decay * (p.ndim > 1) for p in params]
        state = self.state[self.param_groups[0]["params"][0]]
        first = _FIRST_DECAY * residuals.square().mean().item()
        return state.setdefault("decays", [first] * len(params))

    def _spread(self, decays: list[float], point: Tensor) -> Tensor:
        pairs = zip(self._trained(), decays, strict=True)
        return torch.cat([point.new_full((p.numel(),), decay) for p, decay in pairs])

    def _iterate(
        self, problem: Problem, point: Tensor, decay: Tensor
    ) -> tuple[Tensor, Tensor] | None:
        """Find a better point and its residuals; None: there is none to be found."""
        residuals, jacobian = problem.linearize(point)
        cost = _cost(residuals, point, decay)
        if not math.isfinite(cost) or residuals.square().sum() < _ENOUGH:
            return None
        kind = _Primal if jacobian.shape[1] <= jacobian.shape[0] else _Dual
        model = kind(residuals, jacobian, point, decay)
        state = self.state[self.param_groups[0]["params"][0]]
        if "damping" not in state:
            state["damping"] = self.param_groups[0]["lr"] * model.largest_curvature()
            state["growth"] = 2.0
        for _ in range(_TRIALS):
            if not model.factorize(state["damping"]):
                _damp_more(state)
                continue
            velocity = model.step()
            step = velocity + _half_acceleration(problem, model, point, velocity)
            moved = point + step
            there = problem.residuals(moved)
            gain = cost - _cost(there, moved, decay)
            expected = velocity @ (state["damping"] * velocity - model.gradient)
            if gain > 0:
                _damp_less(state, gain / expected.item())
                return moved, there
            if expected <= _ROUNDING * cost:
                return None
            _damp_more(state)
        return None


class _Primal:
    """The linearized problem, solved in the space of the parameters."""

    def __init__(self, residuals: Tensor, jacobian: Tensor, point: Tensor, decay: Tensor) -> None:
        self.residuals, self.jacobian, self._decay = residuals, jacobian, decay
        self.gradient = jacobian.t() @ residuals + decay * point
        self._gram = lower_gram(jacobian)

    def largest_curvature(self) -> float:
        return self._gram.diagonal().max().item()

    def factorize(self, damping: float) -> bool:
        matrix = self._gram.clone()
        matrix.diagonal().add_(self._decay + damping)
        self._factor, info = torch.linalg.cholesky_ex(matrix)
        return info.item() == 0

    def step(self) -> Tensor:
        return -_solve(self._factor, self.gradient)

    def correct(self, residuals: Tensor) -> Tensor:
        """Find the step that takes residuals away, as far as damping allows."""
        return -_solve(self._factor, self.jacobian.t() @ residuals)


class _Dual:
    r"""The same in the space of the residuals, where that is smaller.

    With S for the diagonal :math:`\Lambda + \mu`, and :math:`v = e - S^{-1} \Lambda \theta`,
    :math:`e = -S^{-1} J^T (J S^{-1} J^T + 1)^{-1} (r - J S^{-1} \Lambda \theta)`.
    """

    def __init__(self, residuals: Tensor, jacobian: Tensor, point: Tensor, decay: Tensor) -> None:
        self.residuals, self.jacobian, self._decay = residuals, jacobian, decay
        self._pull = decay * point
        self.gradient = jacobian.t() @ residuals + self._pull

    def largest_curvature(self) -> float:
        return self.jacobian.square().sum(0).max().item()

    def factorize(self, damping: float) -> bool:
        self._root = (self._decay + damping).rsqrt()
        self._scaled = self.jacobian * self._root
        matrix = lower_gram(self._scaled.t())
        matrix.diagonal().add_(1.0)
        self._factor, info = torch.linalg.cholesky_ex(matrix)
        return info.item() == 0

    def step(self) -> Tensor:
        shrunk = -self._pull * self._root.square()
        return shrunk + self.correct(self.residuals + self.jacobian @ shrunk)

    def correct(self, residuals: Tensor) -> Tensor:
        """Find the step that takes residuals away, as far as damping allows."""
        return -self._root * (self._scaled.t() @ _solve(self._factor, residuals))


def _half_acceleration(
    problem: Problem, model: _Primal | _Dual, point: Tensor, velocity: Tensor
) -> Tensor:
    """Find half of how a step must bend to follow the residuals; zero if that is not small."""
    ahead = problem.residuals(point + _DIFFERENCE * velocity)
    slope = (ahead - model.residuals) / _DIFFERENCE
    bend = (slope - model.jacobian @ velocity) * (2 / _DIFFERENCE)
    acceleration = model.correct(bend)
    is_small = 2 * acceleration.norm() <= _LONGEST_ACCELERATION * velocity.norm()
    return 0.5 * acceleration if is_small else torch.zeros_like(velocity)


def _cost(residuals: Tensor, point: Tensor, decay: Tensor) -> float:
    return (residuals.square().sum() + decay @ point.square()).item()


def _towards(decays: list[float], wanted: list[float]) -> list[float]:
    pairs = zip(decays, wanted, strict=True)
    return [min(max(w, d / _LARGEST_CHANGE), d * _LARGEST_CHANGE) for d, w in pairs]


def _damp_more(state: dict) -> None:
    state["damping"] *= state["growth"]
    state["growth"] *= 2.0


def _damp_less(state: dict, gain_ratio: float) -> None:
    # beyond a ratio of 1.5, which the acceleration can give, the cube alone would say much less
    state["damping"] *= max(1 / 3, 1 - (2 * min(gain_ratio, 1.5) - 1) ** 3)
    state["growth"] = 2.0


def _solve(factor: Tensor, right: Tensor) -> Tensor:
    return torch.cholesky_solve(right.unsqueeze(1), factor).squeeze(1)
