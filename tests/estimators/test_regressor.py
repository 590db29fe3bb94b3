import numpy as np
import pytest
from sklearn.exceptions import DataConversionWarning
from sklearn.utils.validation import check_is_fitted
from torch import nn

from sktangent import TangentPropRegressor
from sktangent.tangents import FeatureTangents


def quick(tangents=None, **params):
    return TangentPropRegressor(tangents, **{"max_epochs": 5, "random_state": 0, **params})


@pytest.mark.parametrize("n_outputs", [None, 1, 3])
def test_shape_of_the_target(n_outputs, X, target):
    y = target if n_outputs is None else np.outer(target, np.arange(1.0, n_outputs + 1))
    model = quick(FeatureTangents(), max_epochs=20)
    if n_outputs == 1:  # scikit-learn's rule
        with pytest.warns(DataConversionWarning):
            model.fit(X, y)
        assert model.predict(X).shape == (60,)
    else:
        assert model.fit(X, y).predict(X).shape == y.shape


def test_outputs_are_learned_each_in_its_own_scale(X, target):
    Y = np.column_stack([target, 1e6 * X[:, 1] - 3e6, 1e-6 * X[:, 0]])
    model = quick(max_epochs=500, lr=0.01).fit(X, Y)
    error = np.mean((model.predict(X) - Y) ** 2, axis=0) / Y.var(axis=0)
    assert error.max() < 0.01


def test_units_of_the_target_do_not_matter(X, target):
    model = quick(FeatureTangents(), max_epochs=50)
    plain = model.fit(X, target)
    expected, penalty = plain.predict(X), plain.penalty_curve_
    scaled = model.fit(X, 1000 * target + 5)
    np.testing.assert_allclose(scaled.predict(X), 1000 * expected + 5, rtol=1e-6)
    np.testing.assert_allclose(scaled.penalty_curve_, penalty, rtol=1e-6)


def test_without_normalization_the_loss_is_in_units_of_the_target(X, target):
    model = quick(normalize_y=False, max_epochs=1, lr=1e-12).fit(X, 10 * target)
    error = np.mean((model.predict(X) - 10 * target) ** 2)
    assert model.loss_curve_[0] == pytest.approx(error, rel=1e-6)


def test_normalization_weighs_samples(X, target):
    weight = np.r_[np.ones(30), np.zeros(30)]
    y = np.r_[target[:30], np.full(30, 1e6)]
    first = quick(max_epochs=1, lr=1e-12).fit(X, y, sample_weight=weight)
    second = quick(max_epochs=1, lr=1e-12).fit(X[:30], y[:30])
    np.testing.assert_allclose(first.predict(X), second.predict(X), rtol=1e-9)


@pytest.mark.parametrize("value", [0.0, 7.0, 1e9])
def test_a_constant_target(value, X):
    model = quick(max_epochs=300, lr=0.01).fit(X, np.full(60, value))
    np.testing.assert_allclose(model.predict(X), value, atol=0.1, rtol=1e-8)


def test_the_first_partial_fit_fixes_the_scale(X, target):
    model = quick().partial_fit(X[:30], target[:30])
    before = model.predict(X)
    model.set_params(lr=1e-12).partial_fit(X[30:], 100 * target[30:])
    np.testing.assert_allclose(model.predict(X), before, rtol=1e-6)


def test_a_later_target_of_another_shape(X, target):
    model = quick(warm_start=True).fit(X, target)
    with pytest.raises(ValueError, match=r"shape \(2,\); fit saw shape \(\)"):
        model.fit(X, np.column_stack([target, target]))
    assert model.predict(X).shape == (60,)


def test_a_loss_with_an_argument(X, target):
    y = target.copy()
    y[:6] += 100
    robust = quick(criterion=nn.HuberLoss, criterion__delta=0.01, max_epochs=400, lr=0.01)
    robust.fit(X, y)
    assert robust.net_.criterion_.loss.delta == 0.01
    squared = quick(max_epochs=400, lr=0.01).fit(X, y)
    errors = [np.median(np.abs(m.predict(X) - target)[6:]) for m in (robust, squared)]
    assert errors[0] < errors[1]


@pytest.mark.parametrize(
    ("y", "message"),
    [(np.full(60, np.nan), "NaN"), (np.full(60, "a"), "could not convert"), (None, "None")],
)
def test_wrong_targets(y, message, X):
    with pytest.raises(ValueError, match=message):
        quick().fit(X, y)


def test_a_fit_that_fails_leaves_no_model(X, target):
    model = quick(lambda X: np.ones(3))
    with pytest.raises(ValueError, match="must have shape"):
        model.fit(X, target)
    with pytest.raises(ValueError, match="not fitted"):
        check_is_fitted(model)


def test_five_points_become_a_staircase():
    X = np.linspace(0, 1, 5)[:, None]
    model = TangentPropRegressor(
        FeatureTangents(), penalty_weight=0.1, hidden_layer_sizes=(100, 100), random_state=0
    ).fit(X, X.ravel())
    step = 1e-4
    slopes = (model.predict(X + step) - model.predict(X - step)) / (2 * step)
    grid = np.linspace(0, 1, 1001)[:, None]
    assert np.abs(slopes).max() <= 0.05
    assert np.abs(model.predict(X) - X.ravel()).max() <= 0.02
    assert np.gradient(model.predict(grid), 1e-3).max() >= 1.5
