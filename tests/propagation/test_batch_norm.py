import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sktangent.propagation import propagate
from tests.propagation.cases import check_module
from tests.propagation.reference import (
    assert_has_rule,
    assert_propagates,
    double_backward,
    penalty_gradients,
    samples,
)

SHAPES = {0: (6, 3), 1: (4, 3, 5), 2: (4, 3, 5, 4), 3: (3, 2, 3, 2, 4)}


class FrozenStatistics(nn.Module):
    """What the tangents see: batch statistics of ``batch``, whatever the input."""

    def __init__(self, norm, batch):
        super().__init__()
        self.norm, self.batch = norm, batch

    def forward(self, x):
        axes = (0, *range(2, x.ndim))
        mean, variance = self.batch.mean(axes), self.batch.var(axes, correction=0)
        weight, bias = self.norm.weight, self.norm.bias
        return F.batch_norm(x, mean, variance, weight, bias, False, eps=self.norm.eps)


def with_noise(norm):
    """Give weight, bias and running statistics values that an error would show in."""
    generator = torch.Generator().manual_seed(1)
    for value in (*norm.parameters(), *norm.buffers()):
        if value.is_floating_point():
            noise = torch.rand(value.shape, generator=generator, dtype=value.dtype)
            value.data.add_(noise)
    return norm


def batch_norm(n_axes, n_channels=None, **options):
    kind = getattr(nn, f"BatchNorm{max(n_axes, 1)}d")
    return with_noise(kind(n_channels or SHAPES[n_axes][1], **options).double())


@pytest.mark.parametrize("n_axes", SHAPES)
@pytest.mark.parametrize("affine", [True, False])
def test_evaluation(n_axes, affine):
    check_module(batch_norm(n_axes, affine=affine).eval(), *SHAPES[n_axes])


@pytest.mark.parametrize("n_axes", SHAPES)
@pytest.mark.parametrize("affine", [True, False])
def test_training_takes_the_batch_statistics_as_constants(n_axes, affine):
    norm = batch_norm(n_axes, affine=affine)
    x, tangents = samples(*SHAPES[n_axes])
    x.requires_grad_()
    y, dy = propagate(norm, x, tangents)
    expected_y = copy.deepcopy(norm)(x)
    _, expected_dy = double_backward(FrozenStatistics(norm, x.detach()), x, tangents)
    torch.testing.assert_close(y, expected_y, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(dy, expected_dy, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("n_axes", SHAPES)
def test_the_penalty_sees_how_training_statistics_depend_on_what_came_before(n_axes):
    norm = batch_norm(n_axes)
    x, tangents = samples(*SHAPES[n_axes])
    x.requires_grad_()
    wanted = [x, *norm.parameters()]
    actual = penalty_gradients(*propagate(norm, x, tangents), wanted)
    # the derivative written out, so that autograd sees the deviation as a function of x
    axes = (0, *range(2, x.ndim))
    deviation = (x.var(axes, correction=0, keepdim=True) + norm.eps).sqrt()
    weight = norm.weight.view(-1, *[1] * (x.ndim - 2))
    dy = tangents * (weight / deviation)[:, None]
    y = F.batch_norm(x, None, None, norm.weight, norm.bias, True, eps=norm.eps)
    expected = penalty_gradients(y, dy, wanted)
    for ours, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"momentum": None},
        {"momentum": 0.3, "eps": 0.1},
        {"track_running_stats": False},
        {"affine": False},
    ],
    ids=str,
)
def test_running_statistics_are_those_of_one_plain_pass(options):
    ours = batch_norm(2, **options)
    plain = copy.deepcopy(ours)
    x, tangents = samples(*SHAPES[2])
    for _ in range(2):
        y, _ = propagate(ours, x, tangents)
        torch.testing.assert_close(y, plain(x), rtol=1e-12, atol=1e-12)
    for name, value in plain.named_buffers():
        assert torch.equal(ours.get_buffer(name), value)
    assert_has_rule(ours, x, tangents)


def test_without_running_statistics_evaluation_uses_the_batch():
    norm = batch_norm(1, track_running_stats=False).eval()
    x, tangents = samples(*SHAPES[1])
    _, dy = propagate(norm, x, tangents)
    _, expected = double_backward(FrozenStatistics(norm, x), x, tangents)
    torch.testing.assert_close(dy, expected)


def test_spelling_of_torch():
    norm = batch_norm(2)
    x, tangents = samples(*SHAPES[2])
    arguments = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    y, dy = propagate(
        lambda x: torch.batch_norm(x, *arguments, True, 0.1, 1e-5, False), x, tangents
    )
    expected = propagate(copy.deepcopy(norm), x, tangents)
    torch.testing.assert_close((y, dy), expected)


def test_weights_made_from_the_samples():
    def conditional(x):
        weight = x[0].mean((1, 2))
        running = torch.zeros(3, dtype=x.dtype), torch.ones(3, dtype=x.dtype)
        return F.batch_norm(x, *running, weight, weight * weight)

    assert_propagates(conditional, *samples(*SHAPES[2]))


def test_lazy_and_synchronized_kinds():
    x, tangents = samples(*SHAPES[2])
    expected = propagate(nn.BatchNorm2d(3).double(), x, tangents)
    for kind in (nn.SyncBatchNorm(3), nn.LazyBatchNorm2d()):
        actual = propagate(kind.double(), x, tangents)
        torch.testing.assert_close(actual, expected)
