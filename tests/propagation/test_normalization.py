import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sktangent.propagation import propagate
from sktangent.propagation.rules import normalization
from tests.propagation.cases import check, check_module
from tests.propagation.reference import assert_propagates, samples
from tests.propagation.test_batch_norm import with_noise

SHAPES = {1: (3, 4, 5), 2: (3, 4, 3, 5), 3: (2, 4, 2, 3, 2)}


def standardize(x, axes, eps=1e-5):
    """Write out what torch fuses: its fused kernels take the mean and the deviation for constants
    when they are differentiated a third time, as the gradient with respect to x needs.
    """
    centered = x - x.mean(axes, keepdim=True)
    return centered / (x.var(axes, correction=0, keepdim=True) + eps).sqrt()


def written_out(norm):
    """Copy a layer or instance normalization, with its forward written out."""
    norm = copy.deepcopy(norm)
    over_last_axes = isinstance(norm, nn.LayerNorm)

    def forward(x):
        first = x.ndim - len(norm.normalized_shape) if over_last_axes else 2
        y = standardize(x, tuple(range(first, x.ndim)), norm.eps)
        shape = norm.normalized_shape if over_last_axes else (-1, *[1] * (x.ndim - 2))
        y = y if norm.weight is None else y * norm.weight.view(shape)
        return y if norm.bias is None else y + norm.bias.view(shape)

    norm.forward = forward
    return norm


def check_written_out(norm, *shape):
    norm = with_noise(norm).double()
    check_module(norm, *shape, reference=written_out(norm))


@pytest.mark.parametrize("shape", [(5,), (4, 5), (3, 4, 5)])
@pytest.mark.parametrize("options", [{}, {"elementwise_affine": False}, {"bias": False}], ids=str)
def test_layer_norm(shape, options):
    check_written_out(nn.LayerNorm(shape, **options), 2, *shape)
    check_written_out(nn.LayerNorm(shape, **options), 2, 3, *shape)


def test_gradient_of_the_penalty_is_that_of_differences():
    norm = nn.LayerNorm(5).double()
    x, tangents = samples(3, 5)

    def penalty(x):
        return propagate(norm, x, tangents)[1].square().sum()

    x.requires_grad_()
    (gradient,) = torch.autograd.grad(penalty(x), x)
    steps = 1e-6 * torch.eye(15, dtype=x.dtype).view(15, 3, 5)
    with torch.no_grad():
        differences = torch.stack([penalty(x + step) - penalty(x - step) for step in steps]) / 2e-6
    torch.testing.assert_close(gradient.flatten(), differences, rtol=1e-6, atol=1e-7)


def test_the_written_out_derivative_serves_compilers_and_transforms(monkeypatch):
    norm = with_noise(nn.LayerNorm(5)).double()
    x, tangents = samples(3, 5)
    x.requires_grad_()

    def evaluate():
        y, dy = propagate(norm, x, tangents)
        return y, dy, torch.autograd.grad(dy.square().sum(), [x, norm.weight])

    fused = evaluate()
    monkeypatch.setattr(normalization, "is_unobserved", lambda tensor: False)
    torch.testing.assert_close(evaluate(), fused)


def test_the_gradient_can_be_differentiated_again():
    def gradient(x):
        _, dy = propagate(lambda x: F.layer_norm(x, (5,)), x, tangents)
        return torch.autograd.grad(dy.square().sum(), x, create_graph=True)[0]

    x, tangents = samples(2, 5)
    assert torch.autograd.gradcheck(gradient, x.requires_grad_())


@pytest.mark.parametrize("n_axes", SHAPES)
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_group_norm(n_axes, groups):
    check_module(with_noise(nn.GroupNorm(groups, 4)), *SHAPES[n_axes])
    check_module(nn.GroupNorm(groups, 4, affine=False), *SHAPES[n_axes])


def test_group_norm_of_vectors():
    check_module(with_noise(nn.GroupNorm(2, 6)), 3, 6)


def test_groups_must_be_equal():
    with pytest.raises(ValueError, match="5 channels"):
        propagate(lambda x: F.group_norm(x, 2), *samples(2, 5, 3))


@pytest.mark.parametrize("n_axes", SHAPES)
@pytest.mark.parametrize("affine", [True, False])
def test_instance_norm(n_axes, affine):
    kind = getattr(nn, f"InstanceNorm{n_axes}d")
    check_written_out(kind(4, affine=affine), *SHAPES[n_axes])
    check_written_out(kind(4, affine=affine, track_running_stats=True), *SHAPES[n_axes])
    evaluated = kind(4, affine=affine, track_running_stats=True).eval()
    check_module(with_noise(evaluated), *SHAPES[n_axes])


def test_running_statistics_of_instance_norm_are_updated_once():
    ours = with_noise(nn.InstanceNorm2d(4, affine=True, track_running_stats=True)).double()
    plain = copy.deepcopy(ours)
    x, tangents = samples(*SHAPES[2])
    propagate(ours, x, tangents)
    plain(x)
    for name, value in plain.named_buffers():
        torch.testing.assert_close(ours.get_buffer(name), value)


@pytest.mark.parametrize("shape", [(5,), (4, 5)])
@pytest.mark.parametrize("options", [{}, {"eps": 0.1}, {"elementwise_affine": False}], ids=str)
def test_rms_norm(shape, options):
    check_module(with_noise(nn.RMSNorm(shape, **options)), 3, *shape)


@pytest.mark.parametrize("shape", [*SHAPES.values()], ids=str)
@pytest.mark.parametrize("size", [2, 3])
def test_local_response_norm(shape, size):
    norm = nn.LocalResponseNorm(size, alpha=0.5, beta=0.6, k=1.5)
    assert_propagates(norm, *samples(*shape))


def test_spellings_of_torch():
    w, b = torch.rand(2, 4, dtype=torch.float64)
    layer = {"reference": lambda x: standardize(x, -1) * w + b}
    check(lambda x: torch.layer_norm(x, (4,), w, b), 3, 5, 4, **layer)
    check(lambda x: torch.group_norm(x, 2, w, b), 3, 4, 5)
    check(lambda x: torch.rms_norm(x, (4,), w), 3, 5, 4)
    instance = {"reference": lambda x: standardize(x, -1) * w[:, None] + b[:, None]}
    statistics = (None, None, True, 0.1, 1e-5, False)
    check(lambda x: torch.instance_norm(x, w, b, *statistics), 3, 4, 5, **instance)


c = torch.linspace(-1, 1, 60, dtype=torch.float64).sin().view(3, 4, 5)

CONDITIONAL = {
    "layer of a constant": lambda x: F.layer_norm(c, (5,), x[0, 0], x[1, 0]) * x,
    "group": lambda x: F.group_norm(x, 2, x[0, :, 0], x[0, :, 1]),
    "group of a constant": lambda x: F.group_norm(c, 2, x[0, :, 0]) * x,
    "instance of a constant": lambda x: F.instance_norm(c, weight=x[0, :, 0], bias=x[1, :, 0]) * x,
    "rms": lambda x: F.rms_norm(x, (5,), x[0, 0]),
    "rms of a constant": lambda x: F.rms_norm(c, (5,), x[0, 0]) * x,
}


@pytest.mark.parametrize("name", CONDITIONAL)
def test_weights_made_from_the_samples(name):
    assert_propagates(CONDITIONAL[name], *samples(3, 4, 5))


def test_standardized_samples_with_weights_made_from_the_samples():
    def layer(x):
        return F.layer_norm(x, (5,), x[0, 0], x[1, 0])

    def instance(x):
        return F.instance_norm(x, weight=x[0, :, 0], bias=x[0, :, 1])

    check(layer, 3, 4, 5, reference=lambda x: standardize(x, -1) * x[0, 0] + x[1, 0])
    check(instance, 3, 4, 5, reference=lambda x: standardize(x, -1) * x[0, :, :1] + x[0, :, 1:2])


PLAIN = {
    "layer": lambda x: F.layer_norm(x, (5,)),
    "group": lambda x: F.group_norm(x[..., :4], 2),
    "instance": lambda x: F.instance_norm(x[:, None]).flatten(1),
}


@pytest.mark.parametrize("normalize", PLAIN.values(), ids=PLAIN)
def test_what_is_normalized_may_be_changed_in_place(normalize):
    x, tangents = samples(3, 5)
    x.requires_grad_()

    def gradient(change):
        y, dy = change(*propagate(normalize, x, tangents))
        return torch.autograd.grad(y.square().sum() + dy.square().sum(), x)

    torch.testing.assert_close(
        gradient(lambda y, dy: (y.sub_(1), dy.mul_(2))), gradient(lambda y, dy: (y - 1, dy * 2))
    )
