"""The estimators' preprocessor: where it is fitted, what it does to tangents, searches."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_selection import SelectKBest
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, SplineTransformer, StandardScaler

from sktangent import TangentPropClassifier, TangentPropRegressor
from sktangent.preprocessing import GaussianBlur
from sktangent.tangents import FeatureTangents, ImageTangents

BOTH = pytest.mark.parametrize("estimator", [TangentPropClassifier, TangentPropRegressor])


def quick(estimator, tangents=None, **params):
    return estimator(
        tangents,
        **{"max_epochs": 10, "lr": 0.01, "optimizer": "adam", "random_state": 0, **params},
    )


def predictions(model, X):
    return model.decision_function(X) if hasattr(model, "classes_") else model.predict(X)


@BOTH
def test_the_network_sees_what_the_preprocessor_makes_of_samples(estimator, X, three_labels):
    inside = quick(estimator, preprocessor=StandardScaler()).fit(X, three_labels)
    in_front = make_pipeline(StandardScaler(), quick(estimator)).fit(X, three_labels)
    np.testing.assert_array_equal(
        predictions(inside, X), predictions(in_front[1], in_front[0].transform(X))
    )


@BOTH
def test_tangents_are_taken_where_the_samples_are(estimator, X, three_labels):
    X = X * [1.0, 10.0, 0.1, 1.0]
    seen = []

    def tangents(X_seen):
        seen.append(X_seen)
        return FeatureTangents()(X_seen)

    scaler = StandardScaler().fit(X)
    model = quick(estimator, tangents, preprocessor=StandardScaler()).fit(X, three_labels)
    np.testing.assert_array_equal(seen[0], X)
    by_hand = quick(estimator).fit(
        scaler.transform(X), three_labels, tangents=FeatureTangents()(X) / scaler.scale_
    )
    np.testing.assert_allclose(
        predictions(model, X), predictions(by_hand, scaler.transform(X)), rtol=1e-9, atol=1e-12
    )


def test_a_scaler_inside_keeps_the_meaning_of_tangents_and_one_in_front_does_not():
    # An offset on the channels that are measured together must not matter; their scales differ a
    # thousandfold. Behind a scaler, the same ones mean an offset of one standard deviation each.
    rng = np.random.default_rng(0)
    X, test = rng.normal(size=(2, 200, 3)) * [1.0, 1000.0, 1.0]
    y = X[:, 0] - X[:, 1] / 1000 + np.sin(X[:, 2])
    along = np.array([1.0, 1.0, 0.0])
    offset = FeatureTangents(directions=along)

    def error(model):
        change = model.predict(test + 1e-4 * along) - model.predict(test - 1e-4 * along)
        return np.mean((change / 2e-4) ** 2)

    params = {"max_epochs": 60, "penalty_weight": 3.0}
    inside = quick(TangentPropRegressor, offset, preprocessor=StandardScaler(), **params)
    in_front = make_pipeline(StandardScaler(), quick(TangentPropRegressor, offset, **params))
    assert 3 * error(inside.fit(X, y)) < error(in_front.fit(X, y))
    np.testing.assert_allclose(
        error(inside), np.mean(inside.directional_derivative(test) ** 2), rtol=1e-4
    )


class Recorder(TransformerMixin, BaseEstimator):
    """Do nothing, and remember what was seen."""

    def fit(self, X, y=None):
        self.X_, self.y_ = np.asarray(X), np.asarray(y)
        return self

    def transform(self, X):
        return np.asarray(X)


@BOTH
def test_it_is_a_clone_fitted_on_training_samples_alone(estimator, X, three_labels):
    preprocessor = Recorder()
    model = quick(estimator, preprocessor=preprocessor, early_stopping=True)
    model.set_params(validation_fraction=0.25).fit(X, three_labels)
    assert model.preprocessor is preprocessor
    assert not hasattr(preprocessor, "X_")
    train, _ = train_test_split(
        np.arange(60),
        test_size=0.25,
        random_state=np.random.RandomState(0),
        stratify=three_labels if estimator is TangentPropClassifier else None,
    )
    np.testing.assert_array_equal(model.preprocessor_.X_, X[train])
    np.testing.assert_array_equal(model.preprocessor_.y_, three_labels[train])


def test_samples_of_weight_zero_do_not_take_part(X, target):
    model = quick(TangentPropRegressor, preprocessor=Recorder())
    model.fit(X, target, sample_weight=np.r_[np.ones(50), np.zeros(10)])
    np.testing.assert_array_equal(model.preprocessor_.X_, X[:50])


@pytest.mark.parametrize(
    ("preprocessor", "width"),
    [
        (PCA(2), 2),
        (make_pipeline(StandardScaler(), PolynomialFeatures(2, include_bias=False)), 14),
        (SplineTransformer(n_knots=4, sparse_output=True, extrapolation="linear"), 24),
        (SelectKBest(k=3), 3),
        (ColumnTransformer([("a", StandardScaler(), [0, 2])], remainder="passthrough"), 4),
    ],
)
@BOTH
def test_any_transformer(estimator, preprocessor, width, X, three_labels):
    model = quick(estimator, FeatureTangents(), preprocessor=preprocessor, max_epochs=3)
    model.fit(X, three_labels)
    assert model.module_[0].in_features == width
    assert model.penalty_curve_[-1] > 0
    assert model.n_features_in_ == 4
    assert model.predict(X).shape == (60,)


def test_columns_by_name(X, target):
    frame = pd.DataFrame(X * [1, 1000, 1, 1], columns=list("abcd"))
    by_name = ColumnTransformer(
        [("s", StandardScaler(), ["b", "a"]), ("p", PolynomialFeatures(), ["d"])]
    )
    model = quick(TangentPropRegressor, FeatureTangents(["b"]), preprocessor=by_name)
    model.set_params(early_stopping=True).fit(frame, target)
    assert model.feature_names_in_.tolist() == list("abcd")
    by_index = ColumnTransformer(
        [("s", StandardScaler(), [1, 0]), ("p", PolynomialFeatures(), [3])]
    )
    other = quick(TangentPropRegressor, FeatureTangents([1]), preprocessor=by_index)
    other.set_params(early_stopping=True).fit(frame.to_numpy(), target)
    np.testing.assert_allclose(model.predict(frame), other.predict(frame.to_numpy()), rtol=1e-9)
    np.testing.assert_allclose(
        model.jacobian(frame), other.jacobian(frame.to_numpy()), rtol=1e-8, atol=1e-12
    )
    np.testing.assert_allclose(
        model.directional_derivative(frame)[:, 0, 0], model.jacobian(frame)[:, 0, 1], rtol=1e-8
    )
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame[list("dcba")])


@BOTH
@pytest.mark.parametrize("preprocessor", [None, StandardScaler()])
@pytest.mark.parametrize("kind", ["int64", "float32", "Float64"])
def test_data_frames_of_any_number_kind(estimator, preprocessor, kind, X, three_labels):
    rounded = np.round(10 * X)
    model = quick(estimator, FeatureTangents(), preprocessor=preprocessor, dtype="float32")
    model.fit(pd.DataFrame(rounded, columns=list("abcd")).astype(kind), three_labels)
    assert predictions(model, pd.DataFrame(rounded, columns=list("abcd"))).dtype == np.float32
    by_array = clone(model).fit(rounded.astype(np.float32), three_labels)
    np.testing.assert_allclose(
        predictions(model, pd.DataFrame(rounded, columns=list("abcd"))),
        predictions(by_array, rounded),
        rtol=1e-2,
        atol=1e-3,
    )


def test_pandas_output_of_the_preprocessor(X, target):
    frame = pd.DataFrame(X, columns=list("abcd"))
    scaler = StandardScaler().set_output(transform="pandas")
    model = quick(TangentPropRegressor, FeatureTangents(), preprocessor=scaler).fit(frame, target)
    plain = quick(TangentPropRegressor, FeatureTangents(), preprocessor=StandardScaler())
    np.testing.assert_allclose(model.predict(frame), plain.fit(X, target).predict(X), rtol=1e-9)


@BOTH
def test_going_on_keeps_the_fitted_preprocessor(estimator, X, three_labels):
    model = quick(estimator, FeatureTangents(), preprocessor=StandardScaler(), warm_start=True)
    fitted = model.fit(X, three_labels).preprocessor_
    model.fit(1000 * X, three_labels)
    assert model.preprocessor_ is fitted
    model.partial_fit(1000 * X, three_labels)
    assert model.preprocessor_ is fitted
    np.testing.assert_array_equal(fitted.mean_, StandardScaler().fit(X).mean_)
    cold = model.set_params(warm_start=False).fit(1000 * X, three_labels)
    np.testing.assert_allclose(cold.preprocessor_.mean_, 1000 * fitted.mean_)


@BOTH
def test_the_first_partial_fit_fits_it(estimator, X, three_labels):
    kwargs = {"classes": [0, 1, 2]} if estimator is TangentPropClassifier else {}
    model = quick(estimator, FeatureTangents(), preprocessor=StandardScaler())
    model.partial_fit(X[:30], three_labels[:30], **kwargs).partial_fit(X[30:], three_labels[30:])
    np.testing.assert_array_equal(model.preprocessor_.mean_, StandardScaler().fit(X[:30]).mean_)


@BOTH
def test_a_pickle_holds_it(estimator, X, three_labels):
    model = quick(estimator, FeatureTangents(), preprocessor=make_pipeline(PCA(3)))
    other = pickle.loads(pickle.dumps(model.fit(X, three_labels)))
    np.testing.assert_array_equal(predictions(model, X), predictions(other, X))
    np.testing.assert_array_equal(model.jacobian(X), other.jacobian(X))


@pytest.mark.parametrize(
    ("preprocessor", "name"),
    [
        (PCA(), "preprocessor__n_components"),
        (make_pipeline(PCA()), "preprocessor__pca__n_components"),
    ],
)
def test_a_search_reaches_its_parameters(preprocessor, name, X, target):
    search = GridSearchCV(
        quick(TangentPropRegressor, FeatureTangents(), preprocessor=preprocessor),
        {name: [1, 4]},
        cv=2,
        error_score="raise",
    ).fit(X, target)
    best = search.best_estimator_
    assert best.module_[0].in_features == search.best_params_[name]
    assert len(set(search.cv_results_["mean_test_score"])) == 2


def test_one_grid_over_tangents_blur_and_weight_in_two_processes():
    X, y = load_digits(return_X_y=True)
    X, y = X[:120] / 16, y[:120]
    model = quick(
        TangentPropClassifier,
        ImageTangents(image_shape=(8, 8)),
        preprocessor=GaussianBlur(image_shape=(8, 8)),
        max_epochs=30,
        hidden_layer_sizes=(20,),
    )
    grid = {
        "tangents__transforms": [["translation_x", "translation_y"], ["rotation"]],
        "preprocessor__sigma": [0.0, 0.7],
        "penalty_weight": [0.0, 0.1],
    }
    search = GridSearchCV(model, grid, cv=2, n_jobs=2, error_score="raise").fit(X, y)
    assert (
        search.best_estimator_.tangents_.transforms == search.best_params_["tangents__transforms"]
    )
    assert search.best_estimator_.preprocessor_.sigma == search.best_params_["preprocessor__sigma"]
    assert len(set(search.cv_results_["mean_test_score"])) > 1
    assert search.best_score_ > 0.5


@pytest.mark.parametrize(
    "preprocessor", [3, "scale", StandardScaler, TangentPropRegressor()], ids=str
)
def test_what_is_no_transformer(preprocessor, X, target):
    with pytest.raises((ValueError, TypeError), match="preprocessor|instance"):
        quick(TangentPropRegressor, preprocessor=preprocessor).fit(X, target)


class Broken(Recorder):
    def transform(self, X):
        return np.full((len(X), 2), np.nan)


def test_a_preprocessor_that_gives_no_numbers(X, target):
    with pytest.raises(ValueError, match="preprocessor output contains NaN"):
        quick(TangentPropRegressor, preprocessor=Broken()).fit(X, target)


def test_samples_out_of_scale_are_told_of(X, target):
    large = X * [1, 1e5, 1, 1] + [0, 1e6, 0, 0]
    model = TangentPropRegressor(max_epochs=1, random_state=0)
    with pytest.warns(UserWarning, match=r"Feature 1 has .* 1e\+06,.*StandardScaler"):
        model.fit(large, target)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, target)
        model.set_params(preprocessor=StandardScaler()).fit(large, target)
        # which standardizes by itself
        TangentPropRegressor(optimizer="lm", max_epochs=1).fit(large, target)
