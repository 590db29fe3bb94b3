"""L-BFGS with an L2 weight, for full batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from sktangent import _torch


class LBFGS(torch.optim.LBFGS):
    r"""L-BFGS with a strong Wolfe line search, and an L2 weight as torch's other optimizers have.

    It minimizes :math:`E + \frac\lambda2 \sum \lVert W \rVert^2` over all parameters of two or
    more axes, which leaves biases out. The loss must be a deterministic function of the parameters:
    a full batch, no dropout.

    Parameters
    ----------
    params : iterable of torch.nn.Parameter
        The parameters.
    lr : float, default=1.0
        Length of the first step that a line search tries.
    max_iter : int, default=20
        Iterations in one call of ``step``; the curvature seen is kept from call to call.
    history_size : int, default=20
        Number of updates that describe the curvature.
    weight_decay : float, default=0.0
        :math:`\lambda`.
    tolerance_grad, tolerance_change : float
        A call of ``step`` ends where the largest entry of the gradient, or of the step, is below.

    Raises
    ------
    ValueError
        If a value is out of range.

    References
    ----------
    J. Nocedal, S. Wright: *Numerical Optimization*, 2006, chapter 7.2.

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
        self.param_groups[0].update(weight_decay=weight_decay)

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
        params = self.param_groups[0]["params"]
        before = [p.detach().clone() for p in params]
        try:
            return super().step(self._with_decay(torch.enable_grad()(closure)))
        except BaseException:  # within a line search, which may try what is far worse
            with torch.no_grad():
                _torch.copy_(params, before)
            self.state.clear()
            raise

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
