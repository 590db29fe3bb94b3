"""Helpers work on cores that torch leaves them, and none is left after a fit."""

import contextlib
import threading
import warnings

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback

from sktangent import TangentPropClassifier
from sktangent._speed import shortcuts
from sktangent._speed.threads import map_beside
from sktangent.tangents import ImageTangents


@pytest.fixture(autouse=True)
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def helpers():
    """Count the threads that help."""
    return sum(thread.name.startswith("sktangent") for thread in threading.enumerate())


def numbers_of_threads():
    """Return torch's number where values are used, and where each of them is computed."""
    seen = set()
    computed = []
    for name, n_threads in map_beside(
        lambda _: (threading.current_thread().name, torch.get_num_threads()), range(6)
    ):
        seen.add(torch.get_num_threads())
        computed.append((name, n_threads))
    return seen, computed


def test_a_helper_takes_one_thread_from_torch():
    used, computed = numbers_of_threads()
    assert used == {2}
    assert {n_threads for _, n_threads in computed} == {1}
    assert threading.current_thread().name not in {name for name, _ in computed}
    assert torch.get_num_threads() == 3
    assert helpers() == 0


def test_nobody_helps_without_a_thread_to_spare():
    here = threading.current_thread().name
    torch.set_num_threads(1)
    assert numbers_of_threads() == ({1}, [(here, 1)] * 6)
    torch.set_num_threads(3)
    with shortcuts(False):
        assert numbers_of_threads() == ({3}, [(here, 3)] * 6)


def test_the_next_value_is_worked_on_while_a_result_is_used():
    asked, here, second = [], threading.current_thread(), threading.Event()

    def values():
        for n in range(20):
            assert threading.current_thread() is here
            asked.append(n)
            yield n

    def function(n):
        if n == 1:
            second.set()
        return -n

    results = map_beside(function, values())
    assert next(results) == 0
    assert second.wait(5)
    assert list(results) == [-n for n in range(1, 20)]
    assert asked == list(range(20))


def test_a_helper_does_not_wait_for_a_result_to_be_used():
    third = threading.Event()
    results = map_beside(lambda n: third.set() if n == 2 else n, range(20))
    assert next(results) == 0
    assert third.wait(5)
    results.close()
    assert helpers() == 0


def test_a_helper_that_fails_is_heard_and_leaves_no_thread():
    with pytest.raises(ZeroDivisionError):
        list(map_beside(lambda n: 1 / n, [2, 1, 0]))
    assert torch.get_num_threads() == 3
    assert helpers() == 0


@pytest.mark.parametrize(
    ("stop", "heard"),
    [(RuntimeError, pytest.raises(RuntimeError)), (KeyboardInterrupt, contextlib.nullcontext())],
)
def test_a_fit_that_stops_leaves_no_thread(stop, heard):
    class Stopping(Callback):
        def on_batch_end(self, net, **kwargs):
            self.n_helpers_ = helpers()
            raise stop("no more")

    X = np.random.default_rng(0).random((600, 784), dtype=np.float32)
    stopping = Stopping()
    model = TangentPropClassifier(
        ImageTangents((28, 28)), augment=1, batch_size=100, callbacks=[("stops", stopping)]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with heard:
            model.fit(X, np.arange(600) % 10)
    assert stopping.n_helpers_ == 1
    assert helpers() == 0
    assert torch.get_num_threads() == 3
