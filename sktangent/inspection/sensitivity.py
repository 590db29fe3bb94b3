"""What an estimator's output depends on, feature by feature."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from sktangent._checks import check_samples
from sktangent._frames import ImageFrame
from sktangent._outputs import jacobian_of
from sktangent.inspection._axes import (
    bar_style,
    label_features,
    line_style,
    one_axes,
    panels,
    point_style,
    pyplot,
    tidy,
)
from sktangent.inspection._naming import feature_names
from sktangent.inspection._profiles import (
    check_derivatives,
    check_features,
    check_middle,
    chosen_outputs,
    ends,
    output_names,
    profile,
)

_MOST_PROFILES = 6
_MOST_OUTPUTS = 6
_N_GRID = 61
_N_SLOPES = 7
# half the length of a slope that is drawn in, in widths of the profile
_HALF_SLOPE = 0.05


class SensitivityDisplay:
    r"""Mean squared partial derivatives, one-at-a-time profiles, and gradients against the truth.

    Make it by :meth:`from_estimator`, which draws the first of three pictures: of each feature j

    .. math:: \frac1n \sum_i \left(\frac{\partial f_o(x_i)}{\partial x_j}\right)^2 ,

    bars that are stacked over the outputs o, or for images a map of their sum.
    :meth:`plot_profiles` draws the output while one feature runs through the range that the
    samples have and the others stay, with the slope that the estimator has there;
    :meth:`plot_derivatives` draws partial derivatives against known ones.

    Parameters
    ----------
    jacobian : ndarray of shape (n_samples, n_outputs, n_features)
        The partial derivatives.
    grids : ndarray of shape (n_profiles, n_grid)
        The values that each profiled feature takes.
    profiles : ndarray of shape (n_profiles, n_grid, n_outputs)
        The outputs there.
    slopes : ndarray of shape (n_profiles, n_grid, n_outputs)
        The partial derivatives there, by that feature.
    profiled : sequence of int
        The features that are profiled.
    features : sequence of str
        The features' names.
    outputs : sequence of str
        The outputs' names.
    derivatives : ndarray of shape (n_samples, n_outputs, n_features), default=None
        The true partial derivatives, NaN where they are not known.
    image_shape : tuple of int, default=None
        That of the samples, where they are images.
    channels : {"auto", "first", "last"}, default="auto"
        Which axis of it holds the channels.

    Attributes
    ----------
    sensitivities_ : ndarray of shape (n_outputs, n_features)
        The mean squared partial derivatives.
    figure_ : matplotlib Figure
        The figure that was drawn into last.
    ax_ : matplotlib Axes
        The axes that were drawn into last, of several the first.
    axes_ : ndarray of matplotlib Axes
        All of them.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LinearRegression
    >>> from sktangent.inspection import SensitivityDisplay
    >>> X = np.random.default_rng(0).normal(size=(20, 2))
    >>> model = LinearRegression().fit(X, 3 * X[:, 0] + X[:, 1])
    >>> SensitivityDisplay.from_estimator(model, X).sensitivities_.round(6)
    array([[9., 1.]])
    """

    def __init__(
        self,
        jacobian: np.ndarray,
        grids: np.ndarray,
        profiles: np.ndarray,
        slopes: np.ndarray,
        *,
        profiled: Sequence[int],
        features: Sequence[str],
        outputs: Sequence[str],
        derivatives: np.ndarray | None = None,
        image_shape: Sequence[int] | None = None,
        channels: str = "auto",
    ) -> None:
        self.jacobian = jacobian
        self.grids = grids
        self.profiles = profiles
        self.slopes = slopes
        self.profiled = profiled
        self.features = features
        self.outputs = outputs
        self.derivatives = derivatives
        self.image_shape = image_shape
        self.channels = channels

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X: ArrayLike,
        *,
        derivatives: ArrayLike | None = None,
        at: ArrayLike | None = None,
        profiled: Sequence[int] | None = None,
        image_shape: Sequence[int] | None = None,
        channels: str = "auto",
        ax=None,
    ) -> SensitivityDisplay:
        """Compute partial derivatives and profiles, and draw the former.

        Parameters
        ----------
        estimator : estimator
            A fitted classifier or regressor, pipeline or search. The output is ``predict_proba``,
            of two classes the second's alone, or else ``decision_function``, or else ``predict``.
            Estimators of sktangent are differentiated exactly, others by central differences, a
            64th of each feature's standard deviation to either side.
        X : array-like of shape (n_samples, *input_shape)
            The samples over which the mean is taken.
        derivatives : array-like of shape (n_samples, n_features) or \
                (n_samples, n_features, n_outputs), default=None
            The true partial derivatives as ``fit`` takes them, NaN where they are not known, for
            :meth:`plot_derivatives`.
        at : array-like of shape (*input_shape), default=None
            Where the features stay that a profile does not move. None: at their medians.
        profiled : sequence of int, default=None
            The features whose profiles are computed. None: up to six of the most sensitive.
        image_shape : tuple of int, default=None
            (height, width), or three sizes with the channels first or last, where the samples are
            images.
        channels : {"auto", "first", "last"}, default="auto"
            Which axis of a three-part ``image_shape`` holds the channels.
        ax : matplotlib Axes, default=None
            Where to draw. None: a new figure.

        Returns
        -------
        display : SensitivityDisplay
            The display.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError, TypeError
            If a parameter is not as described.
        ImportError
            If matplotlib is not installed.
        """
        pyplot()
        estimator = getattr(estimator, "best_estimator_", estimator)
        check_is_fitted(estimator)
        samples = check_samples(X, cls)
        J = jacobian_of(estimator, X, samples)
        chosen = chosen_outputs(estimator, X, J.shape[1])
        J = J[:, chosen]
        if profiled is None:
            order = np.argsort(-np.square(J).mean(axis=0).sum(axis=0), kind="stable")
            profiled = np.sort(order[:_MOST_PROFILES])
        profiled = check_features(profiled, J.shape[2])
        middle = np.median(samples, axis=0) if at is None else np.asarray(at, dtype=np.float64)
        middle = check_middle(middle, samples)
        grids = np.linspace(*ends(samples, profiled), _N_GRID).T
        values, slopes = profile(estimator, X, samples, middle, profiled, grids)
        display = cls(
            J,
            grids,
            values[:, :, chosen],
            slopes[:, :, chosen],
            profiled=profiled,
            features=feature_names(X, J.shape[2], estimator),
            outputs=output_names(estimator, chosen),
            derivatives=None if derivatives is None else check_derivatives(derivatives, J),
            image_shape=image_shape,
            channels=channels,
        )
        return display.plot(ax=ax)

    @property
    def sensitivities_(self) -> np.ndarray:
        """The mean squared partial derivatives, (n_outputs, n_features)."""
        return np.square(self.jacobian).mean(axis=0)

    def plot(self, ax=None) -> SensitivityDisplay:
        """Draw the mean squared partial derivatives.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None: a new figure.

        Returns
        -------
        self : SensitivityDisplay
            The display.
        """
        ax = one_axes(ax)
        if self.image_shape is not None:
            self._draw_map(ax)
        else:
            self._draw_bars(ax)
        return self._drawn(np.array([[ax]]))

    def plot_profiles(self, ax=None) -> SensitivityDisplay:
        """Draw the output over each profiled feature, and the estimator's slopes in it.

        Parameters
        ----------
        ax : matplotlib Axes or array of them, default=None
            Where to draw: one axes for each profile, or one of a grid, which is divided. None: a
            new figure.

        Returns
        -------
        self : SensitivityDisplay
            The display.
        """
        n_columns = min(3, len(self.profiled))
        n_rows = -(-len(self.profiled) // n_columns)
        axes = panels(ax, n_rows, n_columns, (3.4, 2.6), sharey=True)
        for panel, (ax, j) in enumerate(zip(axes.flat, self.profiled, strict=False)):
            for o in range(min(len(self.outputs), _MOST_OUTPUTS)):
                style = line_style(o)
                ax.plot(
                    self.grids[panel], self.profiles[panel, :, o], label=self.outputs[o], **style
                )
                self._draw_slopes(ax, panel, o, style["color"])
            ax.set_xlabel(self.features[j])
            tidy(ax)
        for ax in axes.flat[len(self.profiled) :]:
            ax.set_axis_off()
        for ax in axes[:, 0]:
            ax.set_ylabel("output (broad: its slope)")
        if len(self.outputs) > 1:
            place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": 6}
            axes[0, 0].legend(frameon=False, fontsize="small", **place)
        return self._drawn(axes)

    def plot_derivatives(self, ax=None) -> SensitivityDisplay:
        """Draw the estimator's partial derivatives against the true ones.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None: a new figure.

        Returns
        -------
        self : SensitivityDisplay
            The display.

        Raises
        ------
        ValueError
            If the display was made without the true derivatives.
        """
        if self.derivatives is None:
            raise ValueError(
                "derivatives are needed: give them to SensitivityDisplay.from_estimator."
            )
        ax = one_axes(ax, (5, 5))
        known = ~np.isnan(self.derivatives)
        true, found = self.derivatives[known], self.jacobian[known]
        ends = [min(true.min(), found.min()), max(true.max(), found.max())]
        ax.plot(ends, ends, color="0.6", linewidth=1, zorder=0, label="equal")
        for k, columns in enumerate(self._groups()):
            part = known[:, :, columns]
            ax.plot(
                self.derivatives[:, :, columns][part],
                self.jacobian[:, :, columns][part],
                linestyle="",
                markersize=4,
                fillstyle="none",
                label=self.features[columns[0]] if len(columns) == 1 else "all features",
                **point_style(k),
            )
        ax.set(
            xlabel="true partial derivative (output per unit of the feature)",
            ylabel="the estimator's",
            title=f"R² = {_r2(true, found):.4f}",
            aspect="equal",
        )
        ax.legend(frameon=False, fontsize="small")
        tidy(ax)
        return self._drawn(np.array([[ax]]))

    def _groups(self) -> list[list[int]]:
        """Divide the features into those drawn alike."""
        n_features = len(self.features)
        single = [[j] for j in range(n_features)]
        return single if n_features <= _MOST_PROFILES else [list(range(n_features))]

    def _draw_map(self, ax) -> None:
        frame = ImageFrame.from_parameters(self.image_shape, self.channels)
        total = self.sensitivities_.sum(axis=0)[np.newaxis]
        frame.check_images(total)
        image = ax.imshow(frame.planes(total)[0].sum(axis=0), cmap="viridis", vmin=0)
        ax.set(xlabel="column (pixels)", ylabel="row (pixels)")
        ax.figure.colorbar(image, ax=ax, label=self._label("a pixel"))

    def _draw_bars(self, ax) -> None:
        heights = self.sensitivities_
        names = list(self.outputs)
        if len(heights) > _MOST_OUTPUTS:
            heights, names = heights.sum(axis=0)[np.newaxis], ["all outputs"]
        places, bottom = np.arange(len(self.features)), np.zeros(len(self.features))
        for o, height in enumerate(heights):
            ax.bar(places, height, bottom=bottom, label=names[o], **bar_style(o))
            bottom = bottom + height
        label_features(ax, self.features)
        ax.set_ylabel(self._label("the feature"))
        if len(names) > 1:
            ax.legend(frameon=False, fontsize="small")
        tidy(ax)

    def _label(self, unit: str) -> str:
        return f"mean squared partial derivative\n(output per unit of {unit}, squared)"

    def _draw_slopes(self, ax, panel: int, o: int, color) -> None:
        grid, values = self.grids[panel], self.profiles[panel, :, o]
        reach = _HALF_SLOPE * (grid[-1] - grid[0]) * np.array([-1, 1])
        for k in np.linspace(0, len(grid) - 1, _N_SLOPES + 2).round().astype(int)[1:-1]:
            line = values[k] + self.slopes[panel, k, o] * reach
            ax.plot(grid[k] + reach, line, color=color, linewidth=5, alpha=0.3, zorder=1)

    def _drawn(self, axes: np.ndarray) -> SensitivityDisplay:
        self.axes_, self.ax_, self.figure_ = axes, axes[0, 0], axes[0, 0].figure
        return self


def _r2(true: np.ndarray, found: np.ndarray) -> float:
    spread = np.square(true - true.mean()).sum()
    return float(1 - np.square(found - true).sum() / spread) if spread > 0 else np.nan
