"""Training that goes on with the network of the last fit: what may change, and what may not."""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from torch import nn

from sktangent import TangentPropClassifier, TangentPropRegressor
from sktangent.tangents import FeatureTangents, ImageTangents, TangentUnion

BOTH = pytest.mark.parametrize("estimator", [TangentPropClassifier, TangentPropRegressor])


def quick(estimator, tangents=None, **params):
    return estimator(tangents, **{"max_epochs": 3, "random_state": 0, **params})


@BOTH
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hidden_layer_sizes", (7,)),
        ("activation", "tanh"),
        ("module", nn.Linear),
        ("module__activation", "tanh"),
        ("criterion", nn.L1Loss),
        ("preprocessor", None),
        ("preprocessor", MinMaxScaler()),
        ("preprocessor__with_mean", False),
        ("dtype", "float32"),
        ("optimizer", "sgd"),
        ("optimizer", torch.optim.RMSprop),
        ("optimizer__betas", (0.5, 0.9)),
        ("device", "cuda"),
        ("compile__dynamic", True),
    ],
)
def test_what_the_network_cannot_follow_is_named(estimator, name, value, X, three_labels):
    model = quick(estimator, preprocessor=StandardScaler(), warm_start=True).fit(X, three_labels)
    before = model.predict(X)
    model.set_params(**{name: value})
    with pytest.raises(ValueError, match=rf"^{name.split('__with')[0]} changed"):
        model.fit(X, three_labels)
    with pytest.raises(ValueError, match=rf"^{name.split('__with')[0]} changed"):
        model.partial_fit(X, three_labels)
    np.testing.assert_array_equal(model.predict(X), before)
    assert model.n_iter_ == 3


@pytest.mark.parametrize(
    ("estimator", "name", "value"),
    [
        (TangentPropClassifier, "penalty_on", "proba"),
        (TangentPropRegressor, "normalize_y", False),
    ],
)
def test_parameters_of_one_estimator_only(estimator, name, value, X, three_labels):
    model = quick(estimator, warm_start=True).fit(X, three_labels)
    with pytest.raises(ValueError, match=f"^{name} changed"):
        model.set_params(**{name: value}).fit(X, three_labels)


@BOTH
def test_equal_values_go_on(estimator, X, three_labels):
    scaler = StandardScaler()
    params = {"hidden_layer_sizes": (5, 4), "preprocessor": scaler, "warm_start": True}
    model = quick(estimator, FeatureTangents(), **params).fit(X, three_labels)
    model.set_params(hidden_layer_sizes=[5, 4], preprocessor=StandardScaler(), optimizer="adam")
    model.set_params(dtype="float64", device="cpu").fit(X, three_labels)
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert other.fit(X, three_labels).n_iter_ == 9
    model.set_params(warm_start=False, activation="tanh").fit(X, three_labels)
    assert model.n_iter_ == 3


def test_warm_start_wants_the_same_classes(X, three_labels):
    model = quick(TangentPropClassifier, warm_start=True).fit(X, three_labels)
    for y in (three_labels.clip(0, 1), three_labels + 1, np.r_[3, three_labels[1:]]):
        with pytest.raises(ValueError, match=r"warm_start needs those of the last fit, \[0 1 2\]"):
            model.fit(X, y)
    assert model.fit(X, three_labels).n_iter_ == 6


def test_warm_start_wants_as_many_labels(X):
    Y = np.random.default_rng(0).integers(0, 2, size=(60, 3))
    model = quick(TangentPropClassifier, warm_start=True).fit(X, Y)
    for go_on in (model.fit, model.partial_fit):
        with pytest.raises(ValueError, match=r"labels \[0 1\]"):
            go_on(X, Y[:, :2])


@pytest.mark.parametrize(
    ("tangents", "change"),
    [
        (FeatureTangents([0]), {"features": [1]}),
        (FeatureTangents([0]), {"features": None}),
        (TangentUnion([("a", FeatureTangents([0]))]), {"a__features": [1]}),
        (TangentUnion([("a", FeatureTangents([0]))]), {"weights__a": 4.0}),
    ],
)
def test_partial_fit_follows_parameters_inside_tangents(tangents, change, X, target):
    model = quick(TangentPropRegressor, tangents).partial_fit(X, target)
    first = model.tangents_
    model.set_params(**{f"tangents__{name}": value for name, value in change.items()})
    model.partial_fit(X, target)
    assert not np.array_equal(model.tangents_(X), first(X))
    again = model.tangents_
    assert model.partial_fit(X, target).tangents_ is again


def test_partial_fit_follows_the_blur_of_images(X, target):
    images, y = np.random.default_rng(0).normal(size=(30, 25)), target[:30]
    model = quick(TangentPropRegressor, ImageTangents((5, 5), smoothing=0.5)).partial_fit(images, y)
    model.set_params(tangents__smoothing=2.0).partial_fit(images, y)
    assert model.tangents_.smoothing == 2.0


@BOTH
def test_partial_fit_is_there_only_where_it_works(estimator, X, three_labels):
    assert hasattr(quick(estimator), "partial_fit")
    assert not hasattr(quick(estimator, early_stopping=True), "partial_fit")
    assert not hasattr(quick(estimator, optimizer="lbfgs"), "partial_fit")


def test_partial_fit_is_not_there_for_balanced_classes_nor_after_lbfgs(X, target):
    assert not hasattr(quick(TangentPropClassifier, class_weight="balanced"), "partial_fit")
    assert hasattr(quick(TangentPropClassifier, class_weight={0: 1.0}), "partial_fit")
    model = TangentPropRegressor(FeatureTangents(), tol=1e9)
    assert hasattr(model, "partial_fit")
    assert not hasattr(model.fit(X[:9], target[:9]), "partial_fit")
