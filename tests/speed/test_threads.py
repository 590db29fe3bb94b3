"""Small networks train with one thread, and the number of threads is what it was afterwards."""

import threading

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback
from torch import nn

from sktangent import TangentPropClassifier, TangentPropRegressor
from sktangent._speed.threads import _MIN_WORK, threads_for
from sktangent.estimators.build import multiplications
from sktangent.modules import MLP


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
