"""The warning of activations that a penalty on derivatives cannot shape."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.model_selection import cross_validate
from torch import nn
from torch.nn import functional as F

from sktangent import TangentPropClassifier, TangentPropRegressor
from sktangent.estimators.activations import piecewise_linear_functions
from sktangent.tangents import FeatureTangents


def quick(estimator=TangentPropRegressor, tangents=None, **params):
    return estimator(
        tangents, **{"max_epochs": 2, "optimizer": "adam", "random_state": 0, **params}
    )


class Leaky(nn.Sequential):
    def __init__(self, n_features, n_outputs):
        block = nn.Sequential(nn.Linear(n_features, 5), nn.LeakyReLU())
        super().__init__(block, nn.Linear(5, n_outputs))


class Functional(nn.Module):
    def __init__(self, n_features, n_outputs):
        super().__init__()
        self.first, self.last = nn.Linear(n_features, 5), nn.Linear(5, n_outputs)

    def forward(self, x):
        return self.last(F.relu(self.first(x)))


class Smooth(Functional):
    def __init__(self, n_features, n_outputs):
        super().__init__(n_features, n_outputs)
        self.unused = nn.ReLU()

    def forward(self, x):
        return self.last(F.silu(self.first(x)))


def messages(fit):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit()
    return [w for w in caught if "piecewise linear" in str(w.message)]


@pytest.mark.parametrize(
    ("params", "name"),
    [
        ({"activation": "relu"}, "relu"),
        ({"activation": nn.Hardtanh}, "hardtanh"),
        ({"module": Leaky}, "leaky_relu"),
        ({"module": Functional}, "relu"),
        ({"module": Functional(4, 1).double()}, "relu"),
    ],
)
@pytest.mark.parametrize("how", ["tangents", "derivatives", "callable"])
def test_a_regressor_warns_once_a_fit(params, name, how, X, target):
    model = quick(tangents=FeatureTangents() if how == "callable" else None, **params)
    given = {
        "tangents": {"tangents": FeatureTangents()(X)},
        "derivatives": {"derivatives": np.ones((60, 4))},
        "callable": {},
    }[how]
    for _ in range(2):
        (warning,) = messages(lambda: model.fit(X, target, **given))
        assert f"({name})" in str(warning.message)
        assert "smooth activation, 'gelu', 'silu' or 'tanh'" in str(warning.message)
        assert warning.filename == __file__
        assert warning.category is UserWarning
        assert warning.filename == __file__


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"activation": "tanh"},
        {"module": Smooth},
        {"activation": "relu", "tangents": None},
        {"activation": "relu", "penalty_weight": 0},
    ],
)
def test_no_warning(params, X, target):
    model = quick(**{"tangents": FeatureTangents(), **params})
    assert messages(lambda: model.fit(X, target)) == []


def test_a_classifier_does_not_warn(X, labels):
    model = quick(TangentPropClassifier, FeatureTangents(), activation="relu")
    assert messages(lambda: model.fit(X, labels)) == []


def test_going_on_does_not_warn_again(X, target):
    model = quick(tangents=FeatureTangents(), activation="relu", warm_start=True)
    (warning,) = messages(lambda: model.partial_fit(X, target))
    assert warning.filename == __file__
    assert messages(lambda: model.partial_fit(X, target).fit(X, target)) == []


def test_each_fold_warns(X, target):
    model = quick(tangents=FeatureTangents(), activation="relu")
    assert len(messages(lambda: cross_validate(model, X, target, cv=3))) == 3


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (torch.relu, ["relu"]),
        (lambda x: x.relu(), ["relu"]),
        (lambda x: F.relu_(x.clone()), ["relu"]),
        (nn.ReLU(inplace=True), ["relu"]),
        (nn.PReLU(), ["prelu"]),
        (lambda x: F.relu6(F.leaky_relu(x)), ["leaky_relu", "relu6"]),
        (nn.Sequential(nn.GELU(), nn.Softplus(), nn.Tanh()), []),
    ],
)
def test_what_is_found(function, names):
    class Module(nn.Module):
        def forward(self, x):
            return function(x)

    found = piecewise_linear_functions(Module(), torch.ones(2, 3))
    assert set(names) <= set(found)
    assert bool(found) is bool(names)
