"""What the penalty weight does, from a search over it."""

from __future__ import annotations

import numpy as np

from sktangent.inspection._axes import line_style, panels, pyplot, tidy
from sktangent.metrics import is_invariance_scorer
from sktangent.model_selection import (
    fold_scores,
    paired_standard_errors,
    weight_columns,
    within_one_standard_error,
)

_WEIGHT = "penalty_weight"
# weights that are named below the axis, each by its own number
_MOST_NAMED = 7


class PenaltyPathDisplay:
    r"""Score, and invariance if it was scored, over the penalty weight.

    Make it by :meth:`from_search`. Points are means over the folds. The band reaches from the best
    mean down by the standard error of each weight's difference from the best, paired over folds: a
    weight inside it scores no worse than the folds can tell. This is the rule of
    :func:`~sktangent.model_selection.one_standard_error`, where the formula is; of the weights
    inside that score no worse than weight 0, it chooses the most invariant one, or the largest. The
    bars of the invariance error are one standard error over the folds to either side.

    Parameters
    ----------
    weights : ndarray of shape (n_weights,)
        The penalty weights, increasing.
    scores : ndarray of shape (n_weights, n_folds)
        The scores on the folds; greater is better.
    invariance_errors : ndarray of shape (n_weights, n_folds), default=None
        The local invariance errors on the folds.
    score_name : str, default="score"
        What the score is called.
    chosen_weight : float, default=None
        The weight that the search refitted with. None, or the best: the largest inside the band is
        marked in its place.

    Attributes
    ----------
    best_weight_ : float
        The weight of the best mean score; of equals the smallest.
    band_ : ndarray of shape (n_weights, 2)
        The band at each weight: the best mean score less the standard error of the difference from
        it, and the best mean score.
    within_band_ : ndarray of shape (n_within,)
        The weights whose mean score is in the band, increasing.
    figure_ : matplotlib Figure
        The figure that was drawn into.
    ax_ : matplotlib Axes
        The axes of the score.
    axes_ : ndarray of matplotlib Axes
        It, and that of the invariance error below it, if there is one.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sktangent import TangentPropRegressor
    >>> from sktangent.inspection import PenaltyPathDisplay
    >>> X = np.random.default_rng(0).normal(size=(30, 2))
    >>> model = TangentPropRegressor(
    ...     lambda X: np.tile([0.0, 1.0], (len(X), 1, 1)), optimizer="adam", max_epochs=3,
    ...     random_state=0)
    >>> search = GridSearchCV(model, {"penalty_weight": [0, 0.1, 1]}, cv=3).fit(X, X[:, 0])
    >>> PenaltyPathDisplay.from_search(search).weights
    array([0. , 0.1, 1. ])
    """

    def __init__(
        self,
        weights: np.ndarray,
        scores: np.ndarray,
        invariance_errors: np.ndarray | None = None,
        *,
        score_name: str = "score",
        chosen_weight: float | None = None,
    ) -> None:
        self.weights = weights
        self.scores = scores
        self.invariance_errors = invariance_errors
        self.score_name = score_name
        self.chosen_weight = chosen_weight

    @classmethod
    def from_search(
        cls, search, *, score: str | None = None, invariance: str | None = None, ax=None
    ) -> PenaltyPathDisplay:
        """Draw what a search found.

        Parameters
        ----------
        search : estimator
            A fitted search over a parameter whose name ends in ``penalty_weight``, with
            ``cv_results_``, or a :class:`~sktangent.TangentPropClassifierCV` or
            :class:`~sktangent.TangentPropRegressorCV`. Where other parameters varied too, each
            weight is drawn with those that give it the best mean score.
        score : str, default=None
            The metric to draw, of several. None: the one that the search refits by, or else the
            first that is not the invariance.
        invariance : str, default=None
            The metric that :func:`~sktangent.metrics.make_invariance_scorer` made. None: found by
            that; the CV estimators have their own.
        ax : matplotlib Axes or array of them, default=None
            Where to draw: as many axes as ``axes_`` has, or one of a grid, which is divided. None:
            a new figure.

        Returns
        -------
        display : PenaltyPathDisplay
            The display.

        Raises
        ------
        TypeError
            If the search has no ``cv_results_``, not being one or not being fitted.
        ValueError
            If it did not search over a penalty weight, or over several, or has no such metric.
        ImportError
            If matplotlib is not installed.
        """
        pyplot()
        if not hasattr(search, "cv_results_"):
            raise TypeError(f"search must be a fitted search, with cv_results_, got {search!r}.")
        results = search.cv_results_
        weights = np.asarray(results[_weight_column(results)], dtype=np.float64)
        scorers = getattr(search, "scorer_", None)
        scorers = scorers if isinstance(scorers, dict) else {"score": scorers}
        if invariance is None:
            found = [name for name, scorer in scorers.items() if is_invariance_scorer(scorer)]
            invariance = found[0] if found and len(scorers) > 1 else _own_invariance(results)
        if score is None:
            refit = getattr(search, "refit", None)
            others = [name for name in scorers if name != invariance]
            score = refit if refit in others else others[0]
        folds = fold_scores(results, score)
        distinct, rows = _best_rows(weights, folds.mean(axis=1))
        errors = None if invariance is None else -fold_scores(results, invariance)[rows]
        scoring = getattr(search, "scoring", None)
        name = scoring if score == "score" and isinstance(scoring, str) else score
        index = getattr(search, "best_index_", None)
        chosen = None if index is None else float(weights[index])
        display = cls(distinct, folds[rows], errors, score_name=name, chosen_weight=chosen)
        return display.plot(ax=ax)

    @property
    def best_weight_(self) -> float:
        """The weight of the best mean score; of equals the smallest."""
        return float(self.weights[np.nanargmax(self.scores.mean(axis=1))])

    @property
    def band_(self) -> np.ndarray:
        """The band at each weight, from below to the best mean score."""
        best = np.nanmax(self.scores.mean(axis=1))
        errors = paired_standard_errors(self.scores)
        return np.stack([best - errors, np.full(len(errors), best)], axis=1)

    @property
    def within_band_(self) -> np.ndarray:
        """The weights whose mean score is in the band, increasing."""
        return self.weights[within_one_standard_error(self.scores)]

    def plot(self, ax=None) -> PenaltyPathDisplay:
        """Draw it.

        Parameters
        ----------
        ax : matplotlib Axes or array of them, default=None
            Where to draw. None: a new figure.

        Returns
        -------
        self : PenaltyPathDisplay
            The display.
        """
        n_rows = 1 if self.invariance_errors is None else 2
        axes = panels(ax, n_rows, 1, (6.4, 4.2 if n_rows == 1 else 3.0), sharex=True)[:, 0]
        places = _places(self.weights)
        self._draw_scores(axes[0], places)
        if self.invariance_errors is not None:
            values = self.invariance_errors
            bars = _standard_error(values)
            axes[1].errorbar(places, values.mean(axis=1), bars, capsize=3, **_style(1))
            tidy(axes[1])
            axes[1].set(ylabel="local invariance error\n(1: no better than chance)")
            axes[1].set_ylim(bottom=0)
        _draw_weight_axis(axes, self.weights, places)
        self.axes_, self.ax_, self.figure_ = axes, axes[0], axes[0].figure
        return self

    def _draw_scores(self, ax, places: np.ndarray) -> None:
        label = "one standard error below the best"
        ax.fill_between(places, *self.band_.T, color="0.85", zorder=0, label=label)
        ax.plot(places, self.scores.mean(axis=1), **_style(0))
        tidy(ax)
        other, name = self.within_band_[-1], "largest in the band"
        if self.chosen_weight not in (None, self.best_weight_):
            other, name = self.chosen_weight, "chosen"
        for weight, label, dash in ((self.best_weight_, "best", ":"), (other, name, "--")):
            place = places[self.weights == weight][0]
            style = {"color": line_style(2)["color"], "linestyle": dash}
            ax.axvline(place, linewidth=1, zorder=0.5, **style)
            ax.plot([], [], label=f"{label}: {weight:.2g}", **style)
        ax.set(ylabel=self.score_name)
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False, fontsize=8)


def _weight_column(results: dict) -> str:
    columns = weight_columns(results)
    if len(columns) != 1:
        found = columns or [name for name in results if name.startswith("param_")]
        raise ValueError(
            f"search must be over one parameter whose name ends in {_WEIGHT!r}, got "
            f"{[name.removeprefix('param_') for name in found]}."
        )
    return columns[0]


def _own_invariance(results: dict) -> str | None:
    """Name the column in which estimators that choose their weight keep the invariance."""
    return "invariance" if "mean_test_invariance" in results else None


def _best_rows(weights: np.ndarray, means: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Return the distinct weights, and the row in which each has its best mean score."""
    distinct = np.unique(weights)
    means = np.where(np.isnan(means), -np.inf, means)
    return distinct, [int(np.where(weights == w, means, -np.inf).argmax()) for w in distinct]


def _standard_error(scores: np.ndarray) -> np.ndarray:
    n_folds = scores.shape[-1]
    return scores.std(axis=-1, ddof=1) / np.sqrt(n_folds)


def _places(weights: np.ndarray) -> np.ndarray:
    """Put the weight 0 where a logarithmic axis has a place for it: left of the others."""
    positive = weights[weights > 0]
    if len(positive) == 0:
        return weights + 1.0
    step = positive[1] / positive[0] if len(positive) > 1 else 10.0
    return np.where(weights > 0, weights, positive[0] / max(step, 2.0))


def _style(index: int) -> dict:
    return {"marker": "os"[index], **line_style(index)}


def _draw_weight_axis(axes: np.ndarray, weights: np.ndarray, places: np.ndarray) -> None:
    ax = axes[-1]
    ax.set_xscale("log")
    ax.set_xlabel("penalty weight w")
    if weights[0] > 0:
        return
    if len(weights) > 1:
        for one in axes:
            one.axvline(np.sqrt(places[0] * places[1]), color="0.7", linestyle=(0, (2, 2)))
    if len(weights) > _MOST_NAMED:
        ends = np.log10(weights[[1, -1]])
        decades = 10.0 ** np.arange(np.ceil(ends[0]), np.floor(ends[1]) + 1)
        weights, places = [0.0, *decades], [places[0], *decades]
    ax.set_xticks(places, [f"{weight:.2g}" for weight in weights])
    ax.minorticks_off()
