"""Arrays that fit, partial_fit and predict refuse, by name, before training."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from sktangent import TangentPropClassifier, TangentPropRegressor
from tests.bad_input.data import FRAME, N, V, X, Y, fit, masked, put

BOTH = [TangentPropClassifier, TangentPropRegressor]
DATE = np.datetime64("2020-01-01")
D, W = V[:, :, 0], np.ones(N)

# what is given for X, the error, what it says
SAMPLES = {
    "NaN": (put(X, np.nan), ValueError, "X contains NaN"),
    "infinity": (put(X, np.inf), ValueError, "X contains infinity"),
    "minus infinity": (put(X, -np.inf), ValueError, "X contains infinity"),
    "no samples": (X[:0], ValueError, "X cannot be used: .*0 sample"),
    "no features": (X[:, :0], ValueError, r"X .*0 feature\(s\)|X has 0 features"),
    "one axis": (X[:, 0], ValueError, "X cannot be used: Expected 2D array, got 1D"),
    "a number": (3.0, ValueError, "X cannot be used: Expected 2D array, got scalar"),
    "None": (None, ValueError, "X cannot be used: Expected 2D array, got scalar"),
    "a string": ("samples", ValueError, "X cannot be used: .*'samples'"),
    "strings": (np.full((N, 3), "red"), ValueError, "X cannot be used: .*red"),
    "bytes": (np.full((N, 3), b"red"), ValueError, "X cannot be used: .*red"),
    "objects": (np.full((N, 3), object()), TypeError, "X cannot be used: .*not 'object'"),
    "a None among objects": (put(X.astype(object), None), ValueError, "X contains NaN"),
    "complex": (X + 1j, ValueError, "X cannot be used: Complex"),
    "dates": (np.full((N, 3), DATE), TypeError, "X must hold numbers, got dates"),
    "durations": (np.full((N, 3), DATE - DATE), TypeError, "X must hold numbers, got dates"),
    "sparse matrix": (sparse.csr_matrix(X), TypeError, "Sparse data was passed for X"),
    "sparse array": (sparse.coo_array(X), TypeError, "Sparse data was passed for X"),
    "masked": (masked(X), ValueError, "X is a masked array of which 1 values"),
    "ragged": ([[1.0, 2.0], [3.0]], ValueError, "X cannot be used: .*inhomogeneous"),
    "dict": ({"x": X}, TypeError, "X cannot be used: .*'dict'"),
    "generator": ((row for row in X), TypeError, "X cannot be used: .*'generator'"),
    "frame of strings": (FRAME.assign(a="red"), ValueError, "X cannot be used: .*'red'"),
    "frame with dates": (FRAME.assign(a=pd.Timestamp(DATE)), TypeError, "X must hold numbers"),
    "frame with NaN": (FRAME.assign(a=np.nan), ValueError, "X contains NaN"),
    "frame with two kinds of names": (
        pd.DataFrame(X, columns=["a", 1, "c"]),
        TypeError,
        r"Feature names are only supported|X cannot be used",
    ),
    "tensor elsewhere": (torch.empty(N, 3, device="meta"), TypeError, "X cannot be used: .*meta"),
    "tensor with gradient": (
        torch.ones(N, 3, requires_grad=True),
        TypeError,
        "X cannot be used: .*detach",
    ),
}


@pytest.mark.parametrize("estimator", BOTH)
@pytest.mark.parametrize("name", SAMPLES)
def test_samples_to_fit(estimator, name):
    given, error, message = SAMPLES[name]
    with pytest.raises(error, match=f"(?s){message}"):
        fit(estimator, given)


@pytest.fixture(scope="module")
def fitted():
    return fit(TangentPropRegressor, callbacks=None)


@pytest.mark.parametrize("method", ["predict", "jacobian"])
@pytest.mark.parametrize("name", SAMPLES)
def test_samples_to_predict_for(method, name, fitted):
    given, error, message = SAMPLES[name]
    with pytest.raises(error, match=f"(?s){message}"):
        getattr(fitted, method)(given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (X[:, :2], "X has 2 features"),
        (X[..., None], r"X holds samples of shape \(3, 1\)"),
        (np.hstack([X, X]), "X has 6 features"),
    ],
)
def test_samples_of_another_shape_to_predict_for(given, message, fitted):
    with pytest.raises(ValueError, match=message):
        fitted.predict(given)


def test_samples_too_large_for_the_precision():
    with pytest.raises(ValueError, match="X contains infinity or a value too large"):
        fit(TangentPropRegressor, put(X, 1e200), dtype="float32")
    model = fit(TangentPropRegressor, dtype="float32", callbacks=None)
    with pytest.raises(ValueError, match="X holds values too large for the network's float32"):
        model.predict(put(X, 1e200))


OTHER_COLUMNS = {
    "another order": FRAME[["b", "a", "c"]],
    "other names": FRAME.rename(columns={"a": "z"}),
    "one name twice": pd.DataFrame(X, columns=["a", "a", "c"]),
    "one more": FRAME.assign(d=1.0),
    "one less": FRAME[["a", "b"]],
}


@pytest.mark.parametrize("estimator", BOTH)
@pytest.mark.parametrize("name", OTHER_COLUMNS)
def test_other_columns_to_predict_for(estimator, name):
    model = fit(estimator, FRAME, callbacks=None)
    with pytest.raises(ValueError, match=r"X cannot be used: .*(feature names|unique)"):
        model.predict(OTHER_COLUMNS[name])


CLASSES = {
    "regressor": TangentPropRegressor,
    "classifier": TangentPropClassifier,
}
LABELS, TARGET = Y[TangentPropClassifier], Y[TangentPropRegressor]
# whose y, what is given for it, the error, what it says
TARGETS = [
    ("regressor", put(TARGET, np.nan, 0), ValueError, "y contains NaN"),
    ("regressor", put(TARGET, np.inf, 0), ValueError, "y contains infinity"),
    ("regressor", TARGET[:5], ValueError, r"y cannot be used: .*\[12, 5\]"),
    ("regressor", [], ValueError, r"y cannot be used: .*0 sample"),
    ("regressor", LABELS, ValueError, "y cannot be used: could not convert"),
    ("regressor", np.full(N, object()), TypeError, "y cannot be used: .*'object'"),
    ("regressor", TARGET + 1j, ValueError, "y cannot be used: Complex"),
    ("regressor", np.full(N, DATE), TypeError, "y must hold numbers, got dates"),
    ("regressor", np.ones((N, 2, 2)), ValueError, "y cannot be used: .*dim 3"),
    ("regressor", 1.0, TypeError, "y cannot be used: .*scalar"),
    ("regressor", masked(TARGET), ValueError, "y is a masked array"),
    ("regressor", [[1.0], [2.0, 3.0]] * 6, ValueError, "y cannot be used: .*inhomogeneous"),
    ("regressor", torch.ones(N, device="meta"), TypeError, "y cannot be used: .*meta"),
    ("regressor", {"a": 1.0}, TypeError, "y cannot be used: .*scalar"),
    ("regressor", np.array([None, *"abcdefghijk"]), ValueError, "y cannot be used"),
    ("regressor", np.where(TARGET > 0, 1.7e308, -1.7e308), ValueError, "y holds values too large"),
    ("classifier", put(TARGET, np.nan, 0), ValueError, "y contains NaN"),
    ("classifier", LABELS[:5], ValueError, r"y cannot be used: .*\[12, 5\]"),
    ("classifier", [], ValueError, "y cannot be used: .*0 sample"),
    ("classifier", TARGET, ValueError, "y cannot be used: Unknown label type: continuous"),
    ("classifier", X[:, :2], ValueError, "y cannot be used: Unknown label type: continuous-multi"),
    ("classifier", np.arange(24).reshape(N, 2), ValueError, "y must hold one label"),
    ("classifier", np.array(["a", 1] * 6, dtype=object), TypeError, "y cannot be used: .*'<'"),
    ("classifier", np.array([None, *LABELS[1:]], dtype=object), ValueError, "y cannot be used"),
    ("classifier", np.full(N, object()), ValueError, "y cannot be used: Unknown label type"),
    ("classifier", TARGET + 1j, ValueError, "y cannot be used: Complex"),
    ("classifier", np.ones((N, 2, 2)), ValueError, "y cannot be used: .*dim 3"),
    ("classifier", masked(np.arange(N) % 2), ValueError, "y is a masked array"),
    ("classifier", torch.ones(N, device="meta"), TypeError, "y cannot be used: .*meta"),
]


@pytest.mark.parametrize(("whose", "given", "error", "message"), TARGETS)
def test_targets(whose, given, error, message):
    with pytest.raises(error, match=f"(?s){message}"):
        fit(CLASSES[whose], y=given)


@pytest.mark.parametrize("estimator", BOTH)
def test_no_targets(estimator):
    with pytest.raises(ValueError, match="requires y to be passed"):
        estimator().fit(X, None)


def test_targets_too_large_for_the_precision():
    with pytest.raises(ValueError, match="y holds values too large for the network's float32"):
        fit(TangentPropRegressor, y=1e200 * TARGET, dtype="float32")


def test_too_few_samples_to_set_some_apart():
    with pytest.raises(ValueError, match="early_stopping cannot be used: With n_samples=1"):
        fit(TangentPropRegressor, X[:1], TARGET[:1], early_stopping=True)


# the argument of fit, what is given, the error, what it says
ARGUMENTS = [
    ("sample_weight", put(W, np.nan, 0), ValueError, "contains NaN"),
    ("sample_weight", put(W, np.inf, 0), ValueError, "contains infinity"),
    ("sample_weight", -W, ValueError, "Negative values"),
    ("sample_weight", 0 * W, ValueError, "zero"),
    ("sample_weight", W[:5], ValueError, r"\(5,\), expected \(12,\)"),
    ("sample_weight", np.ones((N, 2)), ValueError, "1D array"),
    ("sample_weight", ["a"] * N, ValueError, "could not convert"),
    ("sample_weight", W + 1j, ValueError, "Complex"),
    ("sample_weight", masked(W), ValueError, "is a masked array"),
    ("sample_weight", np.full(N, DATE), TypeError, "got dates"),
    ("sample_weight", torch.ones(N, device="meta"), TypeError, "meta"),
    ("sample_weight", sparse.csr_array(W[:, None]), TypeError, "Sparse"),
    ("tangents", put(V, np.nan, (0, 0, 0)), ValueError, "holds NaN"),
    ("tangents", put(V, np.inf, (0, 0, 0)), ValueError, "infinity"),
    ("tangents", V[:5], ValueError, r"shape \(12, n_tangents, 3\), got \(5, 2, 3\)"),
    ("tangents", X, ValueError, r"add its axis: V\[:, None\]"),
    ("tangents", V[..., None], ValueError, r"got \(12, 2, 3, 1\)"),
    ("tangents", V[:, :0], ValueError, "holds no tangent"),
    ("tangents", V[..., :2], ValueError, r"got \(12, 2, 2\)"),
    ("tangents", V.astype("U1"), TypeError, "dtype <U1"),
    ("tangents", np.full(V.shape, object()), ValueError, "'object'"),
    ("tangents", V + 1j, TypeError, "complex128"),
    ("tangents", np.full(V.shape, DATE), TypeError, "got dates"),
    ("tangents", masked(V), ValueError, "is a masked array"),
    ("tangents", [[1.0], [1.0, 2.0]], ValueError, "inhomogeneous"),
    ("tangents", torch.ones(V.shape, device="meta"), ValueError, "meta"),
    ("tangents", torch.ones(V.shape, requires_grad=True), ValueError, "detach"),
    ("tangents", sparse.csr_array(X), TypeError, "Sparse"),
    ("tangents", "all", TypeError, "got 'all'"),
    ("tangents", {}, TypeError, "got {}"),
    ("tangents", [], ValueError, r"got \(0,\)"),
    ("derivatives", put(D, np.inf), ValueError, "holds infinity; NaN says"),
    ("derivatives", D[:5], ValueError, r"shape \(12, 2, 1\).*Got \(5, 2\)"),
    ("derivatives", D[:, :1], ValueError, r"Got \(12, 1\)"),
    ("derivatives", np.ones((N, 2, 2)), ValueError, r"Got \(12, 2, 2\)"),
    ("derivatives", D[:, 0], ValueError, r"Got \(12,\)"),
    ("derivatives", D.astype("U1"), TypeError, "dtype <U1"),
    ("derivatives", D + 1j, TypeError, "complex128"),
    ("derivatives", masked(D), ValueError, "is a masked array"),
    ("derivatives", np.full(D.shape, DATE), TypeError, "got dates"),
    ("derivatives", torch.ones(D.shape, device="meta"), ValueError, "meta"),
    ("derivatives", "flat", TypeError, "got 'flat'"),
    ("derivative_weight", put(W[:2], np.nan, 0), ValueError, "contains NaN"),
    ("derivative_weight", -np.ones(2), ValueError, "must not be negative"),
    ("derivative_weight", np.ones((5, 2)), ValueError, r"Got \(5, 2\)"),
    ("derivative_weight", ["a", "b"], ValueError, "could not convert"),
    ("derivative_weight", masked(np.ones(2)), ValueError, "is a masked array"),
    ("derivative_weight", torch.ones(2, device="meta"), TypeError, "meta"),
    ("derivative_weight", 1.0, TypeError, "scalar"),
]


@pytest.mark.parametrize(("name", "given", "error", "message"), ARGUMENTS)
def test_arguments_of_fit(name, given, error, message):
    others = {} if name in ("sample_weight", "tangents") else {"tangents": V}
    with pytest.raises(error, match=f"(?s){message}") as caught:
        fit(TangentPropRegressor, **{**others, name: given})
    assert re.search(rf"\b{name}\b", str(caught.value))


def test_weights_of_derivatives_without_tangents():
    with pytest.raises(ValueError, match="derivative_weight is given, and there are no tangents"):
        fit(TangentPropRegressor, derivative_weight=np.ones(2))


def test_a_jacobian_of_another_number_of_features():
    with pytest.raises(ValueError, match=r"derivatives must have shape \(12, 3, 1\) or \(12, 3\)"):
        fit(TangentPropRegressor, derivatives=D)
