"""The skorch net that trains an estimator: a new one, or that of the last fit with what changed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from sktangent.estimators.build import (
    build_module,
    check_criterion,
    check_module,
    mark_own_lr,
    optimizer_params,
    set_l2,
    set_lr,
)
from sktangent.estimators.schedule import Schedule
from sktangent.net import TangentPropNet
from sktangent.training.distributed import writes
from sktangent.training.progress import Progress
from sktangent.training.stopping import Stopping

_PREDICT_BATCH_SIZE = 4096
_N_PROBES = 2
_SET_ON_OLD_NET = ("n_projections", "autocast", "batch_size", "verbose")


def build_net(
    make: Callable[..., TangentPropNet],
    estimator,
    schedule: Schedule,
    l2: float,
    criterion_params: dict,
    X: np.ndarray,
    target: np.ndarray,
    n_outputs: int,
    device: torch.device,
) -> TangentPropNet:
    """Build the net that an estimator's parameters describe.

    Parameters
    ----------
    make : callable
        Takes the module and the parameters of a net, and makes the net.
    estimator : TangentPropEstimator
        Its public parameters are read.
    schedule : Schedule
        Those of them that were left open.
    l2 : float
        Weight of the L2 term.
    criterion_params : dict
        Parameters of the criterion beside the penalty weight.
    X : ndarray of shape (n_samples, *input_shape)
        Samples as the network sees them.
    target : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        What the criterion compares the outputs with.
    n_outputs : int
        Number of outputs that the network must have.
    device : torch.device
        Where it trains.

    Returns
    -------
    net : TangentPropNet
        The net, initialized.
    """
    module_params = _pop_prefixed(estimator._get_skorch_params(), "module__")
    mlp_params = {
        "hidden_layer_sizes": schedule.hidden_layer_sizes,
        "activation": estimator.activation,
    }
    module = build_module(estimator.module, module_params, X.shape[1:], n_outputs, mlp_params)
    probes = torch.tensor(X[:_N_PROBES], device=device)
    module = module.to(device=device, dtype=probes.dtype)
    outputs = check_module(module, probes, n_outputs)
    _check_callbacks(estimator.callbacks or [])
    net = wrap(module, make, estimator, schedule, l2, criterion_params, device)
    check_criterion(net.criterion_, outputs, torch.as_tensor(target[:_N_PROBES], device=device))
    return net


def wrap(
    module: nn.Module,
    make: Callable[..., TangentPropNet],
    estimator,
    schedule: Schedule,
    l2: float | None,
    criterion_params: dict,
    device: torch.device,
) -> TangentPropNet:
    """Put a network into a net that trains it as an estimator's parameters say.

    Parameters
    ----------
    module : nn.Module
        The network, on the device.
    make, estimator, schedule, l2, criterion_params, device
        As in :func:`build_net`.

    Returns
    -------
    net : TangentPropNet
        The net, initialized.
    """
    skorch_params = estimator._get_skorch_params()
    _pop_prefixed(skorch_params, "module__")
    progress = ("progress", Progress(is_shown=False))
    stopping = ("stopping", Stopping(**_stopping_params(estimator, schedule)))
    net = make(
        module,
        **{
            **optimizer_params(schedule.optimizer, l2, module),
            **({"optimizer__max_iter": schedule.iterations} if schedule.optimizer == "lm" else {}),
            **{f"criterion__{name}": value for name, value in criterion_params.items()},
            **_changing_params(estimator, schedule),
            "iterator_valid__batch_size": _PREDICT_BATCH_SIZE,
            "callbacks": [progress, *(estimator.callbacks or []), stopping],
            "device": str(device),
            "compile": estimator.compile,
            **skorch_params,
        },
    ).initialize()
    mark_own_lr(net)
    _check_names_of_callbacks(net, skorch_params)
    return net


def go_on_with(net: TangentPropNet, estimator, schedule: Schedule, l2: float) -> TangentPropNet:
    """Tell the net of the last fit what has changed since.

    Parameters
    ----------
    net : TangentPropNet
        The net.
    estimator, schedule, l2
        As in :func:`build_net`.

    Returns
    -------
    net : TangentPropNet
        The same.
    """
    skorch_params = estimator._get_skorch_params()
    params = {**_changing_params(estimator, schedule), **skorch_params}
    net.compile = estimator.compile  # set_params would build the module anew
    net.criterion_.penalty_weight = params["criterion__penalty_weight"]
    net.iterator_train__shuffle = params["iterator_train__shuffle"]
    net.set_params(**{name: params[name] for name in _SET_ON_OLD_NET})
    set_lr(net, schedule.lr, given=skorch_params)
    set_l2(net, l2, given=skorch_params)
    stopping = dict(net.callbacks_).get("stopping")
    if isinstance(stopping, Stopping):
        stopping.set_params(**_stopping_params(estimator, schedule))
        stopping.set_params(**_pop_prefixed(skorch_params, "callbacks__stopping__"))
    return net


def show_progress(net: TangentPropNet, estimator, epochs: int) -> None:
    """Let the net tell how far it has got, if the estimator is to be that verbose.

    Parameters
    ----------
    net : TangentPropNet
        The net.
    estimator : TangentPropEstimator
        Its ``verbose`` is read.
    epochs : int
        How many epochs there will be, at most.
    """
    progress = dict(net.callbacks_).get("progress")
    if isinstance(progress, Progress):
        progress.set_params(epochs=epochs, is_shown=estimator.verbose == 1 and writes())


def _changing_params(estimator, schedule: Schedule) -> dict:
    """Collect the parameters of the net that may change from one call to the next."""
    return {
        "criterion__penalty_weight": estimator.penalty_weight,
        "n_projections": estimator.n_projections,
        "autocast": estimator.autocast,
        "lr": schedule.lr,
        "batch_size": schedule.batch_size,
        "iterator_train__shuffle": estimator.shuffle,
        "verbose": max(int(estimator.verbose) - 1, 0) if writes() else 0,
    }


def _stopping_params(estimator, schedule: Schedule) -> dict:
    return {
        "monitor": "valid_loss" if estimator.early_stopping else "train_loss",
        "patience": schedule.patience,
        "tol": estimator.tol,
        "relative_tol": schedule.relative_tol,
        "restore_best": estimator.early_stopping,
    }


def _check_callbacks(callbacks: list) -> None:
    for given in callbacks:
        callback = given[1] if isinstance(given, tuple) and len(given) == 2 else given
        if callback is not None and not hasattr(callback, "on_train_begin"):
            raise TypeError(f"callbacks must hold callbacks of skorch, got {given!r}.")


def _check_names_of_callbacks(net: TangentPropNet, skorch_params: dict) -> None:
    """Refuse parameters of callbacks that are not there, which skorch does not mind."""
    given = [named[0] for named in net.callbacks if isinstance(named, tuple)]
    defaults = [name for name, _ in net.get_default_callbacks()]  # None takes one of these away
    known = list(dict.fromkeys([*defaults, *given, *(name for name, _ in net.callbacks_)]))
    for parameter in skorch_params:
        room, name, *_ = parameter.split("__")
        if room == "callbacks" and name not in known:
            raise ValueError(f"{parameter} is for none of the callbacks, {known}.")


def _pop_prefixed(params: dict, prefix: str) -> dict:
    names = [name for name in params if name.startswith(prefix)]
    return {name.removeprefix(prefix): params.pop(name) for name in names}
