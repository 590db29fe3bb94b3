"""Samples, their tangents, and where these lead."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from sktangent._checks import check_choice, check_samples
from sktangent._outputs import tangents_at
from sktangent.inspection._axes import panels, pyplot
from sktangent.inspection._naming import feature_names, tangent_names
from sktangent.inspection._strips import draw_images, draw_signals
from sktangent.tangents import TangentUnion

_LAYOUTS = ("auto", "images", "series", "features")


class TangentDisplay:
    r"""Samples, their tangent vectors τ, the straight line x + a τ, and the true move beside it.

    Make it by :meth:`from_tangents`. Look at it before training: a network is told τ and nothing
    else of a transformation, so over the amounts at which x + a τ still looks like the moved
    sample, the penalty speaks of that transformation.

    Parameters
    ----------
    samples : ndarray of shape (n_samples, *input_shape)
        x.
    tangents : ndarray of shape (n_samples, n_tangents, *input_shape)
        τ.
    amounts : ndarray of shape (n_amounts,)
        a.
    moved : ndarray of shape (n_samples, n_tangents, n_amounts, *input_shape), default=None
        The samples that were truly moved, by each amount along each tangent.
    names : sequence of str, default=None
        What the tangents are called.
    layout : {"images", "series", "features"}, default="features"
        How a sample is drawn.
    image_shape : tuple of int, default=None
        For images, as :class:`~sktangent.tangents.ImageTangents` takes it.
    channels : {"auto", "first", "last"}, default="auto"
        Likewise.
    positions : array-like of shape (length,), default=None
        For series, where the samples were taken. None: at equal steps.
    features : sequence of str, default=None
        For plain features, their names.

    Attributes
    ----------
    figure_ : matplotlib Figure
        The figure that was drawn into.
    ax_ : matplotlib Axes
        The first of ``axes_``.
    axes_ : ndarray of matplotlib Axes
        For images, (1, 2) or (1, 3): the tangents, the straight lines and the moves. Else
        (n_samples * n_tangents, 2): the tangent, and the lines with the moves.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktangent.inspection import TangentDisplay
    >>> from sktangent.tangents import ImageTangents
    >>> X = load_digits().data[:1] / 16
    >>> display = TangentDisplay.from_tangents(ImageTangents((8, 8), ["rotation"]), X)
    >>> display.names
    ['rotation']
    """

    def __init__(
        self,
        samples: np.ndarray,
        tangents: np.ndarray,
        amounts: np.ndarray,
        moved: np.ndarray | None = None,
        *,
        names: Sequence[str] | None = None,
        layout: str = "features",
        image_shape: Sequence[int] | None = None,
        channels: str = "auto",
        positions: ArrayLike | None = None,
        features: Sequence[str] | None = None,
    ) -> None:
        self.samples = samples
        self.tangents = tangents
        self.amounts = amounts
        self.moved = moved
        self.names = names
        self.layout = layout
        self.image_shape = image_shape
        self.channels = channels
        self.positions = positions
        self.features = features

    @classmethod
    def from_tangents(
        cls,
        tangents: Callable | ArrayLike,
        X: ArrayLike,
        *,
        amounts: ArrayLike = (-2, -1, 0, 1, 2),
        layout: str = "auto",
        image_shape: Sequence[int] | None = None,
        channels: str = "auto",
        names: Sequence[str] | None = None,
        ax=None,
    ) -> TangentDisplay:
        """Draw samples and their tangents.

        Parameters
        ----------
        tangents : callable or array-like of shape (n_samples, n_tangents, *input_shape)
            Where the tangents come from; fitted, if they have to be. The true moves are drawn if
            it has ``move(X, amounts)``.
        X : array-like of shape (n_samples, *input_shape)
            The samples, all of which are drawn: give a few.
        amounts : array-like of shape (n_amounts,), default=(-2, -1, 0, 1, 2)
            a, in the units of the tangents.
        layout : {"auto", "images", "series", "features"}, default="auto"
            How a sample is drawn. ``"auto"``: as an image where an ``image_shape`` is given, or
            the tangents have one, or samples have two axes or more; as a series where the tangents
            have ``positions``, as :class:`~sktangent.tangents.SeriesTangents` do; else as features.
        image_shape : tuple of int, default=None
            (height, width), or three sizes with the channels first or last. None: that of the
            tangents, or the shape of a sample.
        channels : {"auto", "first", "last"}, default="auto"
            Which axis of a three-part ``image_shape`` holds the channels.
        names : sequence of str, default=None
            What the tangents are called. None: as their parameters call them.
        ax : matplotlib Axes or array of them, default=None
            Where to draw. None: a new figure.

        Returns
        -------
        display : TangentDisplay
            The display.

        Raises
        ------
        ValueError
            If an array or ``layout`` is not as described.
        ImportError
            If matplotlib is not installed.
        """
        pyplot()
        samples = check_samples(X, cls)
        check_choice(layout, _LAYOUTS, "layout")
        amounts = np.atleast_1d(np.asarray(amounts, dtype=np.float64))
        V = tangents_at(tangents, X, samples)
        known = _parameters_of(tangents)
        if image_shape is None:
            image_shape, channels = known.get("image_shape"), known.get("channels", channels)
        if layout == "auto":
            layout = _guess_layout(samples, image_shape, known)
        if layout == "images" and image_shape is None:
            image_shape = samples.shape[1:]
        display = cls(
            samples,
            V,
            amounts,
            _moved(tangents, X, samples, V.shape[1], amounts),
            names=tangent_names(tangents, X, V) if names is None else list(names),
            layout=layout,
            image_shape=image_shape,
            channels=channels,
            positions=known.get("positions"),
            features=feature_names(X, samples[0].size, tangents),
        )
        return display.plot(ax=ax)

    def plot(self, ax=None) -> TangentDisplay:
        """Draw it.

        Parameters
        ----------
        ax : matplotlib Axes or array of them, default=None
            Where to draw: as many axes as ``axes_`` has, or one of a grid, which is divided. None:
            a new figure.

        Returns
        -------
        self : TangentDisplay
            The display.
        """
        n_rows, n_amounts = self.samples.shape[0] * self.tangents.shape[1], len(self.amounts)
        if self.layout == "images":
            strips = [n_amounts] * (1 if self.moved is None else 2)
            width = (3.5 + sum(strips)) / (1 + len(strips))
            size = 0.85 * width, 0.85 * n_rows + 1.6
            self.axes_ = panels(ax, 1, 1 + len(strips), size, width_ratios=[1, *strips])
            if ax is None:  # pictures keep their aspect
                self.axes_[0, 0].figure.set_layout_engine("compressed")
            draw_images(self, self.axes_[0])
        else:
            self.axes_ = panels(ax, n_rows, 2, (4.6, 2.1), sharex=True)
            draw_signals(self, self.axes_)
        self.ax_ = self.axes_[0, 0]
        self.figure_ = self.ax_.figure
        return self

    def straight(self) -> np.ndarray:
        """Compute x + a τ, of the shape of ``moved``."""
        steps = self.amounts.reshape(-1, *(1,) * (self.samples.ndim - 1))
        return self.samples[:, None, None] + steps * self.tangents[:, :, None]

    def row_labels(self) -> list[str]:
        """Name each pair of a sample and a tangent."""
        names = self.names or [f"tangent {t}" for t in range(self.tangents.shape[1])]
        if len(self.samples) == 1:
            return list(names)
        return [f"sample {i}\n{name}" for i in range(len(self.samples)) for name in names]


def _guess_layout(samples: np.ndarray, image_shape: Sequence[int] | None, known: dict) -> str:
    if image_shape is not None:
        return "images"
    if "positions" in known:
        return "series"
    return "images" if samples.ndim > 2 else "features"


def _parameters_of(tangents) -> dict:
    """Return the parameters of tangents, and of those that they are made of, by their last name."""
    if not hasattr(tangents, "get_params"):
        return {}
    return {name.rsplit("__", 1)[-1]: value for name, value in tangents.get_params().items()}


def _moved(tangents, X, samples: np.ndarray, n_tangents: int, amounts: np.ndarray):
    """Move the samples by each amount along each tangent alone, if the tangents can."""
    if not _can_move(tangents):
        return None
    moved = np.empty((len(samples), n_tangents, len(amounts), *samples.shape[1:]))
    for t, k in np.ndindex(n_tangents, len(amounts)):
        each = np.zeros((len(samples), n_tangents))
        each[:, t] = amounts[k]
        moved[:, t, k] = tangents.move(X, each)
    return moved


def _can_move(tangents) -> bool:
    """Tell whether tangents, and of a union each kind, can move samples."""
    if isinstance(tangents, TangentUnion):
        kinds = {**tangents.get_params(), **dict(getattr(tangents, "tangents_", ()))}
        return all(_can_move(kinds[name]) for name in kinds if f"weights__{name}" in kinds)
    return hasattr(tangents, "move")
