"""A search over a weight for each kind of tangents, one kind after another."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sktangent.estimators.fold_fits import Outcome
from sktangent.model_selection import (
    best_score,
    fold_scores,
    one_standard_error,
    within_one_standard_error,
)

_PASSES = 2
_PREFIX = "tangents__weights__"


def params_of(weights: dict[str, float]) -> dict[str, float]:
    """Write the weights of kinds as parameters of the plain estimator."""
    by_kind = {f"{_PREFIX}{kind}": weight for kind, weight in weights.items()}
    return {"penalty_weight": 1.0, **by_kind}


def weights_in(params: dict) -> dict[str, float]:
    """Read the weights of kinds out of parameters; there may be none."""
    given = {name: weight for name, weight in params.items() if name.startswith(_PREFIX)}
    return {name.removeprefix(_PREFIX): weight for name, weight in given.items()}


def search_kinds(
    grids: dict[str, np.ndarray],
    evaluate: Callable[[list[dict]], list[list[Outcome]]],
    rule: Callable[[dict], int],
    as_results: Callable[[list[dict], list[list[Outcome]]], dict],
) -> tuple[list[dict], list[list[Outcome]], int]:
    """Choose a weight for each kind, with those of the others held.

    All start at their smallest weight, zero as a rule. Each is tried alone first, and they come in
    the order of the best scores they reach so. A kind's weight is raised only if the folds tell the
    best of its weights from the smallest one, by more than the paired standard error; then the rule
    chooses. The rule "one_standard_error" takes the largest weight that the folds cannot tell from
    the best: the most invariant along this kind, while the invariance that was scored is that along
    all kinds, those that end at zero among them. Another pass over all kinds looks whether it has
    changed what the others were chosen beside. The rule "best" takes each kind's best weight.

    Parameters
    ----------
    grids : dict of str to ndarray
        The increasing weights of each kind.
    evaluate : callable
        Takes candidates, as parameters of the plain estimator, and returns their outcomes.
    rule : callable
        Takes ``cv_results_`` and returns the row to choose.
    as_results : callable
        Makes ``cv_results_`` of candidates and outcomes.

    Returns
    -------
    candidates : list of dict
        All that were tried.
    outcomes : list of list of Outcome
        Their outcomes on the folds.
    best : int
        The row of the chosen one.
    """
    tried = _Tried(evaluate)
    at = {kind: float(grid[0]) for kind, grid in grids.items()}
    lines = {kind: _line(at, kind, grid) for kind, grid in grids.items()}
    tried.add([weights for line in lines.values() for weights in line])
    alone = {kind: max(map(tried.score, line)) for kind, line in lines.items()}
    for _ in range(_PASSES):
        before = at
        for kind in sorted(grids, key=alone.get, reverse=True):
            line = _line(at, kind, grids[kind])
            tried.add(line)
            rows = [tried.row(weights) for weights in line]
            results = as_results(*tried.rows(rows))
            at = line[_choose(results, rule)]
        if at == before:
            break
    return tried.candidates, tried.outcomes, tried.row(at)


class _Tried:
    """What has been tried, each candidate once."""

    def __init__(self, evaluate: Callable) -> None:
        self._evaluate, self._row_of = evaluate, {}
        self.candidates: list[dict] = []
        self.outcomes: list[list[Outcome]] = []

    def add(self, several: list[dict[str, float]]) -> None:
        new = {tuple(w.values()): w for w in several if tuple(w.values()) not in self._row_of}
        if not new:
            return
        candidates = [params_of(weights) for weights in new.values()]
        for key in new:
            self._row_of[key] = len(self._row_of)
        self.outcomes += self._evaluate(candidates)
        self.candidates += candidates

    def row(self, weights: dict[str, float]) -> int:
        return self._row_of[tuple(weights.values())]

    def score(self, weights: dict[str, float]) -> float:
        scores = [each.test_scores["score"] for each in self.outcomes[self.row(weights)]]
        return float(np.nan_to_num(np.mean(scores), nan=-np.inf))

    def rows(self, rows: list[int]) -> tuple[list[dict], list[list[Outcome]]]:
        return [self.candidates[row] for row in rows], [self.outcomes[row] for row in rows]


def _line(at: dict[str, float], kind: str, grid: np.ndarray) -> list[dict[str, float]]:
    return [{**at, kind: weight} for weight in grid.tolist()]


def _choose(results: dict, rule: Callable[[dict], int]) -> int:
    """Choose a row of a kind's weights, the first unless another one is better for sure."""
    if rule is best_score:
        return rule(results)
    scores = fold_scores(results, "score")
    if np.isnan(scores).any(axis=1).all():
        return 0
    within = within_one_standard_error(scores)
    if within[0]:
        return 0
    return int(np.flatnonzero(within)[-1] if rule is one_standard_error else rule(results))
