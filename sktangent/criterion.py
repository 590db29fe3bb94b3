"""The loss of Tangent Prop: a data term and a penalty on directional derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sktangent._speed.observers import is_watched
from sktangent.propagation import propagate

_LOSSES: dict[str, type[nn.Module]] = {
    "squared_error": nn.MSELoss,
    "cross_entropy": nn.CrossEntropyLoss,
    "binary_cross_entropy": nn.BCEWithLogitsLoss,
}

_SUMS: dict[type[nn.Module], Callable[..., Tensor]] = {
    nn.MSELoss: lambda loss, *pair: F.mse_loss(*pair, reduction="sum"),
    nn.CrossEntropyLoss: lambda loss, *pair: F.cross_entropy(
        *pair,
        loss.weight,
        ignore_index=loss.ignore_index,
        label_smoothing=loss.label_smoothing,
        reduction="sum",
    ),
    nn.BCEWithLogitsLoss: lambda loss, *pair: F.binary_cross_entropy_with_logits(
        *pair, loss.weight, pos_weight=loss.pos_weight, reduction="sum"
    ),
}

_OUTPUTS: dict[str, dict[type[nn.Module], Callable[[Tensor], Tensor]]] = {
    "log_proba": {
        nn.CrossEntropyLoss: lambda logits: torch.log_softmax(logits, dim=1),
        nn.BCEWithLogitsLoss: F.logsigmoid,
    },
    "proba": {
        nn.CrossEntropyLoss: lambda logits: torch.softmax(logits, dim=1),
        nn.BCEWithLogitsLoss: torch.sigmoid,
    },
}


class LossTerms(NamedTuple):
    """The two terms of the loss, each a scalar tensor.

    Attributes
    ----------
    data : torch.Tensor of shape ()
        The data term.
    penalty : torch.Tensor of shape ()
        The penalty, before it is multiplied by the penalty weight.
    total : torch.Tensor of shape ()
        ``data + penalty_weight * penalty``, the value to minimize.
    """

    data: Tensor
    penalty: Tensor
    total: Tensor


class TangentPropLoss(nn.Module):
    r"""Data term plus penalty on the directional derivatives.

    .. math::

        E = \frac1n \sum_i s_i L(f(x_i), y_i)
          + w \, \frac1n \sum_i s_i \sum_t \lVert J_f(x_i)\,\tau_{it} - d_{it} \rVert^2

    after Simard, Victorri, LeCun, Denker, *Tangent Prop*, NIPS 1991, equations 1 and 2. The data
    term of a sample is a sum over outputs, as its penalty is, so the balance between the two does
    not depend on the number of outputs.

    Parameters
    ----------
    loss : str, nn.Module class or callable, default="squared_error"
        L: "squared_error", "cross_entropy" or "binary_cross_entropy". A class is constructed with
        ``reduction="none"`` and ``loss_kwargs``. A callable, or a module instance, takes
        ``(y_pred, y_true)`` and returns the losses of the samples, or of their single outputs,
        unreduced.
    penalty_weight : float, default=1.0
        w.
    penalty_on : {"logits", "log_proba", "proba"}, default="logits"
        Which output the derivative is taken of. ``"logits"`` is the module's own output; the other
        two need one of the cross entropies.
    class_weight : torch.Tensor of shape (n_classes,), default=None
        A factor for each class, multiplied into the weights of its samples.
    **loss_kwargs : dict
        Arguments of the constructor of ``loss``.

    Raises
    ------
    ValueError
        If a parameter, or in the call a shape, is not as described.

    Examples
    --------
    >>> import torch
    >>> from sktangent.criterion import TangentPropLoss
    >>> from sktangent.propagation import propagate
    >>> module = torch.nn.Linear(2, 1)
    >>> _ = module.weight.data.copy_(torch.tensor([[3.0, 4.0]]))
    >>> _ = module.bias.data.zero_()
    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> tangents = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    >>> y, dy = propagate(module, x, tangents)
    >>> criterion = TangentPropLoss(penalty_weight=0.1)
    >>> terms = criterion(y, torch.zeros(2, 1), dy)
    >>> [round(term.item(), 4) for term in terms]
    [12.5, 12.5, 13.75]
    """

    def __init__(
        self,
        loss: str | type[nn.Module] | Callable[[Tensor, Tensor], Tensor] = "squared_error",
        penalty_weight: float = 1.0,
        penalty_on: str = "logits",
        class_weight: Tensor | None = None,
        **loss_kwargs,
    ) -> None:
        super().__init__()
        self.loss = _build_loss(loss, loss_kwargs)
        self.penalty_weight = _check_weight(penalty_weight)
        self.penalty_on = penalty_on
        _check_penalty_on(penalty_on, self.loss)
        self.register_buffer("class_weight", class_weight)

    def forward(
        self,
        y_pred: Tensor,
        y_true: Tensor,
        dy_pred: Tensor | None = None,
        derivatives: Tensor | None = None,
        sample_weight: Tensor | None = None,
        derivative_weight: Tensor | None = None,
    ) -> LossTerms:
        """Compute the data term, the penalty and their weighted sum.

        Parameters
        ----------
        y_pred : torch.Tensor of shape (n_samples, n_outputs)
            The outputs f(x); logits for a cross entropy.
        y_true : torch.Tensor of shape (n_samples,) or (n_samples, n_outputs)
            The targets: class indices for ``"cross_entropy"`` and other losses that take them,
            else of the shape of ``y_pred``; the term of one that is NaN drops out of the squared
            error.
        dy_pred : torch.Tensor of shape (n_samples, n_tangents, n_outputs), default=None
            The directional derivatives J τ of ``y_pred``. None: there is no penalty.
        derivatives : torch.Tensor of the shape of dy_pred, default=None
            The derivatives d that are wanted; a term whose d is NaN drops out. None: zero,
            invariance.
        sample_weight : torch.Tensor of shape (n_samples,), default=None
            s. None: ones.
        derivative_weight : torch.Tensor of the shape of dy_pred, default=None
            A factor for each squared difference in the penalty. None: ones.

        Returns
        -------
        terms : LossTerms
            The scalars ``data``, ``penalty`` and ``total``.

        Raises
        ------
        ValueError
            If the shapes do not fit together.
        """
        data = self.data_term(y_pred, y_true, sample_weight)
        if dy_pred is None:
            return LossTerms(data, data.new_zeros(()), data)
        penalty = self.penalty_term(
            y_pred, y_true, dy_pred, derivatives, sample_weight, derivative_weight
        )
        return LossTerms(data, penalty, data + self.penalty_weight * penalty)

    def data_term(
        self, y_pred: Tensor, y_true: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        """Compute the data term.

        Parameters
        ----------
        y_pred, y_true, sample_weight : torch.Tensor
            As in the call.

        Returns
        -------
        data : torch.Tensor of shape ()
            The weighted mean of the samples' losses.

        Raises
        ------
        ValueError
            If the shapes do not fit together.
        """
        weight = self._sample_weight(y_pred, y_true, sample_weight)
        if weight is None and self._has_plain_losses():
            self._check_target(y_pred, y_true)
            y_true = self._known(y_pred, y_true)
            return _SUMS[type(self.loss)](self.loss, y_pred, y_true) / y_pred.shape[0]
        return _mean(self.sample_losses(y_pred, y_true), weight)

    def penalty_term(
        self,
        y_pred: Tensor,
        y_true: Tensor,
        dy_pred: Tensor,
        derivatives: Tensor | None = None,
        sample_weight: Tensor | None = None,
        derivative_weight: Tensor | None = None,
    ) -> Tensor:
        """Compute the penalty, before it is multiplied by the penalty weight.

        Parameters
        ----------
        y_pred, y_true, dy_pred, derivatives, sample_weight, derivative_weight : torch.Tensor
            As in the call.

        Returns
        -------
        penalty : torch.Tensor of shape ()
            The weighted mean of the samples' penalties.

        Raises
        ------
        ValueError
            If the shapes do not fit together.
        """
        weight = self._sample_weight(y_pred, y_true, sample_weight)
        # a subclass may have sample_penalties without derivative weights
        extra = () if derivative_weight is None else (derivative_weight,)
        return _mean(self.sample_penalties(y_pred, dy_pred, derivatives, *extra), weight)

    def sample_losses(self, y_pred: Tensor, y_true: Tensor) -> Tensor:
        """Compute each sample's data term L, a tensor of shape (n_samples,).

        Parameters
        ----------
        y_pred, y_true : torch.Tensor
            As in the call.

        Returns
        -------
        losses : torch.Tensor of shape (n_samples,)
            The sum of the losses of a sample's outputs.

        Raises
        ------
        ValueError
            If the shapes do not fit together, or the loss reduces over samples.
        """
        self._check_target(y_pred, y_true)
        losses = self.loss(y_pred, self._known(y_pred, y_true))
        if losses.ndim == 0 or len(losses) != len(y_pred):
            raise ValueError(
                f"loss must return one value a sample, unreduced, ({len(y_pred)}, ...); got shape "
                f"{tuple(losses.shape)}."
            )
        return losses.flatten(1).sum(1) if losses.ndim > 1 else losses

    def sample_penalties(
        self,
        y_pred: Tensor,
        dy_pred: Tensor,
        derivatives: Tensor | None = None,
        derivative_weight: Tensor | None = None,
    ) -> Tensor:
        r"""Compute each sample's penalty, :math:`\sum_t \lVert J\tau_t - d_t \rVert^2`.

        Parameters
        ----------
        y_pred, dy_pred, derivatives, derivative_weight : torch.Tensor
            As in the call.

        Returns
        -------
        penalties : torch.Tensor of shape (n_samples,)
            The penalties, before they are multiplied by the penalty weight.

        Raises
        ------
        ValueError
            If the shapes do not fit together.
        """
        if dy_pred.shape[:1] != y_pred.shape[:1] or dy_pred.shape[2:] != y_pred.shape[1:]:
            wanted = ", ".join(map(str, (len(y_pred), "n_tangents", *y_pred.shape[1:])))
            raise ValueError(
                f"dy_pred must have shape ({wanted}) for y_pred of shape {tuple(y_pred.shape)}, "
                f"got {tuple(dy_pred.shape)}."
            )
        if self.penalty_on != "logits":
            output = _OUTPUTS[self.penalty_on][type(self.loss)]
            _, dy_pred = propagate(output, y_pred, dy_pred)
        if derivatives is not None:
            if derivatives.shape != dy_pred.shape:
                raise ValueError(
                    f"derivatives has shape {tuple(derivatives.shape)}, expected that of the "
                    f"directional derivatives, {tuple(dy_pred.shape)}."
                )
            difference = dy_pred - derivatives
            dy_pred = torch.where(derivatives.isnan(), 0.0, difference)
        squares = dy_pred.square()
        if derivative_weight is not None:
            squares = squares * derivative_weight
        return squares.flatten(1).sum(1)

    def _known(self, y_pred: Tensor, y_true: Tensor) -> Tensor:
        """Put what is predicted in the place of targets that are not known."""
        if type(self.loss) is not nn.MSELoss or not y_true.is_floating_point():
            return y_true
        return torch.where(y_true.isnan(), y_pred.detach(), y_true)

    def _has_plain_losses(self) -> bool:
        """Tell whether torch can sum the losses itself, faster than it tells samples apart."""
        own = type(self).sample_losses is not TangentPropLoss.sample_losses
        is_plain = type(self.loss) in _SUMS and not is_watched(self.loss)
        return is_plain and self.loss.reduction == "none" and not own

    def _check_target(self, y_pred: Tensor, y_true: Tensor) -> None:
        if y_pred.shape != y_true.shape and not self._takes_labels(y_true):
            raise ValueError(
                f"y_pred has shape {tuple(y_pred.shape)} and y_true {tuple(y_true.shape)}; they "
                "must be the same."
            )

    def _takes_labels(self, y_true: Tensor) -> bool:
        # a loss by elements would broadcast a target of another shape unseen
        by_elements = isinstance(self.loss, (nn.MSELoss, nn.BCEWithLogitsLoss))
        return not (by_elements or y_true.is_floating_point())

    def _sample_weight(
        self, y_pred: Tensor, y_true: Tensor, sample_weight: Tensor | None
    ) -> Tensor | None:
        if sample_weight is not None and sample_weight.shape != y_pred.shape[:1]:
            raise ValueError(
                f"sample_weight has shape {tuple(sample_weight.shape)}, expected "
                f"{tuple(y_pred.shape[:1])}."
            )
        if self.class_weight is None:
            return sample_weight
        if y_true.ndim != 1 or y_true.is_floating_point():
            raise ValueError(
                f"class_weight needs y_true to hold class indices, shape ({len(y_true)},); got "
                f"shape {tuple(y_true.shape)}, dtype {y_true.dtype}."
            )
        weight = self.class_weight[y_true]
        return weight if sample_weight is None else weight * sample_weight


def _mean(values: Tensor, weight: Tensor | None) -> Tensor:
    return values.mean() if weight is None else (weight * values).mean()


def _build_loss(loss, kwargs: dict) -> Callable[[Tensor, Tensor], Tensor]:
    if isinstance(loss, str):
        if loss not in _LOSSES:
            raise ValueError(f"loss must be one of {sorted(_LOSSES)}, got {loss!r}.")
        loss = _LOSSES[loss]
    if isinstance(loss, type):
        try:
            return loss(**{"reduction": "none", **kwargs})
        except TypeError as error:
            raise TypeError(f"loss={loss.__name__} cannot be constructed: {error}") from error
    if kwargs:
        raise ValueError(f"loss is already built, {loss!r}, and cannot take {sorted(kwargs)}.")
    if not callable(loss):
        raise ValueError(f"loss must be a name, a class or a callable, got {loss!r}.")
    return loss


def _check_penalty_on(penalty_on: str, loss) -> None:
    if penalty_on == "logits":
        return
    if penalty_on not in _OUTPUTS:
        raise ValueError(
            f"penalty_on must be 'logits', 'log_proba' or 'proba', got {penalty_on!r}."
        )
    if type(loss) not in _OUTPUTS[penalty_on]:
        raise ValueError(
            f"penalty_on={penalty_on!r} needs a cross entropy that takes logits, got loss={loss!r}."
        )


def _check_weight(penalty_weight: float) -> float:
    if not 0 <= penalty_weight < float("inf"):
        raise ValueError(f"penalty_weight must be finite and >= 0, got {penalty_weight!r}.")
    return penalty_weight
