"""The rules that choose among cross-validated weights."""

import functools

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV

from sktangent import TangentPropRegressor
from sktangent.metrics import make_invariance_scorer
from sktangent.model_selection import best_score, one_standard_error, within_one_standard_error
from sktangent.tangents import FeatureTangents


def results(scores, weights=(0.0, 0.1, 1.0), name="score", **metrics):
    scores = np.asarray(scores, dtype=float)
    table = {"param_net__penalty_weight": np.ma.masked_array(weights, mask=False)}
    for metric, values in {name: scores, **metrics}.items():
        values = np.asarray(values, dtype=float)
        table |= {f"split{k}_test_{metric}": column for k, column in enumerate(values.T)}
        table[f"mean_test_{metric}"] = values.mean(axis=1)
    return table


# the folds differ much, the candidates little and always by about the same
EASY_AND_HARD = [[0.90, 0.50, 0.70], [0.95, 0.55, 0.75], [0.93, 0.53, 0.72]]


def test_differences_are_paired():
    """Unpaired, the standard error of 0.1 would let the third in."""
    assert one_standard_error(results(EASY_AND_HARD)) == 1
    assert within_one_standard_error(np.array(EASY_AND_HARD)).tolist() == [False, True, False]


def test_of_what_folds_cannot_tell_apart_the_largest_weight():
    scores = [[0.90, 0.50, 0.70], [0.95, 0.55, 0.75], [0.90, 0.58, 0.75]]
    assert one_standard_error(results(scores)) == 2
    assert best_score(results(scores)) == 1


def test_the_standard_error_is_that_of_the_mean_difference():
    difference = np.array([0.0, 0.1, 0.2])
    error = difference.std(ddof=1) / np.sqrt(3)
    for shift, inside in ((-0.999, True), (-1.001, False)):
        other = 1 - (difference - difference.mean()) + shift * error
        scores = np.stack([np.ones(3), other])
        assert within_one_standard_error(scores).tolist() == [True, inside]


def test_the_most_invariant_before_the_largest_weight():
    scores = [[0.9, 0.5], [0.9, 0.5], [0.9, 0.5]]
    invariance = [[-0.3, -0.2], [-0.1, -0.1], [-0.2, -0.3]]
    assert one_standard_error(results(scores, invariance=invariance)) == 1


# the last is within one standard error of the best, and below the first
HARMS_A_LITTLE = [[0.90, 0.50, 0.70], [0.95, 0.50, 0.74], [0.80, 0.58, 0.71]]


@pytest.mark.parametrize(
    "metrics", [{}, {"invariance": [[-0.3] * 3, [-0.2] * 3, [-0.1] * 3]}], ids=["weight", "scored"]
)
def test_a_penalty_must_not_cost_score(metrics):
    """However invariant it makes, and however little the folds tell."""
    assert within_one_standard_error(np.array(HARMS_A_LITTLE))[2]
    assert one_standard_error(results(HARMS_A_LITTLE, **metrics)) == 1
    none_without = results(HARMS_A_LITTLE, weights=(0.01, 0.1, 1.0), **metrics)
    assert one_standard_error(none_without) == 2


def test_where_no_penalty_is_best_there_is_none():
    scores = [[0.90, 0.50, 0.70], [0.85, 0.52, 0.70], [0.80, 0.58, 0.70]]
    assert within_one_standard_error(np.array(scores)).all()
    assert one_standard_error(results(scores)) == 0


def test_a_penalty_that_costs_nothing_stays():
    """The same scores, in other folds, whose mean differs in the last digit."""
    scores = [[0.1, 0.2, 0.3], [0.3, 0.2, 0.1]]
    means = np.mean(scores, axis=1)
    assert means[1] < means[0]
    assert one_standard_error(results(scores, weights=(0.0, 1.0))) == 1


def test_of_several_candidates_without_a_penalty_the_best_counts():
    scores = [[0.90, 0.50, 0.70], [0.70, 0.30, 0.50], [0.80, 0.60, 0.66]]
    table = results(scores, weights=(0.0, 0.0, 1.0))
    assert one_standard_error(table) == 0
    table["param_net__penalty_weight"] = np.ma.masked_array([0.0, 0.0, 1.0], [True, False, False])
    assert one_standard_error(table) == 2
    scores = [[0.90, 0.50, 0.70], [np.nan, 0.30, 0.50], [0.80, 0.60, 0.66]]
    assert one_standard_error(results(scores, weights=(0.1, 0.0, 1.0))) == 2


def test_metrics_by_name():
    scores = [[0.9, 0.5], [0.9, 0.5], [0.9, 0.5]]
    table = results(scores, name="r2", closeness=[[0.3, 0.2], [0.1, 0.1], [0.2, 0.3]])
    with pytest.raises(ValueError, match="one metric beside 'invariance'.*'r2', 'closeness'"):
        one_standard_error(table)
    rule = functools.partial(one_standard_error, score="r2", invariance="closeness")
    assert rule(table) in (0, 2)
    with pytest.raises(ValueError, match="no metric 'r3'"):
        one_standard_error(table, score="r3")


def test_candidates_that_failed_are_never_chosen():
    scores = [[0.9, 0.5], [0.8, 0.4], [np.nan, 0.5]]
    assert one_standard_error(results(scores)) == 0
    with pytest.raises(ValueError, match="every candidate"):
        one_standard_error(results(np.full((3, 2), np.nan)))
    with pytest.raises(ValueError, match="every candidate"):
        best_score(results(np.full((3, 2), np.nan)))


def test_equals_and_a_single_fold():
    assert one_standard_error(results([[0.5], [0.7], [0.7]])) == 2
    assert one_standard_error(results([[0.5], [0.7], [0.6]])) == 1
    assert one_standard_error(results([[0.7, 0.5]] * 3, weights=(1.0, 0.1, 1.0))) == 0


def test_what_there_is_to_choose_by():
    table = results([[0.9, 0.5]] * 3)
    del table["param_net__penalty_weight"]
    with pytest.raises(ValueError, match="one parameter whose name ends in 'penalty_weight'"):
        one_standard_error(table)


def test_as_refit_of_a_search(X, target):
    tangents = FeatureTangents([3])
    model = TangentPropRegressor(tangents, optimizer="adam", max_epochs=20, random_state=0)
    search = GridSearchCV(
        model,
        {"penalty_weight": [0, 0.1, 1.0]},
        scoring={"r2": "r2", "invariance": make_invariance_scorer(tangents)},
        cv=3,
        refit=one_standard_error,
    ).fit(X, target)
    table = search.cv_results_
    within = within_one_standard_error(
        np.stack([table[f"split{k}_test_r2"] for k in range(3)], axis=1)
    )
    within &= table["mean_test_r2"] >= table["mean_test_r2"][0]
    most = np.where(within, table["mean_test_invariance"], -np.inf).argmax()
    assert search.best_index_ == most
    assert search.best_estimator_.penalty_weight == search.best_params_["penalty_weight"]
