"""The fits of a search over penalty weights: each candidate on each fold, and its scores there."""

from __future__ import annotations

import inspect
import time
import warnings
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import _safe_indexing
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import _check_method_params

from sktangent.estimators.waiting import cut_short, train_in_part
from sktangent.metrics import local_invariance_error
from sktangent.training.stopping import TrainingDiverged

# joblib then tells of the fits that are done every few seconds
_OFTEN = 5


class Data(NamedTuple):
    """What a search is given: samples, targets, and what goes with each of them.

    Parameters
    ----------
    X, y : array-like
        The samples and their targets.
    metadata : dict
        Further arguments of ``fit``.
    """

    X: object
    y: object
    metadata: dict

    def part(self, rows: np.ndarray) -> Data:
        """Take some of the samples."""
        metadata = _check_method_params(self.X, self.metadata, indices=rows)
        return Data(_safe_indexing(self.X, rows), _safe_indexing(self.y, rows), metadata)


class Scoring(NamedTuple):
    """How a fitted estimator is scored on a fold.

    Parameters
    ----------
    scorer : callable
        ``scorer(estimator, X, y)``, greater is better.
    tangents : callable or None
        The callable along which invariance is measured, not fitted.
    by_sample : bool
        Whether it is measured along the tangents given to ``fit`` instead.
    """

    scorer: Callable
    tangents: Callable | None
    by_sample: bool

    def directions(self, train: Data, test: Data):
        """Find the tangents along which invariance is measured on a fold; None: it is not."""
        if self.by_sample:
            return test.metadata["tangents"]
        if hasattr(self.tangents, "fit"):
            return clone(self.tangents).fit(train.X, train.y)
        return self.tangents

    def scores(self, estimator, test: Data, directions) -> dict[str, float]:
        """Score an estimator on a fold."""
        weight = test.metadata.get("sample_weight")
        given = (
            {} if weight is None or not _takes_weight(self.scorer) else {"sample_weight": weight}
        )
        scores = {"score": float(self.scorer(estimator, test.X, test.y, **given))}
        if directions is not None:
            error = local_invariance_error(estimator, test.X, directions, sample_weight=weight)
            scores["invariance"] = -error
        return scores

    def no_scores(self) -> dict[str, float]:
        """Stand for the scores of an estimator whose training diverged."""
        measures = self.by_sample or self.tangents is not None
        return {"score": np.nan, **({"invariance": np.nan} if measures else {})}


class Outcome(NamedTuple):
    """What scikit-learn's searches keep of a fit: its scores, and the seconds of fit and scores.

    ``is_over`` tells whether training ended by itself, before the epochs that it was given.
    """

    test_scores: Mapping[str, float]
    fit_time: float
    score_time: float
    is_over: bool = True


def fit_apart(
    plain,
    candidates: list[dict],
    data: Data,
    folds: list,
    scoring: Scoring,
    n_jobs: int | None,
    part: float = 1.0,
) -> list[list[Outcome]]:
    """Fit one after another, or in several processes.

    Parameters
    ----------
    plain : estimator
        The estimator, not fitted.
    candidates : list of dict
        Its parameters that vary.
    data : Data
        The samples.
    folds : list of (ndarray, ndarray)
        The rows to train on and to score on.
    scoring : Scoring
        How to score.
    n_jobs : int or None
        How many at once, as in :class:`joblib.Parallel`.
    part : float, default=1.0
        The part of the epochs to train for.

    Returns
    -------
    outcomes : list of list of Outcome
        For each candidate those on the folds.
    """
    outcomes = Parallel(n_jobs=n_jobs, verbose=_OFTEN if plain.verbose else 0)(
        delayed(_fit_and_score)(_with(plain, params), data, *fold, scoring, part)
        for params in candidates
        for fold in folds
    )
    n_folds = len(folds)
    return [outcomes[i : i + n_folds] for i in range(0, len(outcomes), n_folds)]


def _with(plain, params: dict):
    quiet = {"verbose": False, "warm_start": False}
    return clone(plain).set_params(**clone(params, safe=False), **quiet)


def _fit_and_score(estimator, data: Data, train, test, scoring: Scoring, part: float) -> Outcome:
    train, test = data.part(train), data.part(test)
    if part < 1:
        train_in_part(estimator, part)
    start = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the final fit will tell
            estimator.fit(train.X, train.y, **train.metadata)
    except TrainingDiverged as error:
        warnings.warn(f"A fit of the search counts as NaN. {error}", UserWarning, stacklevel=2)
        return Outcome(scoring.no_scores(), time.perf_counter() - start, 0.0)
    middle = time.perf_counter()
    scores = scoring.scores(estimator, test, scoring.directions(train, test))
    is_over = estimator.n_iter_ < cut_short(estimator._schedule, part).epochs
    return Outcome(scores, middle - start, time.perf_counter() - middle, is_over)


def _takes_weight(scorer: Callable) -> bool:
    function = getattr(scorer, "_score_func", scorer)
    if hasattr(scorer, "_estimator"):  # which passes everything to the estimator's score
        return True
    try:
        return "sample_weight" in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False
