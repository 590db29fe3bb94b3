"""skorch's history, with reading and writing the newest epoch independent of how many there are."""

from __future__ import annotations

from skorch.history import History


class EpochHistory(History):
    """A :class:`skorch.history.History` that does not copy itself to find its last row.

    Examples
    --------
    >>> from sktangent.history import EpochHistory
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
