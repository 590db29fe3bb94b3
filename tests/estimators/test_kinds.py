"""The search over a weight for each kind, with scores that are made up."""

import numpy as np
import pytest

from sktangent.estimators.fold_fits import Outcome
from sktangent.estimators.kinds import search_kinds, weights_in
from sktangent.estimators.search import _as_results
from sktangent.model_selection import best_score, one_standard_error

GRID = np.array([0.0, 1.0, 10.0, 100.0])
HARD = np.array([0.0, 0.1, 0.3])  # how much less each fold has than the score


def search(scores, rule, invariance=0.0, grids=None):
    """Search where the score of a kind's weight is told, and those of kinds add up."""
    noise = np.array([0.5, -1.0, 0.5]) * 0.01
    grids = grids or dict.fromkeys(scores, GRID)

    def evaluate(candidates):
        return [outcomes(weights_in(one)) for one in candidates]

    def outcomes(weights):
        parts = [scores[kind][grids[kind].tolist().index(w)] for kind, w in weights.items()]
        total = sum(parts) - HARD + noise * sum(w > 0 for w in weights.values())
        falls = -invariance * max(weights.values())
        return [Outcome({"score": each, "invariance": falls}, 0.0, 0.0) for each in total]

    candidates, _, best = search_kinds(grids, evaluate, rule, _as_results)
    assert len(candidates) <= 1 + (2 * len(grids) + 1) * (len(GRID) - 1)
    return weights_in(candidates[best])


@pytest.mark.parametrize("rule", [best_score, one_standard_error, lambda results: 2])
def test_a_kind_that_does_harm_is_dropped(rule):
    scores = {"helps": [0, 0.1, 0.3, 0.1], "harms": [0, -0.1, -1, -2], "little": [0, 0, -1, -1]}
    assert search(scores, rule) == {"helps": 10.0, "harms": 0.0, "little": 0.0}


@pytest.mark.parametrize("rule", [best_score, one_standard_error, lambda results: 2])
def test_a_kind_of_which_the_folds_say_little_is_kept(rule):
    """What it is good for may show beside the others only."""
    scores = {"helps": [0, 0.1, 0.3, 0.1], "hardly": [0, -0.001, -0.002, 0]}
    assert search(scores, rule) == {"helps": 10.0, "hardly": 10.0}


def test_a_kind_that_helps_is_kept_however_bad_its_large_weights_are():
    scores = {"helps": [0, 0.1, 0.3, 0.1], "at first": [0, 0.2, -1, -9]}
    assert search(scores, one_standard_error) == {"helps": 10.0, "at first": 1.0}


@pytest.mark.parametrize("rule", [best_score, one_standard_error])
def test_each_kind_takes_a_weight_of_its_own_if_that_is_told_to_be_better(rule):
    scores = {"early": [0, 0.3, 0.2, 0.0], "late": [0, 0.0, 0.1, 0.4]}
    assert search(scores, rule) == {"early": 1.0, "late": 100.0}


@pytest.mark.parametrize("invariance", [0.0, 1.0, -1.0])
def test_the_largest_weights_that_are_as_good_as_the_best(invariance):
    """However invariant the network is along all kinds together."""
    scores = {"helps": [0, 0.3, 0.3, 0.1], "other": [0, -1, -1, -1]}
    found = search(scores, one_standard_error, invariance)
    assert found == {"helps": 10.0, "other": 0.0}


def test_no_weights_that_score_below_the_smallest():
    """The folds do not tell the harm, at most of the weights."""
    scores = {"one": [0, -0.001, -0.001, -0.001], "other": [0, -0.001, -0.001, -0.001]}
    assert search(scores, one_standard_error) == {"one": 0.0, "other": 0.0}


def test_grids_of_several_lengths_end_together():
    grids = {"long": GRID, "short": np.array([0.0, 5.0]), "fixed": np.array([2.0])}
    scores = {"long": [0, 0.1, 0.2, 0.3], "short": [0, 0.1], "fixed": [0]}
    found = search(scores, one_standard_error, grids=grids)
    assert found == {"long": 100.0, "short": 5.0, "fixed": 2.0}


def test_fits_that_fail_count_as_the_worst():
    scores = {"helps": [0, 0.1, 0.3, np.nan], "harms": [0, -1, np.nan, np.nan]}
    assert search(scores, one_standard_error) == {"helps": 10.0, "harms": 0.0}
    with pytest.raises(ValueError, match="every candidate"):
        search({"one": [np.nan] * 4, "other": [np.nan] * 4}, one_standard_error)
