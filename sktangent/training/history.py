"""skorch's history, with reading and writing the newest epoch independent of how many there are."""

from __future__ import annotations

from collections.abc import Sequence

from skorch.history import History


class EpochHistory(History):
    """A :class:`skorch.history.History` that does not copy itself to find its last row.

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


def record_losses(
    history: History,
    columns: Sequence[str],
    batches: Sequence[dict],
    losses: Sequence[Sequence[float]],
    sizes: Sequence[int],
) -> None:
    """Record the losses of the newest epoch: of its batches, and their means over the samples.

    Parameters
    ----------
    history : skorch.history.History
        The history.
    columns : sequence of str
        Names of the losses; whether the first one's mean is the lowest so far is recorded too.
    batches : sequence of dict
        The batches' rows in the history.
    losses : sequence of sequence of float
        The batches' losses, one for each column.
    sizes : sequence of int
        The batches' numbers of samples.

    Examples
    --------
    >>> from sktangent.training.history import EpochHistory, record_losses
    >>> history = EpochHistory()
    >>> history.new_epoch()
    >>> record_losses(history, ["train_loss"], [{}, {}], [[1.0], [4.0]], [20, 10])
    >>> history[-1, ("train_loss", "train_loss_best")]
    (2.0, True)
    """
    for row, values in zip(batches, losses, strict=True):
        row.update(zip(columns, values, strict=True))
    for column, values in zip(columns, zip(*losses, strict=True), strict=True):
        mean = sum(n * x for n, x in zip(sizes, values, strict=True)) / sum(sizes)
        history.record(column, mean)
    _record_best(history, columns[0])


def _record_best(history: History, column: str) -> None:
    rows = list.__reversed__(history)
    newest = next(rows)
    best = next((row[column] for row in rows if row.get(f"{column}_best")), None)
    history.record(f"{column}_best", best is None or newest[column] < best)
