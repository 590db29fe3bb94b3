"""Images resampled by the cubic spline that their tangents differentiate, a whole batch at once."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from sktangent._frames import spline_matrix

if TYPE_CHECKING:
    import torch

# Knots beyond the frame: there the spline is the border's value up to 0.268 ** margin / 8.
_MARGIN = 10
# Pixels worked on at once.
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
    # here, because the tangents must be usable, and quick to import, without torch
    import torch

    return _resample(planes, torch.from_numpy(maps.swapaxes(0, 1).astype(planes.dtype)))


def resample_near(planes: np.ndarray, to_right: np.ndarray, downwards: np.ndarray) -> np.ndarray:
    """Look each plane up beside its pixels, at displacements of the shape of the planes."""
    import torch

    n_samples, n_channels, height, width = planes.shape
    shape = (n_samples * n_channels, 1, height, width)
    displacements = torch.from_numpy(np.stack([to_right, downwards])).view(2, shape[0], -1)
    # the maps of the way that serves affine moves too, which leave pixels where they are
    stay = torch.eye(2, 3, dtype=displacements.dtype)[:, np.newaxis].expand(2, shape[0], 3)
    return _resample(planes.reshape(shape), stay, displacements).reshape(planes.shape)


def _resample(
    planes: np.ndarray, maps: torch.Tensor, displacements: torch.Tensor | None = None
) -> np.ndarray:
    import torch

    from sktangent._speed.allocation import keep_freed_memory
    from sktangent.tangents._splines import look_up

    # outside of fits too: a batch after the other took a third more with memory taken anew
    keep_freed_memory()
    images = torch.from_numpy(np.ascontiguousarray(planes))
    height, width = planes.shape[-2:]
    along_rows, along_columns = (_bends(size, images.dtype) for size in (width, height))
    pixels = _pixels(height, width, images.dtype)
    n_at_once = max(1, _CHUNK_PIXELS // planes[0].size)
    return look_up(
        images, along_rows, along_columns, pixels, maps, displacements, n_at_once
    ).numpy()


@lru_cache(maxsize=16)
def _bends(size: int, dtype: torch.dtype) -> torch.Tensor:
    """Return the matrix from samples to minus half the second derivatives, with margins."""
    return _tensor(-np.diff(spline_matrix(size, _MARGIN + 1), 2, axis=0) / 2, dtype)


@lru_cache(maxsize=16)
def _pixels(height: int, width: int, dtype: torch.dtype) -> torch.Tensor:
    """Return (x, y, 1) of each pixel, from the first one, of shape (3, n_pixels)."""
    y, x = np.mgrid[:height, :width].reshape(2, -1)
    return _tensor(np.stack([x, y, np.ones(x.size)]), dtype)


def _tensor(matrix: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
    import torch

    return torch.tensor(matrix, dtype=dtype)
