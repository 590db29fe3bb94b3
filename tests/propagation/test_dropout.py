import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sktangent.propagation import propagate
from tests.propagation.reference import assert_has_rule, assert_propagates, samples

SHAPES = {1: (3, 4, 5), 2: (3, 4, 5, 2), 3: (3, 4, 2, 2, 3)}

MODULES = {
    "Dropout": (nn.Dropout(0.3), (6, 5)),
    "Dropout of nothing": (nn.Dropout(0.0), (6, 5)),
    "Dropout of everything": (nn.Dropout(1.0), (6, 5)),
    "Dropout1d": (nn.Dropout1d(0.4), SHAPES[1]),
    "Dropout1d without batch": (nn.Dropout1d(0.4), (4, 5)),
    "Dropout2d": (nn.Dropout2d(0.4), SHAPES[2]),
    "Dropout3d": (nn.Dropout3d(0.4), SHAPES[3]),
    "AlphaDropout": (nn.AlphaDropout(0.3), (6, 5)),
    "AlphaDropout of nothing": (nn.AlphaDropout(0.0), (6, 5)),
    "AlphaDropout of everything": (nn.AlphaDropout(1.0), (6, 5)),
    "FeatureAlphaDropout": (nn.FeatureAlphaDropout(0.4), SHAPES[2]),
    "torch.dropout": (lambda x: torch.dropout(x, 0.3, True), (6, 5)),
    "torch.feature_dropout": (lambda x: torch.feature_dropout(x, 0.3, True), SHAPES[2]),
    "torch.alpha_dropout": (lambda x: torch.alpha_dropout(x, 0.3, True), (6, 5)),
    "transposed": (lambda x: F.dropout(x.transpose(0, 1), 0.3), (6, 5)),
    "expanded": (lambda x: F.dropout(x[:, None].expand(-1, 4, -1), 0.3), (6, 5)),
    "channels last": (
        lambda x: F.dropout(x.contiguous(memory_format=torch.channels_last), 0.3),
        SHAPES[2],
    ),
}


@pytest.mark.parametrize("name", MODULES)
def test_training(name):
    module, shape = MODULES[name]
    assert_propagates(module, *samples(*shape))
    assert_has_rule(module, *samples(*shape))


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_random_numbers_are_those_of_a_plain_pass(name, dtype):
    module, shape = MODULES[name]
    x, tangents = samples(*shape)
    x, tangents = x.to(dtype), tangents.to(dtype)
    torch.manual_seed(5)
    expected = module(x)
    following = torch.rand(3)
    torch.manual_seed(5)
    y, _ = propagate(module, x, tangents)
    assert torch.equal(y, expected)
    assert torch.equal(torch.rand(3), following)


@pytest.mark.parametrize(
    "name", [name for name in MODULES if isinstance(MODULES[name][0], nn.Module)]
)
def test_evaluation_changes_nothing(name):
    module, shape = MODULES[name]
    x, tangents = samples(*shape)
    try:
        y, dy = propagate(module.eval(), x, tangents)
    finally:
        module.train()
    assert torch.equal(y, x)
    assert torch.equal(dy, tangents)


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        (nn.Dropout, (6, 5)),
        (nn.Dropout2d, SHAPES[2]),
        (nn.AlphaDropout, (6, 5)),
        (nn.FeatureAlphaDropout, SHAPES[2]),
    ],
)
def test_in_place(kind, shape):
    def function(x):
        h = x * x
        kind(0.4, inplace=True)(h)
        return h * h

    assert_propagates(function, *samples(*shape))


def test_in_place_spelling_of_torch():
    def function(x):
        h = x * x
        torch.dropout_(h, 0.4, True)
        return h * h

    assert_propagates(function, *samples(6, 5))


def test_the_callers_tensors_are_left_alone():
    x, tangents = samples(6, 5)
    before = x.clone(), tangents.clone()
    propagate(nn.Dropout(0.5, inplace=True), x, tangents)
    assert torch.equal(x, before[0])
    assert torch.equal(tangents, before[1])
