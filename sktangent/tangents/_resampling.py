"""Images resampled by the cubic spline that their tangents differentiate, a whole batch at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from sktangent._frames import spline_matrix

if TYPE_CHECKING:
    import torch

# Knots beyond the frame: there the spline is the border's value up to 0.268 ** margin / 8.
_MARGIN = 10
# Pixels worked on at once: more take memory anew, fewer take more calls.
_CHUNK_PIXELS = 2**16


def resample(planes: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Look images up at the places that an affine map gives for each pixel.

    Parameters
    ----------
    planes : ndarray of shape (n_samples, n_channels, height, width)
        The images; beyond its border an image keeps the values of its outermost pixels.
    maps : ndarray of shape (n_samples, 2, 3)
        From (x, y, 1) of a pixel to x and y of the place, in pixels from the first one, to the
        right and downwards.

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
        images = torch.from_numpy(np.ascontiguousarray(planes[chunk]))
        _look_up(images, find_places(chunk), out=torch.from_numpy(values[chunk]))
    return values


def _look_up(images: torch.Tensor, places: torch.Tensor, out: torch.Tensor) -> None:
    r"""Write the values of cubic splines at places into ``out``.

    Along an axis the second derivative M of the spline is linear between samples. So at a fraction
    t behind a sample the spline is, with L(s) for what is found s samples behind it by linear
    look-up, :math:`L_f(t) - \frac{t (1 - t)}{2} L_M(\frac{1 + t}{3})`. Along both axes it is four
    bilinear look-ups: of the image, and of what bends it along the rows, the columns and both.

    Parameters
    ----------
    images : tensor of shape (n_samples, n_channels, height, width)
        What the splines interpolate.
    places : tensor of shape (2, n_samples, n_pixels)
        x and y of each, in pixels from the first; overwritten.
    out : tensor of shape (n_samples, n_channels, *frame)
        Where the values go.
    """
    import torch

    along_rows, along_columns = (
        _bends(size, images.dtype) for size in (images.shape[-1], images.shape[-2])
    )
    by_x, by_y = images @ along_rows.T, along_columns @ images
    by_both = along_columns @ by_x

    # Many small operations: each allocation and each pass spared counts.
    start = places.floor()
    # x for images and bends, y for images and bends, in the square from -1 to 1 of grid_sample.
    corners = places.new_empty((2, 2, *places.shape[1:]))
    corners[:, 0] = places
    torch.add(places, start, alpha=2, out=corners[:, 1])
    scale, offset = _to_square(*images.shape[-2:], images.dtype)
    corners.mul_(scale).add_(offset)
    t = places.sub_(start)
    weights = torch.addcmul(t, t, t, value=-1, out=start)

    # Pixels in one row, because grid_sample goes over them row by row.
    corners = corners.view(4, len(out), 1, -1)
    values, bends_x, bends_y, bends_both = (
        torch.nn.functional.grid_sample(
            plane, pair.permute(1, 2, 3, 0), padding_mode="border", align_corners=True
        )
        for plane, pair in (
            (images, corners[0::2]),
            (by_x, corners[1:3]),
            (by_y, corners[0::3]),
            (by_both, corners[1::2]),
        )
    )
    weight_x, weight_y = weights.view(2, len(out), 1, 1, -1)
    values.addcmul_(weight_x, bends_x)
    bends_y.addcmul_(weight_x, bends_both)
    torch.addcmul(values, weight_y, bends_y, out=out.view(values.shape))


@lru_cache(maxsize=16)
def _bends(size: int, dtype: torch.dtype) -> torch.Tensor:
    """Return the matrix from samples to minus half the second derivatives, with margins."""
    return _tensor(-np.diff(spline_matrix(size, _MARGIN + 1), 2, axis=0) / 2, dtype)


@lru_cache(maxsize=16)
def _pixels(height: int, width: int, dtype: torch.dtype) -> torch.Tensor:
    """Return (x, y, 1) of each pixel, from the first one, of shape (3, n_pixels)."""
    y, x = np.mgrid[:height, :width].reshape(2, -1)
    return _tensor(np.stack([x, y, np.ones(x.size)]), dtype)


@lru_cache(maxsize=16)
def _to_square(height: int, width: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Return factors and terms for x and y of images and bends, each of shape (2, 2, 1, 1)."""
    last = np.array([width, height])[:, np.newaxis] - 1
    half = np.maximum(last + [0, 2 * _MARGIN], 1) / 2
    scale = [1, 1 / 3] / half
    offset = [0, _MARGIN + 1 / 3] / half - 1
    return tuple(_tensor(part[:, :, np.newaxis, np.newaxis], dtype) for part in (scale, offset))


def _tensor(matrix: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
    import torch

    return torch.tensor(matrix, dtype=dtype)
