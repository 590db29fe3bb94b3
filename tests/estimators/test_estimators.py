"""What both estimators share: data, tangents, modules, training, stopping."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.preprocessing import FunctionTransformer
from skorch.callbacks import Callback
from torch import nn

from sktangent import TangentPropClassifier, TangentPropRegressor
from sktangent.tangents import FeatureTangents

BOTH = pytest.mark.parametrize("estimator", [TangentPropClassifier, TangentPropRegressor])


def quick(estimator, tangents=None, **params):
    return estimator(tangents, **{"max_epochs": 5, "random_state": 0, **params})


def slope(predict, X, direction, step=1e-5):
    """Return the mean squared central difference of predictions along a direction."""
    difference = predict(X + step * direction) - predict(X - step * direction)
    return np.mean((difference / (2 * step)) ** 2)


@pytest.mark.parametrize("penalty_on", ["logits", "log_proba", "proba"])
def test_classifier_changes_less_along_its_tangents(X, labels, penalty_on):
    direction = np.array([0.6, 0.8, 0.0, 0.0])
    tangents = np.tile(direction, (len(X), 1, 1))
    model = quick(
        TangentPropClassifier, max_epochs=150, lr=1e-2, penalty_weight=3.0, penalty_on=penalty_on
    )
    plain = slope(model.fit(X, labels).decision_function, X, direction)
    told = slope(model.fit(X, labels, tangents=tangents).decision_function, X, direction)
    assert told < 0.3 * plain


def test_regressor_changes_less_along_its_tangents_only(X, target):
    told = quick(TangentPropRegressor, FeatureTangents([1]), max_epochs=300, lr=1e-2)
    told.fit(X, target)
    plain = quick(TangentPropRegressor, max_epochs=300, lr=1e-2).fit(X, target)
    first, second = np.eye(4)[:2]
    assert slope(told.predict, X, second) < 0.1 * slope(plain.predict, X, second)
    assert slope(told.predict, X, first) > 0.3 * slope(plain.predict, X, first)


def predictions(model, X):
    return model.decision_function(X) if hasattr(model, "classes_") else model.predict(X)


@BOTH
def test_a_lambda_an_array_and_an_object_say_the_same(estimator, X, three_labels):
    V = FeatureTangents()(X)
    by_object = quick(estimator, FeatureTangents()).fit(X, three_labels)
    by_lambda = quick(estimator, lambda X: FeatureTangents()(X)).fit(X, three_labels)
    by_array = quick(estimator).fit(X, three_labels, tangents=V)
    over = quick(estimator, lambda X: V * np.nan).fit(X, three_labels, tangents=V)
    for other in (by_lambda, by_array, over):
        np.testing.assert_array_equal(predictions(by_object, X), predictions(other, X))
    assert by_array.penalty_curve_[-1] > 0


@BOTH
def test_penalty_weight_zero_is_no_tangents_exactly(estimator, X, three_labels):
    def never(X):
        raise AssertionError("tangents are not needed")

    none = quick(estimator).fit(X, three_labels)
    zero = quick(estimator, never, penalty_weight=0).fit(X, three_labels)
    np.testing.assert_array_equal(predictions(none, X), predictions(zero, X))
    assert set(none.penalty_curve_) == {0.0}


class Centered(BaseEstimator):
    """Tangents towards the mean of the training samples."""

    def fit(self, X, y=None):
        self.mean_, self.n_samples_ = np.asarray(X).mean(axis=0), len(X)
        return self

    def __call__(self, X):
        return (X - self.mean_)[:, None]


@BOTH
def test_tangents_that_are_fitted_are_cloned_and_see_training_samples_only(
    estimator, X, three_labels
):
    tangents = Centered()
    model = quick(estimator, tangents, early_stopping=True, validation_fraction=0.2)
    model.fit(X, three_labels)
    assert model.tangents is tangents
    assert not hasattr(tangents, "mean_")
    assert model.tangents_.n_samples_ == 48


@pytest.mark.parametrize(
    ("tangents", "error", "message"),
    [
        (lambda X: np.ones((len(X), 4)), ValueError, r"\(60, n_tangents, 4\).*add its axis"),
        (lambda X: np.ones((len(X), 1, 3)), ValueError, r"\(60, n_tangents, 4\), got \(60, 1, 3\)"),
        (lambda X: np.ones((9, 1, 4)), ValueError, r"got \(9, 1, 4\)"),
        (lambda X: np.ones((2, 4)), ValueError, r"got \(2, 4\).*same ones at every sample"),
        (np.ones((60, 1, 4)), TypeError, r"callable.*got ndarray.*fit\(X, y, tangents=V\)"),
        ([Centered()], TypeError, "got list.*TangentUnion"),
        (lambda X: np.ones((len(X), 0, 4)), ValueError, "holds no tangent"),
        (lambda X: np.ones((len(X), 1, 4), complex), TypeError, "numbers, got dtype complex128"),
        (lambda X: np.full((len(X), 1, 4), np.nan), ValueError, "NaN"),
        (lambda X: np.full((len(X), 1, 4), np.inf), ValueError, "infinity"),
        (lambda X: [[1.0], [1.0, 2.0]], ValueError, r"tangents\(X\) must be one array"),
        (lambda X: None, TypeError, "array of numbers, got None"),
    ],
)
def test_wrong_tangents(tangents, error, message, X, target):
    with pytest.raises(error, match=message):
        quick(TangentPropRegressor, tangents).fit(X, target)


def test_wrong_tangents_in_fit(X, target):
    with pytest.raises(ValueError, match=r"^tangents must have shape \(60, n_tangents, 4\)"):
        quick(TangentPropRegressor).fit(X, target, tangents=np.ones((59, 1, 4)))
    with pytest.raises(ValueError, match="too large for float32"):
        big = np.full((60, 1, 4), 1e200)
        quick(TangentPropRegressor, dtype="float32").fit(X, target, tangents=big)


@BOTH
@pytest.mark.parametrize(
    ("given", "dtype", "expected"),
    [
        ("float64", None, "float64"),
        ("float32", None, "float32"),
        ("float16", None, "float64"),
        ("int64", None, "float64"),
        ("float64", "float32", "float32"),
        ("float32", np.float64, "float64"),
        ("float32", np.dtype("float64"), "float64"),
    ],
)
def test_precision(estimator, given, dtype, expected, X, three_labels):
    X = (10 * X).astype(given)
    model = quick(estimator, FeatureTangents(), dtype=dtype).fit(X, three_labels)
    assert {str(p.dtype) for p in model.module_.parameters()} == {f"torch.{expected}"}
    assert predictions(model, X).dtype == expected
    assert predictions(model, X.astype("float64")).dtype == expected


@BOTH
@pytest.mark.parametrize("params", [{}, {"iterator_train__num_workers": 0}], ids=["", "loader"])
def test_arrays_that_run_backwards(estimator, params, X, three_labels):
    V, d = FeatureTangents()(X).copy(), np.random.default_rng(1).normal(size=(len(X), 4, 1))
    d = np.repeat(d, len(set(three_labels)) if estimator is TangentPropClassifier else 1, axis=2)
    model = quick(estimator, **params).fit(X, three_labels, tangents=V, derivatives=d)
    backwards = [np.ascontiguousarray(array[:, ::-1])[:, ::-1] for array in (X, V, d)]
    told = quick(estimator, **params).fit(
        backwards[0], three_labels, tangents=backwards[1], derivatives=backwards[2]
    )
    np.testing.assert_array_equal(
        predictions(told, backwards[0][::-1]), predictions(model, X)[::-1]
    )
    np.testing.assert_array_equal(told.jacobian(X[::-1]), model.jacobian(X)[::-1])
    np.testing.assert_array_equal(
        told.directional_derivative(X[::-1], V[::-1]), model.directional_derivative(X, V)[::-1]
    )


def test_a_preprocessor_whose_result_runs_backwards(X, target):
    def fit(transform):
        preprocessor = FunctionTransformer(transform)
        return quick(TangentPropRegressor, FeatureTangents(), preprocessor=preprocessor).fit(
            X, target
        )

    backwards, copied = fit(lambda X: X[:, ::-1]), fit(lambda X: X[:, ::-1].copy())
    np.testing.assert_array_equal(backwards.predict(X), copied.predict(X))
    np.testing.assert_array_equal(backwards.jacobian(X), copied.jacobian(X))


def test_data_frames(X, target):
    frame = pd.DataFrame(X, columns=list("abcd"))
    model = quick(TangentPropRegressor, FeatureTangents()).fit(frame, target)
    assert model.feature_names_in_.tolist() == list("abcd")
    assert model.n_features_in_ == 4
    by_array = quick(TangentPropRegressor, FeatureTangents()).fit(X, target)
    np.testing.assert_allclose(model.predict(frame), by_array.predict(X), rtol=1e-9)
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame[list("dcba")])


def test_tangents_along_named_columns(X, target):
    frame = pd.DataFrame(X, columns=list("abcd"))
    by_name = quick(TangentPropRegressor, FeatureTangents(["c"]), early_stopping=True)
    by_index = quick(TangentPropRegressor, FeatureTangents([2]), early_stopping=True)
    np.testing.assert_allclose(
        by_name.fit(frame, target).penalty_curve_, by_index.fit(X, target).penalty_curve_
    )


@BOTH
def test_sparse_input_is_refused(estimator, X, three_labels):
    with pytest.raises(TypeError, match="[Ss]parse"):
        quick(estimator).fit(sparse.csr_matrix(X), three_labels)


class Conv(nn.Module):
    def __init__(self, input_shape, n_outputs):
        super().__init__()
        channels, height, width = input_shape
        self.conv = nn.Conv2d(channels, 3, 3, padding=1)
        self.head = nn.Linear(3 * height * width, n_outputs)

    def forward(self, x):
        return self.head(torch.tanh(self.conv(x)).flatten(1))


@BOTH
def test_images_go_through_a_conv_net(estimator, three_labels):
    images = np.random.default_rng(0).normal(size=(60, 2, 4, 5))
    model = quick(estimator, FeatureTangents([0, 7]), module=Conv).fit(images, three_labels)
    assert model.predict(images).shape == (60,)
    assert model.penalty_curve_[-1] > 0
    with pytest.raises(ValueError, match=r"shape \(2, 5, 4\); fit saw shape \(2, 4, 5\)"):
        model.predict(images.swapaxes(2, 3))


def test_images_are_flattened_for_the_default_module(target):
    images = np.random.default_rng(0).normal(size=(60, 4, 5))
    model = quick(TangentPropRegressor, FeatureTangents([3])).fit(images, target)
    assert model.module_[0].in_features == 20


@BOTH
def test_predicting_before_fit(estimator, X):
    methods = {"predict", "predict_proba", "predict_log_proba", "decision_function"}
    for name in methods & set(dir(estimator)):
        with pytest.raises(NotFittedError):
            getattr(estimator(), name)(X)
    assert not any(hasattr(estimator(), name) for name in ("module_", "n_iter_", "loss_curve_"))


@BOTH
def test_curves(estimator, X, three_labels):
    model = quick(estimator, FeatureTangents(), penalty_weight=0.5).fit(X, three_labels)
    assert model.n_iter_ == len(model.loss_curve_) == len(model.penalty_curve_) == 5
    row = model.history_[2]
    assert (row["train_loss"], row["train_penalty"]) == (
        model.loss_curve_[2],
        model.penalty_curve_[2],
    )
    assert row["train_loss"] == pytest.approx(row["train_data_loss"] + 0.5 * row["train_penalty"])
    assert model.module_ is model.net_.module_


class InterruptIn(Callback):
    """Press Ctrl-C in an epoch, while a gradient is at hand."""

    def __init__(self, epoch=3):
        self.epoch = epoch

    def on_grad_computed(self, net, **kwargs):
        if len(net.history) == self.epoch:
            net.module_.forward = self.press

    def press(self, x):
        raise KeyboardInterrupt


@BOTH
def test_interrupting_keeps_the_model(estimator, X, three_labels):
    model = quick(estimator, callbacks=[InterruptIn()], max_epochs=50, batch_size=20)
    with pytest.warns(UserWarning, match="interrupted; what was learned so far is kept"):
        model.fit(X, three_labels)
    assert model.n_iter_ == 2
    del model.module_.forward
    assert model.predict(X).shape == (60,)


@BOTH
def test_diverging_says_so(estimator, X, three_labels):
    with pytest.raises(ValueError, match="Training diverged: the loss is .*smaller lr"):
        quick(estimator, optimizer="sgd", lr=1e200, max_epochs=20).fit(X * 1e3, three_labels)


@BOTH
@pytest.mark.parametrize("dtype", [int, bool, np.uint8, np.float16, object])
def test_tangents_of_any_number_kind(estimator, dtype, X, three_labels):
    V = np.tile(np.eye(4)[[0, 2]], (60, 1, 1))
    floats = quick(estimator).fit(X, three_labels, tangents=V)
    others = quick(estimator).fit(X, three_labels, tangents=V.astype(dtype))
    called = quick(estimator, lambda X: V[: len(X)].astype(dtype)).fit(X, three_labels)
    for model in (others, called):
        np.testing.assert_array_equal(model.predict(X), floats.predict(X))
        np.testing.assert_array_equal(
            model.directional_derivative(X, V.astype(dtype)), floats.directional_derivative(X, V)
        )
    assert others.penalty_curve_ == floats.penalty_curve_


def odd_arrays(X):
    read_only = X.copy()
    read_only.flags.writeable = False
    wide = np.zeros((len(X), 2 * X.shape[1]))
    wide[:, ::2] = X
    return {
        "fortran": np.asfortranarray(X),
        "strided": wide[:, ::2],
        "reversed": X[::-1][::-1],
        "read only": read_only,
        "list": X.tolist(),
        "object": X.astype(object),
        "frame": pd.DataFrame(X),
        "big endian": X.astype(">f8"),
        "masked": np.ma.array(X),
    }


@BOTH
@pytest.mark.parametrize("kind", odd_arrays(np.zeros((2, 2))))
def test_odd_arrays_are_plain_ones(estimator, kind, X, three_labels):
    odd, V = odd_arrays(X)[kind], np.asarray(FeatureTangents()(X))
    weight = np.linspace(1, 2, 60)
    odd_weight = odd_arrays(weight[:, None])[kind]
    odd_weight = np.asarray(odd_weight)[:, 0]
    plain = quick(estimator, batch_size=25).fit(X, three_labels, weight, tangents=V)
    model = quick(estimator, batch_size=25)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(odd, three_labels, odd_weight, tangents=V)
        for answer in ("predict", "jacobian"):
            given, expected = getattr(model, answer)(odd), getattr(plain, answer)(X)
            np.testing.assert_allclose(given, expected, rtol=1e-8)


@pytest.mark.parametrize("container", [sparse.csr_matrix, sparse.csc_matrix, sparse.coo_array])
def test_sparse_labels(container, X):
    Y = (X[:, :3] > 0).astype(int)
    dense = quick(TangentPropClassifier, FeatureTangents()).fit(X, Y)
    model = quick(TangentPropClassifier, FeatureTangents()).fit(X, container(Y))
    np.testing.assert_array_equal(model.predict_proba(X), dense.predict_proba(X))
    assert sparse.issparse(model.predict(X))
    np.testing.assert_array_equal(model.predict(X).toarray(), dense.predict(X))
    assert model.score(X, container(Y)) == dense.score(X, Y)
    once = quick(TangentPropClassifier).partial_fit(X, container(Y), classes=[0, 1, 2])
    assert once.predict(X).shape == (60, 3)
