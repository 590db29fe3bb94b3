"""The search over a weight for each kind, with scores that are made up."""

import numpy as np
import pytest

from sktangent.estimators.fold_fits import Outcome
from sktangent.estimators.kinds import search_kinds, weights_in
from sktangent.estimators.search import _as_results
from sktangent.model_selection import best_score, one_standard_error

GRID = np.array([0.0, 1.0, 10.0, 100.0])
HARD = np.array([0.0, 0.1, 0.3])  # how much less each fold has than the score


def search(scores, rule, invariance=0.0):
    """Search where the score of a kind's weight is told, and those of kinds add up."""
    noise = np.array([0.5, -1.0, 0.5]) * 0.01

    def evaluate(candidates):
        return [outcomes(weights_in(one)) for one in candidates]

    def outcomes(weights):
        parts = [scores[kind][GRID.tolist().index(w)] for kind, w in weights.items()]
        total = sum(parts) - HARD + noise * sum(w > 0 for w in weights.values())
        falls = -invariance * max(weights.values())
        return [Outcome({"score": each, "invariance": falls}, 0.0, 0.0) for each in total]

    candidates, _, best = search_kinds(dict.fromkeys(scores, GRID), evaluate, rule, _as_results)
    return weights_in(candidates[best])


@pytest.mark.parametrize("rule", [one_standard_error, lambda results: 2])
def test_a_kind_stays_at_zero_unless_the_folds_tell_it_from_zero(rule):
    scores = {"helps": [0, 0.1, 0.3, 0.1], "hardly": [0, 0.001, 0.002, 0], "harms": [0, -1, -1, -1]}
    assert search(scores, rule) == {"helps": 10.0, "hardly": 0.0, "harms": 0.0}
    assert search(scores, best_score)["hardly"] == 10.0


@pytest.mark.parametrize("invariance", [0.0, 1.0, -1.0])
def test_a_kind_that_helps_gets_the_largest_weight_that_is_as_good_as_the_best(invariance):
    """However invariant the network is along all kinds together."""
    scores = {"helps": [0, 0.3, 0.3, 0.1], "other": [0, -1, -1, -1]}
    found = search(scores, one_standard_error, invariance)
    assert found == {"helps": 10.0, "other": 0.0}
