import numpy as np
import pytest
import torch
from torch import nn

from sktangent import TangentPropClassifier, TangentPropRegressor
from sktangent.tangents import FeatureTangents

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
    return key.tolist(), position, torch.get_rng_state().tolist()


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
