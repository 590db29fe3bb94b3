"""When to end training: no more progress, or a loss that is no longer a number."""

from __future__ import annotations

import contextlib
import copy
import math
import warnings
from collections.abc import Iterator

import skorch
import torch
from skorch.callbacks import Callback


class StopTraining(KeyboardInterrupt):
    """A callback ended training: told apart from the user, who does it with Ctrl-C."""


class TrainingDiverged(ValueError):
    """The loss, or a parameter, is infinite or not a number."""


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let callbacks end training quietly, and say so when the user does.

    Examples
    --------
    >>> from sktangent.training.stopping import StopTraining, interruptible
    >>> with interruptible():
    ...     raise StopTraining
    """
    try:
        yield
    except StopTraining:
        pass
    except KeyboardInterrupt:
        warnings.warn("Training was interrupted; what was learned so far is kept.", stacklevel=4)
        raise


class Stopping(Callback):
    """End training when a loss stops improving, and keep the best parameters if asked.

    Parameters
    ----------
    monitor : str, default="train_loss"
        The column of the history to watch; smaller is better.
    patience : int, default=10
        Epochs in a row without an improvement of ``tol`` after which training ends.
    tol : float, default=1e-4
        The improvement that counts.
    relative_tol : bool, default=False
        Measure it as a part of the best loss.
    restore_best : bool, default=False
        Put the parameters of the best epoch back when training ends.

    Raises
    ------
    TrainingDiverged
        If the training loss, or in the end a parameter, is infinite or not a number.
    ValueError
        During training, if there are no batches, or if the loss to watch is not recorded.

    Examples
    --------
    >>> from sktangent.training.stopping import Stopping
    >>> Stopping(monitor="valid_loss", patience=5, restore_best=True).patience
    5
    """

    def __init__(
        self,
        monitor: str = "train_loss",
        patience: int = 10,
        tol: float = 1e-4,
        relative_tol: bool = False,
        restore_best: bool = False,
    ) -> None:
        self.monitor = monitor
        self.patience = patience
        self.tol = tol
        self.relative_tol = relative_tol
        self.restore_best = restore_best

    def on_train_begin(self, net, **kwargs) -> None:
        """Forget what an earlier training saw."""
        self.best_ = math.inf
        self.stale_epochs_ = 0
        self.best_state_ = None

    def on_epoch_end(self, net, **kwargs) -> None:
        """Compare the epoch's loss with the best, and end training if it is time."""
        row = net.history[-1]
        if row.get("train_batch_count") == 0:
            raise ValueError("The iterator over the training samples yielded no batch.")
        if not math.isfinite(row.get("train_loss", 0)):
            raise TrainingDiverged(_diverged(net, f"the loss is {row['train_loss']}"))
        if self.monitor not in row:
            raise ValueError(f"monitor={self.monitor!r} is not recorded; there are {sorted(row)}.")
        loss = row[self.monitor]
        stale = loss > self.best_ - self.tol * (self.best_ if self.relative_tol else 1)
        self.stale_epochs_ = self.stale_epochs_ + 1 if stale else 0
        if loss < self.best_:
            self.best_ = loss
            if self.restore_best:
                state = net.module_.state_dict()
                self.best_state_ = {key: value.clone() for key, value in state.items()}
        if self.stale_epochs_ > self.patience:
            raise KeyboardInterrupt  # how skorch's callbacks end training

    def on_train_end(self, net, **kwargs) -> None:
        """Put the best parameters back, and check that the last step did not break them."""
        if self.best_state_ is not None:
            net.module_.load_state_dict(self.best_state_)
            self.best_state_ = None
        if not all(torch.isfinite(parameter).all() for parameter in net.module_.parameters()):
            raise TrainingDiverged(_diverged(net, "parameters are no longer finite"))


@contextlib.contextmanager
def unchanged_on_failure(net: skorch.NeuralNet) -> Iterator[None]:
    """Put a net's parameters, optimizer and history back if what is done with it fails.

    Parameters
    ----------
    net : skorch.NeuralNet
        The net.

    Examples
    --------
    >>> import torch
    >>> from sktangent.net import TangentPropNet
    >>> from sktangent.training.stopping import unchanged_on_failure
    >>> net = TangentPropNet(torch.nn.Linear(1, 1)).initialize()
    >>> before = net.module_.bias.item()
    >>> try:
    ...     with unchanged_on_failure(net):
    ...         _ = net.module_.bias.data.fill_(torch.nan)
    ...         raise ValueError
    ... except ValueError:
    ...     net.module_.bias.item() == before
    True
    """
    states = [copy.deepcopy(part.state_dict()) for part in (net.module_, net.optimizer_)]
    n_epochs = len(net.history)
    try:
        yield
    except Exception:
        net.module_.load_state_dict(states[0])
        net.optimizer_.load_state_dict(states[1])
        del net.history[n_epochs:]
        raise


def _diverged(net, how: str) -> str:
    return (
        f"Training diverged: {how} in epoch {len(net.history)}. Try a smaller lr or "
        "penalty_weight, inputs and tangents of a smaller scale, or gradient clipping "
        "(skorch.callbacks.GradientNormClipping in callbacks)."
    )
