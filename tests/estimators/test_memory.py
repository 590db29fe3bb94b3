"""Data too large for the budget of memory: the same model, without the copies."""

import tracemalloc

import numpy as np
import pytest
from sklearn import config_context
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback

from sktangent import TangentPropClassifier, TangentPropRegressor
from sktangent._speed.threads import map_ahead
from sktangent.training.levenberg_marquardt import LevenbergMarquardt

N_SAMPLES, N_FEATURES = 1500, 400  # of which more than one part is made
N_COPIES = 20


class Tangents:
    """Two tangents, and how many samples they were asked for at a time."""

    def __init__(self, derivatives=False):
        self.derivatives = derivatives
        self.calls = []

    def __call__(self, X):
        self.calls.append(len(X))
        V = np.stack([np.roll(X, 1, axis=1) - X, X**2], axis=1)
        if not self.derivatives:
            return V
        d = X[:, :2] * 0.1
        return V, np.where(X[:, 2:4] > 1, np.nan, d)


class Seen(Callback):
    def on_train_begin(self, net, X=None, y=None, **kwargs):
        self.X = X


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(0).normal(size=(N_SAMPLES, N_FEATURES))


@pytest.fixture(scope="module")
def y(X):
    return X[:, 0] + np.sin(X[:, 1])


def quick(tangents=None, cls=TangentPropRegressor, **params):
    params = {"max_epochs": 2, "hidden_layer_sizes": (8,), "random_state": 0, **params}
    return cls(tangents, 0.01, **params)


def fit_both(X, y, derivatives=False, cls=TangentPropRegressor, fit_params=None, **params):
    """Fit with all tangents kept, and with none; return both models and their tangents."""
    fitted = []
    for working_memory in (1024, 1):
        tangents = Tangents(derivatives)
        with config_context(working_memory=working_memory):
            model = quick(tangents, cls, **params).fit(X, y, **(fit_params or {}))
        fitted.append((model, tangents))
    return fitted


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"derivatives": True},
        {"preprocessor": StandardScaler()},
        {"n_projections": 1},
        {"early_stopping": True},
        {"shuffle": False, "batch_size": 512},
        {"optimizer": "lbfgs"},
    ],
    ids=lambda params: next(iter(params), "plain"),
)
def test_the_model_is_the_same_either_way(X, y, params):
    (kept, kept_tangents), (computed, computed_tangents) = fit_both(X, y, **params)
    np.testing.assert_allclose(computed.predict(X), kept.predict(X), rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(computed.penalty_curve_, kept.penalty_curve_)
    assert sum(kept_tangents.calls) <= N_SAMPLES < sum(computed_tangents.calls)


def test_samples_without_weight_and_derivatives_from_an_array(X, y):
    weight = np.arange(N_SAMPLES) % 3
    d = np.random.default_rng(1).normal(size=(N_SAMPLES, 2))
    (kept, _), (computed, _) = fit_both(
        X, y, fit_params={"sample_weight": weight, "derivatives": d}, optimizer="adam"
    )
    np.testing.assert_allclose(computed.predict(X), kept.predict(X), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(
    ("params", "fit_params"),
    [
        ({"early_stopping": True}, {}),
        ({}, {"sample_weight": np.r_[np.ones(N_SAMPLES - 100), np.zeros(100)]}),
    ],
    ids=["early stopping", "zero weights"],
)
def test_without_tangents(X, y, params, fit_params):
    fits = []
    for working_memory in (1024, 1):
        with config_context(working_memory=working_memory):
            fits.append(quick(**params).fit(X, y, **fit_params).predict(X))
    np.testing.assert_array_equal(*fits)


def test_the_optimizer_is_chosen_alike(X, y):
    params = {"max_epochs": "auto", "hidden_layer_sizes": (1,), "tol": 1.0}
    fits = fit_both(X[:900], y[:900], derivatives=True, **params)
    assert {type(model.net_.optimizer_) for model, _ in fits} == {LevenbergMarquardt}


def test_many_tangents_of_few_samples(X, y):
    asked = []

    def tangents(X):
        asked.append(len(X))
        return np.stack([np.roll(X, shift, axis=1) for shift in range(100)], axis=1)

    model = quick(tangents, max_epochs=1, batch_size=50)
    kept = model.fit(X[:200], y[:200]).predict(X)
    assert asked == [200]
    with config_context(working_memory=8):  # 64 MiB are needed
        np.testing.assert_allclose(model.fit(X[:200], y[:200]).predict(X), kept)
    assert max(asked[1:]) * 100 * X[0].nbytes < 16 * 2**20
    assert asked[2:] == [50] * 4


def test_a_classifier(X):
    y = (X[:, 0] > 0).astype(int)
    (kept, _), (computed, _) = fit_both(X, y, cls=TangentPropClassifier, class_weight="balanced")
    np.testing.assert_allclose(computed.predict_proba(X), kept.predict_proba(X), rtol=1e-9)


def test_tangents_are_asked_for_batch_by_batch(X, y):
    tangents = Tangents()
    with config_context(working_memory=1):
        quick(tangents, batch_size=100).fit(X, y)
    assert tangents.calls[0] < N_SAMPLES
    assert tangents.calls[1:] == [100] * 30


def test_a_loader_of_torch_gets_arrays(X, y):
    tangents = Tangents()
    with config_context(working_memory=1):
        quick(tangents, iterator_train__num_workers=0, max_epochs=1).fit(X, y)
    assert sum(tangents.calls) == N_SAMPLES


def test_parts_with_another_number_of_tangents(X, y):
    def uneven(X):
        return np.ones((len(X), 1 + (len(X) > 500), N_FEATURES))

    with pytest.raises(ValueError, match="2 tangents for one part of X and 1 for another"):
        quick(uneven).fit(X, y)


@pytest.fixture
def on_disk(X, tmp_path):
    np.save(tmp_path / "X.npy", np.tile(X, (N_COPIES, 1)).astype(np.float32))
    return np.load(tmp_path / "X.npy", mmap_mode="r")


def test_a_memory_map_is_not_copied(on_disk, y):
    seen = Seen()
    model = quick(callbacks=[("seen", seen)], max_epochs=1).fit(on_disk, np.tile(y, N_COPIES))
    assert np.shares_memory(seen.X, on_disk)
    np.testing.assert_allclose(model.predict(on_disk), model.predict(np.array(on_disk)))


@pytest.mark.parametrize("params", [{"max_epochs": 1}, {"max_epochs": 1, "early_stopping": True}])
def test_a_memory_map_larger_than_the_budget(on_disk, y, params):
    quick(**params).fit(on_disk[:50], y[:50])  # what torch imports in a first fit does not count
    tracemalloc.start()
    with config_context(working_memory=1):
        quick(Tangents(), **params).fit(on_disk, np.tile(y, N_COPIES))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < on_disk.nbytes


def test_working_ahead_changes_nothing_but_the_time():
    assert list(map_ahead(str, iter(range(5)))) == list("01234")
    assert list(map_ahead(str, iter([]))) == []
    with pytest.raises(ZeroDivisionError):
        list(map_ahead(lambda n: 1 / n, iter([1, 0])))


def test_tangents_that_are_kept_are_not_held_twice(X, y):
    X = np.tile(X, (N_COPIES, 1)).astype(np.float32)
    quick(max_epochs=1).fit(X[:50], y[:50])  # what torch imports in a first fit does not count
    tracemalloc.start()
    quick(lambda X: np.stack([X, X, X], axis=1), max_epochs=1).fit(X, np.tile(y, N_COPIES))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.5 * 3 * X.nbytes


ORDERS = {
    "C": np.array,
    "F": np.asfortranarray,
    "samples innermost": lambda V: np.array(V.transpose(1, 2, 0)).transpose(2, 0, 1),
    "reversed": lambda V: np.array(V[::-1, ::-1, ::-1])[::-1, ::-1, ::-1],
    "sliced": lambda V: np.repeat(V, 2, axis=2)[:, :, ::2],
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("as_callable", [False, True], ids=["array", "callable"])
@pytest.mark.parametrize("weight", [None, np.r_[0.0, np.ones(N_SAMPLES - 1)]], ids=["all", "some"])
def test_what_is_kept_is_in_c_order(X, y, order, as_callable, weight):
    def tangents(X):
        return np.stack([np.roll(X, shift, axis=1) for shift in range(3)], axis=1)

    X, seen = X[:, :10], Seen()
    expected = quick(max_epochs=1).fit(X, y, weight, tangents=tangents).predict(X)
    given = (lambda X: ORDERS[order](tangents(X))) if as_callable else ORDERS[order](tangents(X))
    model = quick(max_epochs=1, callbacks=[("seen", seen)])
    model.fit(np.asfortranarray(X), y, weight, tangents=given)
    assert all(seen.X[name].flags.c_contiguous for name in ("x", "tangents"))
    np.testing.assert_array_equal(model.predict(X), expected)


def test_an_array_in_c_order_is_not_copied(X, y):
    V, seen = np.stack([X, X**2], axis=1), Seen()
    quick(max_epochs=1, callbacks=[("seen", seen)]).fit(X, y, tangents=V)
    assert np.shares_memory(seen.X["tangents"], V)


def test_an_array_that_repeats_its_tangents_stays_a_view(X, y):
    V = np.broadcast_to(np.eye(N_FEATURES), (N_SAMPLES, N_FEATURES, N_FEATURES))
    weight = np.r_[0.0, np.ones(N_SAMPLES - 1)]
    quick(max_epochs=1).fit(X[:50], y[:50])  # what torch imports in a first fit does not count
    tracemalloc.start()
    quick(max_epochs=1).fit(X, y, weight, tangents=V)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 0.05 * V.nbytes
