"""Predictions of exported models in onnxruntime, against those of the estimators."""

import sys
from io import BytesIO

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.feature_selection import VarianceThreshold
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OrdinalEncoder,
    PolynomialFeatures,
    QuantileTransformer,
    StandardScaler,
)
from torch import nn

from sktangent import (
    TangentPropClassifier,
    TangentPropClassifierCV,
    TangentPropRegressor,
    TangentPropRegressorCV,
    _torch,
)
from sktangent.export import to_onnx
from sktangent.preprocessing import GaussianBlur
from sktangent.preprocessing.as_module import FUNCTIONS, PROJECTIONS, SCALERS
from sktangent.tangents import FeatureTangents

QUICK = {"max_epochs": 3, "random_state": 0}
classifier = TangentPropClassifier(**QUICK)
regressor = TangentPropRegressor(**QUICK)


def run(model, X):
    """Run an estimator's model of ONNX, in batches of some, of all but one, and of one."""
    session = onnxruntime.InferenceSession(to_onnx(model).SerializeToString())
    parts = [
        session.run(None, {"X": X[rows]}) for rows in (slice(5), slice(5, -1), slice(-1, None))
    ]
    return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]


def assert_same(model, X, inputs=None):
    """Compare on samples as they were given, and on the inputs that they are in a file."""
    outputs = run(model, X if inputs is None else inputs)
    if hasattr(model, "predict_proba"):
        label, probabilities = outputs
        proba = model.predict_proba(X)
        np.testing.assert_allclose(probabilities, proba, rtol=1e-5)
        assert probabilities.dtype == proba.dtype
        np.testing.assert_array_equal(label, model.predict(X))
        return
    (y,) = outputs
    expected = model.predict(X)
    assert y.dtype == expected.dtype
    assert y.shape == expected.shape
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


# What there is to predict


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "labels",
    [
        np.array(["ham", "spam"]),
        np.array(["a", "b", "ccc"]),
        np.array(["Straße", "日本"], dtype=object),
        np.array([-3, 7, 2]),
        np.array([3, 4], dtype=np.uint8),
        np.array([0.0, 1.0, 2.0]),
        np.array([False, True]),
    ],
)
def test_labels(dtype, labels, X):
    y = labels[np.arange(len(X)) % len(labels)]
    model = TangentPropClassifier(FeatureTangents(), **QUICK).fit(X.astype(dtype), y)
    assert_same(model, X.astype(dtype))


def test_labels_of_other_kinds_are_refused(X):
    model = TangentPropClassifier(**QUICK).fit(X, np.arange(len(X)) % 2)
    model.classes_ = np.array([None, 1], dtype=object)
    with pytest.raises(TypeError, match="labels must be strings or numbers"):
        to_onnx(model)


def test_many_labels_at_once(X, three_labels):
    assert_same(classifier.fit(X, np.eye(3, dtype=int)[three_labels]), X)


@pytest.mark.parametrize("normalize_y", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_targets(normalize_y, dtype, X, target):
    for y in (100 + 1e3 * target, np.column_stack([target, 1e4 * target**2])):
        model = TangentPropRegressor(normalize_y=normalize_y, **QUICK)
        assert_same(model.fit(X.astype(dtype), y), X.astype(dtype))


@pytest.mark.filterwarnings("ignore:Feature 3 has")
def test_known_gradients(X, target):
    derivatives = np.stack([2 * np.cos(2 * X[:, 0]), *np.eye(3)[:, :1] * np.ones(len(X))], axis=1)
    model = TangentPropRegressor(max_epochs=20, random_state=0)
    X = X + 1e4  # what single precision would blur
    assert_same(model.fit(X, target, derivatives=derivatives), X)


def test_estimators_that_choose_their_weight(X, target, labels):
    params = {"penalty_weights": [0, 1], "cv": 2, **QUICK}
    assert_same(TangentPropClassifierCV(FeatureTangents([2, 3]), **params).fit(X, labels), X)
    assert_same(TangentPropRegressorCV(FeatureTangents([2, 3]), **params).fit(X, target), X)


# Networks


class Residual(nn.Module):
    def __init__(self, in_features, n_outputs):
        super().__init__()
        self.first = nn.Linear(in_features, 8)
        self.norm = nn.LayerNorm(8)
        self.last = nn.Linear(8, n_outputs)

    def forward(self, x):
        x = torch.nn.functional.gelu(self.first(x))
        return self.last(x + torch.cos(self.norm(x)) * torch.sigmoid(x).mean(1, keepdim=True))


class Convolutional(nn.Module):
    def __init__(self, n_outputs):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ELU(), nn.AvgPool2d(2), nn.GroupNorm(2, 4)
        )
        self.last = nn.Linear(4, n_outputs)

    def forward(self, x):
        return self.last(self.layers(x.unsqueeze(1)).mean(dim=(2, 3)))


class Recurrent(nn.Module):
    def __init__(self, n_outputs):
        super().__init__()
        self.layer, self.last = nn.GRU(6, 5, batch_first=True), nn.Linear(5, n_outputs)

    def forward(self, x):
        return self.last(self.layer(x)[0][:, -1])


class Attentive(nn.Module):
    def __init__(self, n_outputs):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(6, 2, 8, batch_first=True)
        self.last = nn.Linear(36, n_outputs)

    def forward(self, x):
        return self.last(self.layer(x).flatten(1))


@pytest.mark.parametrize("activation", ["elu", "gelu", "mish", "relu", "silu", "softplus", "tanh"])
def test_activations(activation, X, target):
    model = TangentPropRegressor(activation=activation, hidden_layer_sizes=(9, 9), **QUICK)
    assert_same(model.fit(X, target), X)


def test_modules_of_users(X, labels):
    for module in (Residual, nn.Sequential(nn.Linear(4, 5), nn.Dropout(), nn.Linear(5, 2))):
        assert_same(TangentPropClassifier(module=module, **QUICK).fit(X, labels), X)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("module", [None, Convolutional, Recurrent, Attentive])
def test_inputs_of_more_axes(module, dtype):
    X = np.random.default_rng(0).normal(size=(40, 6, 6)).astype(dtype)
    model = TangentPropClassifier(module=module, **QUICK).fit(X, np.arange(40) % 3)
    assert_same(model, X)


def test_the_module_stays_as_it_is(X, labels):
    model = TangentPropClassifier(
        module=nn.Sequential(nn.Linear(4, 5), nn.Dropout(), nn.Linear(5, 2)), **QUICK
    ).fit(X, labels)
    model.module_.train()
    to_onnx(model)
    assert model.module_.training
    assert model.module_[1].training


class OfConstantLength(nn.Linear):
    def forward(self, x):
        return super().forward(x.reshape(len(x), -1))


class OfConstantBranch(nn.Linear):
    def forward(self, x):
        return super().forward(x) * (2 if x.sum() > 6 else 1)


class OfNoCounterpart(nn.Linear):
    def forward(self, x):
        return torch.special.i0(super().forward(x))


@pytest.mark.parametrize("module", [OfConstantLength, OfConstantBranch])
def test_constants_of_the_recorded_samples_are_found(module, X, target):
    model = TangentPropRegressor(module=lambda: module(4, 1), **QUICK).fit(X, target)
    with pytest.raises(ValueError, match=r"module cannot be exported.*x.shape\[0\] rather than"):
        to_onnx(model)


def test_where_torch_does_not_record(X, target, monkeypatch):
    monkeypatch.setattr(_torch, "_trace", None)
    assert_same(regressor.fit(X, target), X)


def test_functions_without_counterpart_are_refused(X, target):
    model = TangentPropRegressor(module=lambda: OfNoCounterpart(4, 1), **QUICK).fit(X, target)
    with pytest.raises(ValueError, match="module cannot be exported.*i0"):
        to_onnx(model)


# What stands in front of networks


@pytest.mark.parametrize(
    "step",
    [
        StandardScaler(),
        MinMaxScaler(),
        PCA(3, whiten=True),
        VarianceThreshold(0.01),
        make_union(StandardScaler(), make_pipeline(PCA(2), MaxAbsScaler())),
        FunctionTransformer(np.arctan),
        FunctionTransformer(),
        ColumnTransformer([("half", StandardScaler(), [0, 1]), ("rest", "passthrough", [3])]),
        make_pipeline(StandardScaler(), PCA(2), "passthrough", FunctionTransformer(np.tanh)),
        make_pipeline(FunctionTransformer(np.abs), PCA(2)),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_preprocessors_and_pipelines(step, dtype, X, labels, target):
    X = (3 + 0.1 * X).astype(dtype)
    assert_same(TangentPropRegressor(preprocessor=step, **QUICK).fit(X, target), X)
    both = TangentPropClassifier(preprocessor=MinMaxScaler(), **QUICK)
    assert_same(make_pipeline(step, both).fit(X, labels), X)


@pytest.mark.parametrize("kind", sorted(SCALERS | PROJECTIONS, key=lambda kind: kind.__name__))
def test_kinds_of_transformers(kind, X, target):
    X = 1e3 * (X + 10)
    assert_same(make_pipeline(kind(), StandardScaler(), regressor).fit(X, target), X)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_functions_of_numpy(function, X, target):
    X = np.abs(X) + 0.1
    assert_same(make_pipeline(FunctionTransformer(function), regressor).fit(X, target), X)


@pytest.mark.parametrize("shape", [(6, 7), (42,), (2, 6, 7), (6, 7, 3)])
def test_blurred_images(shape):
    X = np.random.default_rng(0).random((30, *shape))
    blur = GaussianBlur(shape if len(shape) > 1 else (6, 7), sigma=0.8)
    y = np.arange(30) % 2
    assert_same(TangentPropClassifier(preprocessor=blur, **QUICK).fit(X, y), X)
    assert_same(make_pipeline(blur, classifier).fit(X, y), X)


def test_data_frames(X, labels):
    frame = pd.DataFrame(X, columns=list("abcd"))
    scaled = ColumnTransformer([("scaled", StandardScaler(), ["d", "a"])])
    for model in (
        TangentPropClassifier(preprocessor=scaled, **QUICK),
        make_pipeline(scaled, StandardScaler(), classifier),
    ):
        assert_same(model.fit(frame, labels), frame, inputs=X)


class RenamedScaler(StandardScaler):
    """May have a transform of its own."""


@pytest.mark.parametrize(
    "step",
    [
        QuantileTransformer(n_quantiles=10),
        PolynomialFeatures(),
        Binarizer(threshold=1e15),
        KMeans(2, random_state=0),
        RenamedScaler(),
        make_union(StandardScaler(), Normalizer()),
        ColumnTransformer([("clipped", MinMaxScaler(clip=True), [0])]),
        SimpleImputer(),
        MinMaxScaler(clip=True),
        FunctionTransformer(lambda X: np.sin(X)),
        ColumnTransformer([("ordinal", OrdinalEncoder(), [0])]),
    ],
)
def test_other_steps_are_refused_by_name(step, X, target):
    model = make_pipeline(StandardScaler(), step, regressor).fit(X, target)
    with pytest.raises(TypeError, match=f"{type(step).__name__} cannot be exported: only scalers"):
        to_onnx(model)


@pytest.mark.parametrize("clip", [False, True])
def test_what_is_far_from_zero(clip, X, target):
    X = 1e9 * (X + 1e5)
    model = make_pipeline(MinMaxScaler(clip=clip), StandardScaler(), PCA(2), regressor)
    model.fit(X, target)
    if clip:
        with pytest.raises(TypeError, match="MinMaxScaler cannot be exported"):
            to_onnx(model)
    else:
        assert_same(model, X)


# How it is called


def test_files(X, target, tmp_path):
    model, file = regressor.fit(X, target), BytesIO()
    written = to_onnx(model, tmp_path / "model.onnx")
    to_onnx(model, file)
    assert onnx.load(tmp_path / "model.onnx") == written
    assert file.getvalue() == written.SerializeToString()
    assert [value.name for value in written.graph.input] == ["X"]
    assert [value.name for value in written.graph.output] == ["variable"]
    assert written.producer_name == "sktangent"


def test_what_is_refused(X, labels):
    for model in (TangentPropClassifier(), make_pipeline(StandardScaler(), TangentPropRegressor())):
        with pytest.raises(NotFittedError):
            to_onnx(model)
    for model in (LogisticRegression().fit(X, labels), make_pipeline(StandardScaler()), None):
        with pytest.raises(TypeError, match="estimator must be one of sktangent"):
            to_onnx(model)


def test_without_onnx_it_says_what_to_install(monkeypatch, X, target):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"pip install 'sktangent\[onnx\]'"):
        to_onnx(regressor.fit(X, target))
