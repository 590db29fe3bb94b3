"""Derivatives of the fitted estimators, against autograd and against differences."""

import numpy as np
import pytest
import torch
from scipy.special import log_expit, log_softmax
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from torch import nn

from sktangent import TangentPropClassifier, TangentPropRegressor
from sktangent.propagation import jacobian as jacobians
from sktangent.tangents import FeatureTangents

BOTH = pytest.mark.parametrize("estimator", [TangentPropClassifier, TangentPropRegressor])


def quick(estimator, tangents=None, **params):
    return estimator(
        tangents,
        **{"max_epochs": 30, "lr": 0.01, "optimizer": "adam", "random_state": 0, **params},
    )


@pytest.fixture
def X():
    return np.random.default_rng(0).normal(size=(40, 4)) * [1.0, 10.0, 0.1, 1.0] + [0, 5, 0, 1]


@pytest.fixture
def Y(X):
    return np.column_stack([X[:, 1] ** 2, np.sin(X[:, 0]) * 1e-3, X[:, 2] * X[:, 3] * 1e3])


def scale_and_rotate(pipeline, x):
    scaler, pca = pipeline[0], pipeline[1]
    x = (x - torch.tensor(scaler.mean_)) / torch.tensor(scaler.scale_)
    return (x - torch.tensor(pca.mean_)) @ torch.tensor(pca.components_).T


def scale_and_multiply(pipeline, x):
    scaler, polynomial = pipeline[0], pipeline[1]
    x = (x - torch.tensor(scaler.mean_)) / torch.tensor(scaler.scale_)
    powers = torch.tensor(polynomial.powers_)
    return (x[:, None, :] ** powers).prod(dim=2)


PREPROCESSORS = pytest.mark.parametrize(
    ("preprocessor", "in_torch"),
    [
        (None, lambda _, x: x),
        (make_pipeline(StandardScaler(), PCA(3)), scale_and_rotate),
        (make_pipeline(StandardScaler(), PolynomialFeatures(2)), scale_and_multiply),
    ],
    ids=["none", "pca", "polynomial"],
)


def by_autograd(model, in_torch, X, last=lambda y: y):
    """Differentiate the whole model, (n_samples, n_outputs, n_features)."""

    def outputs(x):
        z = in_torch(getattr(model, "preprocessor_", None), x)
        return last(model.module_(z))

    J = torch.autograd.functional.jacobian(lambda x: outputs(x).sum(dim=0), torch.tensor(X))
    return J.swapaxes(0, 1).numpy()


@PREPROCESSORS
@pytest.mark.parametrize("normalize_y", [True, False])
def test_regressor_against_autograd(preprocessor, in_torch, normalize_y, X, Y):
    model = quick(TangentPropRegressor, preprocessor=preprocessor, normalize_y=normalize_y)
    model.fit(X, Y)
    scale = torch.tensor(Y.std(axis=0)) if normalize_y else 1.0
    expected = by_autograd(model, in_torch, X, lambda y: y * scale)
    size = np.abs(expected).max(axis=(0, 2), keepdims=True)
    J = model.jacobian(X)
    assert J.shape == (40, 3, 4)
    np.testing.assert_allclose(J / size, expected / size, rtol=1e-8, atol=1e-9)
    V = np.random.default_rng(1).normal(size=(40, 5, 4)) * X.std(axis=0)
    dy = model.directional_derivative(X, V)
    assert dy.shape == (40, 5, 3)
    wanted = np.einsum("nof,ntf->nto", expected, V)
    size = np.abs(wanted).max(axis=(0, 1), keepdims=True)
    np.testing.assert_allclose(dy / size, wanted / size, rtol=1e-8, atol=1e-9)


LAST = {
    "logits": lambda z: z,
    "log_proba": lambda z: torch.log_softmax(z, dim=1),
    "proba": lambda z: torch.softmax(z, dim=1),
}
LAST_OF_LABELS = {
    "logits": lambda z: z,
    "log_proba": nn.functional.logsigmoid,
    "proba": torch.sigmoid,
}


def classes(kind, X):
    if kind == "binary":
        return np.where(X[:, 0] > 0, "b", "a")
    if kind == "multiclass":
        return np.digitize(X[:, 0], [-0.5, 0.5])
    return (X[:, :3] > X[:, :3].mean(axis=0)).astype(int)


KINDS = pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])


@KINDS
@pytest.mark.parametrize("output", ["logits", "log_proba", "proba"])
@PREPROCESSORS
def test_classifier_against_autograd(preprocessor, in_torch, output, kind, X):
    model = quick(TangentPropClassifier, preprocessor=preprocessor)
    model.fit(X, classes(kind, X))
    last = (LAST_OF_LABELS if kind == "multilabel" else LAST)[output]
    expected = by_autograd(model, in_torch, X, last)
    J = model.jacobian(X, output=output)
    atol = 1e-9 * np.abs(expected).max()
    np.testing.assert_allclose(J, expected, rtol=1e-8, atol=atol)
    V = np.random.default_rng(1).normal(size=(40, 5, 4))
    np.testing.assert_allclose(
        model.directional_derivative(X, V, output=output),
        np.einsum("nof,ntf->nto", expected, V),
        rtol=1e-8,
        atol=100 * atol,
    )


def differences(function, X, step):
    """Differentiate a function of samples by central differences, the features in front."""
    columns = np.eye(X.shape[1]) * step
    return np.stack(
        [(function(X + column) - function(X - column)) / (2 * column.sum()) for column in columns]
    )


@KINDS
def test_classifier_against_differences_of_its_own_methods(kind, X):
    model = quick(TangentPropClassifier, preprocessor=StandardScaler()).fit(X, classes(kind, X))
    step = 1e-5 * X.std(axis=0)
    for method, output in (
        (model.predict_proba, "proba"),
        (model.predict_log_proba, "log_proba"),
    ):
        J = np.moveaxis(model.jacobian(X, output=output), 2, 0)
        np.testing.assert_allclose(J, differences(method, X, step), rtol=1e-4, atol=1e-6)
    J = np.moveaxis(model.jacobian(X), 2, 0)
    J = J[:, :, 1] - J[:, :, 0] if kind == "binary" else J
    expected = differences(model.decision_function, X, step)
    np.testing.assert_allclose(J, expected, rtol=1e-4, atol=1e-6)


def test_regressor_against_differences_of_predict(X, Y):
    by_name = ColumnTransformer([("s", StandardScaler(), [1, 3]), ("p", PolynomialFeatures(), [0])])
    for y in (Y, Y[:, 0]):
        model = quick(TangentPropRegressor, preprocessor=by_name).fit(X, y)
        J = np.moveaxis(model.jacobian(X), 2, 0).reshape(4, *y.shape)
        expected = differences(model.predict, X, 1e-5 * X.std(axis=0))
        np.testing.assert_allclose(J, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
        assert not J[2].any()


def test_sharp_classifiers_stay_finite(X):
    model = quick(TangentPropClassifier).fit(X, classes("multiclass", X))
    with torch.no_grad():
        model.module_[-1].weight.mul_(1e4)
    proba = model.predict_proba(X)
    assert (proba.max(axis=1) == 1).any()
    assert np.isfinite(model.jacobian(X, output="log_proba")).all()
    assert np.isfinite(model.jacobian(X, output="proba")).all()


def test_an_unknown_output(X):
    model = quick(TangentPropClassifier).fit(X, classes("binary", X))
    message = "must be 'logits', 'log_proba' or 'proba', got 'odds'"
    with pytest.raises(ValueError, match=message):
        model.jacobian(X, output="odds")
    with pytest.raises(ValueError, match=message):
        model.directional_derivative(X, X[:, None], output="odds")


class Conv(nn.Module):
    def __init__(self, input_shape, n_outputs):
        super().__init__()
        channels, height, width = input_shape
        self.conv = nn.Conv2d(channels, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(3 * height * width, n_outputs)

    def forward(self, x):
        return self.head(self.drop(torch.tanh(self.norm(self.conv(x)))).flatten(1))


@BOTH
def test_images(estimator):
    images = np.random.default_rng(0).normal(size=(30, 2, 3, 5))
    y = np.arange(30) % 3
    model = quick(estimator, FeatureTangents([0, 29]), module=Conv).fit(images, y)
    J = model.jacobian(images)
    n_outputs = 3 if estimator is TangentPropClassifier else 1
    assert J.shape == (30, n_outputs, 2, 3, 5)
    scale = 1.0 if n_outputs == 3 else y.std()
    expected = by_autograd(model, lambda _, x: x, images) * scale
    np.testing.assert_allclose(J, expected, rtol=1e-8, atol=1e-12)
    ends = model.directional_derivative(images)
    assert ends.shape == (30, 2, n_outputs)
    np.testing.assert_allclose(
        ends, np.stack([J[:, :, 0, 0, 0], J[:, :, 1, 2, 4]], axis=1), rtol=1e-8, atol=1e-12
    )
    if n_outputs == 3:
        assert model.jacobian(images, output="proba").shape == J.shape


@PREPROCESSORS
@BOTH
def test_both_ways_give_the_same(estimator, preprocessor, in_torch, X, monkeypatch):
    model = quick(estimator, preprocessor=preprocessor).fit(X, classes("multiclass", X))
    ways = []
    for threshold in (0, 1e9):
        monkeypatch.setattr(jacobians, "_TANGENTS_PER_BACKWARD", threshold)
        ways.append(model.jacobian(X))
    np.testing.assert_allclose(ways[0], ways[1], rtol=1e-9, atol=1e-13)


def test_the_cheaper_way_is_taken(monkeypatch):
    taken = []
    for way in ("_forward", "_backward"):
        monkeypatch.setattr(jacobians, way, lambda *args, way=way: taken.append(way))
    jacobians.jacobian(nn.Linear(10, 1), torch.ones(3, 10))
    jacobians.jacobian(nn.Linear(1, 10), torch.ones(3, 1))
    assert taken == ["_backward", "_forward"]


@BOTH
@pytest.mark.parametrize("preprocessor", [None, PolynomialFeatures(2), StandardScaler()])
def test_many_samples_in_windows(estimator, preprocessor, X):
    model = quick(estimator, preprocessor=preprocessor).fit(X, classes("multiclass", X))
    many = np.tile(X, (250, 1))[:9001]
    J = model.jacobian(many)
    few = model.jacobian(X)
    atol = 1e-8 * np.abs(few).max()
    np.testing.assert_allclose(J[:40], few, rtol=1e-8, atol=atol)
    np.testing.assert_allclose(J[-1], few[(9001 - 1) % 40], rtol=1e-8, atol=atol)
    dy = model.directional_derivative(many, FeatureTangents())
    np.testing.assert_allclose(dy.swapaxes(1, 2), J, rtol=1e-8, atol=atol)


@BOTH
@pytest.mark.parametrize("preprocessor", [None, PolynomialFeatures(2)])
def test_one_sample(estimator, preprocessor, X):
    model = quick(estimator, preprocessor=preprocessor).fit(X, classes("multiclass", X))
    one, all_ = model.jacobian(X[:1]), model.jacobian(X)
    np.testing.assert_allclose(one, all_[:1], rtol=1e-7, atol=1e-9 * np.abs(all_).max())
    assert len(model.directional_derivative(X[:1], np.ones((1, 2, 4)))) == 1


@BOTH
def test_before_fit(estimator, X):
    for method in ("jacobian", "directional_derivative"):
        with pytest.raises(NotFittedError):
            getattr(estimator(FeatureTangents()), method)(X)


@BOTH
def test_tangents_of_the_estimator(estimator, X):
    y = classes("multiclass", X)
    model = quick(estimator, FeatureTangents([2])).fit(X, y)
    expected = model.jacobian(X)[:, :, 2]
    np.testing.assert_allclose(model.directional_derivative(X)[:, 0], expected, rtol=1e-8)
    model.set_params(tangents=None).fit(X, y)
    with pytest.raises(ValueError, match="tangents must be given"):
        model.directional_derivative(X)
    with pytest.raises(ValueError, match=r"must have shape \(40, n_tangents, 4\)"):
        model.directional_derivative(X, X)


@BOTH
def test_wrong_samples(estimator, X):
    model = quick(estimator).fit(X, classes("multiclass", X))
    with pytest.raises(ValueError, match="4 features"):
        model.jacobian(X[:, :3])
    with pytest.raises(ValueError, match="NaN"):
        model.jacobian(np.where(X > 8, np.nan, X))


@BOTH
def test_answers_leave_the_model_alone_and_keep_its_precision(estimator, X):
    X = X.astype(np.float32)
    model = quick(estimator, FeatureTangents(), preprocessor=StandardScaler())
    model.fit(X, classes("multiclass", X))
    before = [p.clone() for p in model.module_.parameters()]
    assert model.jacobian(X).dtype == np.float32
    assert model.directional_derivative(X.astype(np.float64)).dtype == np.float32
    assert all(torch.equal(a, b) for a, b in zip(before, model.module_.parameters(), strict=True))


def test_log_probabilities_are_those_that_are_differentiated(X):
    for kind, log in (("multiclass", lambda z: log_softmax(z, axis=1)), ("multilabel", log_expit)):
        model = quick(TangentPropClassifier).fit(X, classes(kind, X))
        np.testing.assert_allclose(model.predict_log_proba(X), log(model.decision_function(X)))


def test_more_features_than_are_pushed_forward_at_once(monkeypatch):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3, 40)) * rng.uniform(1, 2, size=40)
    model = TangentPropRegressor(
        preprocessor=StandardScaler(), hidden_layer_sizes=(2,), max_epochs=1, random_state=0
    )
    model.fit(X, X[:, 0])
    whole = model.jacobian(X)
    for numbers in (1, 50, 1600, 2000):  # a direction of one sample, and up to all of one and more
        monkeypatch.setattr("sktangent.estimators.input_map._PUSHED_AT_ONCE", numbers)
        np.testing.assert_allclose(model.jacobian(X), whole, rtol=1e-12)
