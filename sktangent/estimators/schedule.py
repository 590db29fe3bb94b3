"""How a fit goes when the user leaves it to the library: optimizer, batches, epochs, patience."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from numbers import Integral
from typing import NamedTuple

import numpy as np
from sklearn.base import is_regressor

from sktangent._memory import described
from sktangent.estimators.moved_rows import MovedRows, moves_samples
from sktangent.estimators.tangent_rows import TangentRows
from sktangent.modules import as_sizes
from sktangent.training.levenberg_marquardt import LevenbergMarquardt
from sktangent.training.optimizers import LBFGS

_BATCH_SIZE = 200
_EPOCHS, _STEPS = 200, 3000
_PATIENCE_EPOCHS, _PATIENCE_STEPS = 10, 300
_LBFGS_EPOCHS, _LBFGS_PATIENCE = 100, 25
# Levenberg-Marquardt: multiplications of an iteration, and of a whole fit, at most. 1 - R² of
# values by defaults, medians of three to five random states, BFGS in brackets: Rastrigin 2-D from
# 100 points with gradients 1e-9 (3e-6), Branin 2-D 50 points 2e-8 (2e-3), Friedman 5-D 100 points
# 6e-9 (4e-5); with 1 % noise, of eight, Rastrigin 4e-5 (4e-5), Branin 5e-5 (2e-3), Friedman 2e-5
# (5e-5), camel 2-D 60 points 9e-5 (2e-4)
_LM_WORK_AT_ONCE, _LM_WORK, _LM_TOTAL = 2e9, 1.2e10, 1e11
_LM_ITERATIONS, _LM_EPOCHS = 10, 60
# epochs in which the loss may rise while the L2 weights settle, on all samples and on batches
_LM_PATIENCE, _LM_PATIENCE_ON_BATCHES = 5, 2
# where all samples are too many, batches with so many numbers for each parameter say enough
_NUMBERS_PER_PARAMETER, _LM_ITERATIONS_ON_BATCHES = 4, 2
# it goes on to fit noise where Adam stops before; with derivatives the L2 weight is chosen so that
# it does not, and without them it is left to very few samples, that tangents hold in place
_FEW_WITH_TANGENTS = 20
# networks for known derivatives of one output, by the inputs and the numbers that are known of it.
# 1 - R² of values with (12, 12) and with (12, 12, 12), medians of two to five random states:
# Hartmann's function 6-D from 400 points 9e-3 and 8e-5 (with 1 % noise 9e-3 and 2e-4), waves 10-D
# 300 points 3e-4 and 1e-5, an 8-D ratio 250 points 8e-6 and 6e-7, piston 7-D 100 points 2e-5 and
# 6e-6, robot arm 8-D 300 points 8e-6 and 3e-6; Friedman, borehole, wing weight about the same
_HIDDEN, _WIDE, _DEEP, _DEEPER = (100,), (30,), (12, 12, 12), (20, 20)
_INPUTS_OF_DEEP, _INPUTS_OF_WIDE, _FEW_NUMBERS = range(3, 13), range(13, 31), 5000
# x sin x between -5 and 5, of five values and slopes: 1 - R² 2e-3 with 1e-4, and 1e-1 by evidence
_ALPHA, _NUMBERS_THAT_TELL_NOISE = 1e-4, 30
FULL_BATCH = ("lbfgs", "lm")
NAMES = {LBFGS: "lbfgs", LevenbergMarquardt: "lm"}
_NOISY = ("n_projections", "autocast", "augment")
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
    alpha : float or None
        The L2 weight; None: left to the optimizer.
    iterations : int
        Iterations of Levenberg-Marquardt on a batch.
    hidden_layer_sizes : int or sequence of int
        Units of the default network.
    """

    optimizer: object
    lr: float
    batch_size: int
    epochs: int
    patience: float
    relative_tol: bool
    alpha: float | None
    iterations: int
    hidden_layer_sizes: object

    def step_on(self, inputs: dict) -> str:
        """Tell what a step of the optimizer works on."""
        parts = [
            f"{name} {described((self.batch_size, *part.shape[1:]), part.itemsize)}"
            for name, part in inputs.items()
            if isinstance(part, np.ndarray)
        ]
        return f"a step of optimizer {self.optimizer!r} on {', '.join(parts) or 'computed rows'}"


def plan(
    estimator, n_samples: int, tangents: TangentRows | MovedRows | None, incremental: bool, net=None
) -> Schedule:
    """Choose what an estimator's parameters leave open; a ``net`` to go on with stays as it is."""
    sizes = _choose_sizes(estimator, n_samples, tangents)
    size = _size(estimator, sizes, tangents)
    if net is None:
        optimizer = _choose_optimizer(estimator, n_samples, tangents, incremental, size)
    else:
        optimizer = NAMES.get(type(net.optimizer_), net.optimizer)
    if optimizer in FULL_BATCH and incremental:
        raise ValueError(
            f"optimizer={optimizer!r} needs all samples at once; for partial_fit set another "
            "before the first fit, 'adam' for example."
        )
    if optimizer == "lm" and estimator.accelerator is not None:
        raise ValueError(
            "optimizer='lm' needs the residuals of all samples in one process; with an accelerator "
            "set another, 'lbfgs' for example."
        )
    for name in _NOISY:
        if optimizer in FULL_BATCH and _is_in_use(estimator, name):
            raise ValueError(
                f"optimizer={optimizer!r} needs a loss without noise; with "
                f"{name}={getattr(estimator, name)!r} set another, 'adam' for example."
            )
    batch_size = _choose_batch_size(estimator, n_samples, optimizer, size)
    steps = math.ceil(n_samples / batch_size)
    iterations = _LM_ITERATIONS if steps == 1 else _LM_ITERATIONS_ON_BATCHES
    if optimizer == "lm":
        work = iterations * steps * size.work(batch_size)
        epochs = min(max(round(_LM_TOTAL / work), 1), _LM_EPOCHS)
        patience, lr = _LM_PATIENCE if steps == 1 else _LM_PATIENCE_ON_BATCHES, 1e-3
    elif optimizer == "lbfgs":
        epochs, patience, lr = _LBFGS_EPOCHS, _LBFGS_PATIENCE, 1.0
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
        relative_tol=optimizer in FULL_BATCH,
        alpha=_choose_alpha(estimator, optimizer, n_samples, tangents),
        iterations=iterations,
        hidden_layer_sizes=sizes,
    )


def _choose_sizes(estimator, n_samples: int, tangents: TangentRows | MovedRows | None):
    if not isinstance(estimator.hidden_layer_sizes, str):
        return estimator.hidden_layer_sizes
    has_slopes = tangents is not None and tangents.with_derivatives
    if not has_slopes or len(estimator._target_scale) > 1:
        return _HIDDEN
    n_tangents, *shape = tangents.shape
    n_inputs = math.prod(shape)
    if n_inputs in _INPUTS_OF_DEEP:
        return _DEEP if n_samples * (1 + n_tangents) <= _FEW_NUMBERS else _DEEPER
    return _WIDE if n_inputs in _INPUTS_OF_WIDE else _HIDDEN


def _choose_optimizer(
    estimator,
    n_samples: int,
    tangents: TangentRows | MovedRows | None,
    incremental: bool,
    size: _Size,
):
    if estimator.optimizer != "auto":
        return estimator.optimizer
    if tangents is None:
        return "adam"
    if tangents.with_derivatives:
        is_small = size.work(min(n_samples, size.batch_size())) <= _LM_WORK
    else:
        is_small = n_samples <= _FEW_WITH_TANGENTS
    suits = (
        is_regressor(estimator)
        and is_small
        and estimator.criterion in (None, "squared_error")
        and estimator.module is None  # which is known to be deterministic
        and all(getattr(estimator, name) == "auto" for name in _SAID_OF_ADAM)
        and not estimator.early_stopping
        and estimator.accelerator is None
        and not any(_is_in_use(estimator, name) for name in _NOISY)
        and not any(name.startswith(_PREFIXES_OF_ADAM) for name in vars(estimator))
        and not incremental
    )
    return "lm" if suits else "adam"


def _choose_alpha(
    estimator, optimizer, n_samples: int, tangents: TangentRows | None
) -> float | None:
    if estimator.alpha != "auto":
        return estimator.alpha
    is_known = tangents is not None and tangents.with_derivatives
    if optimizer != "lm" or not is_known:
        return _ALPHA
    n_numbers = n_samples * (1 + tangents.shape[0])
    return None if n_numbers >= _NUMBERS_THAT_TELL_NOISE else _ALPHA


class _Size(NamedTuple):
    """How much there is to do for Levenberg-Marquardt.

    Attributes
    ----------
    numbers_each : int
        What a sample brings: values and derivatives.
    n_params : int
        Parameters of the default network.
    """

    numbers_each: int
    n_params: int

    def work(self, n_samples: int) -> float:
        """Count the multiplications in an iteration: a matrix times itself, the smaller way."""
        n_rows = n_samples * self.numbers_each
        return n_rows * self.n_params * min(n_rows, self.n_params)

    def batch_size(self) -> int:
        """Count the samples that say enough where all are too many."""
        return math.ceil(_NUMBERS_PER_PARAMETER * self.n_params / self.numbers_each)


def _size(estimator, hidden_layer_sizes, tangents: TangentRows | MovedRows | None) -> _Size:
    n_tangents, *shape = (0, 1) if tangents is None else tangents.shape
    n_outputs = len(estimator._target_scale)
    sizes = [math.prod(shape), *as_sizes(hidden_layer_sizes), n_outputs]
    n_params = sum((n_in + 1) * n_out for n_in, n_out in itertools.pairwise(sizes))
    return _Size((1 + n_tangents) * n_outputs, n_params)


def _is_in_use(estimator, name: str) -> bool:
    value = getattr(estimator, name)
    return moves_samples(value) if name == "augment" else value is not None


def _choose_batch_size(estimator, n_samples: int, optimizer, size: _Size) -> int:
    batch_size = getattr(estimator, "iterator_train__batch_size", estimator.batch_size)
    if batch_size == -1:  # skorch's word for all
        return n_samples
    if batch_size != "auto" and not (isinstance(batch_size, Integral) and batch_size > 0):
        raise ValueError(
            f"iterator_train__batch_size must be a positive integer or -1, got {batch_size!r}."
        )
    if optimizer not in FULL_BATCH:
        return min(_BATCH_SIZE if batch_size == "auto" else batch_size, n_samples)
    if batch_size != "auto" and batch_size < n_samples:
        raise ValueError(
            f"optimizer={optimizer!r} needs all {n_samples} samples in one batch, got "
            f"batch_size={batch_size}."
        )
    is_lm = optimizer == "lm" and batch_size == "auto" and estimator.optimizer == "auto"
    if is_lm and size.work(n_samples) > _LM_WORK_AT_ONCE:
        return min(n_samples, size.batch_size())
    return n_samples
