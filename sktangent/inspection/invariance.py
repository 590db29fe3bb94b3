"""How far samples can be moved before an estimator's answer changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import is_classifier
from sklearn.utils.validation import check_is_fitted

from sktangent._checks import check_samples
from sktangent._outputs import as_columns, outputs_of, tangents_at
from sktangent._tables import named_like
from sktangent.inspection._axes import line_style, one_axes, pyplot, tidy
from sktangent.inspection._naming import tangent_names, unit_of

_QUANTILES = (0.1, 0.5, 0.9)


class InvarianceDisplay:
    r"""Score, or change of the output, over the amount of a real, finite move of the samples.

    Make it by :meth:`from_estimator`. With a target, the line is the mean over samples of

    - a classifier's hits: 1 where the label is right (of multilabel targets all of them), else 0;
    - a regressor's :math:`1 - \sum_o (f_o - y_o)^2 / (v_o\, n_{outputs})`, where :math:`v_o` is
      the variance of the o-th target, so that the mean is R²;

    and the band is one standard error of that mean to either side. Without a target, it is the
    median over samples of the change of the output, :math:`\lVert f(T_a x) - f(x) \rVert`, and the
    band reaches from the 10 % to the 90 % quantile.

    Parameters
    ----------
    amounts : ndarray of shape (n_amounts,)
        The amounts, increasing, 0 among them.
    lines : ndarray of shape (n_estimators, n_amounts)
        The mean score or the median change.
    bands : ndarray of shape (n_estimators, 2, n_amounts)
        Lower and upper end of the band.
    names : sequence of str
        The estimators' names.
    ylabel : str
        What the lines are.
    xlabel : str, default="amount of the move"
        What the amounts are.
    level : float or None, default=0.9
        The part of the score without a move that must hold; None for changes.

    Attributes
    ----------
    ranges_ : dict of str to (float, float)
        For each estimator, the amounts around 0 between which the score stays at ``level`` times
        the score at 0 or above, interpolated linearly; the first and the last amount where it
        never falls below. NaN where the score at 0 is not above 0; None for changes.
    figure_ : matplotlib Figure
        The figure that was drawn into.
    ax_ : matplotlib Axes
        The axes that were drawn into.
    lines_ : list of matplotlib Line2D
        The estimators' lines.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sktangent.inspection import InvarianceDisplay
    >>> X = np.linspace(-1, 1, 40)[:, None]
    >>> y = X[:, 0] > 0
    >>> display = InvarianceDisplay.from_estimator(
    ...     LogisticRegression().fit(X, y), X, y,
    ...     transform=lambda X, amount: X + amount, amounts=np.linspace(-1, 1, 41))
    >>> low, high = display.ranges_["LogisticRegression"]
    >>> print(f"{low:.2f} to {high:.2f}")
    -0.20 to 0.20
    """

    def __init__(
        self,
        amounts: np.ndarray,
        lines: np.ndarray,
        bands: np.ndarray,
        *,
        names: Sequence[str],
        ylabel: str,
        xlabel: str = "amount of the move",
        level: float | None = 0.9,
    ) -> None:
        self.amounts = amounts
        self.lines = lines
        self.bands = bands
        self.names = names
        self.ylabel = ylabel
        self.xlabel = xlabel
        self.level = level

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        transform: Callable,
        amounts: ArrayLike,
        along: int | str = 0,
        level: float = 0.9,
        xlabel: str | None = None,
        ax=None,
    ) -> InvarianceDisplay:
        """Move the samples, ask the estimator, and draw.

        Parameters
        ----------
        estimator : estimator, or dict of str to estimator
            A fitted classifier or regressor, pipeline or search; or several by name, to compare.
            Without a target, its output is ``predict_proba``, else ``decision_function``, else
            ``predict``.
        X : array-like of shape (n_samples, *input_shape)
            The samples.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            The targets. None: draw how the output changes.
        transform : callable
            ``transform(X, amount)`` returns the samples moved by an amount; or tangents that have
            ``move``, such as :class:`~sktangent.tangents.ImageTangents`.
        amounts : array-like of shape (n_amounts,), or float
            The amounts. A number a stands for 41 of them from -a to a. 0 is added.
        along : int or str, default=0
            With tangents, along which of them to move: its number or name.
        level : float, default=0.9
            The part of the score without a move that must hold within ``ranges_``.
        xlabel : str, default=None
            What the amounts are, with their unit. None: as the tangents have it.
        ax : matplotlib Axes, default=None
            Where to draw. None: a new figure.

        Returns
        -------
        display : InvarianceDisplay
            The display.

        Raises
        ------
        NotFittedError
            If an estimator is not fitted.
        ValueError, TypeError
            If a parameter is not as described.
        ImportError
            If matplotlib is not installed.
        """
        pyplot()
        estimators = _by_name(estimator)
        samples = check_samples(X, cls)
        amounts = _check_amounts(amounts)
        if not 0 < level <= 1:
            raise ValueError(f"level must be above 0 and at most 1, got {level!r}.")
        move, label = _mover(transform, along, X, samples)
        columns = [
            _Changes(one, X) if y is None else _Scores(one, y) for one in estimators.values()
        ]
        summaries = []
        for amount in amounts:
            moved = X if amount == 0 else move(amount)
            summaries.append([column(moved) for column in columns])
        summaries = np.transpose(summaries, (1, 2, 0))
        display = cls(
            amounts,
            summaries[:, 1],
            summaries[:, [0, 2]],
            names=list(estimators),
            ylabel=columns[0].label,
            xlabel=label if xlabel is None else xlabel,
            level=None if y is None else level,
        )
        return display.plot(ax=ax)

    @property
    def ranges_(self) -> dict[str, tuple[float, float]] | None:
        """The amounts between which each score holds."""
        if self.level is None:
            return None
        return {
            name: _range(self.amounts, line, self.level)
            for name, line in zip(self.names, self.lines, strict=True)
        }

    def plot(self, ax=None) -> InvarianceDisplay:
        """Draw it.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None: a new figure.

        Returns
        -------
        self : InvarianceDisplay
            The display.
        """
        ax = one_axes(ax)
        ranges, self.lines_ = self.ranges_, []
        for i, (name, line, band) in enumerate(
            zip(self.names, self.lines, self.bands, strict=True)
        ):
            style, label = line_style(i), name
            if ranges is not None:
                low, high = ranges[name]
                label = f"{name}: {self.level:.0%} holds from {low:.3g} to {high:.3g}"
                threshold = self.level * line[self.amounts == 0][0]
                _mark_range(ax, [low, high], threshold, i, style)
            edge = {"linewidth": 0.5, "linestyle": style["linestyle"]}
            ax.fill_between(self.amounts, *band, color=style["color"], alpha=0.15, **edge)
            self.lines_ += ax.plot(self.amounts, line, label=label, **style)
        ax.set(xlabel=self.xlabel, ylabel=self.ylabel)
        ax.axvline(0, color="0.7", linewidth=0.8, zorder=0)
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), frameon=False, fontsize="small")
        tidy(ax)
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _mark_range(ax, ends: list[float], threshold: float, index: int, style: dict) -> None:
    """Mark where the line crosses the threshold, and the stretch between at the bottom."""
    color = style["color"]
    ax.plot(ends, [threshold] * 2, "|", color=color, markersize=14, markeredgewidth=1.5)
    height = 0.02 + 0.025 * index
    ax.plot(ends, [height] * 2, "|", color=color, transform=ax.get_xaxis_transform())
    ax.plot(ends, [height] * 2, transform=ax.get_xaxis_transform(), linewidth=1, **style)


class _Scores:
    """Mean of an estimator's scores on moved samples, and one standard error to either side."""

    def __init__(self, estimator, y: ArrayLike) -> None:
        self.estimator = estimator
        self.y = np.asarray(y)
        self.label = "accuracy" if is_classifier(estimator) else "R²"
        if not is_classifier(estimator) and not as_columns(self.y).var(axis=0).all():
            raise ValueError("y must vary, in every output: R² relates errors to its variance.")

    def __call__(self, X) -> tuple[float, float, float]:
        each = self._hits(X) if is_classifier(self.estimator) else self._parts_of_r2(X)
        mean, error = each.mean(), each.std(ddof=1) / np.sqrt(len(each))
        return mean - error, mean, mean + error

    def _hits(self, X) -> np.ndarray:
        is_right = np.asarray(self.estimator.predict(X)) == self.y
        return is_right.reshape(len(is_right), -1).all(axis=1).astype(np.float64)

    def _parts_of_r2(self, X) -> np.ndarray:
        y = as_columns(self.y)
        squares = np.square(as_columns(self.estimator.predict(X)) - y)
        return 1 - (squares / y.var(axis=0)).mean(axis=1)


class _Changes:
    """Quantiles over moved samples of how far an estimator's output is from that at rest."""

    def __init__(self, estimator, X) -> None:
        self.outputs = outputs_of(estimator)
        self.at_rest = self.outputs(X)
        has_proba = hasattr(estimator, "predict_proba")
        self.label = f"change of the {'probabilities' if has_proba else 'output'}"

    def __call__(self, X) -> np.ndarray:
        change = np.linalg.norm(self.outputs(X) - self.at_rest, axis=1)
        return np.quantile(change, _QUANTILES)


def _by_name(estimator) -> dict:
    estimators = estimator
    if not isinstance(estimator, Mapping):
        last = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
        last = getattr(last, "best_estimator_", last)
        estimators = {type(last).__name__: estimator}
    if not estimators:
        raise ValueError("estimator must hold at least one estimator, got an empty dict.")
    for one in estimators.values():
        check_is_fitted(one)
    if len({is_classifier(one) for one in estimators.values()}) > 1:
        raise ValueError("estimator must hold classifiers or regressors, not both together.")
    return dict(estimators)


def _check_amounts(amounts: ArrayLike) -> np.ndarray:
    amounts = np.asarray(amounts, dtype=np.float64)
    if amounts.ndim == 0:
        amounts = np.linspace(-amounts, amounts, 41)
    if amounts.ndim != 1 or not np.isfinite(amounts).all():
        raise ValueError(f"amounts must be finite numbers, of shape (n_amounts,), got {amounts!r}.")
    return np.union1d(amounts, 0.0)


def _mover(transform, along: int | str, X, samples: np.ndarray) -> tuple[Callable, str]:
    """Return a function of the amount, and what the amount is."""
    if not hasattr(transform, "move"):
        if not callable(transform):
            raise TypeError(f"transform must be callable, or have move, got {transform!r}.")
        name = getattr(transform, "__name__", "").replace("<lambda>", "")
        return lambda amount: transform(X, amount), f"amount of {name or 'the move'}"
    first = X.iloc[:1] if hasattr(X, "iloc") else samples[:1]
    names = tangent_names(transform, first, tangents_at(transform, first, samples[:1]))
    index = _index_of(along, names)

    def move(amount: float):
        each = np.zeros((len(samples), len(names)))
        each[:, index] = amount
        return named_like(X, np.asarray(transform.move(X, each)))

    return move, f"{names[index]} ({unit_of(names[index])})"


def _index_of(along: int | str, names: list[str]) -> int:
    if isinstance(along, str):
        if along not in names:
            raise ValueError(f"along must be one of {names}, got {along!r}.")
        return names.index(along)
    if not -len(names) <= along < len(names):
        raise ValueError(f"along must number one of {len(names)} tangents, got {along!r}.")
    return range(len(names))[along]


def _range(amounts: np.ndarray, line: np.ndarray, level: float) -> tuple[float, float]:
    """Find the ends of the stretch around 0 on which the line holds, by linear interpolation."""
    middle = int(np.flatnonzero(amounts == 0)[0])
    if not line[middle] > 0:
        return np.nan, np.nan
    threshold = level * line[middle]
    high = _crossing(amounts[middle:], line[middle:], threshold)
    low = _crossing(amounts[middle::-1], line[middle::-1], threshold)
    return low, high


def _crossing(amounts: np.ndarray, line: np.ndarray, threshold: float) -> float:
    below = np.flatnonzero(line < threshold)
    if len(below) == 0:
        return float(amounts[-1])
    k = below[0]
    part = (line[k - 1] - threshold) / (line[k - 1] - line[k])
    return float(amounts[k - 1] + part * (amounts[k] - amounts[k - 1]))
