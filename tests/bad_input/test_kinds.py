"""What every kind of tangents, push_forward, propagate and the metrics refuse."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import StandardScaler

from sktangent.metrics import local_invariance_error, make_invariance_scorer
from sktangent.preprocessing import GaussianBlur, push_forward
from sktangent.propagation import propagate
from sktangent.tangents import (
    FeatureTangents,
    ImageTangents,
    NeighborTangents,
    SeriesTangents,
    TangentUnion,
    TransformTangents,
)
from tests.bad_input.data import FRAME, N, V, X, masked, put

SAMPLES = np.random.default_rng(4).normal(size=(9, 16))
KINDS = {
    "features": FeatureTangents([0, 1]),
    "images": ImageTangents((4, 4)),
    "series": SeriesTangents(),
    "neighbors": NeighborTangents(n_neighbors=4).fit(SAMPLES),
    "transforms": TransformTangents(lambda X, a: X * (1 + a)),
    "union": TangentUnion([FeatureTangents([0]), ImageTangents((4, 4))]),
    "blur": GaussianBlur((4, 4)).fit(SAMPLES),
}
DATES = np.full(SAMPLES.shape, np.datetime64("2020-01-01"))
BAD = {
    "NaN": (put(SAMPLES, np.nan), ValueError, "X contains NaN"),
    "infinity": (put(SAMPLES, np.inf), ValueError, "X contains infinity"),
    "no samples": (SAMPLES[:0], ValueError, "X cannot be used: .*0 sample"),
    "one axis": (SAMPLES[0], ValueError, "X cannot be used: Expected 2D"),
    "strings": (SAMPLES.astype("U1"), ValueError, "X cannot be used: could not convert"),
    "objects": (np.full((9, 16), object()), TypeError, "X cannot be used: .*'object'"),
    "complex": (SAMPLES + 1j, ValueError, "X cannot be used: Complex"),
    "dates": (DATES, TypeError, "X must hold numbers, got dates"),
    "sparse": (sparse.csr_array(SAMPLES), TypeError, "Sparse data was passed for X"),
    "masked": (masked(SAMPLES), ValueError, "X is a masked array"),
    "None": (None, ValueError, "X cannot be used: Expected 2D"),
    "elsewhere": (torch.empty(9, 16, device="meta"), TypeError, "X cannot be used: .*meta"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", BAD)
def test_samples(kind, name):
    given, error, message = BAD[name]
    kind = KINDS[kind]
    with pytest.raises(error, match=f"(?s){message}"):
        kind.transform(given) if isinstance(kind, GaussianBlur) else kind(given)


MULTIPLIERS = {
    "NaN": (lambda a: a * np.nan, ValueError, "holds NaN"),
    "few": (lambda a: a[1:], ValueError, "must have shape"),
    "strings": (lambda a: a.astype("U1"), TypeError, "must be numbers"),
    "bools": (lambda a: a > 0, TypeError, "must be numbers"),
    "complex": (lambda a: a + 1j, TypeError, "must be numbers"),
    "dates": (lambda a: a.astype("M8[D]"), TypeError, "got dates"),
    "masked": (masked, ValueError, "is a masked array"),
    "None": (lambda a: None, TypeError, "must be numbers"),
    "ragged": (lambda a: [[1.0], [1.0, 2.0]], ValueError, "must be one array"),
    "elsewhere": (lambda a: torch.empty(a.shape, device="meta"), TypeError, "meta"),
}


@pytest.mark.parametrize("method", ["move", "combine"])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "blur"])
@pytest.mark.parametrize("name", MULTIPLIERS)
def test_amounts_and_coefficients(method, kind, name):
    spoil, error, message = MULTIPLIERS[name]
    kind = KINDS[kind]
    if not hasattr(kind, method):
        return
    n_tangents = kind(SAMPLES).shape[1]
    shape = (9, n_tangents) if method == "move" else (9, 2, n_tangents)
    parameter = {"move": "amounts", "combine": "coefficients"}[method]
    with pytest.raises(error, match=f"{parameter} .*{message}"):
        getattr(kind, method)(SAMPLES, spoil(np.full(shape, 0.1)))


# what is wrong with the parameters of a kind, the error, what it says
PARAMETERS = [
    (FeatureTangents([9]), ValueError, "features"),
    (FeatureTangents(["a"]), ValueError, "features has the name 'a'"),
    (FeatureTangents([0.5]), TypeError, "features"),
    (FeatureTangents(groups=[0]), TypeError, "groups"),
    (FeatureTangents(directions=[[np.nan, 0, 0]]), ValueError, "directions"),
    (FeatureTangents(directions=masked(np.eye(3))), ValueError, "directions is a masked"),
    (FeatureTangents(directions=[["a", "b", "c"]]), ValueError, "directions cannot be used"),
    (ImageTangents((2, 2)), ValueError, "image_shape"),
    (ImageTangents(3), TypeError, "image_shape"),
    (ImageTangents((1, 3), "spin"), ValueError, "transforms has 'spin'"),
    (ImageTangents((1, 3), smoothing=-1), ValueError, "smoothing"),
    (SeriesTangents("slide"), ValueError, "transforms has 'slide'"),
    (SeriesTangents(positions=[1, 1, 2]), ValueError, "positions"),
    (SeriesTangents(positions=["a", "b", "c"]), ValueError, "positions cannot be used"),
    (SeriesTangents(n_channels=2), ValueError, "n_channels"),
    (SeriesTangents("scatter", reference=[1, 1, 1]), ValueError, "reference"),
    (SeriesTangents("scatter", reference=[1, np.nan, 1]), ValueError, "reference"),
    (NeighborTangents(), ValueError, "not fitted"),
    (TransformTangents("scale"), TypeError, "transform must be a callable"),
    (TransformTangents(lambda X, a: X[:, :1]), ValueError, "must return the shape of X"),
    (TransformTangents(lambda X, a: X * np.nan), ValueError, "returns NaN"),
    (TransformTangents(lambda X, a: None), ValueError, "must return the shape of X"),
    (TransformTangents(lambda X, a: X, step=0), ValueError, "step"),
    (TransformTangents(lambda X, a: X, mode="back"), ValueError, "mode"),
    (TangentUnion([]), ValueError, "tangents must hold at least one"),
    (TangentUnion([FeatureTangents]), TypeError, "tangents must hold callables"),
    (TangentUnion([("a", lambda X: None)]), TypeError, "tangents of 'a'"),
    (TangentUnion([("a", lambda X: masked(V))]), ValueError, "tangents of 'a' is a masked"),
    (TangentUnion([("a", FeatureTangents())], weights=[-1]), ValueError, "weights"),
]


@pytest.mark.parametrize(("kind", "error", "message"), PARAMETERS)
def test_parameters(kind, error, message):
    with pytest.raises(error, match=message):
        kind(X)


def test_two_columns_of_one_name():
    frame = pd.DataFrame(X, columns=["a", "a", "c"])
    with pytest.raises(ValueError, match="(?i)X .*(unique column names|two columns of one name)"):
        FeatureTangents(["a"])(frame)


SCALER = StandardScaler().fit(X)
WORDS = FRAME.assign(c="red")
# transformer, samples, tangents, the error, what it says
PUSHED = [
    (SCALER, put(X, np.nan), V, ValueError, "X contains NaN"),
    (SCALER, masked(X), V, ValueError, "X is a masked array"),
    (SCALER, X[:0], V, ValueError, "X cannot be used: .*0 sample"),
    (SCALER, X + 1j, V, ValueError, "X cannot be used: Complex"),
    (SCALER, X, put(V, np.inf, (0, 0, 0)), ValueError, "tangents holds NaN, infinity"),
    (SCALER, X, masked(V), ValueError, "tangents is a masked array"),
    (SCALER, X, V[:5], ValueError, "tangents must have shape"),
    (SCALER, X, None, TypeError, "tangents must be one array of numbers, got None"),
    (SCALER, X, V.astype("U1"), TypeError, "tangents must be one array"),
    (SCALER, WORDS, V, TypeError, r"X must be numeric where tangents move along.*\['c'\]"),
    (StandardScaler, X, V, TypeError, "transformer must be a fitted transformer"),
    (StandardScaler(), X, V, ValueError, "not fitted"),
    (None, X, V, TypeError, "transformer must be a fitted transformer"),
]


@pytest.mark.parametrize(("transformer", "samples", "tangents", "error", "message"), PUSHED)
def test_push_forward(transformer, samples, tangents, error, message):
    with pytest.raises(error, match=f"(?s){message}"):
        push_forward(transformer, samples, tangents)


x, tau = torch.tensor(X), torch.tensor(V)
# module, samples, tangents, the error, what it says
PROPAGATED = [
    (torch.sin, X, tau, TypeError, "x must be a torch.Tensor, got ndarray"),
    (torch.sin, x.long(), tau, TypeError, "x must be floating"),
    (torch.sin, torch.tensor(1.0), tau, ValueError, "x must have shape"),
    (torch.sin, x, V, TypeError, "tangents must be a torch.Tensor, got ndarray"),
    (torch.sin, x, tau.float(), TypeError, "tangents must have the dtype of x"),
    (torch.sin, x, tau[:5], ValueError, "tangents must have shape"),
    (torch.sin, x, tau[:, 0], ValueError, "tangents must have shape"),
    (torch.sin, x, tau.to("meta"), ValueError, "tangents must be on the device of x"),
    (lambda x: (x, x), x, tau, TypeError, "module must return one tensor, got tuple"),
    (lambda x: None, x, tau, TypeError, "module must return one tensor, got NoneType"),
]


@pytest.mark.parametrize(("module", "samples", "tangents", "error", "message"), PROPAGATED)
def test_propagate(module, samples, tangents, error, message):
    with pytest.raises(error, match=message):
        propagate(module, samples, tangents)


LINEAR = LinearRegression().fit(X, X[:, 0])
# estimator, samples, tangents, weights, the error, what it says
MEASURED = [
    (LinearRegression(), X, V, None, ValueError, "not fitted"),
    (LINEAR, put(X, np.nan), V, None, ValueError, "X contains NaN"),
    (LINEAR, masked(X), V, None, ValueError, "X is a masked array"),
    (LINEAR, X, V[:5], None, ValueError, "tangents must have shape"),
    (LINEAR, X, masked(V), None, ValueError, "tangents is a masked array"),
    (LINEAR, X, lambda X: None, None, TypeError, r"tangents\(X\) must be one array"),
    (LINEAR, X, V, -np.ones(N), ValueError, "Negative values .*sample_weight"),
    (LINEAR, X, V, np.zeros(N), ValueError, "(?i)sample.weight"),
    (LINEAR, X, V, masked(np.ones(N)), ValueError, "sample_weight is a masked array"),
    (LINEAR, X, V, ["a"] * N, ValueError, "sample_weight cannot be used"),
    (StandardScaler().fit(X), X, V, None, TypeError, "estimator must have predict_proba"),
]


@pytest.mark.parametrize(
    ("estimator", "samples", "tangents", "weight", "error", "message"), MEASURED
)
def test_local_invariance_error(estimator, samples, tangents, weight, error, message):
    with pytest.raises(error, match=message):
        local_invariance_error(estimator, samples, tangents, sample_weight=weight)


def test_make_invariance_scorer():
    with pytest.raises(TypeError, match="tangents must be callable"):
        make_invariance_scorer(V)
