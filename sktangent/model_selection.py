"""Rules that choose among penalty weights which were cross-validated."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

_WEIGHT = "penalty_weight"
_INVARIANCE = "invariance"
# means of sums in another order differ in the last digits
_ROUNDING = 1e-12


def one_standard_error(
    cv_results: Mapping, *, score: str | None = None, invariance: str = _INVARIANCE
) -> int:
    r"""Choose the most invariant candidate whose score the folds cannot tell from the best.

    With the scores :math:`s_{ck}` of candidate c on fold k of K, and b the candidate of the best
    mean score, a candidate is within one standard error of the best if

    .. math:: \overline{d_c} \le \sqrt{\frac{1}{K (K - 1)} \sum_k (d_{ck} - \overline{d_c})^2},
              \qquad d_{ck} = s_{bk} - s_{ck} .

    It is the standard error of the *difference*, paired over folds: how hard a fold is for all
    candidates drops out of it. Of the candidates within, the one of the best mean invariance is
    chosen, if that was scored, else the one of the largest penalty weight. This is the rule of
    Breiman et al. [1]_, there with the unpaired standard error of the best; see [2]_, section 7.10.
    What they call the simplest model is here the one that holds most closely to what it was told.

    One condition is added: a penalty must not cost score. Where weight zero was tried, a candidate
    whose mean score is below the best one of weight zero is not chosen, however large the standard
    error is. Few folds tell little, and a wrong tangent would otherwise be believed for that.

    It is a ``refit`` for scikit-learn's searches; other names of the metrics are set by
    :func:`functools.partial`.

    Parameters
    ----------
    cv_results : dict of str to array
        The ``cv_results_`` of a search.
    score : str, default=None
        The metric to compare by; greater is better. None: the only one beside the invariance.
    invariance : str, default="invariance"
        The metric that :func:`~sktangent.metrics.make_invariance_scorer` made, minus the local
        invariance error; greater is better. It need not be there.

    Returns
    -------
    best_index : int
        The row of the chosen candidate; of equals, the one of the better score, then the first.

    Raises
    ------
    ValueError
        If there is no such metric, if several could be meant, if every score is NaN, or if there is
        neither an invariance nor a penalty weight to choose by.

    References
    ----------
    .. [1] L. Breiman, J. Friedman, R. Olshen, C. Stone: *Classification and Regression Trees*,
       1984, section 3.4.3.
    .. [2] T. Hastie, R. Tibshirani, J. Friedman: *The Elements of Statistical Learning*, 2nd
       edition, 2009.

    Examples
    --------
    >>> from sktangent.model_selection import one_standard_error
    >>> one_standard_error({
    ...     "param_penalty_weight": [0.0, 0.1, 1.0],
    ...     "split0_test_score": [0.90, 0.94, 0.92],
    ...     "split1_test_score": [0.80, 0.84, 0.84],
    ...     "split2_test_score": [0.70, 0.72, 0.73],
    ...     "mean_test_score": [0.80, 0.8333, 0.83]})
    2

    In a search:

    >>> import numpy as np
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sktangent import TangentPropRegressor
    >>> from sktangent.metrics import make_invariance_scorer
    >>> from sktangent.tangents import FeatureTangents
    >>> X = np.random.default_rng(0).normal(size=(30, 2))
    >>> model = TangentPropRegressor(
    ...     FeatureTangents([1]), optimizer="adam", max_epochs=100, random_state=0)
    >>> scoring = {"r2": "r2", "invariance": make_invariance_scorer(FeatureTangents([1]))}
    >>> search = GridSearchCV(
    ...     model, {"penalty_weight": [0, 1]}, cv=3, scoring=scoring, refit=one_standard_error)
    >>> search.fit(X, X[:, 0]).best_params_
    {'penalty_weight': 1}
    """
    scores = fold_scores(cv_results, score or _only_score(cv_results, invariance))
    means = scores.mean(axis=1)
    if np.isnan(means).all():
        raise ValueError("every candidate has a score that is NaN; there is nothing to choose.")
    is_candidate = within_one_standard_error(scores) & _no_worse_than_without(cv_results, means)
    candidates = np.flatnonzero(is_candidate)
    closeness = _closeness(cv_results, invariance)[candidates]
    closeness = np.where(np.isnan(closeness), -np.inf, closeness)
    most = np.flatnonzero(closeness == closeness.max())
    return int(candidates[most[means[candidates[most]].argmax()]])


def best_score(cv_results: Mapping) -> int:
    """Choose the first candidate of the best mean score, as scikit-learn's searches do.

    Parameters
    ----------
    cv_results : dict of str to array
        The ``cv_results_`` of a search.

    Returns
    -------
    best_index : int
        Its row.

    Examples
    --------
    >>> from sktangent.model_selection import best_score
    >>> best_score({"mean_test_score": [0.1, 0.3, 0.2]})
    1
    """
    means = np.asarray(cv_results[f"mean_test_{_only_score(cv_results, _INVARIANCE)}"])
    if np.isnan(means).all():
        raise ValueError("every candidate has a score that is NaN; there is nothing to choose.")
    return int(np.nanargmax(means))


def within_one_standard_error(scores: np.ndarray) -> np.ndarray:
    """Tell which candidates are within one paired standard error of the best.

    Parameters
    ----------
    scores : ndarray of shape (n_candidates, n_folds)
        The scores; greater is better. A candidate with NaN is not within.

    Returns
    -------
    within : ndarray of bool of shape (n_candidates,)
        Whether it is.

    Examples
    --------
    >>> import numpy as np
    >>> from sktangent.model_selection import within_one_standard_error
    >>> within_one_standard_error(np.array([[1.0, 3.0], [0.9, 3.0], [0.5, 2.5]]))
    array([ True,  True, False])
    """
    best = np.nanargmax(scores.mean(axis=1))
    slack = paired_standard_errors(scores) + _ROUNDING * np.abs(scores[best]).mean()
    return (scores[best] - scores).mean(axis=1) <= slack


def paired_standard_errors(scores: np.ndarray) -> np.ndarray:
    """Compute the standard error of each candidate's difference from the best, paired over folds.

    Parameters
    ----------
    scores : ndarray of shape (n_candidates, n_folds)
        The scores; greater is better.

    Returns
    -------
    errors : ndarray of shape (n_candidates,)
        The standard errors; zero for the best, and everywhere for a single fold.

    Examples
    --------
    >>> import numpy as np
    >>> from sktangent.model_selection import paired_standard_errors
    >>> paired_standard_errors(np.array([[2.0, 3.0], [1.0, 3.0], [0.5, 1.5]]))
    array([0. , 0.5, 0. ])
    """
    n_folds = scores.shape[1]
    if n_folds == 1:
        return np.zeros(len(scores))
    best = np.nanargmax(scores.mean(axis=1))
    return (scores[best] - scores).std(axis=1, ddof=1) / np.sqrt(n_folds)


def fold_scores(cv_results: Mapping, metric: str) -> np.ndarray:
    """Collect a metric's scores on the folds.

    Parameters
    ----------
    cv_results : dict of str to array
        The ``cv_results_`` of a search.
    metric : str
        Its name.

    Returns
    -------
    scores : ndarray of shape (n_candidates, n_folds)
        The scores.

    Raises
    ------
    ValueError
        If there is no such metric.

    Examples
    --------
    >>> from sktangent.model_selection import fold_scores
    >>> fold_scores({"split0_test_r2": [0.1, 0.2], "split1_test_r2": [0.3, 0.4]}, "r2")
    array([[0.1, 0.3],
           [0.2, 0.4]])
    """
    columns = []
    while f"split{len(columns)}_test_{metric}" in cv_results:
        columns.append(np.asarray(cv_results[f"split{len(columns)}_test_{metric}"], dtype=float))
    if not columns:
        raise ValueError(f"cv_results has no metric {metric!r}, only {_metrics(cv_results)}.")
    return np.stack(columns, axis=1)


def weight_columns(cv_results: Mapping) -> list[str]:
    """Name the columns of parameters whose name ends in ``penalty_weight``.

    Parameters
    ----------
    cv_results : dict of str to array
        The ``cv_results_`` of a search.

    Returns
    -------
    columns : list of str
        Their names, ``param_...``.

    Examples
    --------
    >>> from sktangent.model_selection import weight_columns
    >>> weight_columns({"param_net__penalty_weight": [0, 1], "param_net__lr": [1, 1]})
    ['param_net__penalty_weight']
    """
    return [
        name
        for name in cv_results
        if name.startswith("param_") and name.removeprefix("param_").split("__")[-1] == _WEIGHT
    ]


def _metrics(cv_results: Mapping) -> list[str]:
    prefix = "mean_test_"
    return [name.removeprefix(prefix) for name in cv_results if name.startswith(prefix)]


def _only_score(cv_results: Mapping, invariance: str) -> str:
    others = [name for name in _metrics(cv_results) if name != invariance]
    if len(others) != 1:
        raise ValueError(
            f"cv_results must have one metric beside {invariance!r}, got {others}; name the one "
            "to compare by: functools.partial(one_standard_error, score=...)."
        )
    return others[0]


def _no_worse_than_without(cv_results: Mapping, means: np.ndarray) -> np.ndarray:
    """Tell which candidates score no worse than the best of weight zero; all, if there is none."""
    columns = weight_columns(cv_results)
    weights = _numbers(cv_results[columns[0]]) if len(columns) == 1 else np.ones(len(means))
    without = means[(weights == 0) & ~np.isnan(means)]
    if without.size == 0:
        return np.ones(len(means), dtype=bool)
    return means >= without.max() - _ROUNDING * abs(without.max())


def _closeness(cv_results: Mapping, invariance: str) -> np.ndarray:
    """Return what is the greater the more closely a candidate holds to what it was told."""
    if f"mean_test_{invariance}" in cv_results:
        return np.asarray(cv_results[f"mean_test_{invariance}"], dtype=float)
    columns = weight_columns(cv_results)
    if len(columns) != 1:
        raise ValueError(
            f"cv_results must have the metric {invariance!r}, or one parameter whose name ends in "
            f"{_WEIGHT!r}, got {columns}."
        )
    return _numbers(cv_results[columns[0]])


def _numbers(column) -> np.ndarray:
    """Return a column of parameters as floats, NaN where a candidate has no such parameter."""
    return np.ma.filled(np.ma.asarray(column).astype(float), np.nan)
