"""One thread for small networks, whose products end sooner than a second thread has begun."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import torch

# multiplications in a pass over a batch, from which on more threads were measured to pay
_MIN_WORK = 2**21

_lock = threading.Lock()
_n_limited, _n_threads = 0, 1


@contextlib.contextmanager
def threads_for(work: float) -> Iterator[None]:
    """Let torch compute with one thread if there is little to do, and put its number back.

    Parameters
    ----------
    work : float
        Multiplications in a pass over a batch.

    Examples
    --------
    >>> import torch
    >>> from sktangent.threads import threads_for
    >>> with threads_for(1000):
    ...     torch.get_num_threads()
    1
    """
    if work >= _MIN_WORK:
        yield
        return
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _n_limited, _n_threads
    with _lock:
        if _n_limited == 0:  # a thread that comes later is told the lowered number
            _n_threads = torch.get_num_threads()
        _n_limited += 1
    torch.set_num_threads(1)


def _leave() -> None:
    global _n_limited
    with _lock:
        _n_limited -= 1
        torch.set_num_threads(_n_threads)
