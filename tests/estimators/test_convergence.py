"""max_epochs that end training while the loss still falls say so, once."""

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from sktangent import TangentPropClassifier, TangentPropRegressor
from sktangent.estimators.convergence import still_falls
from sktangent.tangents import FeatureTangents

BOTH = pytest.mark.parametrize("estimator", [TangentPropClassifier, TangentPropRegressor])


def caught(model, *data):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        model.fit(*data)
    return [entry for entry in found if entry.category is ConvergenceWarning]


@BOTH
@pytest.mark.parametrize(
    "params", [{}, {"early_stopping": True, "lr": 1e-3}, {"batch_size": 20, "lr": 1e-3}]
)
def test_too_few_epochs_are_told_once(estimator, params, X, three_labels):
    params = {"lr": 0.01, "max_epochs": 20, "random_state": 0, **params}
    model = estimator(FeatureTangents([3]), **params)
    for _ in range(2):
        (found,) = caught(model, X, three_labels)
        assert "max_epochs=20 reached" in str(found.message)
        assert found.filename == __file__


@BOTH
def test_enough_epochs_are_silent(estimator, X, three_labels):
    model = estimator(max_epochs=30, lr=1e-9, random_state=0)  # falls by less than tol
    assert not caught(model, X, three_labels)
    assert not caught(model.set_params(tol=10.0, lr=0.01), X, three_labels)
    assert not caught(model.set_params(tol=10.0, n_iter_no_change=3), X, three_labels)
    assert model.n_iter_ == 5


@BOTH
def test_epochs_that_the_library_chose_are_silent(estimator, X, three_labels):
    assert not caught(estimator(alpha=0.0, random_state=0), X[:30], three_labels[:30])


def test_partial_fit_is_silent(X, target):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TangentPropRegressor(max_epochs=1, random_state=0).partial_fit(X, target)


def test_losses_that_go_up_and_down():
    epochs = np.arange(200)
    noise = 0.02 * (-1.0) ** epochs
    assert still_falls(list(1 - 0.002 * epochs + noise), tol=1e-3)
    assert not still_falls(list(1 - 0.0005 * epochs + noise), tol=1e-3)
    assert not still_falls(list(1 + noise), tol=0.0)
    assert still_falls([1.0], tol=1e-3)
    assert still_falls([1e-3, 0.9e-3], tol=0.05, relative_tol=True)
    assert not still_falls([1e-3, 0.9e-3], tol=0.05)
