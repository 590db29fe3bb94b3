"""One thread for small networks, whose products end sooner than a second thread has begun."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import torch

from sktangent._speed import are_shortcuts_on

# multiplications in a pass over a batch, from which on more threads were measured to pay
_MIN_WORK = 2**21


@contextlib.contextmanager
def threads_for(work: float) -> Iterator[None]:
    """Let torch compute with one thread if there is little to do, and put its number back.

    Only Python's main thread does so.

    Parameters
    ----------
    work : float
        Multiplications in a pass over a batch.

    Examples
    --------
    >>> import torch
    >>> from sktangent._speed.threads import threads_for
    >>> with threads_for(1000):
    ...     torch.get_num_threads()
    1
    """
    before = torch.get_num_threads()
    # the number is in part the process's, so only one thread may change it
    is_main = threading.current_thread() is threading.main_thread()
    if work >= _MIN_WORK or not is_main or not are_shortcuts_on():
        yield
        return
    try:
        torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(before)
