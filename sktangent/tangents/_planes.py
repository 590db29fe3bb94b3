"""Images of every layout as stacks of planes (rows, columns), blurred and differentiated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral

import numpy as np

from sktangent.tangents._filters import derivative_matrix, gaussian_matrix

_LAYOUTS = ("auto", "first", "last")
# A channel axis is recognized by these lengths: gray, gray with alpha, RGB, RGB with alpha.
_USUAL_CHANNELS = (1, 2, 3, 4)


@dataclass(frozen=True)
class ImageFrame:
    """The shape of an image and which of its axes are the channels, rows and columns."""

    shape: tuple[int, ...]
    channel_axis: int | None

    @classmethod
    def from_parameters(cls, image_shape: Sequence[int], channels: str) -> ImageFrame:
        """Validate ``image_shape`` and ``channels`` as :class:`ImageTangents` documents them."""
        shape = _check_image_shape(image_shape)
        if channels not in _LAYOUTS:
            raise ValueError(f"channels must be one of {list(_LAYOUTS)}, got {channels!r}.")
        if len(shape) == 2:
            return cls(shape, None)
        return cls(shape, {"first": 0, "last": 2}[_recognize(shape, channels)])

    @property
    def height(self) -> int:
        """Number of rows."""
        return self.shape[1 if self.channel_axis == 0 else 0]

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.shape[1 if self.channel_axis == 2 else -1]

    def check_images(self, X: np.ndarray) -> None:
        """Raise ValueError unless X is (n, n_pixels) or (n, *image_shape)."""
        n_pixels = math.prod(self.shape)
        if X.shape[1:] not in ((n_pixels,), self.shape):
            shaped = ", ".join(map(str, self.shape))
            raise ValueError(
                f"X must have shape (n_samples, {n_pixels}) or (n_samples, {shaped}) for "
                f"image_shape={self.shape}, got {X.shape}."
            )

    def planes(self, array: np.ndarray, n_leading: int = 1) -> np.ndarray:
        """Return a view of shape (*leading, n_channels, height, width), rows before columns.

        ``array`` is flat or in the frame's shape behind its ``n_leading`` first axes, and
        contiguous wherever the view will be written to.
        """
        array = array.reshape(*array.shape[:n_leading], *self.shape)
        if self.channel_axis is None:
            return np.expand_dims(array, -3)
        return np.moveaxis(array, n_leading + self.channel_axis, -3)


def blur(planes: np.ndarray, sigma: float) -> np.ndarray:
    """Blur along rows and columns; ``sigma=0`` returns the argument itself."""
    if sigma == 0:
        return planes
    height, width = planes.shape[-2:]
    blurred = _along_columns(planes, gaussian_matrix(width, sigma))
    return _along_rows(blurred, gaussian_matrix(height, sigma))


def differentiate(planes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the slopes in x, from column to column, and in y, from row to row."""
    height, width = planes.shape[-2:]
    dx = _along_columns(planes, derivative_matrix(width))
    return dx, _along_rows(planes, derivative_matrix(height))


def _along_columns(planes: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return planes @ matrix.T.astype(planes.dtype, copy=False)


def _along_rows(planes: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return matrix.astype(planes.dtype, copy=False) @ planes


def _check_image_shape(image_shape: Sequence[int]) -> tuple[int, ...]:
    expected = "image_shape must be (height, width), or three sizes with the channels first or last"
    try:
        sizes = list(image_shape)
    except TypeError:
        raise TypeError(f"{expected}, got {image_shape!r}.") from None
    if not all(isinstance(size, Integral) and not isinstance(size, bool) for size in sizes):
        raise TypeError(f"{expected}, as integers, got {image_shape!r}.")
    if len(sizes) not in (2, 3) or min(sizes) < 1:
        raise ValueError(f"{expected}, each at least 1, got {image_shape!r}.")
    return tuple(int(size) for size in sizes)


def _recognize(shape: tuple[int, ...], channels: str) -> str:
    if channels != "auto":
        return channels
    first, last = (shape[axis] in _USUAL_CHANNELS for axis in (0, 2))
    if first == last:
        raise ValueError(
            f"channels='auto' cannot tell which axis of image_shape={shape} holds the channels: "
            f"{'both ends have' if first else 'neither end has'} between 1 and 4 entries. "
            "Set channels='first' or channels='last'."
        )
    return "first" if first else "last"
