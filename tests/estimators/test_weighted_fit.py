"""The preprocessor is fitted with the samples' weights wherever it takes them."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.decomposition import PCA
from sklearn.feature_selection import SelectFromModel
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    PolynomialFeatures,
    SplineTransformer,
    StandardScaler,
)

from sktangent import TangentPropClassifier, TangentPropRegressor
from sktangent.estimators.weighted_fit import fit_weighted
from sktangent.preprocessing import GaussianBlur
from sktangent.tangents import FeatureTangents

TAKES = [
    StandardScaler(),
    make_pipeline(StandardScaler(), PolynomialFeatures(2)),
    make_pipeline(make_pipeline(StandardScaler()), FunctionTransformer(np.tanh), StandardScaler()),
    make_pipeline("passthrough", StandardScaler()),
    make_column_transformer((StandardScaler(), [0, 1]), remainder="passthrough"),
    make_column_transformer(
        (make_pipeline(StandardScaler(), SplineTransformer()), [0, 2]),
        remainder="drop",
    ),
    FeatureUnion([("scaled", StandardScaler()), ("blurred", GaussianBlur((2, 2)))]),
    make_pipeline(SelectFromModel(Ridge()), StandardScaler()),
]


@pytest.fixture
def weight():
    return np.random.default_rng(1).integers(0, 4, size=60)


@pytest.mark.parametrize("estimator", [TangentPropClassifier, TangentPropRegressor])
@pytest.mark.parametrize("preprocessor", TAKES, ids=lambda p: type(p).__name__)
def test_weights_are_repeated_rows(preprocessor, estimator, X, three_labels, weight):
    model = estimator(
        FeatureTangents([0]), preprocessor=preprocessor, max_epochs=50, random_state=0
    )
    samples = 3 * X + 5
    weighted = clone(model).fit(samples, three_labels, sample_weight=weight)
    repeated = clone(model).fit(samples.repeat(weight, axis=0), three_labels.repeat(weight))
    for answer in ("predict_proba", "predict", "jacobian"):
        if hasattr(model, answer):
            expected = getattr(repeated, answer)(samples)
            given = getattr(weighted, answer)(samples)
            np.testing.assert_allclose(given, expected, rtol=1e-8, atol=1e-9)


def test_the_preprocessor_of_the_user_is_left_alone(X, target, weight):
    scaler = StandardScaler()
    TangentPropRegressor(preprocessor=scaler, max_epochs=1).fit(X, target, sample_weight=weight)
    assert not hasattr(scaler, "mean_")
    assert not hasattr(scaler, "_metadata_request")


def test_class_weight_counts_like_sample_weight(X, labels):
    params = {"preprocessor": StandardScaler(), "max_epochs": 1, "random_state": 0}
    by_class = TangentPropClassifier(class_weight={"spam": 3.0}, **params).fit(X, labels)
    weight = np.where(labels == "spam", 3.0, 1.0)
    by_sample = TangentPropClassifier(**params).fit(X, labels, sample_weight=weight)
    np.testing.assert_allclose(by_class.preprocessor_.mean_, by_sample.preprocessor_.mean_)


def test_columns_by_name(X, target, weight):
    frame = pd.DataFrame(X, columns=list("abcd"))
    scaler = ColumnTransformer([("scaled", StandardScaler(), ["d", "a"])])
    fitted = fit_weighted(scaler, frame, target, weight)
    expected = np.average(X[:, [3, 0]], axis=0, weights=weight)
    np.testing.assert_allclose(fitted.named_transformers_["scaled"].mean_, expected)


@pytest.mark.parametrize("weight", [np.ones(60), np.full(60, 2.5)])
def test_equal_weights_change_nothing(weight, X, target):
    fitted = fit_weighted(make_pipeline(StandardScaler(), PCA(2)), X, target, weight)
    plain = make_pipeline(StandardScaler(), PCA(2)).fit(X, target)
    np.testing.assert_array_equal(fitted.transform(X), plain.transform(X))


def test_a_part_that_takes_no_weights_goes_without(X, target, weight):
    both = fit_weighted(make_pipeline(StandardScaler(), PCA(2)), X, target, weight)
    np.testing.assert_allclose(both[0].mean_, np.average(X, axis=0, weights=weight))
    alone = fit_weighted(PCA(2), X, target, weight)
    np.testing.assert_array_equal(alone.mean_, X.mean(axis=0))


class Wrapped(TransformerMixin, BaseEstimator):
    """A transformer that keeps another to itself."""

    def __init__(self, inner):
        self.inner = inner

    def fit(self, X, y=None):
        self.inner_ = clone(self.inner).fit(X)
        return self

    def transform(self, X):
        return self.inner_.transform(X)


def test_what_is_hidden_stays_unweighted(X, target, weight):
    for transformer in (Wrapped(StandardScaler()), Pipeline([("a", Wrapped(StandardScaler()))])):
        fitted = fit_weighted(transformer, X, target, weight)
        np.testing.assert_array_equal(fitted.transform(X), StandardScaler().fit_transform(X))


def test_a_search_inside_goes_without(X, target, weight):
    search = GridSearchCV(Ridge(), {"alpha": [1.0, 2.0]})
    selected = SelectFromModel(search, importance_getter="best_estimator_.coef_")
    fitted = fit_weighted(selected, X, target, weight)
    plain = clone(selected).fit(X, target)
    np.testing.assert_array_equal(fitted.transform(X), plain.transform(X))


def test_what_was_said_of_a_part_stays(X, target, weight):
    from sklearn import config_context

    with config_context(enable_metadata_routing=True):
        deaf = StandardScaler().set_fit_request(sample_weight=False)
    union = FeatureUnion([("deaf", deaf), ("weighted", StandardScaler())])
    parts = dict(fit_weighted(union, X, target, weight).transformer_list)
    np.testing.assert_allclose(parts["deaf"].mean_, X.mean(axis=0))
    np.testing.assert_allclose(parts["weighted"].mean_, np.average(X, axis=0, weights=weight))
