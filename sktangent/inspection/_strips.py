"""How samples, tangents and moves are drawn, by kind of sample."""

from __future__ import annotations

import numpy as np

from sktangent._frames import ImageFrame
from sktangent.inspection._axes import label_features, pyplot, tidy
from sktangent.inspection._naming import unit_of

# between two cells, in parts of a cell's width
_GAP = 0.05


def draw_images(display, axes: np.ndarray) -> None:
    """Draw one cell for each tangent, and strips of cells over the amounts."""
    frame = ImageFrame.from_parameters(display.image_shape, display.channels)
    frame.check_images(display.samples)
    labels, units = display.row_labels(), [unit_of(name) for name in display.row_labels()]
    is_one_unit = len(set(units)) == 1
    if not is_one_unit:
        labels = [f"{label}\n({unit})" for label, unit in zip(labels, units, strict=True)]
    tangents = _pictures(frame, display.tangents, 2)[:, None]
    limit = np.abs(tangents).max() or 1.0
    if tangents.shape[-1] == 3:  # colours: what stays the same is grey
        _draw_cells(axes[0], 0.5 + tangents / (2 * limit), vmin=0, vmax=1)
    else:
        # from dark blue over grey, which is zero, to yellow: its lightness tells the sign too
        image = _draw_cells(axes[0], tangents, cmap="cividis", vmin=-limit, vmax=limit)
        bar = {"location": "bottom", "ticks": [-limit, 0, limit], "format": "%.2g"}
        axes[0].figure.colorbar(image, ax=axes[0], label="intensity\nper unit of a", **bar)
    axes[0].set_title("tangent τ")
    axes[0].set_xticks([])
    _label_cells(axes[0], frame, labels, "y")

    samples = _pictures(frame, display.samples, 1)
    low, high = samples.min(), samples.max()
    straight = display.straight()
    for ax, strip, title in zip(
        axes[1:], (straight, display.moved), ("x + a τ", "moved by a"), strict=False
    ):
        cells = _pictures(frame, strip, 3).reshape(len(labels), len(display.amounts), -1)
        cells = cells.reshape(*cells.shape[:2], frame.height, frame.width, -1)
        if cells.shape[-1] == 3:
            cells = (cells - low) / ((high - low) or 1.0)
        _draw_cells(ax, cells, cmap="gray", vmin=low, vmax=high)
        ax.set_title(title)
        ax.set_xlabel(f"amount a\n({units[0]})" if is_one_unit else "amount a")
        ax.set_yticks([])
        _label_cells(ax, frame, [f"{amount:g}" for amount in display.amounts], "x")


def draw_signals(display, axes: np.ndarray) -> None:
    """Draw one row of axes for each tangent: on the left τ, on the right where it leads."""
    flat = display.samples.reshape(len(display.samples), -1)
    n_tangents, n_amounts = display.tangents.shape[1], len(display.amounts)
    tangents = display.tangents.reshape(-1, flat.shape[1])
    straight = display.straight().reshape(len(tangents), n_amounts, -1)
    moved = None if display.moved is None else display.moved.reshape(straight.shape)
    draw = _draw_series if display.layout == "series" else _draw_features
    colors = pyplot().get_cmap("viridis")(np.linspace(0, 0.75, n_amounts))
    for row, (left, right) in enumerate(axes):
        label = display.row_labels()[row]
        draw(display, left, tangents[row], color="black", label="τ")
        left.axhline(0, color="0.7", linewidth=0.8, zorder=0)
        left.set_ylabel(f"{label}\n(a: {unit_of(label)})", fontsize="small")
        for k, amount in enumerate(display.amounts):
            if amount == 0:
                continue
            draw(display, right, straight[row, k], color=colors[k], label=f"a = {amount:g}")
            if moved is not None:
                draw(display, right, moved[row, k], color=colors[k], is_truth=True)
        draw(display, right, flat[row // n_tangents], color="black", label="x")
        tidy(left)
        tidy(right)
    axes[0, 0].set_title("tangent τ: change per unit of a")
    how = "dashed" if display.layout == "series" else "crosses"
    axes[0, 1].set_title("x + a τ" + ("" if moved is None else f", and moved by a ({how})"))
    _label_features(display, axes[-1], flat.shape[1])
    axes[0, 1].legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize="small")


def _pictures(frame: ImageFrame, array: np.ndarray, n_leading: int) -> np.ndarray:
    """Return pictures, (n_pictures, height, width, 1), or 3 in the end where there are colours."""
    planes = np.moveaxis(frame.planes(array, n_leading=n_leading), -3, -1)
    if planes.shape[-1] not in (1, 3, 4):
        planes = planes.mean(axis=-1, keepdims=True)
    return planes[..., :3].reshape(-1, *planes.shape[-3:-1], min(planes.shape[-1], 3))


def _draw_cells(ax, cells: np.ndarray, **style):
    """Draw pictures, (n_rows, n_columns, height, width, n_colors), one beside the other."""
    n_rows, n_columns, height, width, n_colors = cells.shape
    gap = _GAP * width
    for row, column in np.ndindex(n_rows, n_columns):
        left, top = column * (width + gap), row * (height + gap)
        cell = cells[row, column]
        image = ax.imshow(
            cell[:, :, 0] if n_colors == 1 else cell.clip(0, 1),
            extent=(left, left + width, top + height, top),
            interpolation="nearest",
            **style,
        )
    ax.set(xlim=(0, n_columns * (width + gap) - gap), ylim=(n_rows * (height + gap) - gap, 0))
    ax.set_facecolor("0.8")
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    return image


def _label_cells(ax, frame: ImageFrame, labels: list[str], axis: str) -> None:
    size = frame.height if axis == "y" else frame.width
    places = np.arange(len(labels)) * (size + _GAP * frame.width) + size / 2
    ax.set(**{f"{axis}ticks": places, f"{axis}ticklabels": labels})


def _draw_series(display, ax, values: np.ndarray, is_truth: bool = False, **style) -> None:
    length = display.samples.shape[-1]
    positions = np.arange(length) if display.positions is None else np.asarray(display.positions)
    label = style.pop("label", None)
    for channel in values.reshape(-1, len(positions)):
        ax.plot(positions, channel, "--" if is_truth else "-", linewidth=1.2, label=label, **style)
        label = None


def _draw_features(display, ax, values: np.ndarray, is_truth: bool = False, **style) -> None:
    ax.plot(values, "x" if is_truth else "o", markersize=6 if is_truth else 4, **style)


def _label_features(display, axes: np.ndarray, n_features: int) -> None:
    for ax in axes:
        if display.layout == "series":
            ax.set_xlabel("sample" if display.positions is None else "position")
        else:
            names = display.features
            label_features(ax, [""] * n_features if names is None else names)
