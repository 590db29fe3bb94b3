"""Images resampled by the cubic spline that their tangents differentiate, a whole batch at once."""

from __future__ import annotations

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

    flat = torch.from_numpy(maps.reshape(len(maps), 6).astype(planes.dtype))
    basis = _pixel_basis(*planes.shape[-2:], flat.dtype)
    return _in_chunks(planes, lambda chunk: flat[chunk] @ basis)


def resample_near(planes: np.ndarray, to_right: np.ndarray, downwards: np.ndarray) -> np.ndarray:
    """Look each plane up beside its pixels, at displacements of the shape of the planes."""
    import torch

    n_samples, n_channels, height, width = planes.shape
    shape = (n_samples * n_channels, 1, height, width)
    displacements = np.stack([to_right, downwards], axis=-1).reshape(shape[0], -1)
    stay = torch.tensor([1.0, 0, 0, 0, 1, 0], dtype=torch.from_numpy(displacements).dtype)
    pixels = stay @ _pixel_basis(height, width, stay.dtype)
    moved = _in_chunks(
        planes.reshape(shape), lambda chunk: torch.from_numpy(displacements[chunk]) + pixels
    )
    return moved.reshape(planes.shape)


def _in_chunks(planes: np.ndarray, find_places: Callable[[slice], torch.Tensor]) -> np.ndarray:
    import torch

    values = np.empty(planes.shape, dtype=planes.dtype)
    step = max(1, _CHUNK_PIXELS // planes[0].size)
    for start in range(0, len(planes), step):
        chunk = slice(start, start + step)
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
    places : tensor of shape (n_samples, n_pixels * 2)
        x and y of each, in pixels from the centre; overwritten.
    out : tensor of shape (n_samples, n_channels, *frame)
        Where the values go.
    """
    import torch

    height, width = coefficients.shape[-2:]
    axes = _axes(height, width, places.shape[1], places.dtype)
    # Many small operations: each allocation and each pass spared counts.
    centred = places.add_(axes.centre)
    start = centred.round()
    # t = c + 1/2; g = 1/2 + c (3/4 - c²/3).
    c = centred.sub_(start)
    odd = torch.rsub(c * c, 0.75, alpha=1 / 3).mul_(c)
    weight = odd + 0.5
    behind = _cube(c + 0.5).div_(weight)
    before = _cube(torch.rsub(c, 0.5)).div_(torch.rsub(odd, 0.5))
    # From coefficients to the square from -1 to 1 that grid_sample knows.
    start = torch.addcmul(axes.corner, start, axes.scale, out=start)
    near = torch.addcmul(start, before, axes.sixth, value=-1, out=before)
    far = torch.addcmul(start.add_(axes.scale), behind, axes.sixth, out=behind)
    apart = torch.sub(far, near, out=odd)
    far_column = torch.addcmul(near, apart, axes.is_x, out=start)
    far_row = torch.addcmul(far, apart, axes.is_x, value=-1, out=odd)

    shape = (len(places), *out.shape[-2:], 2)
    values = [
        torch.nn.functional.grid_sample(
            coefficients, corner.view(shape), padding_mode="border", align_corners=True
        )
        for corner in (near, far_column, far_row, far)
    ]
    along_columns, along_rows = weight.view(len(places), 1, *shape[1:]).unbind(-1)
    upper = values[0].lerp_(values[1], along_columns)
    torch.lerp(upper, values[2].lerp_(values[3], along_columns), along_rows, out=out)


def _cube(values: torch.Tensor) -> torch.Tensor:
    # Products are quicker than a power.
    return (values * values).mul_(values)


@lru_cache(maxsize=16)
def _pixel_basis(height: int, width: int, dtype: torch.dtype) -> torch.Tensor:
    """Return what turns the six numbers of a map into places, of shape (6, n_pixels * 2)."""
    y, x = np.mgrid[:height, :width].reshape(2, -1) - np.array(
        [[(height - 1) / 2], [(width - 1) / 2]]
    )
    basis = np.zeros((2, 3, height * width, 2))
    for axis in range(2):
        basis[axis, :, :, axis] = x, y, np.ones_like(x)
    return _tensor(basis.reshape(6, -1), dtype)


class _Axes(NamedTuple):
    """Of each coordinate of each place, all of shape (n_pixels * 2,), in a frame with margins."""

    centre: torch.Tensor  # the coefficient half a pixel before the centre of the frame
    scale: torch.Tensor  # from coefficients to the square of grid_sample
    sixth: torch.Tensor  # of the scale
    corner: torch.Tensor  # where the square begins
    is_x: torch.Tensor


@lru_cache(maxsize=16)
def _axes(height: int, width: int, n_values: int, dtype: torch.dtype) -> _Axes:
    sizes = np.array([width, height])
    scale = 2 / (sizes - 1)
    rows = (sizes / 2 - 1, scale, scale / 6, [-1, -1], [1, 0])
    return _Axes(*(_tensor(np.tile(row, n_values // 2), dtype) for row in rows))


def _tensor(matrix: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
    import torch

    return torch.tensor(matrix, dtype=dtype)
