"""What all displays draw with: matplotlib, asked for late, axes, and styles legible in grey."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

import numpy as np

# Okabe and Ito's colours, in an order in which neighbours differ in lightness, and with a dash
# and a marker each, which say the same without colour.
_COLORS = ("#0072B2", "#D55E00", "#000000", "#009E73", "#CC79A7", "#56B4E9")
_DASHES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
_MARKERS = ("o", "s", "^", "D", "v", "P")
_HATCHES = ("", "///", "...", "xxx", "\\\\\\", "++")
_MOST_NAMED = 24


def pyplot() -> ModuleType:
    """Import matplotlib, or say how to install it."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            "Displays need matplotlib, which is not installed: pip install sktangent[plot]"
        ) from error
    return plt


def line_style(index: int) -> dict:
    """Return the colour and the dash of the line of that number."""
    return {"color": _COLORS[index % 6], "linestyle": _DASHES[index % 6]}


def point_style(index: int) -> dict:
    """Return the colour and the marker of the points of that number."""
    return {"color": _COLORS[index % 6], "marker": _MARKERS[index % 6]}


def bar_style(index: int) -> dict:
    """Return the filling of the bars of that number."""
    return {"facecolor": _COLORS[index % 6], "edgecolor": "white", "hatch": _HATCHES[index % 6]}


def one_axes(ax, figsize: tuple[float, float] = (6.4, 4.2)):
    """Return the axes to draw into, new ones if none are given."""
    if ax is not None:
        pyplot()
        return ax
    return pyplot().subplots(figsize=figsize, layout="constrained")[1]


def panels(ax, n_rows: int, n_columns: int, size: tuple[float, float], **grid) -> np.ndarray:
    """Return (n_rows, n_columns) axes: new ones, in the place of the one given, or those given."""
    plt = pyplot()
    if ax is None:
        figsize = n_columns * size[0], n_rows * size[1]
        figure = plt.figure(figsize=figsize, layout="constrained")
        return figure.subplots(n_rows, n_columns, squeeze=False, **grid)
    given = np.asarray(ax, dtype=object)
    if given.size > 1 or n_rows * n_columns == 1:
        if given.size != n_rows * n_columns:
            raise ValueError(
                f"ax must be one axes or {n_rows * n_columns} of them, got {given.size}."
            )
        return given.reshape(n_rows, n_columns)
    return _divided(given.item(), n_rows, n_columns, grid)


def _divided(ax, n_rows: int, n_columns: int, grid: dict) -> np.ndarray:
    """Put a grid of axes where one is."""
    place = ax.get_subplotspec()
    if place is None:
        raise ValueError("ax must be one of a grid, as plt.subplots makes them, to be divided.")
    ax.set_axis_off()
    ratios = {name: grid[name] for name in ("width_ratios", "height_ratios") if name in grid}
    inner = place.subgridspec(n_rows, n_columns, **ratios)
    shared = {name: grid[name] for name in ("sharex", "sharey") if name in grid}
    return inner.subplots(squeeze=False, **shared)


def label_features(ax, names: Sequence[str]) -> None:
    """Name features at 0, 1 ... below the axes, unless there are too many; slanted if crowded."""
    if len(names) <= _MOST_NAMED:
        is_crowded = len(names) > 6 or max(map(len, names)) > 10
        slant = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if is_crowded else {}
        ax.set_xticks(range(len(names)), names, **slant)
    ax.set_xlabel("feature")


def tidy(ax) -> None:
    """Take away the frame's upper and right side."""
    ax.spines[["top", "right"]].set_visible(False)
