"""A search for the kinds of tangents that may stay, and for their weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from sktangent.estimators.fold_fits import Outcome
from sktangent.model_selection import one_standard_error, within_one_standard_error

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
    """Drop the kinds that do harm, hold to the others together, then look at each once more.

    Each kind is tried alone, the others at their smallest weight, zero as a rule. One is dropped if
    the folds tell, by more than the paired standard error, that most of its weights are worse than
    the smallest and none is better; it is kept if they say little. The weights of those kept then
    rise side by side through their grids, and along this line the rule chooses. That is for
    "one_standard_error" the largest weights among which it may choose: the most invariant along
    these kinds, while the invariance that was scored is that along all, those dropped among them.
    Last, the weights of each kind, dropped or not, are tried beside those of the others; it takes
    the one of the best mean score if the folds tell that from what it has.

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
    alone = {kind: _line(grids, [kind]) for kind in grids}
    tried.add(alone.values())
    line = _line(grids, [kind for kind in grids if not _harms(tried.scores(alone[kind]))])
    tried.add([line])
    at = line[_choose(as_results(*tried.taken(line)), rule)]
    for kind, grid in grids.items():
        line = [{**at, kind: weight} for weight in grid.tolist()]
        tried.add([line])
        scores = tried.scores(line)
        if not within_one_standard_error(scores)[line.index(at)]:
            at = line[scores.mean(axis=1).argmax()]
    return tried.candidates, tried.outcomes, tried.rows([at])[0]


def _harms(scores: np.ndarray) -> bool:
    """Tell whether most of a kind's weights are worse than the first for sure, and none better."""
    if len(scores) == 1:
        return False
    first, others = scores[0], scores[1:]
    helps = any(not within_one_standard_error(np.stack([one, first]))[1] for one in others)
    middle = np.median(others, axis=0)
    return not helps and not within_one_standard_error(np.stack([first, middle]))[1]


def _choose(results: dict, rule: Callable[[dict], int]) -> int:
    """Let the rule choose; of the invariance, along all kinds, "one_standard_error" is not told."""
    if rule is one_standard_error:
        scores = {name: column for name, column in results.items() if "invariance" not in name}
        results = {**scores, "param_penalty_weight": np.arange(len(results["params"]))}
    return rule(results)


class _Tried:
    """What has been tried, each candidate once."""

    def __init__(self, evaluate: Callable) -> None:
        self._evaluate, self._row_of = evaluate, {}
        self.candidates: list[dict] = []
        self.outcomes: list[list[Outcome]] = []

    def add(self, lines: Iterable[list[dict[str, float]]]) -> None:
        several = {tuple(weights.values()): weights for line in lines for weights in line}
        new = {key: weights for key, weights in several.items() if key not in self._row_of}
        if not new:
            return
        candidates = [params_of(weights) for weights in new.values()]
        for key in new:
            self._row_of[key] = len(self._row_of)
        self.outcomes += self._evaluate(candidates)
        self.candidates += candidates

    def rows(self, line: list[dict[str, float]]) -> list[int]:
        return [self._row_of[tuple(weights.values())] for weights in line]

    def taken(self, line: list[dict[str, float]]) -> tuple[list[dict], list[list[Outcome]]]:
        rows = self.rows(line)
        return [self.candidates[row] for row in rows], [self.outcomes[row] for row in rows]

    def scores(self, line: list[dict[str, float]]) -> np.ndarray:
        """Return a line's scores on the folds; a failed fit counts as the worst that was seen."""
        every = np.array([[one.test_scores["score"] for one in each] for each in self.outcomes])
        worst = 0.0 if np.isnan(every).all() else np.nanmin(every)
        return np.nan_to_num(every, nan=worst)[self.rows(line)]


def _line(grids: dict[str, np.ndarray], kinds: list[str]) -> list[dict[str, float]]:
    """Let the weights of kinds rise side by side, from the smallest to the largest."""
    last = max((len(grids[kind]) for kind in kinds), default=1) - 1
    places = {kind: (len(grid) - 1) * (kind in kinds) for kind, grid in grids.items()}
    return [
        {kind: float(grid[-(-step * places[kind] // max(last, 1))]) for kind, grid in grids.items()}
        for step in range(last + 1)
    ]
