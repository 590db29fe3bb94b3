"""How training went."""

from __future__ import annotations

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sktangent.inspection._axes import line_style, one_axes, pyplot, tidy


class LearningDisplay:
    """Data term and penalty over epochs, in training and validation, the best epoch marked.

    Make it by :meth:`from_estimator`. The penalty is drawn as it enters the loss, multiplied by
    the penalty weight, so that where the lines cross both terms weigh alike.

    A single spike, after which the curves come back, is one step of Adam that went too far: where
    the loss is small the steps are large for it. A smaller ``lr`` has fewer. A penalty that stays
    where it began says that its weight is too small to matter; a data term that does, that the
    weight is too large.

    Parameters
    ----------
    epochs : ndarray of shape (n_epochs,)
        The epochs' numbers.
    curves : dict of str to ndarray of shape (n_epochs,)
        The terms, by what the legend calls them; NaN where there is none.
    best_epoch : int
        The epoch whose loss was the lowest: in validation, or in training where there is none.

    Attributes
    ----------
    figure_ : matplotlib Figure
        The figure that was drawn into.
    ax_ : matplotlib Axes
        The axes that were drawn into.
    lines_ : dict of str to matplotlib Line2D
        The lines, by the names of ``curves``.

    Examples
    --------
    >>> import numpy as np
    >>> from sktangent import TangentPropRegressor
    >>> from sktangent.inspection import LearningDisplay
    >>> X = np.linspace(0, 1, 40)[:, None]
    >>> model = TangentPropRegressor(
    ...     lambda X: np.ones((len(X), 1, 1)), optimizer="adam", max_epochs=5, early_stopping=True,
    ...     random_state=0).fit(X, X.ravel())
    >>> list(LearningDisplay.from_estimator(model).curves)
    ['data term, training', 'w × penalty, training', 'data term, validation']
    """

    def __init__(self, epochs: np.ndarray, curves: dict[str, np.ndarray], best_epoch: int) -> None:
        self.epochs = epochs
        self.curves = curves
        self.best_epoch = best_epoch

    @classmethod
    def from_estimator(cls, estimator, *, ax=None) -> LearningDisplay:
        """Draw how the training of a fitted estimator went.

        Parameters
        ----------
        estimator : estimator
            A fitted estimator of sktangent, a pipeline that ends in one, a search over one, or a
            :class:`~sktangent.net.TangentPropNet`.
        ax : matplotlib Axes, default=None
            Where to draw. None: a new figure.

        Returns
        -------
        display : LearningDisplay
            The display.

        Raises
        ------
        NotFittedError
            If it is not fitted.
        TypeError
            If it keeps no history.
        ImportError
            If matplotlib is not installed.
        """
        pyplot()
        net = _net_of(estimator)
        rows = [row for row in net.history if "train_loss" in row]
        weight = net.criterion_.penalty_weight
        columns = {
            "data term, training": ("train_data_loss", 1.0),
            "w × penalty, training": ("train_penalty", weight),
            "data term, validation": ("valid_loss", 1.0),
            "w × penalty, validation": ("valid_penalty", weight),
        }
        curves = {
            name: factor * np.array([row.get(column, np.nan) for row in rows])
            for name, (column, factor) in columns.items()
        }
        curves = {name: curve for name, curve in curves.items() if (curve > 0).any()}
        monitored = "valid_loss" if any("valid_loss" in row for row in rows) else "train_loss"
        best = min(rows, key=lambda row: row.get(monitored, np.inf))
        return cls(np.array([row["epoch"] for row in rows]), curves, best["epoch"]).plot(ax=ax)

    def plot(self, ax=None) -> LearningDisplay:
        """Draw it.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None: a new figure.

        Returns
        -------
        self : LearningDisplay
            The display.
        """
        ax = one_axes(ax)
        marker = "" if len(self.epochs) > 1 else "o"
        self.lines_ = {
            name: ax.plot(self.epochs, curve, label=name, marker=marker, **line_style(i))[0]
            for i, (name, curve) in enumerate(self.curves.items())
        }
        ax.axvline(self.best_epoch, color="0.5", linewidth=1, zorder=0)
        ax.annotate(
            f"best: epoch {self.best_epoch}",
            (self.best_epoch, 1),
            xycoords=("data", "axes fraction"),
            xytext=(3, 3),
            textcoords="offset points",
            fontsize="small",
            ha="right" if self.best_epoch > self.epochs.mean() else "left",
        )
        ax.set(xlabel="epoch", ylabel="term of the loss", yscale="log")
        ax.legend(frameon=False, fontsize="small")
        tidy(ax)
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _net_of(estimator):
    """Find the net inside a search, a pipeline and an estimator."""
    estimator = getattr(estimator, "best_estimator_", estimator)
    if hasattr(estimator, "steps"):
        return _net_of(estimator.steps[-1][1])
    if hasattr(estimator, "get_params") and not hasattr(estimator, "history"):
        check_is_fitted(estimator)
    net = getattr(estimator, "net_", estimator)
    if not hasattr(net, "history"):
        raise TypeError(
            "estimator must be one of sktangent, or a pipeline or search with one inside, since "
            f"others keep no history; got {estimator!r}."
        )
    return net
