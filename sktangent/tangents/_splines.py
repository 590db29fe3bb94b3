"""Cubic splines through images, looked up at given places."""

from __future__ import annotations

import torch
from torch import Tensor

from sktangent._speed.scripts import scripted


@scripted
def look_up(
    images: Tensor,
    along_rows: Tensor,
    along_columns: Tensor,
    pixels: Tensor,
    maps: Tensor,
    displacements: Tensor | None,
    n_at_once: int,
) -> Tensor:
    """Find the values of cubic splines, at places that depend on the pixel.

    Parameters
    ----------
    images : tensor of shape (n_samples, n_channels, height, width)
        What the splines interpolate.
    along_rows, along_columns : tensor of shape (size + 2 * margin, size)
        The matrices from the samples of an axis to minus half the second derivatives, a margin
        beyond both ends included.
    pixels : tensor of shape (3, n_pixels)
        x and y of each pixel, from the first one, and 1.
    maps : tensor of shape (2, n_samples, 3)
        From there to x and y of the place.
    displacements : tensor of shape (2, n_samples, n_pixels) or None
        What is added to these.
    n_at_once : int
        Number of samples worked on at once: more take memory anew, fewer take more calls.

    Returns
    -------
    values : tensor of the shape of the images
        What was found.
    """
    values = torch.empty_like(images)
    # pixels in one row, because grid_sample goes over them row by row
    rows = values.flatten(2).unsqueeze(2)
    for first in range(0, images.size(0), n_at_once):
        last = min(first + n_at_once, images.size(0))
        places = maps[:, first:last] @ pixels
        if displacements is not None:
            places += displacements[:, first:last]
        _look_up_some(images[first:last], along_rows, along_columns, places, rows[first:last])
    return values


def _look_up_some(
    images: Tensor, along_rows: Tensor, along_columns: Tensor, places: Tensor, out: Tensor
) -> None:
    r"""Write the values at places of shape (2, n_samples, n_pixels), which are overwritten.

    Along an axis the second derivative M of the spline is linear between samples. So at a fraction
    t behind a sample the spline is, with L(s) for what is found s samples behind it by linear
    look-up, :math:`L_f(t) - \frac{t (1 - t)}{2} L_M(\frac{1 + t}{3})`. Along both axes it is four
    bilinear look-ups: of the image, and of what bends it along the rows, the columns and both.
    """
    by_x, by_y = images @ along_rows.t(), along_columns @ images
    by_both = along_columns @ by_x

    # Many small operations: each allocation and each pass spared counts.
    start = places.floor()
    # x for images and bends, y for images and bends, in the square from -1 to 1 of grid_sample
    corners = places.new_empty([4, places.size(1), 1, places.size(2)])
    for axis, matrix in enumerate((along_rows, along_columns)):
        size, n_knots = matrix.size(1), matrix.size(0)
        of_images, of_bends = corners[2 * axis, :, 0], corners[2 * axis + 1, :, 0]
        scale = 2.0 / max(size - 1, 1)
        torch.add(places.new_full([], -1.0), places[axis], alpha=scale, out=of_images)
        scale = 2.0 / (3 * (n_knots - 1))
        first = (3 * (n_knots - size) // 2 + 1) * scale - 1.0
        torch.add(places.new_full([], first), places[axis], alpha=scale, out=of_bends)
        of_bends.add_(start[axis], alpha=2 * scale)
    t = places.sub_(start)
    weight_x, weight_y = torch.addcmul(t, t, t, value=-1.0, out=start)[:, :, None, None].unbind()

    # bilinear, keeping the border's values, with -1 and 1 in the middle of the outermost pixels
    values = torch.grid_sampler(images, corners[0::2].permute(1, 2, 3, 0), 0, 1, True)
    bends_x = torch.grid_sampler(by_x, corners[1:3].permute(1, 2, 3, 0), 0, 1, True)
    bends_y = torch.grid_sampler(by_y, corners[0::3].permute(1, 2, 3, 0), 0, 1, True)
    bends_both = torch.grid_sampler(by_both, corners[1::2].permute(1, 2, 3, 0), 0, 1, True)
    values.addcmul_(weight_x, bends_x)
    bends_y.addcmul_(weight_x, bends_both)
    torch.addcmul(values, weight_y, bends_y, value=1.0, out=out)
