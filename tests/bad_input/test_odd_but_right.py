"""Odd input that means something: it gives what plain input of the same meaning gives."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from sktangent import TangentPropClassifier, TangentPropRegressor
from sktangent.metrics import local_invariance_error
from sktangent.preprocessing import push_forward
from sktangent.tangents import FeatureTangents, NeighborTangents, TangentUnion
from tests.bad_input.data import FRAME, N, V, X, Y, fit

BOTH = [TangentPropClassifier, TangentPropRegressor]
ROUNDED = X.round()


def fitted(estimator, X=X, kind=None, **params):
    return fit(estimator, X, kind=kind, callbacks=None, **params)


def predictions(model, X):
    return model.predict_proba(X) if hasattr(model, "classes_") else model.predict(X)


FORMS = {
    "integers": ROUNDED.astype(int),
    "small integers": ROUNDED.astype(np.int8),
    "objects": ROUNDED.astype(object),
    "lists": ROUNDED.tolist(),
    "float16": ROUNDED.astype(np.float16),
    "Fortran order": np.asfortranarray(ROUNDED),
    "masked nowhere": np.ma.array(ROUNDED),
    "numeric strings": ROUNDED.astype(str),
    "frame": pd.DataFrame(ROUNDED, columns=["a", "b", "c"]),
    "nullable frame": pd.DataFrame(ROUNDED, columns=["a", "b", "c"]).astype("Int64"),
    "polars frame": pl.DataFrame(ROUNDED, schema=["a", "b", "c"]),
}


@pytest.mark.parametrize("estimator", BOTH)
@pytest.mark.parametrize("form", FORMS)
def test_forms_of_samples(estimator, form):
    kind = FeatureTangents([1])
    plain = fitted(estimator, ROUNDED, kind)
    model = fitted(estimator, FORMS[form], kind)
    expected = predictions(plain, ROUNDED)
    close = {"rtol": 1e-9, "atol": 1e-12}  # products of other memory orders round differently
    np.testing.assert_allclose(predictions(model, FORMS[form]), expected, **close)
    np.testing.assert_allclose(model.jacobian(FORMS[form]), plain.jacobian(ROUNDED), **close)


@pytest.mark.parametrize("estimator", BOTH)
def test_booleans(estimator):
    model, plain = fitted(estimator, X > 0), fitted(estimator, (X > 0).astype(float))
    np.testing.assert_array_equal(predictions(model, X > 0), predictions(plain, (X > 0) * 1.0))


def test_one_feature_one_sample_one_class_and_a_constant():
    line = np.linspace(0, 1, N)[:, None]
    steep = TangentPropRegressor(random_state=0).fit(line, 2 * line[:, 0])
    assert np.abs(steep.predict(line) - 2 * line[:, 0]).max() < 0.1
    single = TangentPropRegressor(random_state=0).fit(X[:1], [3.0])
    assert single.predict(X[:1]) == pytest.approx(3, abs=1e-3)
    assert np.ptp(TangentPropRegressor(random_state=0).fit(X, np.full(N, 7.0)).predict(X)) < 0.05
    one = fitted(TangentPropClassifier, y=["a"] * N)
    assert (one.predict(X) == "a").all() and (one.predict_proba(X) == 1).all()


@pytest.mark.parametrize("scale", [1e30, 1e-30, 1e300, 1e-300])
def test_targets_of_any_scale(scale):
    plain, model = fitted(TangentPropRegressor), fitted(TangentPropRegressor, y=scale * X[:, 0])
    np.testing.assert_allclose(model.predict(X) / scale, plain.predict(X), rtol=1e-6)
    np.testing.assert_allclose(model.jacobian(X) / scale, plain.jacobian(X), rtol=1e-6)


@pytest.mark.parametrize("scale", [1e30, 1e-30])
def test_samples_of_any_scale_behind_a_scaler(scale):
    params = {"preprocessor": StandardScaler(), "kind": FeatureTangents(directions=[scale, 0, 0])}
    model = fitted(TangentPropRegressor, scale * X, **params)
    params["kind"] = FeatureTangents(directions=[1.0, 0, 0])
    plain = fitted(TangentPropRegressor, X, **params)
    np.testing.assert_allclose(model.predict(scale * X), plain.predict(X), rtol=1e-6)
    assert model.penalty_curve_ == pytest.approx(plain.penalty_curve_, rel=1e-6)


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs", "lm"])
def test_what_overflows_says_what_to_try(optimizer):
    kind = FeatureTangents(directions=[1e300, 0, 0])
    with pytest.raises(ValueError, match="diverged.*tangents of a smaller scale"):
        fitted(TangentPropRegressor, kind=kind, optimizer=optimizer)
    with pytest.raises(ValueError, match="diverged.*inputs and tangents of a smaller scale"):
        fitted(TangentPropRegressor, 1e300 * X, optimizer=optimizer)


def with_words(frame):
    words, dates = ["r", "g", "b"] * 4, pd.Timestamp("2020-01-01")
    if isinstance(frame, pl.DataFrame):
        return frame.with_columns(color=pl.Series(words), when=dates.to_pydatetime())
    return frame.assign(color=pd.Categorical(words), when=dates)


ENCODER = make_column_transformer((StandardScaler(), ["a", "b", "c"]), (OneHotEncoder(), ["color"]))
FRAMES = {"pandas": FRAME, "polars": pl.DataFrame(X, schema=["a", "b", "c"])}


@pytest.mark.parametrize("library", FRAMES)
@pytest.mark.parametrize("augment", [None, 0.1])
@pytest.mark.parametrize("estimator", BOTH)
def test_columns_of_words_before_a_preprocessor(library, augment, estimator):
    frame = with_words(FRAMES[library])
    one_hot = np.hstack([X, np.tile(np.eye(3)[[2, 1, 0]], (4, 1))])
    numbers = make_column_transformer((StandardScaler(), [0, 1, 2]), remainder="passthrough")
    kinds = FeatureTangents(["a"]), FeatureTangents([0])
    model = fitted(estimator, frame, kinds[0], preprocessor=ENCODER, augment=augment)
    plain = fitted(estimator, one_hot, kinds[1], preprocessor=numbers, augment=augment)
    if augment is None:
        np.testing.assert_allclose(predictions(model, frame), predictions(plain, one_hot))
        np.testing.assert_allclose(
            model.directional_derivative(frame), plain.directional_derivative(one_hot)
        )
    assert np.isfinite(predictions(model, frame)).all()
    with pytest.raises(TypeError, match=r"where tangents move along.*\['color', 'when'\]"):
        model.jacobian(frame)


def test_words_that_a_transformer_reads_beside_numbers():
    class Both(StandardScaler):
        def fit(self, frame, y=None):
            return super().fit(frame[["a", "b", "c"]])

        def transform(self, frame):
            return super().transform(frame[["a", "b", "c"]])

    frame = with_words(FRAME)
    with pytest.raises(TypeError, match="Both reads columns that hold no numbers"):
        push_forward(Both().fit(frame), frame, np.tile([1.0, 0, 0, 0, 0], (N, 1, 1)))


def test_polars_frames_everywhere():
    frame, kind = FRAMES["polars"], FeatureTangents(["b"])
    union = TangentUnion([("b", kind)])
    np.testing.assert_array_equal(union.move(frame, np.ones((N, 1))), X + [0, 1, 0])
    scaler = make_column_transformer((StandardScaler(), ["b"])).fit(frame)
    pushed = push_forward(scaler, frame, kind(frame))
    np.testing.assert_allclose(pushed, np.full((N, 1, 1), 1 / X[:, 1].std()))
    linear, plain = (LinearRegression().fit(given, X[:, 0]) for given in (frame, X))
    error = local_invariance_error(linear, frame, kind)
    assert error == pytest.approx(local_invariance_error(plain, X, FeatureTangents([1])))
    ours, plain = (fitted(TangentPropRegressor, given) for given in (frame, X))
    error = local_invariance_error(ours, frame, kind)
    assert error == pytest.approx(local_invariance_error(plain, X, FeatureTangents([1])))


# Arrays of any shape, dtype and memory order ------------------------------------------------------

# always the same examples, and few: each trains a network
few = settings(derandomize=True, max_examples=12, deadline=None, database=None)


def odd(values, dtype, order):
    """Return the same values in another dtype and memory order."""
    values = values.astype(dtype)
    if order == "reversed":
        return np.ascontiguousarray(values[..., ::-1])[..., ::-1]
    if order == "strided":
        return np.repeat(values, 2, axis=0)[::2]
    if order == "read-only":
        values.flags.writeable = False
        return values
    return np.array(values, order=order)


@few
@given(
    shape=st.tuples(st.integers(2, 7), st.integers(1, 4)),
    n_tangents=st.integers(1, 3),
    dtype=st.sampled_from(["f8", ">f8", "f2", "i4", "u1", "O"]),
    order=st.sampled_from(["C", "F", "reversed", "strided", "read-only"]),
    estimator=st.sampled_from(BOTH),
)
def test_any_array_is_the_plain_one(shape, n_tangents, dtype, order, estimator):
    random = np.random.default_rng(list(shape))
    X = random.integers(0, 9, shape).astype(float)
    V = random.integers(0, 3, (shape[0], n_tangents, shape[1])).astype(float)
    y = np.arange(shape[0]) % 2 * 1.0
    plain = fitted(estimator, X, y=y, tangents=V)
    model = fitted(estimator, odd(X, dtype, order), y=y, tangents=odd(V, dtype, order))
    given, expected = odd(X, dtype, order), plain.directional_derivative(X, V)
    # products of other memory orders round in another order
    close = {"rtol": 1e-9, "atol": 1e-12}
    np.testing.assert_allclose(predictions(model, given), predictions(plain, X), **close)
    found = model.directional_derivative(given, odd(V, dtype, order))
    np.testing.assert_allclose(found, expected, **close)


KINDS = {
    "features": FeatureTangents(),
    "neighbors": NeighborTangents(n_components=1, n_neighbors=2),
    "union": TangentUnion([FeatureTangents([0]), FeatureTangents([-1])]),
}


@settings(few, max_examples=30)
@given(
    shape=st.tuples(st.integers(3, 7), st.integers(1, 4)),
    dtype=st.sampled_from(["f8", ">f8", "f2", "i4", "u1", "O"]),
    order=st.sampled_from(["C", "F", "reversed", "strided", "read-only"]),
    kind=st.sampled_from(list(KINDS)),
)
def test_any_array_has_the_tangents_of_the_plain_one(shape, dtype, order, kind):
    X = np.random.default_rng(list(shape)).integers(0, 9, shape).astype(float)
    given, kind = odd(X, dtype, order), KINDS[kind]
    kind = kind.fit(X) if hasattr(kind, "fit") else kind
    V = kind(X)
    np.testing.assert_array_equal(kind(given), V)
    amounts = np.linspace(-1, 1, V.shape[0] * V.shape[1]).reshape(V.shape[:2])
    np.testing.assert_array_equal(kind.move(given, amounts), kind.move(X, amounts))
    scaler = StandardScaler().fit(X)
    np.testing.assert_array_equal(push_forward(scaler, given, V), push_forward(scaler, X, V))


@pytest.mark.parametrize("estimator", BOTH)
def test_the_table_of_good_data_is_good(estimator):
    model = fitted(estimator, FRAME, tangents=V)
    assert len(predictions(model, FRAME)) == len(Y[estimator])
