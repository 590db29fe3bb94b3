"""Small networks train with one thread, and the number of threads is what it was afterwards."""

import contextlib
import threading
import warnings

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback
from torch import nn

from sktangent import TangentPropClassifier, TangentPropRegressor
from sktangent._speed import shortcuts
from sktangent._speed.threads import _MIN_WORK, map_beside, threads_for
from sktangent.estimators.build import multiplications
from sktangent.modules import MLP
from sktangent.tangents import ImageTangents


@pytest.fixture(autouse=True)
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


class Counter(Callback):
    def on_batch_begin(self, net, **kwargs):
        self.n_threads_ = torch.get_num_threads()


def threads_of(X, y, *, estimator=TangentPropClassifier, fit_params=None, **params):
    counter = Counter()
    estimator(callbacks=[("counter", counter)], max_epochs=1, **params).fit(
        X, y, **(fit_params or {})
    )
    assert torch.get_num_threads() == 3
    return counter.n_threads_


def test_by_the_work_of_a_step(X, three_labels):
    assert threads_of(X, three_labels) == 1
    assert threads_of(X, three_labels, hidden_layer_sizes=(20_000,)) == 3
    assert threads_of(X, three_labels, hidden_layer_sizes=(20_000,), batch_size=5) == 1


def test_tangents_are_work(X, three_labels):
    width = {"hidden_layer_sizes": (2000,)}
    assert threads_of(X, three_labels, **width) == 1
    tangents = np.ones((60, 4, 4))
    assert threads_of(X, three_labels, fit_params={"tangents": tangents}, **width) == 3


def test_the_work_of_other_modules_is_not_known(X, three_labels):
    module = nn.Sequential(nn.Linear(4, 3)).double()
    assert threads_of(X, three_labels, module=module) == 3


def test_few_samples_with_derivatives(X, target):
    given = {"derivatives": np.ones((60, 4))}
    assert threads_of(X, target, estimator=TangentPropRegressor, fit_params=given) == 1


def test_the_number_is_put_back_when_a_fit_fails(X, target):
    class Failing(Callback):
        def on_batch_end(self, net, **kwargs):
            raise RuntimeError("no more")

    model = TangentPropRegressor(callbacks=[("failing", Failing())])
    with pytest.raises(RuntimeError, match="no more"):
        model.fit(X, target)
    assert torch.get_num_threads() == 3


def test_much_work_leaves_the_number_alone():
    with threads_for(_MIN_WORK):
        assert torch.get_num_threads() == 3
    with threads_for(_MIN_WORK - 1):
        assert torch.get_num_threads() == 1


def test_small_fits_within_small_fits():
    with threads_for(0):
        with threads_for(0):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3


def test_other_threads_leave_the_number_alone():
    seen = []

    def fit():
        torch.set_num_threads(2)
        with threads_for(0):
            seen.append(torch.get_num_threads())

    other = threading.Thread(target=fit)
    other.start()
    other.join()
    assert seen == [2]
    assert torch.get_num_threads() == 3


def test_a_gpu_leaves_the_number_alone():
    inputs, module = {"x": np.zeros((4, 3))}, MLP(3, 2, 4)
    assert multiplications(module, inputs, batch_size=4) < _MIN_WORK
    assert multiplications(module.to("meta"), inputs, batch_size=4) == np.inf


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
    assert threading.active_count() == 1


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


def test_a_helper_that_fails_is_heard_and_leaves_no_thread():
    with pytest.raises(ZeroDivisionError):
        list(map_beside(lambda n: 1 / n, [2, 1, 0]))
    assert torch.get_num_threads() == 3
    assert threading.active_count() == 1


@pytest.mark.parametrize(
    ("stop", "heard"),
    [(RuntimeError, pytest.raises(RuntimeError)), (KeyboardInterrupt, contextlib.nullcontext())],
)
def test_a_fit_that_stops_leaves_no_thread(stop, heard):
    class Stopping(Callback):
        def on_batch_end(self, net, **kwargs):
            self.n_threads_ = threading.active_count()
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
    assert stopping.n_threads_ == 2
    assert threading.active_count() == 1
    assert torch.get_num_threads() == 3
