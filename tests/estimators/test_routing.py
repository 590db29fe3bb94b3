"""Derivatives, tangents and weights through scikit-learn's tools, sliced with their samples."""

import numpy as np
import pytest
from sklearn import config_context
from sklearn.metrics import get_scorer
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    StratifiedKFold,
    cross_val_predict,
    cross_validate,
    train_test_split,
)
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from sktangent import TangentPropClassifier, TangentPropRegressor

NAMES = ("sample_weight", "tangents", "derivatives")


class Aligned:
    """Refuse metadata that do not belong to the samples, and count those that do."""

    seen: list = []

    def fit(self, X, y, sample_weight=None, tangents=None, derivatives=None):
        given = dict(zip(NAMES, (sample_weight, tangents, derivatives), strict=True))
        expected = metadata(X, self._outputs_of(y))
        for name in expected:
            if given[name] is not None:
                np.testing.assert_array_equal(given[name], expected[name])
        self.seen.append((len(X), {name for name in NAMES if given[name] is not None}))
        return super().fit(X, y, **given)


class AlignedRegressor(Aligned, TangentPropRegressor):
    def _outputs_of(self, y):
        return 1


class AlignedClassifier(Aligned, TangentPropClassifier):
    def _outputs_of(self, y):
        return 3


def metadata(X, n_outputs):
    """Return what each sample's own values imply, so that a wrong row is noticed."""
    X = np.asarray(X)
    d = np.stack([np.cos(X[:, :2])] * n_outputs, axis=2)
    return {
        "sample_weight": 1 + np.abs(X[:, 0]),
        "tangents": np.stack([2 * X, X**2], axis=1),
        "derivatives": d[:, :, 0] if n_outputs == 1 else d,
    }


@pytest.fixture(autouse=True)
def _forget():
    Aligned.seen.clear()


def quick(estimator, **params):
    return estimator(**{"max_epochs": 3, "optimizer": "adam", "random_state": 0, **params})


CASES = pytest.mark.parametrize(
    ("estimator", "folds", "n_outputs"),
    [
        (AlignedRegressor, KFold(3, shuffle=True, random_state=0), 1),
        (AlignedClassifier, StratifiedKFold(3, shuffle=True, random_state=0), 3),
    ],
)


def request_all(model):
    return model.set_fit_request(**dict.fromkeys(NAMES, True)).set_score_request(sample_weight=True)


@CASES
@pytest.mark.parametrize("routing", [False, True])
def test_cross_validate(routing, estimator, folds, n_outputs, X, three_labels):
    with config_context(enable_metadata_routing=routing):
        model = request_all(quick(estimator)) if routing else quick(estimator)
        result = cross_validate(
            model,
            X,
            three_labels,
            cv=folds,
            params=metadata(X, n_outputs),
            error_score="raise",
            return_estimator=True,
        )
    assert Aligned.seen == [(40, set(NAMES))] * 3
    assert all(fitted.penalty_curve_[-1] > 0 for fitted in result["estimator"])


@CASES
@pytest.mark.parametrize("routing", [False, True])
def test_grid_search(routing, estimator, folds, n_outputs, X, three_labels):
    with config_context(enable_metadata_routing=routing):
        model = quick(estimator)
        model = request_all(model) if routing else model
        search = GridSearchCV(model, {"penalty_weight": [0.1, 1.0]}, cv=folds, error_score="raise")
        search.fit(X, three_labels, **metadata(X, n_outputs))
    assert Aligned.seen == [(40, set(NAMES))] * 6 + [(60, set(NAMES))]
    assert search.best_estimator_.penalty_curve_[-1] > 0


def scorer_for(estimator, routing):
    name = "r2" if issubclass(estimator, TangentPropRegressor) else "accuracy"
    return get_scorer(name).set_score_request(sample_weight=True) if routing else name


def identity(X):
    return X


@CASES
@pytest.mark.parametrize("routing", [False, True])
def test_a_pipeline_in_a_search(routing, estimator, folds, n_outputs, X, three_labels):
    with config_context(enable_metadata_routing=routing):
        model = request_all(quick(estimator)) if routing else quick(estimator)
        pipeline = Pipeline([("same", FunctionTransformer(identity)), ("net", model)])
        prefix = "" if routing else "net__"
        given = {f"{prefix}{name}": part for name, part in metadata(X, n_outputs).items()}
        # Scikit-learn 1.6 asks for a decision about a pipeline's own score, where none can be made.
        options = {"cv": folds, "scoring": scorer_for(estimator, routing), "error_score": "raise"}
        GridSearchCV(pipeline, {"net__alpha": [0.0]}, **options).fit(X, three_labels, **given)
        cross_validate(pipeline, X, three_labels, params=given, **options)
        pipeline.fit(X, three_labels, **given)
    assert sorted(n for n, _ in Aligned.seen) == [40] * 6 + [60] * 2
    assert all(names == set(NAMES) for _, names in Aligned.seen)


@pytest.mark.parametrize("name", NAMES)
def test_one_of_them_alone(name, X, target):
    given = {name: metadata(X, 1)[name]}
    if name == "derivatives":
        given["derivatives"] = np.column_stack([given["derivatives"], np.cos(X[:, 2:])])
    with config_context(enable_metadata_routing=True):
        model = quick(TangentPropRegressor).set_fit_request(**{name: True})
        model.set_score_request(sample_weight=False)
        cross_validate(model, X, target, cv=3, params=given, error_score="raise")
        undecided = quick(TangentPropRegressor)
        with pytest.raises(ValueError, match=f"{name}.* not explicitly set as requested"):
            cross_validate(undecided, X, target, cv=3, params=given)


def test_rows_that_are_aligned_teach_and_others_do_not():
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, size=(60, 2))
    y, D = np.sin(3 * X[:, 0]) * X[:, 1], np.empty((60, 2))
    D[:, 0], D[:, 1] = 3 * np.cos(3 * X[:, 0]) * X[:, 1], np.sin(3 * X[:, 0])
    model = quick(TangentPropRegressor, max_epochs=200, lr=0.02, hidden_layer_sizes=(30,))
    folds = KFold(3, shuffle=True, random_state=0)
    scores = [
        cross_validate(model, X, y, cv=folds, params={"derivatives": d})["test_score"].min()
        for d in (D, rng.permutation(D))
    ]
    assert scores[0] > 0.9 > scores[1] + 0.1


def test_the_gaps_of_a_fold_stay_with_their_samples(X, target):
    D = np.cos(X)
    D[X > 0] = np.nan

    class Gaps(TangentPropRegressor):
        def fit(self, X, y, derivatives=None):
            np.testing.assert_array_equal(np.isnan(derivatives), X > 0)
            return super().fit(X, y, derivatives=derivatives)

    folds = KFold(3, shuffle=True, random_state=0)
    predicted = cross_val_predict(quick(Gaps), X, target, cv=folds, params={"derivatives": D})
    assert np.isfinite(predicted).all()


def test_train_test_split_slices_them(X, target):
    parts = train_test_split(X, target, *metadata(X, 1).values(), random_state=0)
    X_train, y_train, weight, V, d = parts[::2]
    quick(AlignedRegressor).fit(X_train, y_train, weight, V, d)
    assert Aligned.seen == [(45, set(NAMES))]
