"""What the classifier and the regressor share: the way from data to a trained net."""

from __future__ import annotations

import contextlib
import copy
from abc import ABC, abstractmethod

import numpy as np
import torch
from sklearn.base import _fit_context, clone
from sklearn.utils import _safe_indexing, check_random_state
from torch import nn

from sktangent._html import diagram
from sktangent._memory import memory_for
from sktangent._randomness import may_draw, seeded
from sktangent._tables import frame_or
from sktangent.estimators.answers import Answers
from sktangent.estimators.build import let_helper_move, resolve_device
from sktangent.estimators.checks import ChecksData, warn_of_scale
from sktangent.estimators.combined_rows import CombinedRows, pays_to_combine
from sktangent.estimators.convergence import warn_if_unfinished
from sktangent.estimators.first_layer import make_first_layer_for
from sktangent.estimators.going_on import (
    check_can_go_on,
    fixed_params,
    is_same,
    note,
    open_checkpoint,
)
from sktangent.estimators.moved_rows import MovedRows, largest_amounts
from sktangent.estimators.network import build_net, go_on_with, show_progress
from sktangent.estimators.parameters import CONSTRAINTS, SkorchParameters
from sktangent.estimators.persistence import from_state, to_state, warn_if_state_is_lost
from sktangent.estimators.schedule import FULL_BATCH, NAMES, Schedule, plan
from sktangent.estimators.tangent_rows import NetworkUnits, TangentRows, moments
from sktangent.estimators.training_data import (
    check_augment,
    check_something_is_known,
    collect_inputs,
    fixed_split,
    plain_or_dict,
    relative_weight,
    with_nan,
)
from sktangent.estimators.weighted_fit import fit_weighted
from sktangent.modules import MLP
from sktangent.net import TangentPropNet
from sktangent.training.checkpoints import keeping
from sktangent.training.distributed import (
    average,
    common_random_state,
    count,
    fits_together,
    note_samples,
    of_first,
    without_accelerator,
    writes,
)
from sktangent.training.history import EpochHistory
from sktangent.training.stopping import unchanged_on_failure

_SMALLER_STEPS = (
    "Set a smaller batch_size, n_projections, fewer hidden units, or optimizer='adam' where it is "
    "'lm' or 'lbfgs', which take all samples at once."
)


class TangentPropEstimator(ChecksData, Answers, SkorchParameters, ABC):
    """What the classifier and the regressor share."""

    _parameter_constraints: dict = CONSTRAINTS

    @abstractmethod
    def _check_target(self, y: np.ndarray, fresh: bool, incremental: bool, classes) -> np.ndarray:
        """Check the target and, if ``fresh``, learn its labels or its number of outputs."""

    @abstractmethod
    def _encode_target(self, y: np.ndarray, weight: np.ndarray, fresh: bool) -> np.ndarray:
        """Turn the target into what the criterion takes."""

    @property
    @abstractmethod
    def _target_scale(self) -> np.ndarray:
        """What each of the network's outputs is measured in, in the units of y."""

    @abstractmethod
    def _criterion_params(self) -> dict:
        """Tell the parameters of the criterion beside the penalty weight."""

    def _fill_unknown(self, y) -> tuple:
        """Put zeros where targets are NaN, if there may be any; tell where that was."""
        return y, None

    def _check_activations(self, module: nn.Module, probes: torch.Tensor) -> None:
        """Warn of activations that the penalty cannot shape."""

    def _check_partial_fit(self) -> bool:
        """Tell that ``partial_fit`` is there, or say why not."""
        if self.early_stopping:
            raise AttributeError("partial_fit does not support early_stopping=True.")
        net = getattr(self, "net_", None)
        if self.optimizer in FULL_BATCH or (net is not None and type(net.optimizer_) in NAMES):
            name = NAMES.get(type(getattr(net, "optimizer_", None)), self.optimizer)
            raise AttributeError(
                f"optimizer={name!r} needs all samples at once; for partial_fit set another "
                "before the first fit, 'adam' for example."
            )
        return True

    def _target_weight(self, y: np.ndarray) -> np.ndarray | float:
        return 1.0

    def _stratify(self, y: np.ndarray) -> np.ndarray | None:
        return None

    @property
    def module_(self) -> nn.Module:
        """The trained network."""
        return self.net_.module_

    @property
    def history_(self) -> EpochHistory:
        """What skorch recorded: a row for every epoch, with its batches."""
        return self.net_.history

    @property
    def loss_curve_(self) -> list[float]:
        """The training loss of every epoch, penalty included."""
        return [row["train_loss"] for row in self.history_ if "train_loss" in row]

    @property
    def penalty_curve_(self) -> list[float]:
        """The penalty of every epoch, before it is multiplied by the penalty weight."""
        return [row["train_penalty"] for row in self.history_ if "train_penalty" in row]

    @property
    def n_iter_(self) -> int:
        """Number of epochs trained."""
        return len(self.loss_curve_)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "net_")

    def __getstate__(self) -> dict:
        return to_state(self, without_accelerator(super().__getstate__()))

    def __setstate__(self, state: dict) -> None:
        from_state(self, state)

    def __deepcopy__(self, memo: dict):
        """Copy all that there is, where a file holds less."""
        memo[id(self)] = copied = type(self).__new__(type(self))
        vars(copied).update(copy.deepcopy(vars(self), memo))
        return copied

    def _sk_visual_block_(self):
        """Show tangents and preprocessor inside, the fitted ones where there are."""
        names = ("tangents", "preprocessor")
        parts = {name: getattr(self, f"{name}_", getattr(self, name)) for name in names}
        return diagram(self, [(name, part) for name, part in parts.items() if part is not None])

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y, sample_weight=None, tangents=None, derivatives=None):
        """Train on samples, their targets, their tangents and known derivatives.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, *input_shape)
            The samples. More than two dimensions go through if the module takes them.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            The targets.
        sample_weight : array-like of shape (n_samples,), default=None
            s, the weight of each sample in both terms. None: ones.
        tangents : array-like of shape (n_samples, n_tangents, *input_shape), default=None
            The samples' tangent vectors, in place of the ``tangents`` callable.
        derivatives : array-like of shape (n_samples, n_tangents) or \
                (n_samples, n_tangents, n_outputs), default=None
            d, the directional derivatives that are wanted, in the units of X and y as given; NaN
            where one is not known: its term drops out. Without any tangents they are the Jacobian,
            (n_samples, n_features) or (n_samples, n_features, n_outputs), and the penalty measures
            each feature in its standard deviation, so that units do not matter. None: zero,
            invariance.

        Returns
        -------
        self : estimator
            The fitted estimator.

        Raises
        ------
        ValueError, TypeError
            If a parameter or an array is not as described, or if training diverges.
        """
        fresh = not (self.warm_start and hasattr(self, "net_"))
        return self._fit(X, y, sample_weight, tangents, derivatives, fresh)

    @fits_together
    def _fit(
        self,
        X,
        y,
        sample_weight,
        tangents,
        derivatives,
        fresh: bool,
        incremental: bool = False,
        classes=None,
        derivative_weight=None,
    ):
        self._check_params_are_known()
        if not fresh:
            check_can_go_on(self, self._built_with, self.net_, self._dtype)
            warn_if_state_is_lost(self.net_)
        given = X
        is_unknown = None
        if derivatives is not None or callable(self.tangents if tangents is None else tangents):
            y, is_unknown = self._fill_unknown(y)
        X, y = self._check_data(X, y, fresh, incremental, classes)
        y = y if is_unknown is None else with_nan(y, is_unknown)
        note_samples(X, y)
        frame = frame_or(given, X)
        weight = self._check_weight(X, y, sample_weight)
        if fresh:
            self._random_state = common_random_state(check_random_state(self.random_state))
        train, valid = self._split(y, weight)
        device = resolve_device(self.device, self.accelerator)
        with seeded(self._random_state.randint(np.iinfo(np.int32).max), device):
            target = self._encode_target(y, weight, fresh)
            self._fit_parts(frame, X, y, weight, train, derivatives, fresh, incremental)
            inputs = {
                "x": self._input_map().transform(frame, X),
                **relative_weight(weight, self._mean_weight, X.dtype),
            }
            find = self._tangent_rows(
                frame, X, train, tangents, derivatives, derivative_weight, device
            )
            collected = collect_inputs(find, inputs, X, train, self._get_skorch_params())
            if is_unknown is not None:
                check_something_is_known(y, derivatives, find)
            if self.n_projections is not None and "derivative_weight" in collected:
                raise ValueError(
                    "derivative_weight must be the same for all outputs with n_projections="
                    f"{self.n_projections}, which combines tangents."
                )
            net = None if fresh else self.net_
            schedule = plan(self, count(len(target[train])), find, incremental, net=net)
            if fresh:
                net = self._new_net(schedule, inputs["x"], target, train, device, find, collected)
            else:
                net = go_on_with(net, self, schedule, self._l2(schedule))
            net.train_split = fixed_split(inputs, target, valid)
            n_epochs_before = len(net.history)
            given = {"X": frame, "y": y, "sample_weight": sample_weight, "tangents": tangents}
            given.update(derivatives=derivatives, derivative_weight=derivative_weight)
            with keeping(net, None if incremental else open_checkpoint(self, net, find, **given)):
                self._train(net, schedule, collected, target[train], fresh, incremental)
        if fresh:
            self._built_with = fixed_params(self)
        self.net_, self._schedule, self._in_parts = net, schedule, incremental
        self._draws = may_draw(net.module_)
        if not incremental and writes():
            warn_if_unfinished(net, len(net.history) - n_epochs_before, self.max_epochs)
        return self

    def _fit_parts(
        self, frame, X, y, weight, train, derivatives, fresh: bool, incremental: bool
    ) -> None:
        """Fit the preprocessor and the tangents, and learn the scales."""
        if fresh:
            self._fit_preprocessor(frame, y, weight, train)
            self._x_scale = None
        if not self._keeps_tangents(fresh, incremental):
            self._fit_tangents(frame, y, train)
        if derivatives is not None and self._x_scale is None:
            self._x_scale = moments(X[train].reshape(len(X[train]), -1), weight[train])[1]
        if fresh or not incremental:
            self._mean_weight = average(weight[train])

    def _new_net(
        self, schedule: Schedule, x, target, train, device, find, collected: dict
    ) -> TangentPropNet:
        net = build_net(
            self._make_net,
            self,
            schedule,
            self._l2(schedule),
            self._criterion_params(),
            x,
            target,
            len(self._target_scale),
            device,
        )
        if schedule.optimizer == "lm" and isinstance(net.module_, MLP):
            make_first_layer_for(net.module_, x[train], collected)
        elif self.module is None:
            warn_of_scale(x)
        if find is not None and self.penalty_weight > 0:
            self._check_activations(net.module_, torch.tensor(x[:1], device=device))
        return net

    def _train(self, net, schedule: Schedule, inputs, target, fresh: bool, incremental: bool):
        epochs = 1 if incremental else schedule.epochs
        show_progress(net, self, epochs)
        let_helper_move(net.module_, inputs, schedule.batch_size)
        with (
            memory_for(schedule.step_on(inputs), _SMALLER_STEPS),
            contextlib.nullcontext() if fresh else unchanged_on_failure(net),
        ):
            try:
                net.partial_fit(plain_or_dict(inputs), target, epochs=epochs)
            finally:
                net.train_split = None

    def _make_net(self, module: nn.Module, **params) -> TangentPropNet:
        return TangentPropNet(module, **params)

    def _fit_preprocessor(self, X, y: np.ndarray, weight: np.ndarray, train) -> None:
        vars(self).pop("preprocessor_", None)
        if self.preprocessor is not None:
            self.preprocessor_ = of_first(
                fit_weighted(
                    clone(self.preprocessor), _safe_indexing(X, train), y[train], weight[train]
                )
            )

    def _keeps_tangents(self, fresh: bool, incremental: bool) -> bool:
        """Tell whether ``tangents_`` stays as the first call of ``partial_fit`` has left it."""
        return (
            incremental
            and not fresh
            and hasattr(self, "tangents_")
            and is_same(self._tangents_noted, self.tangents)
        )

    def _fit_tangents(self, X, y: np.ndarray, train) -> None:
        """Keep the ``tangents`` callable, fitted on the samples as they were given if it can be."""
        vars(self).pop("tangents_", None)
        if isinstance(self.tangents, type):
            raise TypeError(f"tangents must be an instance, got the class {self.tangents!r}.")
        if self.tangents is not None:
            self.tangents_ = self.tangents
            if hasattr(self.tangents, "fit"):
                self.tangents_ = clone(self.tangents).fit(_safe_indexing(X, train), y[train])
        self._tangents_noted = note(self.tangents)

    def _tangent_rows(
        self, frame, X, train, tangents, derivatives, derivative_weight, device: torch.device
    ) -> TangentRows | CombinedRows | MovedRows | None:
        """Tell where tangents and derivatives come from, if there are to be any, or moves."""
        source = tangents if self.tangents is None or tangents is not None else self.tangents_
        units = NetworkUnits(
            inputs=self._input_map(),
            target_scale=self._target_scale,
            feature_scale=self._x_scale,
        )
        if self.augment:
            check_augment(
                self.augment,
                self.tangents,
                self._get_skorch_params(),
                tangents=tangents,
                derivatives=derivatives,
                derivative_weight=derivative_weight,
            )
            amounts = largest_amounts(self.augment, self.tangents_, X[train])
            if amounts.any():
                return MovedRows(
                    frame,
                    X,
                    self.tangents_,
                    amounts,
                    units,
                    with_tangents=self.penalty_weight > 0,
                    n_projections=self.n_projections,
                    seed=self._random_state.randint(np.iinfo(np.int32).max),
                )
        has_none = source is None and derivatives is None
        if has_none and derivative_weight is not None:
            raise ValueError("derivative_weight is given, and there are no tangents to weigh.")
        if self.penalty_weight == 0 or has_none:
            return None
        given = (derivatives, derivative_weight, self.n_projections)
        if device.type == "cpu" and pays_to_combine(source, X, *given, self._get_skorch_params()):
            seed = self._random_state.randint(np.iinfo(np.int32).max)
            return CombinedRows(frame, X, source, units, self.n_projections, seed)
        return TangentRows(frame, X, source, derivatives, derivative_weight, units)

    def _l2(self, schedule: Schedule) -> float | None:
        if schedule.alpha is None:
            return None
        return float(schedule.alpha / schedule.batch_size / self._mean_weight)
