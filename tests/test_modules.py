import numpy as np
import pytest
import torch
from torch import nn

from sktangent.modules import ACTIVATIONS, MLP, get_activation


@pytest.mark.parametrize(
    ("sizes", "layers"),
    [
        ((), [(3, 2)]),
        (5, [(3, 5), (5, 2)]),
        (np.int64(5), [(3, 5), (5, 2)]),
        ([4, 5], [(3, 4), (4, 5), (5, 2)]),
        (np.array([4, 5]), [(3, 4), (4, 5), (5, 2)]),
        ((np.int32(4),), [(3, 4), (4, 2)]),
    ],
)
def test_hidden_layer_sizes(sizes, layers):
    linear = [layer for layer in MLP(3, 2, sizes) if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == layers


def test_output_is_linear_layers_with_an_activation_between():
    torch.manual_seed(0)
    mlp, x = MLP(3, 2, (4,), "tanh"), torch.randn(5, 3)
    expected = torch.tanh(x @ mlp[0].weight.T + mlp[0].bias) @ mlp[2].weight.T + mlp[2].bias
    torch.testing.assert_close(mlp(x), expected)


def test_inputs_of_more_dimensions_are_flattened():
    mlp, x = MLP(6, 2), torch.randn(5, 2, 3)
    torch.testing.assert_close(mlp(x), mlp(x.reshape(5, 6)))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_each_name_builds_a_new_module(name):
    layers = MLP(1, 1, (2, 2), name)
    assert type(layers[1]) is type(layers[3]) is ACTIVATIONS[name]
    assert layers[1] is not layers[3]


def test_an_activation_may_be_a_class_or_a_factory():
    assert isinstance(MLP(1, 1, (2,), nn.CELU)[1], nn.CELU)
    assert MLP(1, 1, (2,), lambda: nn.ELU(0.5))[1].alpha == 0.5


@pytest.mark.parametrize("activation", ["swish", 3, nn.Tanh()])
def test_wrong_activation(activation):
    with pytest.raises(ValueError, match="activation must be .* got"):
        get_activation(activation)


@pytest.mark.parametrize("sizes", [0, (3, -1), (2.5,), "ab"])
def test_wrong_sizes(sizes):
    with pytest.raises(ValueError, match="hidden_layer_sizes must hold positive integers"):
        MLP(1, 1, sizes)
