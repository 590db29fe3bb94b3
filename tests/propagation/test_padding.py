import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.propagation.cases import check

SHAPES = {1: (2, 3, 5), 2: (2, 3, 5, 4), 3: (2, 2, 4, 3, 4)}


@pytest.mark.parametrize("n_axes", [1, 2, 3])
@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
def test_modes(mode, n_axes):
    pad = (1, 2, 1, 1, 0, 1)[: 2 * n_axes]
    check(lambda x: F.pad(x, pad, mode), *SHAPES[n_axes])


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_samples_without_channels(mode):
    check(lambda x: F.pad(x, (1, 2), mode), 3, 5)


def test_a_constant_border():
    check(lambda x: F.pad(x, (1, 0, -1, 2), value=3.0), 2, 3, 4)
    check(lambda x: torch.constant_pad_nd(x, (1, 1), 2.0), 2, 3, 4)
    check(lambda x: F.pad(x, (0, 0, 0, 0, 1, 1)), 2, 3, 4)


@pytest.mark.parametrize("kind", ["Zero", "Constant", "Reflection", "Replication", "Circular"])
@pytest.mark.parametrize("n_axes", [1, 2, 3])
def test_modules(kind, n_axes):
    arguments = (1, 2.5) if kind == "Constant" else (1,)
    check(getattr(nn, f"{kind}Pad{n_axes}d")(*arguments), *SHAPES[n_axes])


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (3, 4, 5)])
def test_patches(shape):
    def function(x):
        patches = F.unfold(x, (2, 3), dilation=1, padding=1, stride=2)
        return F.fold(patches * patches, (4, 5), (2, 3), padding=1, stride=2)

    check(lambda x: F.unfold(x, 2), *shape)
    check(function, *shape)
