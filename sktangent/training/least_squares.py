r"""The objective of a net on a batch as a sum of squares.

With squared error, :math:`E = \lVert r \rVert^2` for the residuals

.. math:: \sqrt{s_i / n}\,(f(x_i) - y_i) \quad\text{and}\quad
          \sqrt{w s_i / n}\,(J_f(x_i)\,\tau_{it} - d_{it}),

one for every output; those of which y or d is NaN, or the weight zero, are left out.
"""

from __future__ import annotations

import operator
from typing import NamedTuple

import torch
from skorch.dataset import unpack_data
from torch import Tensor, nn

from sktangent._speed.chains import Chain, chain_of
from sktangent._speed.jacobians import ChainByParameters
from sktangent.criterion import TangentPropLoss
from sktangent.propagation import propagate

# rows of a Jacobian that torch goes back for at once
_ROWS_AT_ONCE = 64
_NAME = "optimizer 'lm'"
# what a user may override, and what is not called
_HOOKS = ("infer", "get_loss", "train_step_single")


class LossValues(NamedTuple):
    """The loss and its two terms, the penalty before it is multiplied by its weight."""

    loss: Tensor
    data_loss: Tensor
    penalty: Tensor


class LeastSquares:
    r"""Residuals of a module on a batch, and their Jacobian by the module's parameters.

    A point is a vector of all entries of the parameters that are trained, in their order. For a
    chain of linear layers, as the default network, it holds those of the same network behind
    standardized samples instead, so that the units of x do not matter. Whatever the precision of
    the module, it is calculated in double precision where the device has it.

    Parameters
    ----------
    module : nn.Module
        The network, deterministic in its present mode. It is left at the last point where
        residuals were asked for, unless it is a chain of linear layers.
    x : torch.Tensor of shape (n_samples, *input_shape)
        The samples.
    y : torch.Tensor of shape (n_samples, n_outputs)
        The targets, NaN where one is not known.
    tangents : torch.Tensor of shape (n_samples, n_tangents, *input_shape), default=None
        The tangent vectors.
    derivatives : torch.Tensor of shape (n_samples, n_tangents, n_outputs), default=None
        The derivatives wanted, NaN where one is not known. None: zero.
    sample_weight : torch.Tensor of shape (n_samples,), default=None
        The weights of the samples. None: ones.
    derivative_weight : torch.Tensor of shape (n_samples, n_tangents, n_outputs), default=None
        A factor for each squared difference in the penalty. None: ones.
    penalty_weight : float, default=1.0
        w.

    Examples
    --------
    >>> import torch
    >>> from sktangent.training.least_squares import LeastSquares
    >>> x, slope = torch.tensor([[0.0], [3.0]]), torch.ones(2, 1, 1)
    >>> module = torch.nn.Linear(1, 1)
    >>> problem = LeastSquares(module, x, x, slope, slope)
    >>> r, J = problem.linearize(torch.tensor([2.0, 1.0]))  # weight and bias
    >>> (r * 2**0.5).round().tolist()
    [1.0, 1.0, 4.0, 1.0]
    >>> (J * 2**0.5).round().tolist()
    [[0.0, 1.0], [1.0, 0.0], [3.0, 1.0], [1.0, 0.0]]
    """

    def __init__(
        self,
        module: nn.Module,
        x: Tensor,
        y: Tensor,
        tangents: Tensor | None = None,
        derivatives: Tensor | None = None,
        sample_weight: Tensor | None = None,
        derivative_weight: Tensor | None = None,
        penalty_weight: float = 1.0,
    ) -> None:
        if tangents is None:
            tangents = x.new_empty(len(x), 0, *x.shape[1:])
        if derivatives is None:
            derivatives = y.new_zeros(len(x), tangents.shape[1], *y.shape[1:])
        self.penalty_weight = penalty_weight
        self._precision = torch.float32 if x.device.type == "mps" else torch.float64
        self._target = torch.cat([y.unsqueeze(1), derivatives], dim=1).to(self._precision)
        self._scale = self._weights(sample_weight, derivative_weight).sqrt()
        known = ~self._target.isnan() & (self._scale > 0)
        self._known = None if known.all() else known
        self._function = _parametrized(module, x, tangents, self._precision)

    def _weights(self, sample_weight: Tensor | None, derivative_weight: Tensor | None) -> Tensor:
        n_samples, n_terms = self._target.shape[:2]
        terms = self._target.new_full((n_terms,), self.penalty_weight)
        terms[0] = 1.0
        weights = terms.expand(n_samples, -1) / n_samples
        if sample_weight is not None:
            weights = weights * sample_weight.unsqueeze(1)
        weights = weights.reshape(n_samples, n_terms, *(1,) * (self._target.ndim - 2))
        if derivative_weight is not None:
            weights = weights.expand_as(self._target).clone()
            weights[:, 1:] *= derivative_weight
        return weights

    def start(self) -> Tensor:
        """Return the point that the module's parameters stand for."""
        return self._function.start()

    def move_to(self, point: Tensor) -> None:
        """Set the module's parameters to what a point stands for."""
        self._function.move_to(point)

    def residuals(self, point: Tensor) -> Tensor:
        """Compute the residuals at a point, a vector."""
        return self._weigh(self._function.values(point))

    def linearize(self, point: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the residuals at a point and their Jacobian, (n_residuals, n_parameters)."""
        values, jacobian = self._function.linearize(point)
        jacobian.mul_(self._scale.unsqueeze(-1))
        rows = jacobian.flatten(0, -2) if self._known is None else jacobian[self._known]
        return self._weigh(values), rows

    def losses(self, residuals: Tensor) -> LossValues:
        """Tell the terms of the loss from each other."""
        squares = torch.zeros_like(self._target)
        squares[self._known if self._known is not None else ...] = residuals.square().view(
            -1 if self._known is not None else self._target.shape
        )
        data, penalty = squares[:, 0].sum(), squares[:, 1:].sum()
        weight = self.penalty_weight
        return LossValues(data + penalty, data, penalty / weight if weight else penalty)

    def _weigh(self, values: Tensor) -> Tensor:
        residuals = (values - self._target).mul_(self._scale)
        return residuals.flatten() if self._known is None else residuals[self._known]


def _parametrized(module, x: Tensor, tangents: Tensor, precision: torch.dtype):
    """Write a module's values and directional derivatives as a function of its parameters."""
    params = [p for p in module.parameters() if p.requires_grad]
    chain = chain_of(module, x, tangents)
    if chain is not None:
        used = [p for layer in chain.linear for p in layer.parameters()]
        if len(used) == len(params) and all(map(operator.is_, used, params)):
            return _ChainByPoints(chain, params, x.to(precision), tangents.to(precision))
    return _ModuleByPoints(module, params, x, tangents, precision)


class _ChainByPoints(ChainByParameters):
    """A chain behind samples that are standardized."""

    def __init__(self, chain: Chain, params: list, x: Tensor, tangents: Tensor) -> None:
        x, tangents = x.flatten(1), _first_if_repeated(tangents).flatten(2)
        has_bias = chain.linear[0].bias is not None
        self._params = params
        self._mean = x.mean(0) if has_bias else torch.zeros_like(x[0])
        scale = (x - x.mean(0)).square().mean(0).sqrt()
        smallest = 10 * torch.finfo(x.dtype).eps * x.abs().amax(0)
        self._scale = torch.where(scale > smallest, scale, 1.0)
        tangents = (tangents / self._scale).expand(len(x), -1, -1)
        super().__init__(chain, (x - self._mean) / self._scale, tangents)

    def start(self) -> Tensor:
        weight, *others = [p.detach().to(self.x.dtype) for p in self._params]
        if self.chain.linear[0].bias is not None:
            others[0] = others[0] + weight @ self._mean
        return torch.cat([p.flatten() for p in (weight * self._scale, *others)])

    def move_to(self, point: Tensor) -> None:
        weight, *others = _split(point, self._params)
        weight = weight / self._scale
        if self.chain.linear[0].bias is not None:
            others[0] = others[0] - weight @ self._mean
        _assign(self._params, [weight, *others])


class _ModuleByPoints:
    """Any module, by automatic differentiation, at the points that it is moved to."""

    def __init__(self, module: nn.Module, params: list, x, tangents, precision) -> None:
        self.module, self.params, self.x, self.tangents = module, params, x, tangents
        self._precision = precision

    def start(self) -> Tensor:
        return torch.cat([p.detach().flatten() for p in self.params]).to(self._precision)

    def move_to(self, point: Tensor) -> None:
        _assign(self.params, _split(point, self.params))

    def values(self, point: Tensor) -> Tensor:
        with torch.no_grad():
            return self._propagate(point).to(point.dtype)

    def linearize(self, point: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():  # on the way back too, where rules differentiate once more
            values = self._propagate(point)
            flat = values.flatten()
            directions = torch.eye(len(flat), dtype=flat.dtype, device=flat.device)
            rows = torch.cat([self._rows(flat, part) for part in directions.split(_ROWS_AT_ONCE)])
        rows = rows.detach()
        return values.detach().to(point.dtype), rows.to(point.dtype).view(*values.shape, -1)

    def _propagate(self, point: Tensor) -> Tensor:
        self.move_to(point)
        if self.tangents.shape[1] == 0:
            return self.module(self.x).unsqueeze(1)
        y, dy = propagate(self.module, self.x, self.tangents)
        return torch.cat([y.unsqueeze(1), dy], dim=1)

    def _rows(self, values: Tensor, directions: Tensor) -> Tensor:
        grads = torch.autograd.grad(
            values,
            self.params,
            directions,
            retain_graph=True,
            is_grads_batched=True,
            materialize_grads=True,
        )
        return torch.cat([grad.flatten(1) for grad in grads], dim=1)


def _assign(params: list[Tensor], values: list[Tensor]) -> None:
    with torch.no_grad():
        for parameter, value in zip(params, values, strict=True):
            parameter.copy_(value)


def _split(point: Tensor, params: list[Tensor]) -> list[Tensor]:
    parts = point.split([p.numel() for p in params])
    return [part.view_as(p) for part, p in zip(parts, params, strict=True)]


def _first_if_repeated(tangents: Tensor) -> Tensor:
    return tangents[:1] if tangents.stride(0) == 0 else tangents


def least_squares_step(net, batch, fit_params: dict) -> dict[str, Tensor]:
    """Let a net's optimizer of least squares take its iterations on a batch.

    Parameters
    ----------
    net : TangentPropNet
        The net.
    batch : tuple
        ``(X, y)``, as the iterator yields it.
    fit_params : dict
        What would be passed to the module's ``forward``; there must be nothing.

    Returns
    -------
    step : dict
        ``loss``, ``data_loss`` and ``penalty`` where the step ended, and ``y_pred``.

    Raises
    ------
    ValueError
        If the net's loss is anything but a sum of squares that does not change between calls.
    """
    _check_net(net, fit_params)
    net._set_training(True)
    X, y = unpack_data(batch)
    names = ("tangents", "derivatives", "sample_weight", "derivative_weight")
    x, *parts = (net._part(X, name) for name in ("x", *names))
    problem = LeastSquares(
        net.module_,
        x,
        net._on_device(y),
        **dict(zip(names, parts, strict=True)),
        penalty_weight=net.criterion_.penalty_weight,
    )
    residuals = net.optimizer_.step(problem)
    with torch.no_grad():
        return {**problem.losses(residuals)._asdict(), "y_pred": net.infer(X)}


def _check_net(net, fit_params: dict) -> None:
    loss = getattr(net.criterion_, "loss", None)
    is_plain = type(net.criterion_) is TangentPropLoss and type(loss) is nn.MSELoss
    if not is_plain or loss.reduction != "none":
        raise ValueError(f"{_NAME} needs the squared error, got {loss or net.criterion_!r}.")
    own = [name for name in _HOOKS if net._has_own(name)]
    if own or fit_params:
        raise ValueError(
            f"{_NAME} sees the module and the data alone; set another optimizer with "
            f"{', '.join([*own, *fit_params])}."
        )
    for name in ("n_projections", "autocast"):
        if getattr(net, name) is not None:
            raise ValueError(
                f"{_NAME} needs a loss without noise, got {name}={getattr(net, name)!r}."
            )
