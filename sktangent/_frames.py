"""Samples on regular grids: the layouts of images, and filters as one matrix an axis.

Beyond its ends a signal keeps its last value. A matrix holds the border rule in its first and
last rows, so that a filter over many signals is a matrix product.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from numbers import Integral

import numpy as np

_LAYOUTS = ("auto", "first", "last")
# A channel axis is recognized by these lengths: gray, gray with alpha, RGB, RGB with alpha.
_USUAL_CHANNELS = (1, 2, 3, 4)

_GAUSSIAN_TRUNCATE = 4.0
# The spline's kernel shrinks by 0.268 a sample: 32 samples reach 1e-18.
_SPLINE_RADIUS = 32


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

    def images(self, planes: np.ndarray) -> np.ndarray:
        """Return images in the frame's shape, as a view, from their planes."""
        if self.channel_axis is None:
            return planes[..., 0, :, :]
        return np.moveaxis(planes, -3, self.channel_axis - 3)


@lru_cache(maxsize=64)
def gaussian_matrix(size: int, sigma: float) -> np.ndarray:
    """Return the matrix that blurs a signal with a Gaussian.

    The weights are those of :func:`scipy.ndimage.gaussian_filter1d` with ``mode="nearest"``:
    sampled at whole steps, cut at four standard deviations, scaled to sum one.

    Parameters
    ----------
    size : int
        Number of samples of the signal.
    sigma : float
        Standard deviation in sample steps; zero gives the identity.

    Returns
    -------
    matrix : ndarray of shape (size, size)
        Read-only; ``matrix @ signal`` is the blurred signal.
    """
    radius = int(_GAUSSIAN_TRUNCATE * sigma + 0.5)
    # Below this sigma the neighbour's weight is under exp(-32), and zero has no quotient.
    steps = np.arange(-radius, radius + 1) / max(sigma, 0.125)
    weights = np.exp(-0.5 * steps**2)
    return _edge_replicating_matrix(weights / weights.sum(), size)


@lru_cache(maxsize=64)
def derivative_matrix(size: int) -> np.ndarray:
    r"""Return the matrix that differentiates the cubic spline through a signal.

    The slopes m of the interpolating cubic spline at its knots solve
    :math:`m_{i-1} + 4 m_i + m_{i+1} = 3 (f_{i+1} - f_{i-1})`. Their error on a wave of
    angular frequency ω is :math:`\omega^4 / 180` of the slope, against :math:`\omega^2 / 6`
    for central differences.

    Parameters
    ----------
    size : int
        Number of samples of the signal.

    Returns
    -------
    matrix : ndarray of shape (size, size)
        Read-only; ``matrix @ signal`` is the slope per sample step.
    """
    # 1 / (z + 4 + 1/z) has the impulse response c ρ^|k|, with ρ the root inside the unit circle.
    root = np.sqrt(3.0) - 2.0
    steps = np.arange(-_SPLINE_RADIUS - 1, _SPLINE_RADIUS + 2)
    response = root ** np.abs(steps) * (1 - root) / (6 * (1 + root))
    return _edge_replicating_matrix(3 * (response[:-2] - response[2:]), size)


@lru_cache(maxsize=64)
def spline_matrix(size: int, margin: int) -> np.ndarray:
    r"""Return the matrix that finds the cubic B-spline through a signal.

    The coefficients c solve :math:`c_{i-1} + 4 c_i + c_{i+1} = 6 f_i`, and the slopes of the
    spline at its knots, :math:`(c_{i+1} - c_{i-1}) / 2`, are those of :func:`derivative_matrix`.

    Parameters
    ----------
    size : int
        Number of samples of the signal.
    margin : int
        How many coefficients to find beyond each end.

    Returns
    -------
    matrix : ndarray of shape (size + 2 * margin, size)
        Read-only; ``matrix @ signal`` holds the coefficients.
    """
    # 6 / (z + 4 + 1/z) has the impulse response √3 ρ^|k|, with ρ as above.
    root = np.sqrt(3.0) - 2.0
    steps = np.arange(-_SPLINE_RADIUS, _SPLINE_RADIUS + 1)
    return _edge_replicating_matrix(np.sqrt(3.0) * root ** np.abs(steps), size, margin)


def _edge_replicating_matrix(kernel: np.ndarray, size: int, margin: int = 0) -> np.ndarray:
    radius = len(kernel) // 2
    n_rows = size + 2 * margin
    places = np.arange(-margin, size + margin)[:, np.newaxis]
    columns = np.clip(places + np.arange(-radius, radius + 1), 0, size - 1)
    matrix = np.zeros((n_rows, size))
    np.add.at(matrix, (np.arange(n_rows)[:, np.newaxis], columns), kernel)
    matrix.flags.writeable = False
    return matrix


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
