import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.propagation.cases import check
from tests.propagation.reference import as_matrix, assert_propagates_or_refuses, samples

SHAPES = {1: (2, 3, 5), 2: (2, 3, 4, 5), 3: (2, 2, 3, 4, 3)}

MODES = [
    (1, {"mode": "nearest"}),
    (1, {"mode": "nearest-exact"}),
    (1, {"mode": "linear"}),
    (1, {"mode": "linear", "align_corners": True}),
    (1, {"mode": "area"}),
    (2, {"mode": "nearest"}),
    (2, {"mode": "nearest-exact"}),
    (2, {"mode": "bilinear"}),
    (2, {"mode": "bilinear", "align_corners": True}),
    (2, {"mode": "bilinear", "antialias": True}),
    (2, {"mode": "bicubic"}),
    (2, {"mode": "area"}),
    (3, {"mode": "nearest"}),
    (3, {"mode": "trilinear"}),
    (3, {"mode": "area"}),
]


@pytest.mark.parametrize(
    ("n_axes", "mode"),
    MODES,
    ids=lambda value: str(value) if isinstance(value, int) else "-".join(map(str, value.values())),
)
def test_interpolate(n_axes, mode):
    check(lambda x: F.interpolate(x, scale_factor=2, **mode), *SHAPES[n_axes])
    check(lambda x: F.interpolate(x, size=(3,) * n_axes, **mode), *SHAPES[n_axes])


def test_upsample():
    check(nn.Upsample(scale_factor=1.5, mode="bilinear", recompute_scale_factor=True), *SHAPES[2])
    check(nn.UpsamplingBilinear2d(scale_factor=2), *SHAPES[2])
    check(nn.UpsamplingNearest2d(size=(6, 7)), *SHAPES[2])


@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_grid_that_is_constant(mode, padding_mode):
    grid = torch.linspace(-1.2, 1.1, 36, dtype=torch.float64).view(2, 3, 3, 2)
    options = {"mode": mode, "padding_mode": padding_mode, "align_corners": False}

    def sample(x):
        return F.grid_sample(x, grid, **options)

    check(sample, *SHAPES[2], reference=as_matrix(sample, *SHAPES[2]))


def test_grid_that_is_constant_in_three_dimensions():
    grid = torch.linspace(-1, 1, 48, dtype=torch.float64).view(2, 2, 2, 2, 3)

    def sample(x):
        return F.grid_sample(x, grid, align_corners=True)

    check(sample, *SHAPES[3], reference=as_matrix(sample, *SHAPES[3]))


def test_affine_grid():
    check(lambda x: F.affine_grid(x, (2, 1, 4, 5), align_corners=False), 2, 2, 3)
    check(lambda x: F.affine_grid(x, torch.Size((2, 1, 2, 3, 2)), True), 2, 3, 4)


def test_grid_made_from_the_samples():
    class Transformer(nn.Module):
        def __init__(self):
            super().__init__()
            self.localize = nn.Linear(20, 6)

        def forward(self, x):
            theta = 0.3 * self.localize(x.flatten(1)).tanh().view(-1, 2, 3)
            return F.grid_sample(x, F.affine_grid(theta, x.shape, False), align_corners=False)

    torch.manual_seed(0)
    assert_propagates_or_refuses(Transformer(), *samples(3, 1, 4, 5), name="grid_sample")
