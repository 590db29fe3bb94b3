"""The estimators among scikit-learn's tools: searches, ensembles, routing, copies."""

import copy
import pickle
import subprocess
import sys

import joblib
import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import BaggingClassifier, StackingRegressor
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktangent import TangentPropClassifier, TangentPropRegressor
from sktangent.tangents import FeatureTangents

BOTH = pytest.mark.parametrize("estimator", [TangentPropClassifier, TangentPropRegressor])


def quick(estimator, tangents=None, **params):
    return estimator(tangents, **{"max_epochs": 20, "lr": 0.01, "random_state": 0, **params})


def predictions(model, X):
    return model.predict_proba(X) if hasattr(model, "classes_") else model.predict(X)


def test_grid_search_over_a_pipeline_in_two_processes(X, labels):
    pipeline = make_pipeline(
        StandardScaler(), quick(TangentPropClassifier, lambda X: FeatureTangents([2])(X))
    )
    grid = {"tangentpropclassifier__penalty_weight": [0.0, 0.1, 1.0]}
    search = GridSearchCV(pipeline, grid, n_jobs=2, cv=3, error_score="raise").fit(X, labels)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    best = search.best_estimator_[-1]
    assert best.penalty_weight == search.best_params_["tangentpropclassifier__penalty_weight"]
    assert search.score(X, labels) > 0.8
    serial = GridSearchCV(pipeline, grid, cv=3).fit(X, labels)
    np.testing.assert_allclose(
        serial.cv_results_["mean_test_score"], search.cv_results_["mean_test_score"]
    )


def test_cross_val_score(X, labels, target):
    accuracy = cross_val_score(quick(TangentPropClassifier, FeatureTangents()), X, labels, cv=3)
    assert accuracy.shape == (3,)
    assert accuracy.mean() > 0.7
    model = quick(TangentPropRegressor, max_epochs=100)
    assert cross_val_score(model, X, target, cv=3).mean() > 0.3


class SliceChecker(TangentPropRegressor):
    """Refuse tangents that do not belong to the samples."""

    def fit(self, X, y, sample_weight=None, tangents=None):
        assert tangents is not None
        np.testing.assert_array_equal(tangents[:, 0], 2 * X)
        if sample_weight is not None:
            np.testing.assert_array_equal(sample_weight, np.abs(X[:, 0]))
        return super().fit(X, y, sample_weight, tangents)


def test_tangents_are_sliced_by_cross_validation(X, target):
    metadata = {"tangents": 2 * X[:, None], "sample_weight": np.abs(X[:, 0])}
    result = cross_validate(
        quick(SliceChecker), X, target, params=metadata, cv=3, error_score="raise"
    )
    assert len(result["test_score"]) == 3
    search = GridSearchCV(quick(SliceChecker), {"alpha": [0.0]}, cv=3, error_score="raise")
    assert search.fit(X, target, **metadata).best_estimator_.penalty_curve_[-1] > 0


def test_tangents_are_routed(X, target):
    V = 2 * X[:, None]
    with config_context(enable_metadata_routing=True):
        model = quick(SliceChecker).set_fit_request(tangents=True, sample_weight=False)
        pipeline = make_pipeline(LinearScaler(), model)
        result = cross_validate(
            pipeline, X, target, params={"tangents": V}, cv=3, error_score="raise"
        )
        assert len(result["test_score"]) == 3
        undecided = GridSearchCV(quick(SliceChecker), {"alpha": [0.0]})
        with pytest.raises(ValueError, match="tangents.* not explicitly set as requested"):
            undecided.fit(X, target, tangents=V)


class LinearScaler(StandardScaler):
    """A step that does nothing."""

    def transform(self, X):
        return X


def test_tangents_through_a_pipeline_by_name(X, target):
    pipeline = make_pipeline(LinearScaler(), quick(TangentPropRegressor))
    pipeline.fit(X, target, tangentpropregressor__tangents=X[:, None])
    assert pipeline[-1].penalty_curve_[-1] > 0


def test_bagging(X, labels):
    model = BaggingClassifier(
        quick(TangentPropClassifier, FeatureTangents([3]), max_epochs=60),
        n_estimators=3,
        random_state=0,
    ).fit(X, labels)
    assert model.score(X, labels) > 0.8
    assert all(member.penalty_curve_[-1] > 0 for member in model.estimators_)
    members = [member.decision_function(X) for member in model.estimators_]
    assert not np.allclose(members[0], members[1])


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_calibration(X, labels, method):
    base = quick(TangentPropClassifier, FeatureTangents([3]), max_epochs=60)
    model = CalibratedClassifierCV(base, method=method, cv=3)
    model.fit(X, labels, sample_weight=np.linspace(0.5, 1.5, 60))
    assert model.score(X, labels) > 0.8


def test_stacking(X, target):
    model = StackingRegressor(
        [("net", quick(TangentPropRegressor, FeatureTangents([3]), max_epochs=150))],
        final_estimator=LinearRegression(),
        cv=3,
    ).fit(X, target)
    assert model.score(X, target) > 0.5


def test_one_regressor_an_output(X, target):
    Y = np.column_stack([target, X[:, 0]])
    assert MultiOutputRegressor(quick(TangentPropRegressor)).fit(X, Y).predict(X).shape == (60, 2)


def test_importance_of_a_feature_that_must_not_matter(X, target):
    told = quick(TangentPropRegressor, FeatureTangents([1]), penalty_weight=10.0, max_epochs=100)
    plain = quick(TangentPropRegressor, max_epochs=100)
    importances = [
        permutation_importance(model.fit(X, target), X, target, random_state=0).importances_mean
        for model in (told, plain)
    ]
    assert importances[0][1] < 0.3 * importances[1][1]


def through_joblib(model, tmp_path):
    joblib.dump(model, tmp_path / "model.joblib")
    return joblib.load(tmp_path / "model.joblib")


@BOTH
@pytest.mark.parametrize(
    "copied",
    [
        lambda model, _: copy.deepcopy(model),
        lambda model, _: pickle.loads(pickle.dumps(model)),
        through_joblib,
    ],
    ids=["deepcopy", "pickle", "joblib"],
)
def test_copies_predict_and_go_on_alike(estimator, copied, X, three_labels, tmp_path):
    params = {"early_stopping": True, "batch_size": 20, "warm_start": True}
    model = quick(estimator, FeatureTangents(), **params)
    other = copied(model.fit(X, three_labels), tmp_path)
    np.testing.assert_array_equal(predictions(model, X), predictions(other, X))
    assert other.loss_curve_ == model.loss_curve_
    for one in (model, other):
        one.set_params(early_stopping=False).partial_fit(X, three_labels)
    np.testing.assert_array_equal(predictions(model, X), predictions(other, X))


@BOTH
def test_a_fitted_model_is_small_in_a_pickle(estimator, three_labels):
    X = np.random.default_rng(0).normal(size=(60, 2000))
    model = quick(estimator, hidden_layer_sizes=(2,), max_epochs=2, optimizer="sgd")
    model.set_params(early_stopping=True, validation_fraction=0.5)
    assert len(pickle.dumps(model.fit(X, three_labels))) < X.nbytes / 4


def test_clone_of_a_fitted_model(X, labels):
    model = quick(TangentPropClassifier, FeatureTangents([1]), module__activation="tanh")
    other = clone(model.fit(X, labels))
    assert not hasattr(other, "net_")
    assert str(other.get_params()) == str(model.get_params())
    assert other.tangents is not model.tangents
    np.testing.assert_array_equal(
        other.fit(X, labels).decision_function(X), model.decision_function(X)
    )


@BOTH
def test_a_model_predicts_the_same_in_another_process(estimator, X, three_labels, tmp_path):
    model = make_pipeline(StandardScaler(), quick(estimator, FeatureTangents(), batch_size=20))
    model.fit(X, three_labels)
    with open(tmp_path / "model.pickle", "wb") as file:
        pickle.dump(model, file)
    np.save(tmp_path / "X.npy", X)
    code = (
        "import pickle, sys, numpy as np, torch\n"
        "torch.set_num_threads(1)\n"
        "model = pickle.load(open(sys.argv[1] + '/model.pickle', 'rb'))\n"
        "X = np.load(sys.argv[1] + '/X.npy')\n"
        "last = model[-1]\n"
        "Y = model.predict_proba(X) if hasattr(last, 'classes_') else model.predict(X)\n"
        "np.save(sys.argv[1] + '/Y.npy', Y)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    method = model.predict_proba if estimator is TangentPropClassifier else model.predict
    np.testing.assert_array_equal(np.load(tmp_path / "Y.npy"), method(X))
