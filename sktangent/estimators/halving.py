"""Fits of a search in rungs: what the folds tell early from the best is not trained to the end."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from sktangent.estimators.fold_fits import Outcome
from sktangent.model_selection import within_one_standard_error

# the parts of the epochs after which candidates are dropped, and the part of them that stays anyway
_RUNGS, _KEPT = (1 / 9, 1 / 3), 1 / 3
_COLUMN = "trained_part"


def in_rungs(
    evaluate: Callable[[list[dict], float], list[list[Outcome]]], candidates: list[dict]
) -> tuple[list[list[Outcome]], dict[str, np.ndarray]]:
    """Fit candidates for a ninth of the epochs, then some for a third, then some to the end.

    After a rung those go on that are within one paired standard error of the best mean score, so
    that the rule finds all among which it might choose, and at least the better third. Each rung
    trains from the start; what has ended by itself is not trained again.

    Parameters
    ----------
    evaluate : callable
        Takes candidates and the part of the epochs to train for, and returns their outcomes.
    candidates : list of dict
        What is tried.

    Returns
    -------
    outcomes : list of list of Outcome
        For each candidate those on the folds, from its last rung.
    more : dict of str to ndarray
        A column for ``cv_results_``, the part of the epochs that each was trained for; 1 also where
        training ended before.
    """
    outcomes: list[list[Outcome]] = [[] for _ in candidates]
    parts = np.zeros(len(candidates))
    kept = np.arange(len(candidates))
    for part in (*_RUNGS, 1.0):
        going_on = [row for row in kept if parts[row] < 1]
        if going_on:
            found = evaluate([candidates[row] for row in going_on], part)
            for row, each in zip(going_on, found, strict=True):
                outcomes[row] = each
                parts[row] = 1.0 if all(one.is_over for one in each) else part
        kept = kept[_go_on([outcomes[row] for row in kept])]
    return outcomes, {_COLUMN: parts}


def finished(results: dict) -> tuple[dict, np.ndarray]:
    """Take those rows of ``cv_results_`` that were trained to the end, and tell which they are."""
    if _COLUMN not in results:
        return results, np.arange(len(results["params"]))
    rows = np.flatnonzero(results[_COLUMN] == 1)
    some = {name: np.ma.asarray(column)[rows] for name, column in results.items()}
    return {**some, "params": [results["params"][row] for row in rows]}, rows


def _go_on(outcomes: list[list[Outcome]]) -> np.ndarray:
    """Tell which candidates stay."""
    scores = np.array([[one.test_scores["score"] for one in each] for each in outcomes])
    means = scores.mean(axis=1)
    if np.isnan(means).all():
        return np.ones(len(means), dtype=bool)
    is_kept = within_one_standard_error(scores)
    best_first = np.argsort(-means)  # NaN comes last
    is_kept[best_first[: math.ceil(_KEPT * len(means))]] = True
    return is_kept
