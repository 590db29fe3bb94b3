"""The skorch net: one training step is to propagate, then to ask the criterion."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Mapping

import numpy as np
import skorch
import torch
from skorch.dataset import unpack_data
from skorch.utils import to_tensor
from torch import Tensor, nn

from sktangent._randomness import constructing, drawing_apart, drawing_for
from sktangent._speed.adam import clear_gradients, step
from sktangent._speed.allocation import keep_freed_memory
from sktangent._speed.chains import evaluate
from sktangent.criterion import TangentPropLoss
from sktangent.projections import project
from sktangent.propagation import propagate
from sktangent.propagation.compiling import CompiledPropagation
from sktangent.propagation.jacobian import in_pieces, pieces_of, value_and_jacobian
from sktangent.training.batches import as_tensor, make_batches
from sktangent.training.decay import add_l2_gradient, with_l2_gradient
from sktangent.training.distributed import any_rank, join_step, rank, start_alike, writes
from sktangent.training.epochs import run_epoch
from sktangent.training.history import EpochHistory, default_callbacks
from sktangent.training.inputs import check_parts, check_targets, count_samples, part_of
from sktangent.training.least_squares import least_squares_step
from sktangent.training.levenberg_marquardt import LevenbergMarquardt
from sktangent.training.stopping import StopTraining, interruptible


class TangentPropNet(skorch.NeuralNet):
    """A :class:`skorch.NeuralNet` whose training step knows tangents.

    All of skorch's parameters, callbacks and methods work on it, and its hooks: :meth:`infer` runs
    in training too, on samples that carry their tangents, and the data term of training is what
    :meth:`get_loss` returns. Beside plain samples, ``X`` may
    be a dict of arrays that share their first axis:

    - ``"x"``: the samples, (n_samples, *input_shape);
    - ``"tangents"``: their tangent vectors, (n_samples, n_tangents, *input_shape); optional;
    - ``"derivatives"``: the derivatives wanted, (n_samples, n_tangents, n_outputs); optional,
      zero if left out;
    - ``"derivative_weight"``: (n_samples, n_tangents, n_outputs), a factor for each squared
      difference in the penalty; optional;
    - ``"sample_weight"``: (n_samples,); optional.

    A dict without ``"x"`` holds, as in skorch, the arguments of the module's ``forward``.
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
        example. Any other criterion of skorch's will do where there are neither tangents nor
        sample weights.
    optimizer : class, default=torch.optim.Adam
        Constructed with the parameters, ``lr`` and ``optimizer__*``.
    lr : float, default=1e-3
        The learning rate.
    iterator_train, iterator_valid : callable, default=make_batches
        Called with a dataset and ``iterator_train__*``; the default slices tensors that sit on
        the device. :class:`torch.utils.data.DataLoader` works as well.
    l2 : float, default=0.0
        Weight of the L2 term: the gradient of ``l2 / 2`` times the sum of the squares of all
        parameters of two or more axes, which leaves biases out, is added to that of the loss when
        the optimizer steps. The term is not part of the losses recorded.
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
        return default_callbacks()

    def initialized_instance(self, instance_or_cls, kwargs: dict):
        """Build the module or the criterion; see :meth:`skorch.NeuralNet.initialized_instance`."""
        with constructing(instance_or_cls, kwargs):
            return super().initialized_instance(instance_or_cls, kwargs)

    def initialize_history(self):
        """Start an empty history."""
        if self.history_ is None:
            self.history_ = EpochHistory()
        else:
            self.history_.clear()
        return self

    def check_data(self, X, y=None) -> None:
        """Raise ValueError or TypeError if samples, targets and criterion do not go together."""
        if self._has_own("train_step", "train_step_single"):
            return
        self._check_parts(X)
        if not self._has_own("get_loss") and hasattr(self.criterion_, "data_term"):
            check_targets(X, y, self.dataset, self.iterator_train)

    def fit_loop(self, X, y=None, epochs: int | None = None, **fit_params):
        """Train for some epochs; see :meth:`skorch.NeuralNet.fit_loop`."""
        keep_freed_memory()
        start_alike([getattr(self, f"{name}_") for name in self._modules])
        epochs = self.max_epochs if epochs is None else epochs
        checkpoint = vars(self).get("_checkpoint")
        with interruptible():
            n_done = 0 if checkpoint is None else checkpoint.resume(self)
            super().fit_loop(X, y, epochs=epochs - n_done, **fit_params)
        if checkpoint is not None:
            checkpoint.is_done = True
        return self

    def run_single_epoch(self, iterator, training: bool, prefix: str, step_fn, **fit_params):
        """Go over the batches once; see :func:`~sktangent.training.epochs.run_epoch`."""
        if iterator is not None:
            run_epoch(self, iterator, training, prefix, step_fn, **fit_params)

    def notify(self, method_name: str, **kwargs) -> None:
        """Call a hook of the net and of its callbacks; see :meth:`skorch.NeuralNet.notify`."""
        stop = None
        try:
            getattr(self, method_name)(self, **kwargs)
            for _, callback in self.callbacks_:
                if callback is not None:  # what was taken out since the net was initialized
                    getattr(callback, method_name)(self, **kwargs)
        except KeyboardInterrupt as interrupt:
            stop = interrupt
        # at the end of an epoch all processes that fit together stop where one does
        if any_rank(stop) if method_name == "on_epoch_end" else stop is not None:
            raise StopTraining from stop
        checkpoint = vars(self).get("_checkpoint")
        if method_name == "on_epoch_end" and checkpoint is not None:
            checkpoint.write_if_due(self)

    def save_params(self, *args, **kwargs) -> None:
        """Save parts of the net; of processes that fit together, while they do, one does so."""
        if writes():
            super().save_params(*args, **kwargs)

    def get_iterator(self, dataset, training: bool = False):
        """Build the iterator over a dataset; see :meth:`skorch.NeuralNet.get_iterator`."""
        prefix = "iterator_train" if training else "iterator_valid"
        iterator = getattr(self, prefix)
        kwargs = {"batch_size": self.batch_size, **self.get_params_for(prefix)}
        if kwargs["batch_size"] == -1:
            kwargs["batch_size"] = len(dataset)
        if iterator is make_batches:
            kwargs["device"] = self.device
            kwargs["n_projections"] = self.n_projections if training else None
        return iterator(dataset, **kwargs)

    def infer(self, x, **fit_params) -> Tensor:
        """Compute the module's output; of a dict with ``"x"`` only that is used.

        Parameters
        ----------
        x : torch.Tensor or dict
            A batch of samples, or a dict without ``"x"`` of the arguments of ``forward``.
        **fit_params : dict
            Passed to the module's ``forward``.

        Returns
        -------
        y_pred : torch.Tensor of shape (n_samples, n_outputs)
            The output.
        """
        if isinstance(x, Mapping):
            if "x" not in x:
                return super().infer(x, **fit_params)
            x = x["x"]
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
        if not hasattr(self.criterion_, "data_term"):
            return super().get_loss(y_pred, y_true, X=X, training=training)
        if not isinstance(y_pred, Tensor):
            raise TypeError(f"module must return one tensor, got {type(y_pred).__name__}.")
        weight = self._part(X, "sample_weight")
        return self.criterion_.data_term(y_pred, self._on_device(y_true), weight)

    def train_step(self, batch, **fit_params) -> dict[str, Tensor]:
        """Take one step of the optimizer; see :meth:`skorch.NeuralNet.train_step`."""
        with drawing_apart(rank()), self._drawing(*self._optimizers):
            if isinstance(getattr(self, "optimizer_", None), LevenbergMarquardt):
                return least_squares_step(self, batch, fit_params)
            return super().train_step(batch, **fit_params)

    def validation_step(self, batch, **fit_params) -> dict[str, Tensor]:
        """Compute the loss of one batch; see :meth:`skorch.NeuralNet.validation_step`."""
        with self._drawing():
            return super().validation_step(batch, **fit_params)

    def _drawing(self, *others: str) -> contextlib.AbstractContextManager:
        """Let the parts that draw random numbers draw those of the fit."""
        parts = [getattr(self, f"{name}_") for name in (*self._modules, *self._criteria, *others)]
        losses = [part.loss for part in parts if callable(getattr(part, "loss", None))]
        return drawing_for(*parts, *losses)

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
            ``loss``, ``data_loss``, ``penalty`` and ``y_pred``; without its terms the loss of a
            criterion that has no penalty.
        """
        self._set_training(True)
        X, y = unpack_data(batch)
        self._check_parts(X)
        tangents, derivatives = self._part(X, "tangents"), self._part(X, "derivatives")
        if tangents is not None and self.n_projections is not None:
            tangents, derivatives = project(tangents, derivatives, self.n_projections)
        with self._precision():
            y_pred, dy_pred = self._propagate(X, tangents, **fit_params)
        if self.autocast is not None:
            y_pred = y_pred.float()
            dy_pred = None if dy_pred is None else dy_pred.float()
        data = self.get_loss(y_pred, y, X=X, training=True)
        step = self._loss_terms(data, y_pred, y, dy_pred, derivatives, X)
        if not step["loss"].requires_grad:
            raise ValueError("module's output does not depend on a parameter that can be trained.")
        step["loss"].backward()
        if rank() is not None:
            optimizers = [getattr(self, f"{name}_") for name in self._optimizers]
            step = join_step(step, optimizers, count_samples(batch))
        return {**step, "y_pred": y_pred}

    def _loss_terms(self, data, y_pred, y, dy_pred, derivatives, X) -> dict[str, Tensor]:
        criterion = getattr(self, "criterion_", None)  # a subclass may name its own otherwise
        if not hasattr(criterion, "penalty_term"):
            return {"loss": data}
        if dy_pred is None:
            return {"loss": data, "data_loss": data, "penalty": data.new_zeros(())}
        weight = self._part(X, "sample_weight")
        derivative_weight = self._part(X, "derivative_weight")
        extra = () if derivative_weight is None else (derivative_weight,)
        penalty = criterion.penalty_term(
            y_pred, self._on_device(y), dy_pred, derivatives, weight, *extra
        )
        loss = data + criterion.penalty_weight * penalty
        return {"loss": loss, "data_loss": data, "penalty": penalty}

    def directional_derivative(self, X, tangents) -> np.ndarray:
        """Compute the derivatives of the module's outputs along tangent vectors, in batches.

        Parameters
        ----------
        X : ndarray or torch.Tensor of shape (n_samples, *input_shape)
            The samples.
        tangents : ndarray or torch.Tensor of shape (n_samples, n_tangents, *input_shape)
            Their tangent vectors.

        Returns
        -------
        dy : ndarray of shape (n_samples, n_tangents, n_outputs)
            The directional derivatives, with the module in evaluation mode.
        """
        self._set_training(False)
        with torch.no_grad():
            dy = in_pieces(
                lambda x, tau: propagate(self.module_, x, tau)[1],
                as_tensor(X),
                as_tensor(tangents),
                rows_each=1 + tangents.shape[1],
                device=self.device,
            )
        return dy.numpy()

    def forward_with_jacobian(self, X) -> tuple[np.ndarray, np.ndarray]:
        """Compute the module's outputs and their Jacobian in one pass, in batches.

        Parameters
        ----------
        X : ndarray or torch.Tensor of shape (n_samples, *input_shape)
            The samples.

        Returns
        -------
        y : ndarray of shape (n_samples, n_outputs)
            The outputs, with the module in evaluation mode, before any nonlinearity of
            ``predict``.
        J : ndarray of shape (n_samples, n_outputs, *input_shape)
            Their Jacobian.
        """
        self._set_training(False)
        pieces = [
            tuple(part.cpu().numpy() for part in value_and_jacobian(self.module_, x))
            for x in pieces_of(as_tensor(X), 1 + math.prod(X.shape[1:]), self.device)
        ]
        if len(pieces) == 1:
            return pieces[0]
        y, J = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
        return y, J

    def jacobian(self, X) -> np.ndarray:
        """Compute the Jacobian of the module's outputs, in batches.

        Parameters
        ----------
        X : ndarray or torch.Tensor of shape (n_samples, *input_shape)
            The samples.

        Returns
        -------
        J : ndarray of shape (n_samples, n_outputs, *input_shape)
            The Jacobian, with the module in evaluation mode.
        """
        return self.forward_with_jacobian(X)[1]

    def _check_parts(self, X) -> None:
        if not isinstance(X, Mapping):
            return
        criterion = getattr(self, "criterion_", None)
        weighs_samples = hasattr(criterion, "data_term") or self._has_own("get_loss")
        check_parts(X, criterion, weighs_samples)

    def _has_own(self, *methods: str) -> bool:
        """Tell whether a subclass, or the user, brings one of these methods."""
        return any(
            getattr(getattr(self, name), "__func__", None) is not getattr(TangentPropNet, name)
            for name in methods
        )

    def _precision(self) -> contextlib.AbstractContextManager:
        if self.autocast is None:
            return contextlib.nullcontext()
        if self.autocast != "bfloat16":  # what has fewer exponents needs its losses scaled
            raise ValueError(f"autocast must be None or 'bfloat16', got {self.autocast!r}.")
        return torch.autocast(torch.device(self.device).type, dtype=torch.bfloat16)

    def _zero_grad_optimizer(self, set_to_none: bool | None = None) -> None:
        if set_to_none is not None:
            super()._zero_grad_optimizer(set_to_none)
            return
        for name in self._optimizers:
            clear_gradients(getattr(self, f"{name}_"))

    def _step_optimizer(self, step_fn) -> None:
        optimizers = [getattr(self, f"{name}_") for name in self._optimizers]
        if self.l2 != 0 and step_fn is None:  # the gradient is there already
            add_l2_gradient(optimizers, self.l2)
        elif self.l2 != 0:
            step_fn = with_l2_gradient(step_fn, optimizers, self.l2)
        for optimizer in optimizers:
            step(optimizer, step_fn)

    def _propagate(self, X, tangents, **fit_params) -> tuple[Tensor, Tensor | None]:
        if tangents is None:
            return self.infer(X, **fit_params), None
        x = self._part(X, "x")
        if fit_params or self._has_own("infer"):
            return propagate(lambda x: self.infer({**X, "x": x}, **fit_params), x, tangents)
        if self.compile:
            return self._compiled_propagation()(x, tangents)
        return propagate(self.module_, x, tangents)

    def torch_compile(self, module: nn.Module, name: str) -> nn.Module:
        """Leave the module as it is; what is compiled is its propagation."""
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
        state.pop("_checkpoint", None)  # which belongs to a fit that runs
        return state

    def _set_training(self, training: bool = True) -> None:
        parts = (getattr(self, f"{name}_") for name in self._modules + self._criteria)
        if any(getattr(part, "training", training) is not training for part in parts):
            super()._set_training(training)

    def _part(self, X, name: str) -> Tensor | None:
        part = part_of(X, name)
        return None if part is None else self._on_device(part)

    def _on_device(self, part) -> Tensor:
        if isinstance(part, Tensor) and part.device.type == self.device == "cpu":
            return part  # skorch finds that out too, in ten times the time
        return to_tensor(part, device=self.device)

    def _get_predict_nonlinearity(self):
        loss = getattr(getattr(self, "criterion_", None), "loss", None)
        if self.predict_nonlinearity == "auto":
            if isinstance(loss, nn.CrossEntropyLoss):
                return functools.partial(torch.softmax, dim=-1)
            if isinstance(loss, nn.BCEWithLogitsLoss):
                return torch.sigmoid
        return super()._get_predict_nonlinearity()
