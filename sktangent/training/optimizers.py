"""L-BFGS with an L2 weight, for full batches of few samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from sktangent import _torch

# Wolfe's conditions (Nocedal and Wright, 3.7): how much a step must lower the loss, and flatten it
_DECREASE, _FLATTENING = 1e-4, 0.9
_TRIALS = 25


class LBFGS(torch.optim.LBFGS):
    r"""L-BFGS with a strong Wolfe line search, and an L2 weight as torch's other optimizers have.

    It minimizes :math:`E + \frac\lambda2 \sum \lVert W \rVert^2` over all parameters of two or
    more axes, which leaves biases out. The loss must be a deterministic function of the parameters:
    a full batch, no dropout.

    L-BFGS remembers the last few updates only, so as to save memory. A small network has memory to
    spare: up to ``dense_size`` parameters, all updates go into one square matrix, the approximate
    inverse Hessian, which is plain BFGS. On 100 samples with their gradients and a net 2-12-12-1
    it takes a third of the iterations, and a product with a matrix costs less than twenty pairs of
    vectors one after the other.

    Parameters
    ----------
    params : iterable of torch.nn.Parameter
        The parameters.
    lr : float, default=1.0
        Length of the first step that a line search tries.
    max_iter : int, default=20
        Iterations in one call of ``step``; the curvature seen is kept from call to call.
    history_size : int, default=20
        Number of updates that describe the curvature, above ``dense_size`` parameters.
    weight_decay : float, default=0.0
        :math:`\lambda`.
    tolerance_grad, tolerance_change : float
        A call of ``step`` ends where the largest entry of the gradient, or of the step, is below.
    dense_size : int, default=1000
        Up to so many parameters the inverse Hessian is kept as a matrix.

    Raises
    ------
    ValueError
        If a value is out of range.

    References
    ----------
    J. Nocedal, S. Wright: *Numerical Optimization*, 2006, chapters 3.5, 6.1 and 7.2.

    Examples
    --------
    >>> import torch
    >>> from sktangent.training.optimizers import LBFGS
    >>> w = torch.nn.Parameter(torch.ones(1, 2))
    >>> optimizer = LBFGS([w], weight_decay=1.0)
    >>> def closure():
    ...     optimizer.zero_grad()
    ...     loss = (w - 3).square().sum() / 2
    ...     loss.backward()
    ...     return loss
    >>> _ = optimizer.step(closure)
    >>> w.detach()
    tensor([[1.5000, 1.5000]])
    """

    def __init__(
        self,
        params: Iterable[torch.nn.Parameter],
        lr: float = 1.0,
        max_iter: int = 20,
        history_size: int = 20,
        weight_decay: float = 0.0,
        tolerance_grad: float = 1e-9,
        tolerance_change: float = 1e-12,
        dense_size: int = 1000,
    ) -> None:
        if not weight_decay >= 0:
            raise ValueError(f"weight_decay must be >= 0, got {weight_decay}.")
        super().__init__(
            params,
            lr=lr,
            max_iter=max_iter,
            history_size=history_size,
            tolerance_grad=tolerance_grad,
            tolerance_change=tolerance_change,
            line_search_fn="strong_wolfe",
        )
        self.param_groups[0].update(weight_decay=weight_decay, dense_size=dense_size)

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        self._params = self.param_groups[0]["params"]  # torch leaves them out of pickles
        self._numel_cache = None

    def step(self, closure: Callable[[], Tensor]) -> Tensor:
        """Take up to ``max_iter`` iterations.

        Parameters
        ----------
        closure : callable
            Computes the loss and its gradient, and returns the loss.

        Returns
        -------
        loss : torch.Tensor
            The loss before the first iteration, the L2 term included.
        """
        group = self.param_groups[0]
        closure = self._with_decay(torch.enable_grad()(closure))
        if sum(p.numel() for p in group["params"]) > group["dense_size"]:
            return super().step(closure)
        with torch.no_grad():
            return self._dense_step(closure)

    def _with_decay(self, closure: Callable[[], Tensor]) -> Callable[[], Tensor]:
        weight_decay = self.param_groups[0]["weight_decay"]
        if weight_decay == 0:
            return closure

        def with_decay() -> Tensor:
            loss = closure()
            params = self.param_groups[0]["params"]
            decayed = [p for p in params if p.ndim > 1 and p.grad is not None]
            if not decayed:
                return loss
            with torch.no_grad():
                _torch.add_([p.grad for p in decayed], decayed, alpha=weight_decay)
                norms = _torch.norms(decayed)
                return loss.detach() + 0.5 * weight_decay * norms.square().sum()

        return with_decay

    def _dense_step(self, closure: Callable[[], Tensor]) -> Tensor:
        """Take iterations of BFGS, the inverse Hessian a matrix."""
        group = self.param_groups[0]
        params = group["params"]
        state = self.state[params[0]]
        inverse = state.get("inverse_hessian")
        here = torch.cat([p.reshape(-1) for p in params])
        first = closure()
        now = _Trial(0.0, here, first.item(), self._gradient(), math.nan)
        n_evals = 1

        def trial(length: float) -> _Trial:
            nonlocal n_evals
            n_evals += 1
            point = now.point + length * direction
            self._move_to(point)
            loss, gradient = closure().item(), self._gradient()
            return _Trial(length, point, loss, gradient, gradient.dot(direction).item())

        n_iter = 0
        while n_iter < group["max_iter"] and not _is_small(now.gradient, group["tolerance_grad"]):
            if inverse is None:
                direction = -now.gradient
                length = group["lr"] * min(1.0, 1.0 / now.gradient.abs().sum().item())
            else:
                direction = -(inverse @ now.gradient)
                length = group["lr"]
            slope = now.gradient.dot(direction).item()
            start = now._replace(length=0.0, slope=slope)
            found = _line_search(trial, start, length) if slope < 0 else None
            if found is None:
                if inverse is None:  # not even along the gradient
                    break
                inverse = None
                continue
            n_iter += 1
            step, change = found.point - now.point, found.gradient - now.gradient
            now = found
            inverse = _updated(inverse, step, change)
            if _is_small(step, group["tolerance_change"]):
                break
        self._move_to(now.point)
        state["inverse_hessian"] = inverse
        state["func_evals"] = state.get("func_evals", 0) + n_evals
        state["n_iter"] = state.get("n_iter", 0) + n_iter
        return first

    def _gradient(self) -> Tensor:
        params = self.param_groups[0]["params"]
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in params]
        return torch.cat([grad.reshape(-1) for grad in grads])

    def _move_to(self, point: Tensor) -> None:
        params = self.param_groups[0]["params"]
        parts = point.split([p.numel() for p in params])
        shaped = [part.view_as(p) for part, p in zip(parts, params, strict=True)]
        _torch.copy_(params, shaped)


class _Trial(NamedTuple):
    """A point on the line that is searched; ``slope`` is the loss's along it."""

    length: float
    point: Tensor
    loss: float
    gradient: Tensor
    slope: float


def _line_search(trial: Callable[[float], _Trial], start: _Trial, length: float) -> _Trial | None:
    """Find a point that fulfils the strong Wolfe conditions, or at least has a lower loss.

    ``low`` is always short of such a point, and ``high``, once there is one, beyond it.
    """
    low, high, best = start, None, None
    growth = 1
    for _ in range(_TRIALS):
        point = trial(length)
        sufficient = start.loss + _DECREASE * length * start.slope
        # "<" too: of a decrease below rounding nothing can be told
        lower = point.loss <= sufficient and point.loss < start.loss
        if lower and (best is None or point.loss < best.loss):
            best = point
        if lower and abs(point.slope) <= -_FLATTENING * start.slope:
            return point
        if lower and point.slope < 0:
            low = point
        else:
            high = point
        growth *= 2  # the scale may be off by any factor
        length = growth * length if high is None else _between(low, high)
    return best


def _between(low: _Trial, high: _Trial) -> float:
    """Minimize the cubic through both ends and their slopes, away from the ends."""
    width = high.length - low.length
    if width == 0:
        return low.length
    bend = low.slope + high.slope - 3 * (low.loss - high.loss) / (low.length - high.length)
    square = bend * bend - low.slope * high.slope
    if not square >= 0 or not math.isfinite(square):  # a loss beyond all bounds
        return low.length + width / 2
    root = math.sqrt(square)
    divisor = high.slope - low.slope + 2 * root
    part = (high.slope + root - bend) / divisor if divisor else 0.5
    return high.length - width * min(max(part, 0.1), 0.9)


def _updated(inverse: Tensor | None, step: Tensor, change: Tensor) -> Tensor | None:
    """Put what a step has shown of the curvature into the inverse Hessian."""
    curvature, squared_change = step.dot(change).item(), change.dot(change).item()
    if not curvature > torch.finfo(step.dtype).eps * step.norm().item() * squared_change**0.5:
        return inverse
    if inverse is None:
        scale = curvature / squared_change
        inverse = torch.eye(len(step), dtype=step.dtype, device=step.device) * scale
    moved = inverse @ change
    scaled = moved / curvature
    return inverse.addr_(
        step, step * ((1 + change.dot(moved).item() / curvature) / curvature) - scaled
    ).addr_(scaled, step, alpha=-1)


def _is_small(vector: Tensor, tolerance: float) -> bool:
    return vector.abs().max().item() <= tolerance
