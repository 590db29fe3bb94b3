import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from sktangent import TangentPropClassifier, TangentPropRegressor
from sktangent.metrics import local_invariance_error, make_invariance_scorer
from sktangent.tangents import FeatureTangents


class Radius(RegressorMixin, BaseEstimator):
    """A function of the distance from the origin."""

    def fit(self, X, y):
        self.n_features_in_ = X.shape[1]
        return self

    def predict(self, X):
        return np.sin(np.linalg.norm(X, axis=1))


def turn(X):
    """Rotate in the first two features."""
    V = np.zeros((len(X), 1, X.shape[1]))
    V[:, 0, 0], V[:, 0, 1] = -X[:, 1], X[:, 0]
    return V


def closed_form(W, V, weight=None):
    """Compute the error of x -> W x."""
    n_features = W.shape[1]
    weight = np.ones(len(V)) if weight is None else weight
    along = weight @ np.square(V @ W.T).sum(2)
    lengths = weight @ np.square(V).sum(2)
    return along / (lengths * np.square(W).sum() / n_features)


def linear(kind, X, Y):
    if kind == "ours":
        return TangentPropRegressor(hidden_layer_sizes=(), random_state=0).fit(X, Y)
    return LinearRegression().fit(X, Y)


@pytest.mark.parametrize("kind", ["ours", "sklearn"])
def test_a_linear_model(kind, X):
    rng = np.random.default_rng(1)
    Y = X @ rng.normal(size=(4, 2))
    V = rng.normal(size=(60, 3, 4))
    weight = rng.random(60)
    model = linear(kind, X, Y)
    W = model.jacobian(X)[0] if kind == "ours" else model.coef_
    each = local_invariance_error(model, X, V, sample_weight=weight, per_tangent=True)
    np.testing.assert_allclose(each, closed_form(W, V, weight), rtol=1e-6)
    plain = local_invariance_error(model, X, V)
    along = np.square(V @ W.T).sum()
    assert plain == pytest.approx(along / (np.square(V).sum() * np.square(W).sum() / 4), rel=1e-6)


def test_a_function_of_the_radius(X):
    model = Radius().fit(X, None)
    assert local_invariance_error(model, X, turn) < 1e-4
    # all of its change is along the radius, which is one of four directions
    assert local_invariance_error(model, X, lambda X: X[:, None]) == pytest.approx(4, rel=1e-2)


def test_random_tangents_are_chance(X):
    rng = np.random.default_rng(0)
    V = rng.normal(size=(60, 2000, 4))
    assert local_invariance_error(Radius().fit(X, None), X, V) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("penalty_on", ["logits", "proba"])
def test_exact_and_by_differences_agree(penalty_on, X, three_labels):
    model = TangentPropClassifier(
        FeatureTangents([3]), penalty_on=penalty_on, max_epochs=30, tol=0, random_state=0
    )
    model.fit(X, three_labels)
    exact = local_invariance_error(model, X, FeatureTangents())
    wrapped = make_pipeline(StandardScaler(with_mean=False, with_std=False), model)
    wrapped.named_steps["standardscaler"].fit(X)
    assert local_invariance_error(wrapped, X, FeatureTangents()) == pytest.approx(exact, rel=1e-2)


def test_tangents_make_a_network_more_invariant(X, labels):
    errors = [
        local_invariance_error(
            TangentPropClassifier(FeatureTangents([2]), weight, random_state=0).fit(X, labels),
            X,
            FeatureTangents([2]),
        )
        for weight in (0, 1)
    ]
    assert errors[1] < 0.1 * errors[0]


@pytest.mark.parametrize(
    "model",
    [
        RandomForestClassifier(20, random_state=0),
        LinearSVC(),
        LogisticRegression(),
    ],
    ids=lambda model: type(model).__name__,
)
def test_what_a_model_looks_at_changes_it_most(model, X, labels):
    model.fit(X, labels)
    each = local_invariance_error(model, X, FeatureTangents(), per_tangent=True)
    assert each.argmax() == 0
    assert each.mean() == pytest.approx(1, abs=0.5)


def test_labels_are_compared_as_indicators(X, labels):
    class Sign(ClassifierMixin, BaseEstimator):
        def fit(self, X, y):
            self.classes_ = np.unique(y)
            return self

        def predict(self, X):
            return self.classes_[(X[:, 0] > 0).astype(int)]

    model, near = Sign().fit(X, labels), X * [1e-3, 1, 1, 1]
    first, second = np.eye(4)[:2]
    assert local_invariance_error(model, near, np.tile(first, (60, 1, 1))) == 1
    assert local_invariance_error(model, near, np.tile(second, (60, 1, 1))) == 0


def test_a_constant_is_invariant(X):
    model = LinearRegression().fit(X, np.ones(60))
    model.coef_[:] = 0
    assert local_invariance_error(model, X, FeatureTangents()) == 0


def test_frames_lists_and_searches(X, target):
    frame = pd.DataFrame(X, columns=list("abcd"))
    model = LinearRegression().fit(frame, target)
    expected = closed_form(model.coef_[None], FeatureTangents()(X)).mean()
    assert local_invariance_error(model, frame, FeatureTangents()) == pytest.approx(expected)
    plain = LinearRegression().fit(X, target)
    assert local_invariance_error(plain, X.tolist(), FeatureTangents()) == pytest.approx(expected)
    search = GridSearchCV(LinearRegression(), {"fit_intercept": [True]}).fit(X, target)
    assert local_invariance_error(search, X, FeatureTangents()) == pytest.approx(expected)


def test_samples_of_several_axes(X, target):
    square = X.reshape(60, 2, 2)
    model = TangentPropRegressor(max_epochs=3, tol=0, random_state=0).fit(square, target)
    V = np.random.default_rng(0).normal(size=(60, 2, 2, 2))
    assert local_invariance_error(model, square, V) > 0


def test_a_scorer_for_searches(X, labels):
    scorer = pickle.loads(pickle.dumps(make_invariance_scorer(FeatureTangents([3]))))
    model = LogisticRegression().fit(X, labels)
    assert scorer(model, X, labels) == -local_invariance_error(model, X, FeatureTangents([3]))
    assert "FeatureTangents" in repr(scorer)
    scores = cross_validate(model, X, labels, scoring={"a": "accuracy", "i": scorer}, cv=3)
    assert scores["test_i"].shape == (3,)
    assert (scores["test_i"] < 0).all()
    search = GridSearchCV(
        LogisticRegression(), {"C": [1e-3, 1]}, scoring=scorer, cv=3, error_score="raise"
    )
    assert search.fit(X, labels).best_score_ < 0


def test_bad_input(X, target):
    model = LinearRegression().fit(X, target)
    with pytest.raises(NotFittedError):
        local_invariance_error(LinearRegression(), X, FeatureTangents())
    with pytest.raises(TypeError, match="predict_proba, decision_function or predict"):
        local_invariance_error(StandardScaler().fit(X), X, FeatureTangents())
    with pytest.raises(ValueError, match=r"tangents must have shape \(60, n_tangents, 4\)"):
        local_invariance_error(model, X, X)
    with pytest.raises(ValueError, match="(?i)sample.weight"):
        local_invariance_error(model, X, FeatureTangents(), sample_weight=np.zeros(60))
    with pytest.raises(ValueError, match="NaN"):
        local_invariance_error(model, np.full((3, 4), np.nan), FeatureTangents())
    with pytest.raises(TypeError, match="tangents must be callable.* ndarray"):
        make_invariance_scorer(X)
