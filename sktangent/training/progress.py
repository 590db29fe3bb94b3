"""How far training has got, told in one line."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator

from skorch.callbacks import Callback
from tqdm import tqdm

# seconds between two lines in a log
_INTERVAL = 10.0
_FORMAT = "epoch {n_fmt}/{total_fmt}{postfix}, {elapsed}<{remaining} |{bar}|"
_TERMS = {"data term": "train_data_loss", "penalty": "train_penalty", "validation": "valid_loss"}


class Progress(Callback):
    """Show the epoch, the terms of the loss and the time left.

    In a terminal and in a notebook it is one bar. Where standard error goes into a file or a pipe,
    a line comes every ten seconds and in the end. Of fits in worker processes and threads, which
    would write over one another's bars, only the last line.

    Parameters
    ----------
    epochs : int, default=None
        How many epochs there will be, at most. None: the net's ``max_epochs``.
    is_shown : bool, default=True
        Whether to show anything.

    Examples
    --------
    >>> import torch
    >>> from sktangent.net import TangentPropNet
    >>> from sktangent.training.progress import Progress
    >>> net = TangentPropNet(torch.nn.Linear(1, 1), max_epochs=3, verbose=0,
    ...                      callbacks=[("progress", Progress())])
    >>> net.initialize().callbacks_[-1][0]
    'print_log'
    """

    def __init__(self, epochs: int | None = None, is_shown: bool = True) -> None:
        self.epochs = epochs
        self.is_shown = is_shown

    def on_train_begin(self, net, **kwargs) -> None:
        """Start the bar or the lines."""
        if self.is_shown:
            self._teller = _teller(self.epochs or net.max_epochs)
            self._n_before = len(net.history)

    def on_epoch_end(self, net, **kwargs) -> None:
        """Tell of the epoch."""
        if self.is_shown:
            n_done = len(net.history) - self._n_before
            self._teller.skip(n_done - 1 - self._teller.n_told)
            self._teller.tell(_describe(net.history[-1]))

    def on_train_end(self, net, **kwargs) -> None:
        """Tell that training has ended."""
        if self.is_shown:
            self._teller.close()
            del self._teller, self._n_before

    def __getstate__(self) -> dict:
        # what training that failed has left holds a stream
        left = ("_teller", "_n_before")
        return {name: value for name, value in vars(self).items() if name not in left}


@contextlib.contextmanager
def told(epochs: int, is_shown: bool) -> Iterator[Callable[[str], None]]:
    """Show how far training without a net has got, as :class:`Progress` does.

    Parameters
    ----------
    epochs : int
        How many epochs there will be, at most.
    is_shown : bool
        Whether to show anything.

    Yields
    ------
    tell : callable
        To be called after each epoch, with a few words on it.

    Examples
    --------
    >>> from sktangent.training.progress import told
    >>> with told(2, is_shown=False) as tell:
    ...     tell("9 networks")
    """
    if not is_shown:
        yield lambda words: None
        return
    teller = _teller(epochs)
    try:
        yield teller.tell
    finally:
        teller.close()


class _Bar:
    """A bar, in a terminal or a notebook."""

    def __init__(self, epochs: int) -> None:
        from tqdm.auto import tqdm  # in a notebook it looks for widgets, and warns of none

        self.bar = tqdm(total=epochs, bar_format=_FORMAT, **_width())

    @property
    def n_told(self) -> int:
        return self.bar.n

    def skip(self, n: int) -> None:
        """Count epochs that were done before, of which the time left knows nothing."""
        self.bar.initial += n
        self.bar.n += n

    def tell(self, terms: str) -> None:
        self.bar.set_postfix_str(terms, refresh=False)
        self.bar.update()

    def close(self) -> None:
        self.bar.close()


class _Lines:
    """Lines, one each interval and one in the end."""

    def __init__(self, epochs: int, interval: float) -> None:
        self.epochs, self.interval = epochs, interval
        self.n_told, self.n_skipped, self.terms = 0, 0, ""
        self.start = self.last = time.monotonic()

    def skip(self, n: int) -> None:
        self.n_told += n
        self.n_skipped += n

    def tell(self, terms: str) -> None:
        self.n_told, self.terms = self.n_told + 1, terms
        now = time.monotonic()
        if now - self.last >= self.interval and self.n_told < self.epochs:
            each = (now - self.start) / (self.n_told - self.n_skipped)
            left = each * (self.epochs - self.n_told)
            self._write(f"{_duration(left)} left")
            self.last = now

    def close(self) -> None:
        self._write(f"{_duration(time.monotonic() - self.start)} in all")

    def _write(self, seconds: str) -> None:
        parts = [f"epoch {self.n_told}/{self.epochs}", self.terms, seconds]
        # in one piece, so that no other process writes between line and line feed
        sys.stderr.write(", ".join(part for part in parts if part) + "\n")
        sys.stderr.flush()


def _teller(epochs: int) -> _Bar | _Lines:
    is_main = (
        multiprocessing.current_process().name == "MainProcess"
        and threading.current_thread() is threading.main_thread()
    )
    if not is_main:
        return _Lines(epochs, math.inf)
    return _Bar(epochs) if _is_redrawn() else _Lines(epochs, _INTERVAL)


def _is_redrawn() -> bool:
    """Tell whether what is written can be written over: in a terminal or a notebook."""
    is_notebook = "ipykernel" in sys.modules and "IPKernelApp" in _ipython_config()
    return is_notebook or sys.stderr.isatty()


def _ipython_config():
    from IPython import get_ipython

    shell = get_ipython()
    return () if shell is None else shell.config


def _width() -> dict:
    """Follow the width of the terminal, unless it does not tell its own."""
    try:
        told = os.get_terminal_size(sys.stderr.fileno()).columns > 0
    except (OSError, ValueError):  # a notebook's stream
        return {}
    return {"dynamic_ncols": True} if told else {"ncols": 80}


def _describe(row: dict) -> str:
    terms = {name: row[column] for name, column in _TERMS.items() if row.get(column)}
    return ", ".join(f"{name} {value:.3g}" for name, value in terms.items())


def _duration(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds < 10 else tqdm.format_interval(seconds)
