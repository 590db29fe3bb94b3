"""How a fit goes when the user leaves it to the library: optimizer, batches, epochs, patience."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral

from sklearn.base import is_regressor

from sktangent.estimators.moved_rows import MovedRows, moves_samples
from sktangent.estimators.tangent_rows import TangentRows
from sktangent.training.optimizers import LBFGS

_BATCH_SIZE = 200
_EPOCHS, _STEPS = 200, 3000
_PATIENCE_EPOCHS, _PATIENCE_STEPS = 10, 300
# derivatives say what a few tangents of slope zero leave open, and are fitted sooner
_LBFGS_EPOCHS, _LBFGS_EPOCHS_WITH_DERIVATIVES, _LBFGS_PATIENCE = 100, 30, 25
# L-BFGS goes on to fit noise where Adam stops before, so it is left to data with little of it:
# very few samples, that tangents hold in place, or derivatives, as simulations give them
_FEW_WITH_TANGENTS, _FEW_WITH_DERIVATIVES = 20, 1000
_NOT_FOR_LBFGS = ("n_projections", "autocast", "augment")
# what is said of steps, and of when to stop because of noise, is said of Adam
_SAID_OF_ADAM = ("lr", "batch_size", "max_epochs", "n_iter_no_change")
_PREFIXES_OF_ADAM = ("optimizer__", "iterator_train__")


@dataclass(frozen=True)
class Schedule:
    """The parameters of an estimator with every "auto" replaced.

    Attributes
    ----------
    optimizer : str or class
        Name or class of the optimizer.
    lr : float
        Learning rate.
    batch_size : int
        Samples in a batch.
    epochs : int
        Epochs, at most.
    patience : int or infinity
        Epochs without progress after which training ends.
    relative_tol : bool
        Whether progress is measured as a part of the loss.
    """

    optimizer: object
    lr: float
    batch_size: int
    epochs: int
    patience: float
    relative_tol: bool


def plan(
    estimator, n_samples: int, tangents: TangentRows | MovedRows | None, incremental: bool, net=None
) -> Schedule:
    """Choose what an estimator's parameters leave open; a ``net`` to go on with stays as it is."""
    if net is None:
        optimizer = _choose_optimizer(estimator, n_samples, tangents, incremental)
    else:
        optimizer = "lbfgs" if isinstance(net.optimizer_, LBFGS) else net.optimizer
    if optimizer == "lbfgs" and incremental:
        raise ValueError(
            "optimizer='lbfgs' needs all samples at once; for partial_fit set another before the "
            "first fit, 'adam' for example."
        )
    for name in _NOT_FOR_LBFGS:
        if optimizer == "lbfgs" and _is_in_use(estimator, name):
            raise ValueError(
                "optimizer='lbfgs' needs a loss without noise; with "
                f"{name}={getattr(estimator, name)!r} set another, 'adam' for example."
            )
    batch_size = _choose_batch_size(estimator, n_samples, optimizer)
    steps = math.ceil(n_samples / batch_size)
    if optimizer == "lbfgs":
        known = tangents is not None and tangents.with_derivatives
        epochs = _LBFGS_EPOCHS_WITH_DERIVATIVES if known else _LBFGS_EPOCHS
        patience, lr = _LBFGS_PATIENCE, 1.0
    else:
        epochs = max(_EPOCHS, math.ceil(_STEPS / steps))
        patience = max(_PATIENCE_EPOCHS, math.ceil(_PATIENCE_STEPS / steps))
        lr = 1e-3
    return Schedule(
        optimizer=optimizer,
        lr=lr if estimator.lr == "auto" else estimator.lr,
        batch_size=batch_size,
        epochs=epochs if estimator.max_epochs == "auto" else estimator.max_epochs,
        patience=patience if estimator.n_iter_no_change == "auto" else estimator.n_iter_no_change,
        relative_tol=optimizer == "lbfgs",
    )


def _choose_optimizer(
    estimator, n_samples: int, tangents: TangentRows | MovedRows | None, incremental: bool
):
    if estimator.optimizer != "auto":
        return estimator.optimizer
    if tangents is None:
        return "adam"
    few = _FEW_WITH_DERIVATIVES if tangents.with_derivatives else _FEW_WITH_TANGENTS
    suits = (
        is_regressor(estimator)
        and n_samples <= few
        and estimator.module is None  # which is known to be deterministic
        and all(getattr(estimator, name) == "auto" for name in _SAID_OF_ADAM)
        and not estimator.early_stopping
        and not any(_is_in_use(estimator, name) for name in _NOT_FOR_LBFGS)
        and not any(name.startswith(_PREFIXES_OF_ADAM) for name in vars(estimator))
        and not incremental
    )
    return "lbfgs" if suits else "adam"


def _is_in_use(estimator, name: str) -> bool:
    value = getattr(estimator, name)
    return moves_samples(value) if name == "augment" else value is not None


def _choose_batch_size(estimator, n_samples: int, optimizer) -> int:
    batch_size = getattr(estimator, "iterator_train__batch_size", estimator.batch_size)
    if batch_size == -1:  # skorch's word for all
        return n_samples
    if batch_size != "auto" and not (isinstance(batch_size, Integral) and batch_size > 0):
        raise ValueError(
            f"iterator_train__batch_size must be a positive integer or -1, got {batch_size!r}."
        )
    if optimizer != "lbfgs":
        return min(_BATCH_SIZE if batch_size == "auto" else batch_size, n_samples)
    if batch_size != "auto" and batch_size < n_samples:
        raise ValueError(
            f"optimizer='lbfgs' needs all {n_samples} samples in one batch, got "
            f"batch_size={batch_size}."
        )
    return n_samples
