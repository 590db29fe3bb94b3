"""The skorch net: one training step is to propagate, then to ask the criterion."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import skorch
import torch
from skorch.callbacks import EpochTimer
from skorch.utils import to_tensor
from torch import Tensor, nn

from sktangent._speed.adam import clear_gradients, step
from sktangent._speed.chains import evaluate
from sktangent.criterion import TangentPropLoss
from sktangent.derivatives import NetDerivatives
from sktangent.projections import project
from sktangent.propagation import propagate
from sktangent.propagation.compiling import CompiledPropagation
from sktangent.training.batches import make_batches
from sktangent.training.epochs import EpochLoop, QuietLog
from sktangent.training.history import EpochHistory
from sktangent.training.least_squares import LeastSquaresSteps


class TangentPropNet(EpochLoop, LeastSquaresSteps, NetDerivatives, skorch.NeuralNet):
    """A :class:`skorch.NeuralNet` whose training step knows tangents.

    All of skorch's parameters, callbacks and methods work on it, and its hooks: :meth:`infer` runs
    in training too, on samples that carry their tangents, and the data term of training is what
    :meth:`get_loss` returns. Beside plain samples, ``X`` may
    be a dict of arrays that share their first axis:

    - ``"x"``: the samples, (n_samples, *input_shape);
    - ``"tangents"``: their tangent vectors, (n_samples, n_tangents, *input_shape); optional;
    - ``"derivatives"``: the derivatives wanted, (n_samples, n_tangents, n_outputs); optional,
      zero if left out;
    - ``"sample_weight"``: (n_samples,); optional.

    A torch ``Dataset`` yields the same, ``({"x": ..., "tangents": ...}, y)``, sample by sample.

    The history of an epoch, and of each batch in it, holds ``train_loss`` and its two terms
    ``train_data_loss`` and ``train_penalty`` (before the penalty weight), and ``valid_loss``, the
    data term on the validation samples. As in skorch, ``train_loss_best`` and ``valid_loss_best``
    tell whether an epoch's loss is the lowest so far.

    Parameters
    ----------
    module : nn.Module class or instance
        The network, of one tensor.
    criterion : class, default=TangentPropLoss
        It, or a subclass: the net asks it for ``data_term``, ``penalty_term`` and
        ``penalty_weight``. Constructed with ``criterion__*``, ``criterion__penalty_weight`` for
        example.
    optimizer : class, default=torch.optim.Adam
        Constructed with the parameters, ``lr`` and ``optimizer__*``.
    lr : float, default=1e-3
        The learning rate.
    iterator_train, iterator_valid : callable, default=make_batches
        Called with a dataset and ``iterator_train__*``; the default slices tensors that sit on
        the device. :class:`torch.utils.data.DataLoader` works as well.
    l2 : float, default=0.0
        Weight of the L2 term: the gradient of ``l2 / 2`` times the sum of the squares of all
        parameters of two or more axes, which leaves biases out, is added to that of the loss. The
        term is not part of the losses recorded.
    n_projections : int, default=None
        Train on so many random combinations of a sample's tangents, drawn anew in every step; see
        :func:`~sktangent.projections.project`. None: on the tangents themselves.
    autocast : {"bfloat16"}, default=None
        Run the training passes under :func:`torch.autocast`: matrix products and convolutions in
        that precision, the parameters and the loss in their own. Predictions are not affected.
    **kwargs : dict
        The other parameters of :class:`skorch.NeuralNet`. ``compile`` compiles the pass of
        training that has tangents, and leaves the module itself alone.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from sktangent.net import TangentPropNet
    >>> _ = torch.manual_seed(0)
    >>> x = np.linspace(0, 1, 5, dtype=np.float32)[:, None]
    >>> net = TangentPropNet(
    ...     torch.nn.Linear, module__in_features=1, module__out_features=1, lr=0.1,
    ...     criterion__penalty_weight=1.0, max_epochs=300, train_split=None, verbose=0)
    >>> _ = net.fit({"x": x, "tangents": np.ones((5, 1, 1), dtype=np.float32)}, x)
    >>> round(net.history[-1, "train_penalty"], 4)  # the best line's squared slope, 1/81
    0.0123
    """

    def __init__(
        self,
        module,
        criterion=TangentPropLoss,
        optimizer=torch.optim.Adam,
        lr: float = 1e-3,
        iterator_train=make_batches,
        iterator_valid=make_batches,
        l2: float = 0.0,
        n_projections: int | None = None,
        autocast: str | None = None,
        **kwargs,
    ) -> None:
        super().__init__(
            module,
            criterion=criterion,
            optimizer=optimizer,
            lr=lr,
            iterator_train=iterator_train,
            iterator_valid=iterator_valid,
            **kwargs,
        )
        self.l2 = l2
        self.n_projections = n_projections
        self.autocast = autocast

    @property
    def _default_callbacks(self):
        return [("epoch_timer", EpochTimer()), ("print_log", QuietLog())]

    def initialize_history(self):
        """Start an empty history."""
        if self.history_ is None:
            self.history_ = EpochHistory()
        else:
            self.history_.clear()
        return self

    def get_iterator(self, dataset, training: bool = False):
        """Build the iterator over the batches of a dataset, on the net's device.

        Parameters
        ----------
        dataset : torch.utils.data.Dataset
            The samples.
        training : bool, default=False
            Whether to use ``iterator_train`` or ``iterator_valid``.

        Returns
        -------
        iterator : iterable
            Yields ``(X, y)``.
        """
        prefix = "iterator_train" if training else "iterator_valid"
        iterator = getattr(self, prefix)
        kwargs = {"batch_size": self.batch_size, **self.get_params_for(prefix)}
        if kwargs["batch_size"] == -1:
            kwargs["batch_size"] = len(dataset)
        if iterator is make_batches:
            kwargs["device"] = self.device
        return iterator(dataset, **kwargs)

    def infer(self, x, **fit_params) -> Tensor:
        """Compute the module's output; of a dict only ``"x"`` is used.

        Parameters
        ----------
        x : torch.Tensor or dict
            A batch of samples.
        **fit_params : dict
            Passed to the module's ``forward``.

        Returns
        -------
        y_pred : torch.Tensor of shape (n_samples, n_outputs)
            The output.
        """
        x = x["x"] if isinstance(x, Mapping) else x
        x = self._on_device(x)
        return self.module_(x, **fit_params) if fit_params else evaluate(self.module_, x)

    def get_loss(self, y_pred: Tensor, y_true: Tensor, X=None, training: bool = False) -> Tensor:
        """Compute the data term of the loss.

        Parameters
        ----------
        y_pred : torch.Tensor of shape (n_samples, n_outputs)
            The module's output.
        y_true : torch.Tensor of shape (n_samples,) or (n_samples, n_outputs)
            The targets.
        X : torch.Tensor or dict, default=None
            The batch; its ``"sample_weight"`` is used.
        training : bool, default=False
            Whether this is a training step.

        Returns
        -------
        loss : torch.Tensor of shape ()
            The mean over samples.
        """
        weight = self._part(X, "sample_weight")
        return self.criterion_.data_term(y_pred, self._on_device(y_true), weight)

    def train_step_single(self, batch, **fit_params) -> dict[str, Tensor]:
        """Propagate one batch and its tangents, and compute the gradient of the loss.

        Parameters
        ----------
        batch : tuple
            ``(X, y)``, as the iterator yields it.
        **fit_params : dict
            Passed to the module's ``forward``.

        Returns
        -------
        step : dict
            ``loss``, ``data_loss``, ``penalty`` and ``y_pred``.
        """
        self._set_training(True)
        X, y = batch
        tangents, derivatives = self._part(X, "tangents"), self._part(X, "derivatives")
        if tangents is not None and self.n_projections is not None:
            tangents, derivatives = project(tangents, derivatives, self.n_projections)
        with self._precision():
            y_pred, dy_pred = self._propagate(X, tangents, **fit_params)
        if self.autocast is not None:
            y_pred = y_pred.float()
            dy_pred = None if dy_pred is None else dy_pred.float()
        loss = data = self.get_loss(y_pred, y, X=X, training=True)
        if dy_pred is None:
            penalty = data.new_zeros(())
        else:
            penalty = self.criterion_.penalty_term(
                y_pred,
                self._on_device(y),
                dy_pred,
                derivatives,
                self._part(X, "sample_weight"),
            )
            loss = data + self.criterion_.penalty_weight * penalty
        loss.backward()
        self._add_l2_gradient()
        return {"loss": loss, "data_loss": data, "penalty": penalty, "y_pred": y_pred}

    def _precision(self) -> contextlib.AbstractContextManager:
        if self.autocast is None:
            return contextlib.nullcontext()
        if self.autocast != "bfloat16":  # what has fewer exponents needs its losses scaled
            raise ValueError(f"autocast must be None or 'bfloat16', got {self.autocast!r}.")
        return torch.autocast(torch.device(self.device).type, dtype=torch.bfloat16)

    def _add_l2_gradient(self) -> None:
        if self.l2 == 0:
            return
        weights = [
            parameter
            for group in self.optimizer_.param_groups
            for parameter in group["params"]
            if parameter.grad is not None and parameter.ndim > 1
        ]
        if weights:
            with torch.no_grad():
                torch._foreach_add_([weight.grad for weight in weights], weights, alpha=self.l2)

    def _zero_grad_optimizer(self, set_to_none: bool | None = None) -> None:
        if set_to_none is not None:
            super()._zero_grad_optimizer(set_to_none)
            return
        for name in self._optimizers:
            clear_gradients(getattr(self, f"{name}_"))

    def _step_optimizer(self, step_fn) -> None:
        for name in self._optimizers:
            step(getattr(self, f"{name}_"), step_fn)

    def _propagate(self, X, tangents, **fit_params) -> tuple[Tensor, Tensor | None]:
        if tangents is None:
            return self.infer(X, **fit_params), None
        x = self._part(X, "x")
        if fit_params or type(self).infer is not TangentPropNet.infer:
            return propagate(lambda x: self.infer({**X, "x": x}, **fit_params), x, tangents)
        if self.compile:
            return self._compiled_propagation()(x, tangents)
        return propagate(self.module_, x, tangents)

    def torch_compile(self, module: nn.Module, name: str) -> nn.Module:
        """Leave the module as it is; what is compiled is its propagation.

        Parameters
        ----------
        module : nn.Module
            The module.
        name : str
            Its name.

        Returns
        -------
        module : nn.Module
            The same.
        """
        return module

    def _compiled_propagation(self) -> CompiledPropagation:
        compiled = vars(self).get("_compiled")
        if compiled is None or compiled.module is not self.module_:
            compiled = CompiledPropagation(self.module_, **self.get_params_for("compile"))
            self._compiled = compiled
        return compiled

    def __getstate__(self) -> dict:
        state = super().__getstate__()
        state.pop("_compiled", None)  # compiled anew when it is needed
        return state

    def _set_training(self, training: bool = True) -> None:
        if self.module_.training is not training:
            super()._set_training(training)

    def _part(self, X, name: str) -> Tensor | None:
        if not isinstance(X, Mapping):
            return self._on_device(X) if name == "x" else None
        return None if X.get(name) is None else self._on_device(X[name])

    def _on_device(self, part) -> Tensor:
        if isinstance(part, Tensor) and part.device.type == self.device == "cpu":
            return part  # skorch finds that out too, in ten times the time
        return to_tensor(part, device=self.device)

    def _get_predict_nonlinearity(self):
        if self.predict_nonlinearity != "auto":
            return super()._get_predict_nonlinearity()
        loss = getattr(self.criterion_, "loss", None)
        if isinstance(loss, nn.CrossEntropyLoss):
            return lambda logits: torch.softmax(logits, dim=-1)
        return torch.sigmoid if isinstance(loss, nn.BCEWithLogitsLoss) else lambda output: output
