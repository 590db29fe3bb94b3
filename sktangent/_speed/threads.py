"""Helpers that work ahead, on cores that torch leaves them."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor

import torch

from sktangent._speed import are_shortcuts_on

# with one, a core idles while it works for longer than what uses its results, or for less long
_N_HELPERS = 2


def map_ahead(function: Callable, values: Iterable) -> Iterator:
    """Do what ``map`` does, in a thread that works on a value while the one before it is used.

    The values are asked for in the thread that iterates. The other ends with the iterator.

    Examples
    --------
    >>> from sktangent._speed.threads import map_ahead
    >>> list(map_ahead(abs, [-1, -2]))
    [1, 2]
    """
    with ThreadPoolExecutor(1) as helper:
        yield from _ahead(helper, 1, function, values)


def map_beside(function: Callable, values: Iterable) -> Iterator:
    """Do what :func:`map_ahead` does, on cores that torch leaves; without any, what ``map`` does.

    Two threads help: while a core is not needed for what uses the results, both work ahead. Until
    the iterator ends, torch computes with one thread in each of them, and with one less than before
    in the thread that iterates.
    """
    before = torch.get_num_threads()
    if before == 1 or not _may_share_out():
        yield from map(function, values)
        return
    try:
        torch.set_num_threads(1)
        with ThreadPoolExecutor(_N_HELPERS) as helpers:
            # a new thread takes the number of the process when it first asks for its own
            together = threading.Barrier(_N_HELPERS)
            starts = [helpers.submit(_begin, together) for _ in range(_N_HELPERS)]
            for start in starts:
                start.result()
            torch.set_num_threads(before - 1)
            yield from _ahead(helpers, _N_HELPERS, function, values)
    finally:
        torch.set_num_threads(before)


def _ahead(helpers: Executor, n_ahead: int, function: Callable, values: Iterable) -> Iterator:
    values = iter(values)
    pending = deque(helpers.submit(function, value) for value in itertools.islice(values, n_ahead))
    while pending:
        result = pending.popleft().result()
        pending.extend(helpers.submit(function, value) for value in itertools.islice(values, 1))
        yield result


def _begin(together: threading.Barrier) -> None:
    together.wait()
    torch.get_num_threads()


def _may_share_out() -> bool:
    """Tell whether to change torch's number of threads, which in part is the process's."""
    return threading.current_thread() is threading.main_thread() and are_shortcuts_on()
