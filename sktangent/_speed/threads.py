"""A helper that works ahead, on a core that torch leaves it."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch

from sktangent._speed import are_shortcuts_on


def map_ahead(function: Callable, values: Iterable) -> Iterator:
    """Do what ``map`` does, in a thread that works on values while those before them are used.

    The values are asked for in the thread that iterates. The other ends with the iterator. It is
    up to two values ahead: with one, it waited a tenth of the time for what to do next.

    Examples
    --------
    >>> from sktangent._speed.threads import map_ahead
    >>> list(map_ahead(abs, [-1, -2]))
    [1, 2]
    """
    with ThreadPoolExecutor(1, "sktangent") as helper:
        yield from _ahead(helper, function, values)


def map_beside(function: Callable, values: Iterable) -> Iterator:
    """Do what :func:`map_ahead` does, on a core that torch leaves; without any, what ``map`` does.

    Until the iterator ends, torch computes with one thread in the helper, and with one less than
    before in the thread that iterates.
    """
    before = torch.get_num_threads()
    if before == 1 or not _may_share_out():
        yield from map(function, values)
        return
    try:
        with ThreadPoolExecutor(1, "sktangent") as helper:
            # a new thread takes the number of the process when it first asks for its own
            torch.set_num_threads(1)
            helper.submit(torch.get_num_threads).result()
            torch.set_num_threads(before - 1)
            yield from _ahead(helper, function, values)
    finally:
        torch.set_num_threads(before)


def _ahead(helper: ThreadPoolExecutor, function: Callable, values: Iterable) -> Iterator:
    values = iter(values)
    pending = deque(helper.submit(function, value) for value in itertools.islice(values, 2))
    while pending:
        result = pending.popleft().result()
        pending.extend(helper.submit(function, value) for value in itertools.islice(values, 1))
        yield result


def _may_share_out() -> bool:
    """Tell whether to change torch's number of threads, which in part is the process's."""
    return threading.current_thread() is threading.main_thread() and are_shortcuts_on()
