import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sktangent.propagation import propagate
from tests.propagation.cases import check
from tests.propagation.reference import assert_propagates, samples

SHAPES = {1: (2, 3, 7), 2: (2, 3, 7, 6), 3: (2, 2, 5, 4, 6)}
axes = pytest.mark.parametrize("n_axes", [1, 2, 3])


@axes
@pytest.mark.parametrize(
    "window",
    [
        {"kernel_size": 2},
        {"kernel_size": 3, "stride": 2, "padding": 1},
        {"kernel_size": 2, "stride": 1, "dilation": 2},
        {"kernel_size": 2, "stride": 2, "ceil_mode": True},
    ],
    ids=lambda window: " ".join(window),
)
def test_max_pooling(n_axes, window):
    check(getattr(nn, f"MaxPool{n_axes}d")(**window), *SHAPES[n_axes])


@axes
def test_spellings_of_max_pooling(n_axes):
    plain = getattr(F, f"max_pool{n_axes}d")
    indexed = getattr(F, f"max_pool{n_axes}d_with_indices")
    check(lambda x: plain(x, 2, 1), *SHAPES[n_axes])
    check(lambda x: plain(x, 2, return_indices=True)[0], *SHAPES[n_axes])
    check(lambda x: indexed(x, kernel_size=2)[0], *SHAPES[n_axes])
    check(lambda x: getattr(torch, f"max_pool{n_axes}d")(x, 3, padding=1), *SHAPES[n_axes])


@axes
def test_without_a_batch_axis(n_axes):
    shape = SHAPES[n_axes][1:]
    check(getattr(nn, f"MaxPool{n_axes}d")(2), *shape)
    check(getattr(nn, f"AvgPool{n_axes}d")(2), *shape)
    check(getattr(nn, f"AdaptiveAvgPool{n_axes}d")(2), *shape)
    check(getattr(nn, f"AdaptiveMaxPool{n_axes}d")(2), *shape)


@axes
def test_indices_are_those_of_plain_pooling(n_axes):
    pool = getattr(nn, f"MaxPool{n_axes}d")(2, return_indices=True)
    x, tangents = samples(*SHAPES[n_axes])
    seen = []
    propagate(lambda x: seen.append(pool(x)[1]) or x, x, tangents)
    assert torch.equal(seen[0], pool(x)[1])


@axes
def test_equal_elements_in_a_window(n_axes):
    x, tangents = samples(*SHAPES[n_axes])
    assert_propagates(getattr(nn, f"MaxPool{n_axes}d")(2), x.round().clamp(0, 1), tangents)


@axes
def test_mean_pooling(n_axes):
    pool = getattr(nn, f"AvgPool{n_axes}d")
    check(pool(2), *SHAPES[n_axes])
    check(pool(3, 2, 1, ceil_mode=True, count_include_pad=False), *SHAPES[n_axes])
    check(lambda x: getattr(F, f"avg_pool{n_axes}d")(x, 2, stride=1), *SHAPES[n_axes])


def test_divisor_of_mean_pooling():
    check(nn.AvgPool2d(2, divisor_override=3), *SHAPES[2])


@axes
def test_adaptive_pooling(n_axes):
    check(getattr(nn, f"AdaptiveAvgPool{n_axes}d")(3), *SHAPES[n_axes])
    check(getattr(nn, f"AdaptiveAvgPool{n_axes}d")(1), *SHAPES[n_axes])
    check(getattr(nn, f"AdaptiveMaxPool{n_axes}d")(3), *SHAPES[n_axes])
    pool = getattr(nn, f"AdaptiveMaxPool{n_axes}d")(2, return_indices=True)
    check(lambda x: pool(x)[0], *SHAPES[n_axes])


# to old torches an infinite power is a number like others, which leaves a one
_IS_MAXIMUM = F.lp_pool1d(torch.tensor([[1.0, 3.0]]), math.inf, 2).item() == 3.0
INFINITE = [math.inf, -math.inf] if _IS_MAXIMUM else []


@axes
@pytest.mark.parametrize("power", [2, 3.0, 1, *INFINITE])
def test_power_mean_pooling(n_axes, power):
    pool = getattr(nn, f"LPPool{n_axes}d")
    positive = nn.Softplus()
    data = samples(*SHAPES[n_axes])
    assert_propagates(nn.Sequential(positive, pool(power, 2)), *data)
    assert_propagates(nn.Sequential(positive, pool(power, 2, 1, ceil_mode=True)), *data)


@axes
def test_unpooling(n_axes):
    pool = getattr(nn, f"MaxPool{n_axes}d")(2, return_indices=True)
    unpool = getattr(nn, f"MaxUnpool{n_axes}d")(2)
    shape = SHAPES[n_axes]

    def function(x):
        y, indices = pool(x)
        return unpool(y * y, indices, output_size=x.shape)

    def without_batch(x):
        y, indices = pool(x)
        return unpool(y, indices)

    check(function, *shape)
    check(without_batch, *shape[1:])


@pytest.mark.parametrize("n_axes", [2, 3])
def test_fractional_pooling(n_axes):
    shape = (*SHAPES[n_axes][:2], 6, 6, 6)[: n_axes + 2]
    pool = getattr(nn, f"FractionalMaxPool{n_axes}d")
    check_seeded(pool(2, output_size=3), *shape)
    check_seeded(pool(2, output_ratio=0.6), *shape)
    indexed = pool(2, output_size=3, return_indices=True)
    check_seeded(lambda x: indexed(x)[0], *shape)


def check_seeded(function, *shape):
    assert_propagates(function, *samples(*shape), seed=3)
