"""What the classifier and the regressor share: the way from data to a trained net."""

from __future__ import annotations

import contextlib
import math
from abc import ABC, abstractmethod

import numpy as np
import torch
from sklearn import get_config
from sklearn.base import RegressorMixin, _fit_context, clone
from sklearn.model_selection import train_test_split
from sklearn.utils import _safe_indexing, check_random_state, column_or_1d
from sklearn.utils.validation import _check_sample_weight, validate_data
from skorch.dataset import Dataset
from skorch.helper import predefined_split
from torch import nn

from sktangent._speed.threads import threads_for
from sktangent.estimators.build import (
    build_module,
    check_criterion,
    check_module,
    mark_own_lr,
    multiplications,
    optimizer_params,
    resolve_device,
    resolve_dtype,
    seeded,
    set_l2,
    set_lr,
)
from sktangent.estimators.fitted import FittedNet, frame_or
from sktangent.estimators.parameters import CONSTRAINTS
from sktangent.estimators.schedule import Schedule, plan
from sktangent.estimators.tangent_data import moments
from sktangent.estimators.training_rows import TangentRows, keep_or_compute, take_rows
from sktangent.modules import MLP
from sktangent.net import TangentPropNet
from sktangent.training.stopping import Stopping, unchanged_on_failure

_PREDICT_BATCH_SIZE = 4096
_N_PROBES = 2
_SET_ON_OLD_NET = ("n_projections", "autocast", "batch_size", "verbose")


class TangentPropEstimator(FittedNet, ABC):
    """What the classifier and the regressor share."""

    _parameter_constraints: dict = CONSTRAINTS

    @abstractmethod
    def _check_target(self, y: np.ndarray, fresh: bool, classes=None) -> np.ndarray:
        """Check the target and, if ``fresh``, learn its labels or its number of outputs."""

    @abstractmethod
    def _encode_target(self, y: np.ndarray, weight: np.ndarray, fresh: bool) -> np.ndarray:
        """Turn the target into what the criterion takes."""

    @property
    @abstractmethod
    def _n_outputs(self) -> int:
        """Number of outputs that the network must have."""

    @abstractmethod
    def _criterion_params(self) -> dict:
        """Tell the parameters of the criterion beside the penalty weight."""

    def _scale_derivatives(self, d: np.ndarray) -> np.ndarray:
        return d

    def _tangent_scale(self, n_tangents: int) -> np.ndarray | float:
        """Tell what to multiply each tangent by, and the derivatives wanted along it."""
        return 1.0

    def _check_activations(self, module: nn.Module, probes: torch.Tensor) -> None:
        """Warn of activations that the penalty cannot shape."""

    def _target_weight(self, y: np.ndarray) -> np.ndarray | float:
        return 1.0

    def _stratify(self, y: np.ndarray) -> np.ndarray | None:
        return None

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
    ):
        self._check_params_are_known()
        if incremental and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True.")
        given = X
        X, y = self._check_data(X, y, fresh, classes)
        weight = self._check_weight(X, y, sample_weight)
        if fresh:
            self._random_state = check_random_state(self.random_state)
        train, valid = self._split(y, weight)
        device = resolve_device(self.device)
        with seeded(self._random_state.randint(np.iinfo(np.int32).max), device):
            target = self._encode_target(y, weight, fresh)
            if fresh:
                self._fit_preprocessor(frame_or(given, X), y, train)
                self._x_scale = None
            if not self._keeps_tangents(fresh, incremental):
                self._fit_tangents(frame_or(given, X), y, train)
            if derivatives is not None and self._x_scale is None:
                self._x_scale = moments(X[train].reshape(len(X[train]), -1), weight[train])[1]
            if fresh or not incremental:
                self._mean_weight = weight[train].mean()
            inputs = {
                "x": self._preprocess(given, X),
                **_relative_weight(weight, self._mean_weight, X.dtype),
            }
            budget = self._memory_budget()
            train_inputs = take_rows(inputs, train, budget)
            find = self._tangent_rows(frame_or(given, X), X, tangents, derivatives)
            if find is not None:
                train_inputs.update(keep_or_compute(find, X, train, budget))
            schedule = plan(
                self,
                len(target[train]),
                find,
                incremental,
                net=None if fresh else self.net_,
            )
            if fresh:
                net = self._new_net(inputs["x"], target, device, schedule)
            else:
                net = self._old_net(schedule)
            if fresh and schedule.optimizer == "lm" and isinstance(net.module_, MLP):
                _standardize(net.module_, inputs["x"][train])
            if fresh and find is not None:
                self._check_activations(net.module_, torch.tensor(inputs["x"][:1], device=device))
            net.train_split = _fixed_split(inputs, target, valid)
            epochs = 1 if incremental else schedule.epochs
            work = multiplications(net.module_, train_inputs, schedule.batch_size)
            with (
                threads_for(work),
                contextlib.nullcontext() if fresh else unchanged_on_failure(net),
            ):
                try:
                    net.partial_fit(_plain_or_dict(train_inputs), target[train], epochs=epochs)
                finally:
                    net.train_split = None
        self.net_ = net
        return self

    def _check_data(self, X, y, fresh: bool, classes) -> tuple[np.ndarray, np.ndarray]:
        X, y = validate_data(
            self,
            X,
            y,
            dtype=resolve_dtype(self.dtype),
            allow_nd=True,
            multi_output=True,
            y_numeric=isinstance(self, RegressorMixin),
            reset=fresh,
        )
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        y = self._check_target(y, fresh, classes)
        if fresh:
            self._input_shape, self._dtype = X.shape[1:], X.dtype
        if self.autocast is not None and self._dtype != np.float32:
            raise ValueError(
                f"autocast={self.autocast!r} is for float32, and the network has {self._dtype}; "
                "set dtype='float32'."
            )
        return self._check_input(X), y

    def _check_weight(self, X, y, sample_weight) -> np.ndarray:
        weight = _check_sample_weight(
            sample_weight, X, dtype=np.float64, ensure_non_negative=True
        ) * self._target_weight(y)
        if not weight.any():
            raise ValueError("sample_weight, times class_weight, is zero for every sample.")
        return weight

    def _split(self, y: np.ndarray, weight: np.ndarray):
        """Find the samples to train on, those of weight zero left out, and those to validate on."""
        counted = np.flatnonzero(weight)
        if self.early_stopping:
            return train_test_split(
                counted,
                test_size=self.validation_fraction,
                random_state=self._random_state,
                stratify=self._stratify(y[counted]),
            )
        return (slice(None) if len(counted) == len(weight) else counted), None

    def _fit_preprocessor(self, X, y: np.ndarray, train) -> None:
        vars(self).pop("preprocessor_", None)
        if self.preprocessor is not None:
            self.preprocessor_ = clone(self.preprocessor).fit(_safe_indexing(X, train), y[train])

    def _keeps_tangents(self, fresh: bool, incremental: bool) -> bool:
        """Tell whether ``tangents_`` stays as the first call of ``partial_fit`` has left it."""
        is_same = getattr(self, "_tangents_fitted", None) is self.tangents
        return incremental and not fresh and is_same and hasattr(self, "tangents_")

    def _fit_tangents(self, X, y: np.ndarray, train) -> None:
        """Keep the ``tangents`` callable, fitted on the samples as they were given if it can be."""
        vars(self).pop("tangents_", None)
        if self.tangents is not None:
            self.tangents_ = self.tangents
            if hasattr(self.tangents, "fit"):
                self.tangents_ = clone(self.tangents).fit(_safe_indexing(X, train), y[train])
        self._tangents_fitted = self.tangents

    def _memory_budget(self) -> float:
        """Tell how many bytes copies may take before rows are computed as they are needed."""
        if any(name.startswith("iterator_train__") for name in self._get_skorch_params()):
            return math.inf  # a loader of torch's takes arrays only
        return get_config()["working_memory"] * 2**20

    def _tangent_rows(self, frame, X, tangents, derivatives) -> TangentRows | None:
        """Tell where tangents and derivatives come from, if there is to be a penalty."""
        sources = (tangents, self.tangents, derivatives)
        if self.penalty_weight == 0 or all(source is None for source in sources):
            return None
        return TangentRows(self, frame, X, tangents, derivatives)

    def _new_net(self, X, target, device, schedule: Schedule) -> TangentPropNet:
        skorch_params = self._get_skorch_params()
        module_params = _pop_prefixed(skorch_params, "module__")
        mlp_params = {
            "hidden_layer_sizes": self.hidden_layer_sizes,
            "activation": self.activation,
        }
        module = build_module(
            self.module, module_params, X.shape[1:], self._n_outputs, mlp_params
        ).to(device=device, dtype=_torch_dtype(self._dtype))
        probes = torch.tensor(X[:_N_PROBES], device=device)
        outputs = check_module(module, probes, self._n_outputs)
        net = TangentPropNet(
            module,
            **{
                **optimizer_params(schedule.optimizer, self._l2(schedule), module),
                **{f"criterion__{key}": value for key, value in self._criterion_params().items()},
                **self._changing_params(schedule),
                "iterator_train__random_state": self._random_state,
                "iterator_valid__batch_size": _PREDICT_BATCH_SIZE,
                "callbacks": [*(self.callbacks or []), ("stopping", self._stopping(schedule))],
                "device": str(device),
                "compile": self.compile,
                **skorch_params,
            },
        ).initialize()
        mark_own_lr(net)
        check_criterion(net.criterion_, outputs, torch.as_tensor(target[:_N_PROBES], device=device))
        return net

    def _old_net(self, schedule: Schedule) -> TangentPropNet:
        """Tell the net of the last fit what has changed since."""
        net, skorch_params = self.net_, self._get_skorch_params()
        params = {**self._changing_params(schedule), **skorch_params}
        net.compile = self.compile  # set_params would build the module anew
        net.criterion_.penalty_weight = params["criterion__penalty_weight"]
        net.iterator_train__shuffle = params["iterator_train__shuffle"]
        net.set_params(**{name: params[name] for name in _SET_ON_OLD_NET})
        set_lr(net, schedule.lr, given=skorch_params)
        set_l2(net, self._l2(schedule), given=skorch_params)
        stopping = dict(net.callbacks_).get("stopping")
        if isinstance(stopping, Stopping):
            stopping.set_params(**self._stopping(schedule).get_params())
            stopping.set_params(**_pop_prefixed(skorch_params, "callbacks__stopping__"))
        return net

    def _changing_params(self, schedule: Schedule) -> dict:
        """Collect the parameters of the net that may change from one call to the next."""
        return {
            "criterion__penalty_weight": self.penalty_weight,
            "n_projections": self.n_projections,
            "autocast": self.autocast,
            "lr": schedule.lr,
            "batch_size": schedule.batch_size,
            "iterator_train__shuffle": self.shuffle,
            "verbose": self.verbose,
        }

    def _l2(self, schedule: Schedule) -> float | None:
        if schedule.alpha is None:
            return None
        return float(schedule.alpha / schedule.batch_size / self._mean_weight)

    def _stopping(self, schedule: Schedule) -> Stopping:
        return Stopping(
            monitor="valid_loss" if self.early_stopping else "train_loss",
            patience=schedule.patience,
            tol=self.tol,
            relative_tol=schedule.relative_tol,
            restore_best=self.early_stopping,
        )


def _standardize(module: MLP, x: np.ndarray) -> None:
    """Let a new network see samples in the standard units of their features."""
    x = x.reshape(len(x), -1)
    statistics = moments(x, np.ones(len(x)))
    module.expect(*(torch.as_tensor(s).to(module[0].weight) for s in statistics))


def _relative_weight(weight: np.ndarray, mean: float, dtype: np.dtype) -> dict[str, np.ndarray]:
    if np.allclose(weight[weight > 0], mean, rtol=1e-9, atol=0):
        return {}
    return {"sample_weight": (weight / mean).astype(dtype)}


def _fixed_split(inputs: dict[str, np.ndarray], target: np.ndarray, valid: np.ndarray | None):
    return (
        None
        if valid is None
        else predefined_split(Dataset(take_rows(inputs, valid), target[valid]))
    )


def _plain_or_dict(inputs: dict) -> np.ndarray | dict:
    """Leave out the dict of inputs that are samples alone, so that callbacks see plain samples."""
    plain = inputs.keys() == {"x"} and isinstance(inputs["x"], np.ndarray)
    return inputs["x"] if plain else inputs


def _torch_dtype(dtype: np.dtype) -> torch.dtype:
    return torch.from_numpy(np.empty(0, dtype=dtype)).dtype


def _pop_prefixed(params: dict, prefix: str) -> dict:
    names = [name for name in params if name.startswith(prefix)]
    return {name.removeprefix(prefix): params.pop(name) for name in names}
