"""Estimators that cross-validate the penalty weight and are then fitted with the one chosen."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from numbers import Integral

import numpy as np
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.metrics import check_scoring, get_scorer_names
from sklearn.model_selection import GridSearchCV, check_cv
from sklearn.utils import check_random_state, indexable
from sklearn.utils._param_validation import Interval, StrOptions

from sktangent._checks import check_nonnegative
from sktangent.estimators.fold_batch import fit_folds
from sktangent.estimators.fold_fits import Data, Outcome, Scoring
from sktangent.estimators.halving import finished, in_rungs
from sktangent.estimators.kinds import search_kinds, weights_in
from sktangent.estimators.waiting import waiting_fit
from sktangent.estimators.weight_grid import (
    by_kind,
    check_grid,
    check_kinds,
    find_grid,
    natural_scales,
    scale_of,
)
from sktangent.model_selection import best_score, one_standard_error

RULES: dict[str, Callable] = {"best": best_score, "one_standard_error": one_standard_error}
_OWN_CONSTRAINTS: dict = {
    "penalty_weights": [Interval(Integral, 1, None, closed="left"), "array-like", dict],
    "cv": ["cv_object"],
    "rule": [StrOptions(set(RULES)), callable],
    "scoring": [StrOptions(set(get_scorer_names())), callable, None],
    "n_jobs": [Integral, None],
    "augments": ["array-like", None],
    "halving": ["boolean"],
}


def search_constraints(plain: type) -> dict:
    """Tell what the parameters may be of an estimator that chooses the weight of a plain one."""
    theirs = {k: v for k, v in plain._parameter_constraints.items() if k != "penalty_weight"}
    return {**theirs, **_OWN_CONSTRAINTS}


class _Chosen:
    """Stands for the weight where one of a fitted plain estimator is asked for."""

    def __get__(self, estimator, owner=None) -> float:
        chosen = getattr(estimator, "penalty_weight_", 1.0)
        return 1.0 if isinstance(chosen, dict) else chosen


class PenaltyWeightSearch:
    """What the CV estimators share; a plain estimator is mixed in behind it.

    The parameters of the plain estimator are theirs too, but for ``penalty_weight``; after ``fit``
    they are in the state of a plain one, fitted on all samples with what was chosen.
    """

    _plain: type
    penalty_weight = _Chosen()

    def __init_subclass__(cls) -> None:
        """Let the constructor name all that it takes, the parameters of the plain one too."""
        super().__init_subclass__()
        own = inspect.signature(PenaltyWeightSearch.__init__).parameters
        theirs = inspect.signature(cls._plain.__init__).parameters
        known = {**own, **theirs}
        known.pop("penalty_weight")
        parameters = sorted(known.values(), key=lambda parameter: parameter.kind)

        @functools.wraps(PenaltyWeightSearch.__init__)
        def __init__(self, *args, **kwargs):  # noqa: N807
            PenaltyWeightSearch.__init__(self, *args, **kwargs)

        __init__.__signature__ = inspect.Signature(parameters)
        cls.__init__ = __init__

    def __init__(
        self,
        tangents=None,
        penalty_weights=10,
        *,
        cv=None,
        rule="one_standard_error",
        scoring=None,
        n_jobs=None,
        augments=None,
        halving=False,
        **kwargs,
    ) -> None:
        unknown = (
            {"penalty_weight": kwargs.pop("penalty_weight")} if "penalty_weight" in kwargs else {}
        )
        super().__init__(tangents, **kwargs)
        del self.penalty_weight
        self.penalty_weights = penalty_weights
        self.cv = cv
        self.rule = rule
        self.scoring = scoring
        self.n_jobs = n_jobs
        self.augments = augments
        self.halving = halving
        self._set_extra_params(unknown)

    @classmethod
    def _get_param_names(cls) -> list[str]:
        return sorted({*super()._get_param_names(), *_OWN_CONSTRAINTS} - {"penalty_weight"})

    def _check_partial_fit(self) -> bool:
        raise AttributeError(
            f"{type(self).__name__} has no partial_fit: its folds need all samples at once. Go on "
            f"from what it has chosen with a {self._plain.__name__} of that penalty_weight."
        )

    def _search(self, X, y, groups, **metadata):
        """Choose a weight by cross-validation, and fit on all samples with it."""
        self._check_params_are_known()
        augments = self._check_grids()
        plain = self._plain_estimator()
        metadata = {name: part for name, part in metadata.items() if part is not None}
        X, y, groups = indexable(X, y, groups)
        probe = waiting_fit(plain, X, y, metadata, penalty_weight=1.0)
        data = Data(X, y, metadata)
        scoring = self._scoring(plain, probe, metadata)
        folds = self._folds(probe, data, groups)

        def evaluate(candidates: list[dict], part: float = 1.0) -> list[list[Outcome]]:
            return fit_folds(plain, probe, candidates, data, folds, scoring, self.n_jobs, part)

        self.penalty_weights_ = self._weights(plain, probe, data)
        if isinstance(self.penalty_weights_, dict):
            candidates, outcomes, best = search_kinds(
                self.penalty_weights_, evaluate, self._rule(), _as_results
            )
            self.cv_results_ = _as_results(candidates, outcomes)
            self.best_index_ = _check_index(best, len(candidates))
        else:
            weights = [{"penalty_weight": weight} for weight in self.penalty_weights_.tolist()]
            candidates = [{**weight, **augment} for weight in weights for augment in augments]
            outcomes, more = (
                in_rungs(evaluate, candidates) if self.halving else (evaluate(candidates), {})
            )
            self.cv_results_ = _as_results(candidates, outcomes, more)
            self.best_index_ = self._choose()
        return self._refit(plain, candidates[self.best_index_], data)

    def _check_grids(self) -> list[dict]:
        """Check what is to be tried as far as that goes without data; return values of augment."""
        if isinstance(self.penalty_weights, Mapping):
            check_kinds(self.penalty_weights, self.tangents)
            if self.halving:
                raise ValueError("halving must be False where penalty_weights are by kind.")
        elif not isinstance(self.penalty_weights, Integral):
            check_grid(self.penalty_weights)
        if self.augments is None:
            return [{}]
        if isinstance(self.penalty_weights, Mapping):
            raise ValueError("augments must be None where penalty_weights are by kind.")
        if self.augment is not None:
            raise ValueError("augment must be None where augments are searched.")
        if len(self.augments) == 0:
            raise ValueError("augments must hold at least one value, got none.")
        for augment in self.augments:
            if not isinstance(augment, Mapping | None):
                check_nonnegative(augment, "augments")
        return [{"augment": augment} for augment in self.augments]

    def _plain_estimator(self):
        params = {**self.get_params(deep=False), "checkpoint": None}  # of the last fit only
        for name in _OWN_CONSTRAINTS:
            del params[name]
        if not isinstance(self.random_state, Integral):  # all candidates have the same numbers
            random = check_random_state(self.random_state)
            params["random_state"] = random.randint(np.iinfo(np.int32).max)
        return self._plain(**params)

    def _scoring(self, plain, probe, metadata: dict) -> Scoring:
        """Tell how to score: invariance too, where it is what the penalty asks for."""
        scorer = check_scoring(plain, self.scoring)
        if "derivatives" in metadata:
            return Scoring(scorer, None, by_sample=False)
        if "tangents" in metadata:
            return Scoring(scorer, None, by_sample=True)
        if self.tangents is None or "derivatives" in probe.pending_.rows(np.arange(1)):
            return Scoring(scorer, None, by_sample=False)
        return Scoring(scorer, self.tangents, by_sample=False)

    def _folds(self, probe, data: Data, groups) -> list[tuple[np.ndarray, np.ndarray]]:
        y = np.asarray(data.y.todense() if hasattr(data.y, "todense") else data.y)
        splitter = check_cv(self.cv, y, classifier=is_classifier(self))
        n_samples, n_splits = len(y), splitter.get_n_splits(data.X, y, groups)
        if isinstance(self.cv, Integral | None) and n_samples < n_splits:
            raise ValueError(
                f"cv={n_splits} folds need as many samples at least, got n_samples={n_samples}."
            )
        folds = list(splitter.split(data.X, y, groups))
        if is_classifier(self) and not probe._multilabel:
            _check_classes(y.ravel(), folds)
        if is_regressor(self):
            known = ~np.isnan(y.astype(np.float64)).reshape(n_samples, -1).any(axis=1)
            folds = [(train, test[known[test]]) for train, test in folds]
            if self.scoring in (None, "r2") and min(len(test) for _, test in folds) < 2:
                raise ValueError(
                    "cv leaves a fold of fewer than two samples, of which R² says nothing; use "
                    f"fewer folds for n_samples={n_samples}, or another scoring."
                )
        _check_weights(data.metadata.get("sample_weight"), folds)
        return folds

    def _weights(self, plain, probe, data: Data):
        """Find the weights to try: those given, or around what the data suggest."""
        given = self.penalty_weights
        grids = given.values() if isinstance(given, Mapping) else [given]
        scales = np.zeros(0)
        if any(isinstance(grid, Integral) and grid > 1 for grid in grids):
            scales = natural_scales(plain, probe, data.X, data.y, data.metadata)
        if isinstance(given, Mapping):
            names = probe.tangents_.tangent_names(data.X[:1])
            return by_kind(given, names, scales)
        if isinstance(given, Integral):
            return find_grid(given, scale_of(scales))
        return check_grid(given)

    def _rule(self) -> Callable:
        return RULES[self.rule] if isinstance(self.rule, str) else self.rule

    def _choose(self) -> int:
        """Let the rule choose among the candidates that were trained to the end."""
        results, rows = finished(self.cv_results_)
        return int(rows[_check_index(self._rule()(results), len(rows))])

    def _refit(self, plain, chosen: dict, data: Data):
        """Fit on all samples, and take over what that leaves."""
        params = self.get_params(deep=False)
        found = ("penalty_weights_", "cv_results_", "best_index_")
        before = {k: v for k, v in vars(self).items() if k not in params and k not in found}
        own = {"verbose": self.verbose, "checkpoint": self.checkpoint}
        best = clone(plain).set_params(**clone(chosen, safe=False), **own)
        if self.warm_start:
            vars(best).update(before)
        best.fit(data.X, data.y, **data.metadata)
        for name in before:
            if name.endswith("_") and not name.startswith("_"):
                delattr(self, name)
        plain_params = best.get_params(deep=False)
        vars(self).update({k: v for k, v in vars(best).items() if k not in plain_params})
        self.penalty_weight_ = weights_in(chosen) or chosen["penalty_weight"]
        if self.augments is not None:
            self.augment_ = chosen["augment"]
        return self


def _check_index(index, n_candidates: int) -> int:
    if not isinstance(index, Integral) or not 0 <= index < n_candidates:
        raise ValueError(
            f"rule must return the index of one of {n_candidates} candidates, got {index!r}."
        )
    return int(index)


def _check_classes(y: np.ndarray, folds: list) -> None:
    classes = np.unique(y)
    for k, (train, _) in enumerate(folds):
        missing = np.setdiff1d(classes, y[train])
        if len(missing):
            label = missing.tolist()[0]
            raise ValueError(
                f"cv leaves no sample of class {label!r} to train on in fold {k}. Each class must "
                "be in the training part of every fold: use fewer folds, or StratifiedKFold."
            )


def _check_weights(weight, folds: list) -> None:
    if weight is None:
        return
    for k, fold in enumerate(folds):
        for rows, use in zip(fold, ("train", "score"), strict=True):
            if not np.any(np.asarray(weight)[rows]):
                raise ValueError(
                    f"sample_weight is zero for all {len(rows)} samples to {use} on in fold {k}. "
                    "Use fewer folds, leave those samples out, or give cv folds that mix them."
                )


def _as_results(
    candidates: list[dict], outcomes: list[list[Outcome]], more: dict | None = None
) -> dict:
    """Put together ``cv_results_`` as scikit-learn's searches do, with more columns."""
    flat = [outcome._asdict() for each in outcomes for outcome in each]
    formatter = GridSearchCV(estimator=None, param_grid={})
    return formatter._format_results(candidates, len(outcomes[0]), flat, more)
