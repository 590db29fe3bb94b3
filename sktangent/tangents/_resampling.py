"""Images resampled by the cubic spline that their tangents differentiate, a whole batch at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sktangent._frames import spline_matrix

if TYPE_CHECKING:
    import torch

# Coefficients beyond the frame: there the spline is the border's value up to 0.268 ** margin.
_MARGIN = 12
# Pixels worked on at once: more take memory anew, fewer take more calls.
_CHUNK_PIXELS = 2**16


def resample(planes: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Look images up at the places that an affine map gives for each pixel.

    Parameters
    ----------
    planes : ndarray of shape (n_samples, n_channels, height, width)
        The images; beyond its border an image keeps the values of its outermost pixels.
    maps : ndarray of shape (n_samples, 2, 3)
        From (x, y, 1) of a pixel to x and y of the place, in pixels from the centre of the frame,
        to the right and downwards.

    Returns
    -------
    values : ndarray of shape (n_samples, n_channels, height, width)
        In the dtype of the planes.
    """
    # Here, because the tangents must be usable, and quick to import, without torch.
    import torch

    rows = torch.from_numpy(np.ascontiguousarray(maps.swapaxes(0, 1), dtype=planes.dtype))
    pixels = _pixels(*planes.shape[-2:], rows.dtype)
    return _in_chunks(planes, lambda chunk: rows[:, chunk] @ pixels)


def resample_near(planes: np.ndarray, to_right: np.ndarray, downwards: np.ndarray) -> np.ndarray:
    """Look each plane up beside its pixels, at displacements of the shape of the planes."""
    import torch

    n_samples, n_channels, height, width = planes.shape
    shape = (n_samples * n_channels, 1, height, width)
    displacements = torch.from_numpy(np.stack([to_right, downwards])).view(2, shape[0], -1)
    pixels = _pixels(height, width, displacements.dtype)[:2, None]
    moved = _in_chunks(planes.reshape(shape), lambda chunk: displacements[:, chunk] + pixels)
    return moved.reshape(planes.shape)


def _in_chunks(planes: np.ndarray, find_places: Callable[[slice], torch.Tensor]) -> np.ndarray:
    import torch

    from sktangent._speed.allocation import keep_freed_memory

    # outside of fits too: a batch after the other took a third more with memory taken anew
    keep_freed_memory()
    values = np.empty(planes.shape, dtype=planes.dtype)
    n_chunks = min(len(planes), -(-planes.size // _CHUNK_PIXELS))
    edges = np.linspace(0, len(planes), n_chunks + 1, dtype=int).tolist()
    for chunk in itertools.starmap(slice, itertools.pairwise(edges)):
        coefficients = _coefficients(torch.from_numpy(np.ascontiguousarray(planes[chunk])))
        _look_up(coefficients, find_places(chunk), out=torch.from_numpy(values[chunk]))
    return values


def _coefficients(planes: torch.Tensor) -> torch.Tensor:
    height, width = planes.shape[-2:]
    along_rows, along_columns = (_spline(size, planes.dtype) for size in (width, height))
    return along_columns @ (planes @ along_rows.T)


@lru_cache(maxsize=16)
def _spline(size: int, dtype: torch.dtype) -> torch.Tensor:
    return _tensor(spline_matrix(size, _MARGIN), dtype)


def _look_up(coefficients: torch.Tensor, places: torch.Tensor, out: torch.Tensor) -> None:
    r"""Write the values of cubic B-splines at places into ``out``.

    Along an axis, at a fraction t behind coefficient i, the four weights come in two pairs, and
    each pair is one linear look-up: with :math:`g = (1 + 3t + 3t^2 - 2t^3) / 6`, :math:`1 - g`
    of the value at :math:`i - (1 - t)^3 / (6 (1 - g))`, and g of that at
    :math:`i + 1 + t^3 / (6 g)`. So a value is four bilinear look-ups.

    Parameters
    ----------
    coefficients : tensor of shape (n_samples, n_channels, height, width) with their margins
        The splines.
    places : tensor of shape (2, n_samples, n_pixels)
        x and y of each, in pixels from the centre; overwritten.
    out : tensor of shape (n_samples, n_channels, *frame)
        Where the values go.
    """
    import torch

    axes = _axes(*coefficients.shape[-2:], places.dtype)
    # Many small operations: each allocation and each pass spared counts.
    shifted = places.add_(axes.to_middle)
    start = shifted.round()
    # t = c + 1/2; g = 1/2 + c (3/4 - c²/3).
    c = shifted.sub_(start)
    odd = torch.rsub(c * c, 0.75, alpha=1 / 3).mul_(c)
    weight = odd + 0.5
    behind = _cube(c + 0.5).div_(weight)
    before = _cube(torch.rsub(c, 0.5)).div_(torch.rsub(odd, 0.5))
    # x before and behind, y before and behind, each in the square from -1 to 1 of grid_sample.
    corners = places.new_empty((2, 2, *places.shape[1:]))
    torch.sub(start, before, alpha=1 / 6, out=corners[:, 0])
    torch.add(start, behind, alpha=1 / 6, out=corners[:, 1])
    corners.mul_(axes.scale).add_(axes.offset)

    # Pixels in one row, because grid_sample goes over them row by row.
    corners = corners.view(4, len(out), 1, -1)
    pairs = (corners[0::2], corners[1:3], corners[0::3], corners[1::2])
    values = [
        torch.nn.functional.grid_sample(
            coefficients, pair.permute(1, 2, 3, 0), padding_mode="border", align_corners=True
        )
        for pair in pairs
    ]
    along_columns, along_rows = weight.view(2, len(out), 1, 1, -1)
    upper = values[0].lerp_(values[1], along_columns)
    lower = values[2].lerp_(values[3], along_columns)
    torch.lerp(upper, lower, along_rows, out=out.view(upper.shape))


def _cube(values: torch.Tensor) -> torch.Tensor:
    # Products are quicker than a power.
    return (values * values).mul_(values)


@lru_cache(maxsize=16)
def _pixels(height: int, width: int, dtype: torch.dtype) -> torch.Tensor:
    """Return (x, y, 1) of each pixel from the centre, of shape (3, n_pixels)."""
    y, x = np.mgrid[:height, :width].reshape(2, -1)
    return _tensor(np.stack([x - (width - 1) / 2, y - (height - 1) / 2, np.ones(x.size)]), dtype)


class _Axes(NamedTuple):
    """How x and y count, in a frame with margins."""

    to_middle: torch.Tensor  # from the centre to where c is zero, (2, 1, 1)
    scale: torch.Tensor  # from coefficients to the square of grid_sample, (2, 1, 1, 1)
    offset: torch.Tensor  # and where the coefficients before and behind begin, (2, 2, 1, 1)


@lru_cache(maxsize=16)
def _axes(height: int, width: int, dtype: torch.dtype) -> _Axes:
    sizes = np.array([width, height])
    is_odd = sizes % 2
    scale = 2 / (sizes - 1)
    # Halfway between two coefficients lies the centre of an even number of them.
    before = (is_odd - 1) / 2
    offset = scale * np.stack([before, before + 1])
    return _Axes(
        _tensor(-is_odd.reshape(2, 1, 1) / 2, dtype),
        _tensor(scale.reshape(2, 1, 1, 1), dtype),
        _tensor(offset.T.reshape(2, 2, 1, 1), dtype),
    )


def _tensor(matrix: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
    import torch

    return torch.tensor(matrix, dtype=dtype)
