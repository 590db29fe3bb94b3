"""What is recorded of an epoch: skorch's history and its default callbacks, at less cost."""

from __future__ import annotations

import skorch
from skorch.callbacks import Callback, EpochTimer, PassthroughScoring, PrintLog
from skorch.history import History

from sktangent.training.distributed import sum_over_ranks

# what skorch found by the name print, in whose place others have put their own since, as Ray does
_PRINT = PrintLog().sink


class EpochHistory(History):
    """A :class:`skorch.history.History` that does not copy itself to find its last row.

    In a fit of 2000 epochs of one small batch, the copies are a fifth of the time.

    Examples
    --------
    >>> from sktangent.training.history import EpochHistory
    >>> history = EpochHistory()
    >>> history.new_epoch()
    >>> history.record("train_loss", 0.5)
    >>> history[-1, "train_loss"]
    0.5
    """

    def __getitem__(self, index):
        if isinstance(index, int):
            return list.__getitem__(self, index)
        if isinstance(index, tuple) and index and isinstance(index[0], int):
            return History([list.__getitem__(self, index[0])])[(0, *index[1:])]
        return super().__getitem__(index)


class MeanLoss(PassthroughScoring):
    """Record the mean over an epoch's samples of what each of its batches has recorded.

    The parameters are those of :class:`skorch.callbacks.PassthroughScoring`. What the best value
    is so far is read from the history, so that a history cut short, or loaded, is followed.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> from sktangent.training.history import EpochHistory, MeanLoss
    >>> history = EpochHistory()
    >>> history.new_epoch()
    >>> for size, loss in [(20, 1.0), (10, 4.0)]:
    ...     history.new_batch()
    ...     history.record_batch("train_batch_size", size)
    ...     history.record_batch("train_loss", loss)
    >>> MeanLoss("train_loss", on_train=True).on_epoch_end(SimpleNamespace(history=history))
    >>> history[-1, ("train_loss", "train_loss_best")]
    (2.0, True)
    """

    def on_epoch_end(self, net: skorch.NeuralNet, **kwargs) -> None:
        """Record the mean, if there is one, and whether it is the best so far."""
        size = f"{'train' if self.on_train else 'valid'}_batch_size"
        rows = [row for row in net.history[-1]["batches"] if self.name in row]
        if not rows:
            return
        total, n_samples = sum_over_ranks(
            sum(row[size] * row[self.name] for row in rows), sum(row[size] for row in rows)
        )
        mean = total / n_samples
        net.history.record(self.name, mean)
        if self.lower_is_better is not None:
            net.history.record(f"{self.name}_best", self._is_best(mean, net.history))

    def _is_best(self, mean: float, history: History) -> bool:
        flag = f"{self.name}_best"
        best = next((row[self.name] for row in reversed(history) if row.get(flag)), None)
        if best is None:
            return True
        return mean < best if self.lower_is_better else mean > best


class QuietLog(PrintLog):
    """skorch's table of the losses, put together only where it is shown."""

    def on_epoch_end(self, net: skorch.NeuralNet, **kwargs) -> None:
        """Print the epoch's row, or hand it to ``sink``."""
        if net.verbose or self.sink is not _PRINT:
            super().on_epoch_end(net, **kwargs)


def default_callbacks() -> list[tuple[str, Callback]]:
    """Build the callbacks that every net has: skorch's by their names, and the two terms'.

    Returns
    -------
    callbacks : list of (str, skorch.callbacks.Callback)
        Names and callbacks.

    Examples
    --------
    >>> from sktangent.training.history import default_callbacks
    >>> [name for name, _ in default_callbacks()]  # doctest: +NORMALIZE_WHITESPACE
    ['epoch_timer', 'train_loss', 'train_data_loss', 'train_penalty', 'valid_loss', 'print_log']
    """
    terms = ("train_data_loss", "train_penalty")
    return [
        ("epoch_timer", EpochTimer()),
        ("train_loss", MeanLoss("train_loss", on_train=True)),
        *((term, MeanLoss(term, lower_is_better=None, on_train=True)) for term in terms),
        ("valid_loss", MeanLoss("valid_loss")),
        ("print_log", QuietLog()),
    ]
