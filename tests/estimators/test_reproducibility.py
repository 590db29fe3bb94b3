import multiprocessing
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
import torch
from sklearn.ensemble import BaggingClassifier, BaggingRegressor
from sklearn.model_selection import train_test_split
from torch import nn

from sktangent import TangentPropClassifier, TangentPropRegressor
from sktangent.modules import MLP
from sktangent.tangents import FeatureTangents
from tests.estimators.fits import fit_with_dropout

BOTH = pytest.mark.parametrize("estimator", [TangentPropClassifier, TangentPropRegressor])


def with_dropout():
    return nn.Sequential(nn.Linear(4, 30), nn.GELU(), nn.Dropout(), nn.Linear(30, 3))


def with_dropout_and_one_output():
    return nn.Sequential(*with_dropout(), nn.Linear(3, 1))


def noisy(estimator, **params):
    """Build an estimator that draws initial parameters, a split, batches and dropout masks."""
    is_classifier = estimator is TangentPropClassifier
    module = with_dropout if is_classifier else with_dropout_and_one_output
    defaults = {"module": module, "max_epochs": 5, "batch_size": 20, "early_stopping": True}
    return estimator(FeatureTangents(), **{**defaults, "random_state": 3, **params})


def predictions(model, X):
    return model.decision_function(X) if hasattr(model, "classes_") else model.predict(X)


@BOTH
def test_the_same_seed_gives_the_same_model(estimator, X, three_labels):
    first = predictions(noisy(estimator).fit(X, three_labels), X)
    np.random.seed(9)  # noqa: NPY002
    torch.manual_seed(9)
    second = predictions(noisy(estimator).fit(X, three_labels), X)
    other = predictions(noisy(estimator, random_state=4).fit(X, three_labels), X)
    np.testing.assert_array_equal(first, second)
    assert not np.allclose(first, other)


@BOTH
def test_a_random_state_object_moves_on(estimator, X, three_labels):
    state = np.random.RandomState(3)
    model = noisy(estimator, random_state=state)
    first = predictions(model.fit(X, three_labels), X)
    second = predictions(model.fit(X, three_labels), X)
    assert not np.allclose(first, second)
    seeded = noisy(estimator, random_state=np.random.RandomState(3)).fit(X, three_labels)
    np.testing.assert_array_equal(first, predictions(seeded, X))


def global_states():
    _, key, position, *_ = np.random.get_state()  # noqa: NPY002
    return key.tolist(), position, torch.get_rng_state().tolist(), random.getstate()


@BOTH
def test_global_random_states_are_left_alone(estimator, X, three_labels):
    before = global_states()
    model = noisy(estimator).fit(X, three_labels)
    model.predict(X)
    assert global_states() == before


@BOTH
def test_global_random_states_are_left_alone_when_fit_fails(estimator, X, three_labels):
    before = global_states()
    with pytest.raises(ValueError, match="diverged"):
        noisy(estimator, optimizer="sgd", lr=1e200, max_epochs=50).fit(1e3 * X, three_labels)
    assert global_states() == before


def test_without_a_seed_numpy_decides_as_in_scikit_learn(X, target):
    np.random.seed(0)  # noqa: NPY002
    first = noisy(TangentPropRegressor, random_state=None).fit(X, target).predict(X)
    np.random.seed(0)  # noqa: NPY002
    second = noisy(TangentPropRegressor, random_state=None).fit(X, target).predict(X)
    np.testing.assert_array_equal(first, second)


def test_batches_of_a_loader_follow_the_seed(X, target):
    fits = [
        noisy(TangentPropRegressor, iterator_train__drop_last=True).fit(X, target).predict(X)
        for _ in range(2)
    ]
    np.testing.assert_array_equal(*fits)


def test_the_data_of_the_user_are_not_written_to(X, target):
    class Writing(nn.Linear):
        def forward(self, x):
            return super().forward(x.mul_(2.0))

    given, V, weight = X.copy(), FeatureTangents()(X).copy(), np.ones(60)
    model = TangentPropRegressor(module=Writing, max_epochs=3, shuffle=False, random_state=0)
    model.fit(given, target, weight, V).predict(given)
    np.testing.assert_array_equal(given, X)
    np.testing.assert_array_equal(V, FeatureTangents()(X))
    plain = model.fit(given, target).predict(given)
    np.testing.assert_array_equal(given, X)
    np.testing.assert_array_equal(plain, model.predict(given))


# Fits in threads ----------------------------------------------------------------------------------


def in_threads(function, n_threads=8):
    with ThreadPoolExecutor(n_threads) as pool:
        return list(pool.map(lambda _: function(), range(n_threads)))


class OwnNoise(nn.Module):
    """Draw from torch's global generator, in the constructor, in training and in validation."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 1)

    def forward(self, x):
        return self.linear(x) + 0.1 * torch.randn(1, dtype=x.dtype)


class Noisy(nn.SiLU):
    """An activation that draws in training only."""

    def forward(self, x):
        return super().forward(nn.functional.dropout(x, 0.1, self.training))


FITS = {
    "default network": {"module": None},
    "projections": {"module": None, "n_projections": 1},
    "early stopping": {"module": None, "early_stopping": True},
    "activation class": {"module": None, "activation": Noisy},
    "dropout": {"module": with_dropout_and_one_output, "n_projections": 1},
    "noise of its own": {"module": OwnNoise, "early_stopping": True},
    "loader": {"module": None, "iterator_train__drop_last": True},
    "validation loader": {"early_stopping": True, "iterator_valid__drop_last": False},
}


@pytest.fixture(params=FITS)
def fit(request, X, target):
    """Return a function that fits a model and returns its parameters."""
    params = {"early_stopping": False, "max_epochs": 3, "batch_size": 10, **FITS[request.param]}

    def fit_once():
        model = noisy(TangentPropRegressor, **params).fit(X, target)
        return torch.cat([p.detach().flatten() for p in model.module_.parameters()])

    return fit_once


def test_threads_fit_what_a_lone_fit_does(fit):
    alone, before = fit(), global_states()
    for parameters in in_threads(fit):
        assert torch.equal(parameters, alone)
    assert global_states() == before


@pytest.mark.parametrize("params", [{}, {"n_projections": 1}, {"activation": nn.SiLU}], ids=str)
def test_a_default_network_leaves_other_threads_sequence_alone(params, X, target, seeded):
    expected = torch.cat([torch.rand(1) for _ in range(2000)])
    torch.manual_seed(0)
    model = noisy(TangentPropRegressor, **{"module": None, "max_epochs": 50, **params})
    fitting = threading.Thread(target=lambda: model.fit(X, target))
    fitting.start()
    drawn = []
    while len(drawn) < 2000:
        drawn.append(torch.rand(1))
        time.sleep(0)
    fitting.join()
    assert torch.equal(torch.cat(drawn), expected)


@pytest.mark.parametrize(
    ("ensemble", "estimator"),
    [(BaggingRegressor, TangentPropRegressor), (BaggingClassifier, TangentPropClassifier)],
)
@pytest.mark.parametrize("params", [{"module": None}, {}], ids=["default", "dropout"])
def test_bagging_in_threads_is_bagging_in_turn(ensemble, estimator, params, X, three_labels):
    model = noisy(estimator, early_stopping=False, **params)
    ensembles = []
    for n_jobs in (1, 2):
        with joblib.parallel_config("threading"):
            bagging = ensemble(model, n_estimators=6, n_jobs=n_jobs, random_state=0)
            ensembles.append(bagging.fit(X, three_labels))
    for one, other in zip(*(each.estimators_ for each in ensembles), strict=True):
        np.testing.assert_array_equal(predictions(one, X), predictions(other, X))


def test_eight_threads_predict_from_one_model_while_a_ninth_fits_another(X, target):
    model = noisy(TangentPropRegressor, module=OwnNoise, early_stopping=False).fit(X, target)
    expected, alone = model.predict(X), noisy(TangentPropRegressor).fit(X, target).predict(X)
    before, fitting = global_states(), threading.Event()

    def predict():
        fitting.wait()
        return [model.predict(X) for _ in range(20)]

    def fit():
        fitting.set()
        return [noisy(TangentPropRegressor).fit(X, target).predict(X) for _ in range(3)]

    with ThreadPoolExecutor(9) as pool:
        predicting, ninth = [pool.submit(predict) for _ in range(8)], pool.submit(fit)
    for found in (found for thread in predicting for found in thread.result()):
        np.testing.assert_array_equal(found, expected)
    for found in ninth.result():
        np.testing.assert_array_equal(found, alone)
    assert global_states() == before


def test_a_network_that_draws_when_it_predicts_leaves_global_states_alone(X, target):
    model = noisy(TangentPropRegressor, module=OwnNoise).fit(X, target)
    before = global_states()
    first = model.predict(X), model.jacobian(X), model.directional_derivative(X)
    assert global_states() == before
    torch.manual_seed(5)
    second = model.predict(X), model.jacobian(X), model.directional_derivative(X)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_any_start_method_fits_what_this_process_does(method, X, target):
    with multiprocessing.get_context(method).Pool(1) as pool:
        found = pool.apply(fit_with_dropout, (X, target))
    np.testing.assert_array_equal(found, fit_with_dropout(X, target))


def test_joblibs_processes_fit_what_this_process_does(X, target):
    found = joblib.Parallel(n_jobs=2)(joblib.delayed(fit_with_dropout)(X, target) for _ in range(2))
    for one in found:
        np.testing.assert_array_equal(one, fit_with_dropout(X, target))


def test_initial_parameters_have_torchs_distribution(X, target, seeded):
    model = noisy(TangentPropRegressor, module=None, optimizer="sgd", lr=1e-30, dtype="float32")
    model.fit(X, target)
    seed = np.random.RandomState(3)
    train_test_split(X, test_size=0.1, random_state=seed)
    torch.manual_seed(seed.randint(np.iinfo(np.int32).max))
    for ours, torchs in zip(model.module_.parameters(), MLP(4, 1).parameters(), strict=True):
        assert torch.equal(ours, torchs)
