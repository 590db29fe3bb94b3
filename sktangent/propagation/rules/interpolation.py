"""Interpolation on grids: linear in the image, whatever the mode."""

from __future__ import annotations

import torch.nn.functional as F

from sktangent.propagation.dual import Dual
from sktangent.propagation.rules.axes import register_linear


@register_linear(F.interpolate)
def interpolate(input, *args, **kwargs):
    """Resize images."""
    rows = input.tangents.flatten(0, 1)
    dy = F.interpolate(rows, *args, **kwargs).unflatten(0, input.tangents.shape[:2])
    return Dual(F.interpolate(input.primal, *args, **kwargs), dy)


@register_linear(F.grid_sample)
def grid_sample(input, grid, *args, **kwargs):
    """Read images at the points of a grid that does not depend on the samples."""
    count = input.tangents.shape[0]
    grids = grid.expand(count, *grid.shape).flatten(0, 1)
    dy = F.grid_sample(input.tangents.flatten(0, 1), grids, *args, **kwargs)
    y = F.grid_sample(input.primal, grid, *args, **kwargs)
    return Dual(y, dy.unflatten(0, (count, -1)))


@register_linear(F.affine_grid)
def affine_grid(input, size, align_corners=None):
    """Lay out the grid of an affine map, which is linear in the map."""
    y = F.affine_grid(input.primal, size, align_corners)
    count, n_samples = input.tangents.shape[:2]
    rows = [count * n_samples, *size[1:]]
    dy = F.affine_grid(input.tangents.flatten(0, 1), rows, align_corners)
    return Dual(y, dy.unflatten(0, (count, n_samples)))
