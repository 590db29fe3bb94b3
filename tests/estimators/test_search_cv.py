"""The estimators that choose their penalty weight, against what they stand for."""

import pickle

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, GroupKFold, LeaveOneOut, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from sktangent import (
    TangentPropClassifier,
    TangentPropClassifierCV,
    TangentPropRegressor,
    TangentPropRegressorCV,
)
from sktangent._speed import shortcuts
from sktangent.estimators import fold_batch
from sktangent.model_selection import one_standard_error
from sktangent.tangents import FeatureTangents, ImageTangents, SeriesTangents, TangentUnion

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

WEIGHTS = [0.0, 0.1, 1.0, 10.0]
SHORT = {"hidden_layer_sizes": (8, 6), "max_epochs": 25, "random_state": 0}
PLAIN = {
    TangentPropClassifierCV: TangentPropClassifier,
    TangentPropRegressorCV: TangentPropRegressor,
}


def scores_of(results, name="score"):
    return np.stack([results[f"split{k}_test_{name}"] for k in range(3)])


@pytest.fixture(params=["classifier", "multilabel", "regressor", "two outputs", "derivatives"])
def task(request, X, labels, target):
    """An estimator, its targets, and the metadata of ``fit``."""
    both = np.stack([target, X[:, 3]], axis=1)
    return {
        "classifier": (TangentPropClassifierCV, labels, {}),
        "multilabel": (TangentPropClassifierCV, (both > 0).astype(int), {}),
        "regressor": (TangentPropRegressorCV, target, {}),
        "two outputs": (TangentPropRegressorCV, both, {}),
        "derivatives": (
            TangentPropRegressorCV,
            target,
            {"derivatives": np.where(X[:, :1] > 1, np.nan, np.cos(X[:, :1]))},
        ),
    }[request.param]


@pytest.mark.parametrize("stacked", [True, False], ids=["side by side", "apart"])
def test_it_picks_what_a_grid_search_picks(X, task, stacked):
    kind, y, metadata = task
    tangents, params = FeatureTangents([0]), {**SHORT, "batch_size": 16, "optimizer": "adam"}
    grid = GridSearchCV(PLAIN[kind](tangents, **params), {"penalty_weight": WEIGHTS}, cv=3)
    with shortcuts(stacked):
        grid.fit(X, y, **metadata)
        found = kind(tangents, WEIGHTS, cv=3, rule="best", **params).fit(X, y, **metadata)
    scores = scores_of(found.cv_results_)
    np.testing.assert_allclose(scores, scores_of(grid.cv_results_), rtol=1e-6)
    assert found.best_index_ == grid.best_index_
    assert found.penalty_weight_ == grid.best_params_["penalty_weight"]
    agree = np.testing.assert_array_equal if kind is TangentPropClassifierCV else close
    agree(found.predict(X), grid.predict(X))


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize("sizes", [(), (7,), (8, 6)])
@pytest.mark.parametrize("batch_size", [16, "auto"])
@pytest.mark.parametrize("n_tangents", [1, 4])
def test_every_network_ends_as_it_would_alone(monkeypatch, X, task, sizes, batch_size, n_tangents):
    kind, y, metadata = task
    trained = {}
    train = fold_batch.train_stacked

    def spy(folds, weights, *others):
        found = train(folds, weights, *others)
        for (f, c), one in found.items():
            trained[len(folds[f].x), float(weights[c].mean()) if weights[c].numel() else 0.0] = one
        return found

    monkeypatch.setattr(fold_batch, "train_stacked", spy)
    tangents = FeatureTangents(list(range(n_tangents)))
    metadata = {name: np.tile(part, (1, n_tangents)) for name, part in metadata.items()}
    params = {
        **SHORT,
        "hidden_layer_sizes": sizes,
        "batch_size": batch_size,
        "optimizer": "adam",
        "tol": 3e-3,  # some stop before others
        "n_iter_no_change": 2,
    }
    X, y = X[:50], y[:50]
    weight = np.linspace(0, 2, 50)  # one sample does not count at all
    metadata = {**{k: v[:50] for k, v in metadata.items()}, "sample_weight": weight}
    folds = [(np.arange(50)[k:], np.arange(k)) for k in (16, 14, 15)]  # of several sizes
    with shortcuts(True):
        kind(tangents, WEIGHTS, cv=folds, **params).fit(X, y, **metadata)
    n_epochs = set()
    assert len(trained) == len(folds) * len(WEIGHTS)
    assert {penalty_weight for _, penalty_weight in trained} == set(WEIGHTS)
    for (n_samples, penalty_weight), one in trained.items():
        part = slice(50 - n_samples, None)
        alone = PLAIN[kind](tangents, penalty_weight, **params)
        alone.fit(X[part], y[part], **{k: v[part] for k, v in metadata.items()})
        np.testing.assert_allclose(one.losses, alone.loss_curve_, rtol=1e-8)
        n_epochs.add(alone.n_iter_)
        for found, wanted in zip(one.params, alone.module_.parameters(), strict=True):
            np.testing.assert_allclose(found, wanted.detach(), rtol=1e-7, atol=1e-9)


def test_memory_bounds_the_batch_and_changes_nothing(monkeypatch, X, labels):
    model = TangentPropClassifierCV(FeatureTangents([0]), WEIGHTS, cv=3, batch_size=16, **SHORT)
    sizes, train = [], fold_batch.train_stacked

    def spy(folds, weights, *others):
        sizes.append((len(folds), len(weights)))
        return train(folds, weights, *others)

    monkeypatch.setattr(fold_batch, "train_stacked", spy)
    with shortcuts(True):
        at_once = clone(model).fit(X, labels).cv_results_
        monkeypatch.setattr(fold_batch, "get_config", lambda: {"working_memory": 1e-3})
        one_by_one = clone(model).fit(X, labels).cv_results_
        monkeypatch.undo()
        monkeypatch.setattr(fold_batch, "train_stacked", spy)
        monkeypatch.setattr(fold_batch, "_AT_HAND", 7 * 5 * 16 * 2 * 17 * 8)  # of seven networks
        by_fold = clone(model).fit(X, labels).cv_results_
    assert sizes == [(3, 3), (3, 1)] + 12 * [(1, 1)] + [(2, 3), (1, 3), (3, 1)]
    for name in ("score", "invariance"):
        close(scores_of(one_by_one, name), scores_of(at_once, name))
        close(scores_of(by_fold, name), scores_of(at_once, name))


def _far(X):
    return np.full((len(X), 1, X.shape[1]), 1e3)


def test_a_network_that_diverges_counts_as_nan_and_the_others_go_on(X, target):
    weights = [0.0, 1.0, 1.7e308]
    model = TangentPropRegressorCV(_far, weights, cv=3, batch_size=16, optimizer="adam", **SHORT)
    for is_on in (True, False):
        with shortcuts(is_on), pytest.warns(UserWarning, match="NaN"):
            model.fit(X, target)
        means = model.cv_results_["mean_test_score"]
        assert np.isnan(means).tolist() == [False, False, True]
        assert model.best_index_ < 2


def test_weights_that_are_found_reach_from_no_effect_to_rule(X, target):
    params = {**SHORT, "max_epochs": 200, "lr": 0.01, "optimizer": "adam"}
    model = TangentPropRegressorCV(FeatureTangents([0]), 6, cv=3, **params)
    model.fit(X, target)
    found = model.penalty_weights_
    assert len(found) == 6 and found[0] == 0 and (np.diff(found) > 0).all()
    np.testing.assert_allclose(found[-1] / found[1], 1e4)
    invariance = -model.cv_results_["mean_test_invariance"]
    scores = model.cv_results_["mean_test_score"]
    np.testing.assert_allclose(scores[1], scores[0], rtol=0.02)
    assert invariance[-1] < 0.2 * invariance[0]


def test_the_largest_weight_that_is_found_rules_a_classifier():
    """Whose outputs go on growing without a penalty, and their derivatives with them."""
    X, y = load_digits(return_X_y=True)
    tangents, params = ImageTangents((8, 8)), {"lr": 5e-3, "max_epochs": 60, "random_state": 0}
    model = TangentPropClassifierCV(tangents, 4, cv=3, **params).fit(X[:80] / 16, y[:80])
    assert -model.cv_results_["mean_test_invariance"][-1] < 0.4


def test_without_tangents_there_is_one_weight(X, labels):
    model = TangentPropClassifierCV(cv=3, **SHORT).fit(X, labels)
    assert model.penalty_weights_.tolist() == [0.0] and model.penalty_weight_ == 0


def test_its_rule_is_that_of_model_selection(X, labels):
    model = TangentPropClassifierCV(FeatureTangents([3]), WEIGHTS, cv=3, **SHORT).fit(X, labels)
    assert model.best_index_ == one_standard_error(model.cv_results_)
    chosen = model.set_params(rule=lambda results: 2).fit(X, labels)
    assert chosen.penalty_weight_ == WEIGHTS[2]
    alone = TangentPropClassifier(FeatureTangents([3]), WEIGHTS[2], **SHORT).fit(X, labels)
    np.testing.assert_array_equal(chosen.predict_proba(X), alone.predict_proba(X))


def test_kinds_that_do_harm_end_at_zero(X):
    y = np.sin(2 * X[:, 0])  # moving along it matters
    union = TangentUnion([("right", FeatureTangents([1, 2, 3])), ("wrong", FeatureTangents([0]))])
    params = {**SHORT, "max_epochs": 60, "lr": 0.02, "optimizer": "adam"}
    model = TangentPropRegressorCV(union, {"right": [0, 1], "wrong": [0, 1]}, cv=3, **params)
    with shortcuts(True):
        side_by_side = clone(model).fit(X, y)
    with shortcuts(False):
        apart = model.fit(X, y)
    assert side_by_side.penalty_weight_ == apart.penalty_weight_ == {"right": 1.0, "wrong": 0.0}
    scores = (scores_of(found.cv_results_) for found in (side_by_side, apart))
    np.testing.assert_allclose(*scores, rtol=1e-6)
    assert side_by_side.tangents_.get_params()["weights__wrong"] == 0


def test_augment_is_searched_along(X, labels):
    union = SeriesTangents("offset")
    model = TangentPropClassifierCV(union, [0, 1], augments=[None, 0.5], cv=3, **SHORT)
    model.fit(X, labels)
    tried = [(one["penalty_weight"], one["augment"]) for one in model.cv_results_["params"]]
    assert tried == [(0.0, None), (0.0, 0.5), (1.0, None), (1.0, 0.5)]
    assert (model.penalty_weight_, model.augment_) == tried[model.best_index_]


def test_a_schedule_that_the_penalty_changes_is_followed(X, target):
    """By "auto", known derivatives of several inputs have another network than none."""
    metadata = {"derivatives": np.full((60, 4), 0.5)}
    params = {"max_epochs": 5, "random_state": 0, "optimizer": "adam"}
    model = TangentPropRegressorCV(None, [0, 1], cv=3, **params).fit(X, target, **metadata)
    grid = GridSearchCV(TangentPropRegressor(**params), {"penalty_weight": [0, 1]}, cv=3)
    grid.fit(X, target, **metadata)
    close(scores_of(model.cv_results_), scores_of(grid.cv_results_))


# Halving ------------------------------------------------------------------------------------------

GRID = [0.0, 1e-3, 1.0, 10.0, 1e2, 1e3]
HALVED = {"hidden_layer_sizes": (8,), "lr": 0.02, "random_state": 0, "optimizer": "adam"}


@pytest.mark.parametrize("stacked", [True, False], ids=["side by side", "apart"])
def test_halving_drops_what_is_beaten(X, target, stacked):
    def fit(n_epochs, **params):
        params = {**HALVED, "n_iter_no_change": n_epochs, "max_epochs": n_epochs, **params}
        return TangentPropRegressorCV(FeatureTangents([0]), GRID, cv=3, **params).fit(X, target)

    with shortcuts(stacked):
        model = fit(90, halving=True, rule="best")
        by_part = {part: fit(round(90 * part)).cv_results_ for part in (1 / 9, 1 / 3, 1)}
    results = model.cv_results_
    parts = results["trained_part"]
    assert parts[model.best_index_] == 1
    assert parts.min() < 1 and np.sum(parts == 1) >= 2
    for row, part in enumerate(parts):
        for name in ("score", "invariance"):
            close(scores_of(results, name)[:, row], scores_of(by_part[part], name)[:, row])
    first = scores_of(by_part[1 / 9]).mean(axis=0)  # the better third has gone on
    assert (parts[np.argsort(first)[-2:]] > 1 / 9).all()


def test_halving_keeps_what_the_folds_cannot_tell_from_the_best(X, target):
    grid = [0.0, 1e-9, 2e-9, 3e-9, 4e-9]
    model = TangentPropRegressorCV(FeatureTangents([0]), grid, halving=True, cv=3, **HALVED)
    model.set_params(max_epochs=9, scoring=lambda *_: 1.0).fit(X, target)
    assert model.cv_results_["trained_part"].tolist() == [1] * 5


@pytest.mark.parametrize("stacked", [True, False], ids=["side by side", "apart"])
def test_what_has_ended_by_itself_is_not_trained_again(monkeypatch, X, target, stacked):
    fit, tried = fold_batch.fit_folds, []

    def spy(plain, probe, candidates, *args):
        tried.append(len(candidates))
        return fit(plain, probe, candidates, *args)

    monkeypatch.setattr("sktangent.estimators.search.fit_folds", spy)
    params = {**HALVED, "max_epochs": 900, "tol": 1e3, "n_iter_no_change": 2}
    model = TangentPropRegressorCV(FeatureTangents([0]), [0, 1], halving=True, cv=3, **params)
    with shortcuts(stacked):
        model.fit(X, target)
    assert tried == [2]
    assert model.cv_results_["trained_part"].tolist() == [1, 1]


def test_a_rule_is_shown_what_was_trained_to_the_end(X, target):
    shown = {}

    def rule(results):
        shown.update(results)
        return len(results["params"]) - 1

    model = TangentPropRegressorCV(FeatureTangents([0]), GRID, halving=True, cv=3, **HALVED)
    model.set_params(rule=rule, max_epochs=90).fit(X, target)
    rows = np.flatnonzero(model.cv_results_["trained_part"] == 1)
    assert len(rows) < len(GRID)
    assert model.best_index_ == rows[-1]
    assert shown["params"] == [{"penalty_weight": GRID[row]} for row in rows]
    wanted = model.cv_results_["mean_test_score"][rows]
    np.testing.assert_array_equal(shown["mean_test_score"], wanted)


def test_halving_leaves_the_schedule_as_it_is(X, target):
    """By "auto", a number of epochs that is given means another optimizer."""
    metadata = {"derivatives": np.cos(X[:, :1])}
    model = TangentPropRegressorCV(FeatureTangents([0]), [0.1, 1], halving=True, cv=3)
    model.set_params(hidden_layer_sizes=3, random_state=0, tol=0).fit(X, target, **metadata)
    whole = clone(model).set_params(halving=False).fit(X, target, **metadata)
    rows = model.cv_results_["trained_part"] == 1
    close(scores_of(model.cv_results_)[:, rows], scores_of(whole.cv_results_)[:, rows])


def test_halving_is_not_for_kinds(monkeypatch, X, labels):
    refuse_training(monkeypatch)
    union = TangentUnion([("some", FeatureTangents([0]))])
    with pytest.raises(ValueError, match="halving must be False"):
        TangentPropClassifierCV(union, {"some": [0, 1]}, halving=True, cv=3).fit(X, labels)


# As other estimators ------------------------------------------------------------------------------


def test_pickle(X, labels):
    model = TangentPropClassifierCV(FeatureTangents([3]), WEIGHTS, cv=3, **SHORT).fit(X, labels)
    copy = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copy.predict_proba(X), model.predict_proba(X))
    assert copy.penalty_weight_ == model.penalty_weight_
    assert copy.cv_results_["params"] == model.cv_results_["params"]


def test_parameters(X):
    model = TangentPropRegressorCV(FeatureTangents([3]), 4, lr=0.1, optimizer__eps=1e-7)
    params = clone(model).get_params()
    assert (params["penalty_weights"], params["lr"], params["optimizer__eps"]) == (4, 0.1, 1e-7)
    assert "penalty_weight" not in params
    assert repr(TangentPropRegressorCV(lr=0.1)) == "TangentPropRegressorCV(lr=0.1)"
    with pytest.raises(TypeError, match="penalty_weight"):
        TangentPropRegressorCV(penalty_weight=3).fit(X, X[:, 0])


def test_partial_fit_is_refused(X, labels):
    assert not hasattr(TangentPropClassifierCV(), "partial_fit")
    with pytest.raises(AttributeError, match="partial_fit"):
        TangentPropClassifierCV().partial_fit(X, labels)


def test_in_a_pipeline_and_a_cross_validation(X, labels):
    model = TangentPropClassifierCV(FeatureTangents([3]), [0, 1], cv=3, lr=0.02, **SHORT)
    assert cross_val_score(make_pipeline(StandardScaler(), model), X, labels, cv=3).mean() > 0.6


def test_metadata_goes_to_the_folds(X, target):
    groups = np.arange(60) % 5
    metadata = {"derivatives": np.cos(X[:, :1]), "tangents": np.tile(np.eye(4)[:1], (60, 1, 1))}
    with sklearn.config_context(enable_metadata_routing=True):
        model = TangentPropRegressorCV(None, [0, 1], cv=GroupKFold(3), optimizer="adam", **SHORT)
        model.set_fit_request(groups=True, derivatives=True, tangents=True)
        outer = GridSearchCV(model, {"lr": [1e-3]}, cv=3)
        outer.fit(X, target, groups=groups, **metadata)
    best = outer.best_estimator_
    folds = GroupKFold(3).split(X, target, groups)
    train, test = next(folds)
    alone = TangentPropRegressor(None, 1.0, optimizer="adam", lr=1e-3, **SHORT)
    alone.fit(X[train], target[train], **{k: part[train] for k, part in metadata.items()})
    close(best.cv_results_["split0_test_score"][1], alone.score(X[test], target[test]))


def test_the_same_random_state_gives_the_same_model(X, labels):
    model = TangentPropClassifierCV(FeatureTangents([3]), [0, 1], cv=3, **SHORT)
    first, second = (clone(model).fit(X, labels).predict_proba(X) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_it_goes_on_from_where_the_last_fit_ended(X, labels):
    model = TangentPropClassifierCV(FeatureTangents([3]), [0, 1], cv=3, warm_start=True, **SHORT)
    first = clone(model).fit(X, labels)
    twice = model.fit(X, labels).fit(X, labels)
    weight = twice.penalty_weight_
    assert twice.cv_results_["params"] == first.cv_results_["params"]
    for name in ("score", "invariance"):  # the folds start anew
        agree = np.testing.assert_array_equal
        agree(scores_of(twice.cv_results_, name), scores_of(first.cv_results_, name))
    alone = TangentPropClassifier(FeatureTangents([3]), weight, warm_start=True, **SHORT)
    alone.fit(X, labels).fit(X, labels)
    assert len(twice.loss_curve_) == len(alone.loss_curve_) == 2 * SHORT["max_epochs"]
    np.testing.assert_array_equal(twice.predict_proba(X), alone.predict_proba(X))
    with pytest.raises(ValueError, match="hidden_layer_sizes"):
        twice.set_params(hidden_layer_sizes=5).fit(X, labels)


# Bad input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"penalty_weights": []}, "penalty_weights must hold at least one"),
        ({"penalty_weights": [-1, 1]}, "zero or more"),
        ({"penalty_weights": [np.nan]}, "finite"),
        ({"penalty_weights": [np.inf]}, "finite"),
        ({"penalty_weights": 0}, "penalty_weights"),
        ({"penalty_weights": ["much"]}, "penalty_weights must hold numbers"),
        ({"penalty_weights": [[0, 1]]}, "penalty_weights"),
        ({"penalty_weights": {"shift": 3}}, "TangentUnion"),
        ({"rule": "worst"}, "rule"),
        ({"scoring": "beauty"}, "scoring"),
        ({"halving": "yes"}, "halving"),
        ({"augments": []}, "augments"),
        ({"augments": [-1]}, "augments"),
        ({"augments": [1], "augment": 1}, "augment"),
        ({"cv": 100}, "cv=100"),
        ({"cv": LeaveOneOut(), "n": 1}, "sample"),
    ],
)
def test_bad_parameters_are_refused_before_training(monkeypatch, X, labels, params, message):
    refuse_training(monkeypatch)
    n = params.pop("n", 60)
    model = TangentPropClassifierCV(FeatureTangents([0]), **{"cv": 3, **params})
    with pytest.raises((ValueError, TypeError), match=message):
        model.fit(X[:n], labels[:n])


def test_a_fold_without_a_class_is_refused_before_training(monkeypatch, X):
    refuse_training(monkeypatch)
    y = np.repeat([0, 1, 2], 20)
    folds = [(np.arange(20, 60), np.arange(20))]
    with pytest.raises(ValueError, match="no sample of class 0 to train on in fold 0"):
        TangentPropClassifierCV(FeatureTangents([0]), [0, 1], cv=folds).fit(X, y)


def test_too_few_samples_for_the_folds(monkeypatch, X, target):
    refuse_training(monkeypatch)
    with pytest.raises(ValueError, match="cv=5 folds need"):
        TangentPropRegressorCV(FeatureTangents([0]), [0, 1]).fit(X[:4], target[:4])
    with pytest.raises(ValueError, match="fewer than two samples"):
        TangentPropRegressorCV(FeatureTangents([0]), [0, 1]).fit(X[:6], target[:6])


def test_kinds_that_a_union_does_not_have(X, labels):
    union = TangentUnion([("some", FeatureTangents([0]))])
    with pytest.raises(ValueError, match="'other'"):
        TangentPropClassifierCV(union, {"other": [0, 1]}, cv=3).fit(X, labels)


@pytest.mark.parametrize(("part", "use"), [(0, "train"), (1, "score")])
def test_folds_whose_samples_weigh_nothing_are_refused(X, target, part, use):
    a, b, c, d = np.array_split(np.arange(len(X)), 4)
    folds = [(a, b), (c, d)]
    weight = np.ones(len(X))
    weight[folds[1][part]] = 0.0
    search = TangentPropRegressorCV(None, [0.0], cv=folds, max_epochs=1)
    with pytest.raises(ValueError, match=f"sample_weight is zero for all .* to {use} on in fold 1"):
        search.fit(X, target, sample_weight=weight)


def test_folds_whose_known_targets_weigh_nothing_are_refused(X, target):
    train, test = np.array_split(np.arange(len(X)), 2)
    y, weight = target.copy(), np.ones(len(X))
    y[test[2:]], weight[test[:2]] = np.nan, 0.0
    search = TangentPropRegressorCV(None, [0.0], cv=[(train, test)], max_epochs=1)
    with pytest.raises(ValueError, match="sample_weight is zero for all 2 samples to score on"):
        search.fit(X, y, sample_weight=weight, derivatives=np.zeros(X.shape))


def test_a_rule_must_return_an_index(X, labels):
    model = TangentPropClassifierCV(None, [0, 1], rule=lambda results: 7, cv=3, **SHORT)
    with pytest.raises(ValueError, match="rule must return the index of one of 2"):
        model.fit(X, labels)


def refuse_training(monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("training has begun")

    monkeypatch.setattr("sktangent.estimators.search.fit_folds", fail)
    monkeypatch.setattr("sktangent.net.TangentPropNet.partial_fit", fail)


CHECKED = [
    TangentPropClassifierCV(lr=0.02, max_epochs=30, cv=2),
    TangentPropRegressorCV(lr=0.02, max_epochs=30, cv=2),
    TangentPropClassifierCV(FeatureTangents(), [0, 1], lr=0.02, max_epochs=30, cv=2),
    TangentPropRegressorCV(FeatureTangents(), [0, 1], lr=0.02, max_epochs=30, cv=2),
]


@parametrize_with_checks(CHECKED)
def test_check_estimator(estimator, check):
    check(estimator)
