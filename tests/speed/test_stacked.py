"""Networks side by side: each one's outputs, derivatives and gradients are its own."""

import itertools

import pytest
import torch
from torch import nn

from sktangent._speed import stacked_forward, stacked_reverse
from sktangent._speed.stacked_batches import Batch
from sktangent.propagation import propagate
from sktangent.propagation.rules.activations import ACTIVATIONS

N_FOLDS, N_CANDIDATES, N_SAMPLES = 2, 3, 5
MODULES = {"gelu": nn.GELU(), "tanh": nn.Tanh(), "relu": nn.ReLU(), "identity": nn.Identity()}


def draw(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def activation(name):
    return None if name == "identity" else next(a for a in ACTIVATIONS if name in a.names)


def alone(params, net, name):
    layers = []
    for weight, bias in zip(params[::2], params[1::2], strict=True):
        layer = nn.Linear(weight.shape[2], weight.shape[1]).double()
        layer.weight.data, layer.bias.data = weight[net].clone(), bias[net].clone()
        layers += [layer, MODULES[name]]
    return nn.Sequential(*layers[:-1])


EVERY = list(itertools.product(MODULES, [(4, 2), (4, 6, 1), (3, 6, 5, 4, 2)]))
CURVED = [(name, sizes) for name, sizes in EVERY if name != "identity" and len(sizes) > 2]


@pytest.mark.usefixtures("seeded")
@pytest.mark.parametrize(
    ("mode", "name", "sizes"),
    [(stacked_forward, *one) for one in EVERY] + [(stacked_reverse, *one) for one in CURVED],
)
@pytest.mark.parametrize("n_tangents", [0, 1, 5])
def test_all_is_as_propagation_and_autograd_have_it(mode, name, sizes, n_tangents):
    hidden = (activation(name),) * (len(sizes) - 2)
    n_nets, n_rows = N_FOLDS * N_CANDIDATES, (1 + n_tangents) * N_SAMPLES
    params = []
    for n_in, n_out in zip(sizes, sizes[1:], strict=False):
        params += [draw(n_nets, n_out, n_in), draw(n_nets, n_out)]
    x = draw(N_FOLDS, n_rows, sizes[0])
    batch = Batch(x, None, None, torch.ones(N_FOLDS, N_SAMPLES), None)
    with torch.no_grad():
        y, dy, go_back = mode.propagate(params, (*hidden, None), batch)
        by_y, by_dy = torch.randn_like(y), torch.randn_like(dy)
        go_back(by_y, by_dy)
    for net in range(n_nets):
        fold, candidate = divmod(net, N_CANDIDATES)
        module = alone(params, net, name)
        rows = x[fold].view(1 + n_tangents, N_SAMPLES, -1)
        out, along = propagate(module, rows[0], rows[1:].transpose(0, 1))
        out, along = out.T, along.permute(2, 1, 0)
        torch.testing.assert_close(y[fold, candidate], out)
        torch.testing.assert_close(dy[fold, candidate], along)
        loss = (out * by_y[fold, candidate]).sum() + (along * by_dy[fold, candidate]).sum()
        loss.backward()
        for found, wanted in zip(params, module.parameters(), strict=True):
            torch.testing.assert_close(found.grad[net], wanted.grad)


def test_outputs_go_back_where_that_takes_less():
    def goes_back(sizes, n_tangents, activations=None):
        pairs = zip(sizes, sizes[1:], strict=False)
        shapes = [shape for n_in, n_out in pairs for shape in ((n_out, n_in), (n_out,))]
        params = [torch.empty(1, *shape) for shape in shapes]
        hidden = (activation("gelu"),) * (len(sizes) - 2)
        return stacked_reverse.goes_back(params, activations or (*hidden, None), n_tangents)

    assert goes_back((150, 100, 2), 5)
    assert goes_back((20, 50, 50, 1), 20)
    assert not goes_back((64, 100, 10), 6)
    assert not goes_back((784, 30, 3), 5)
    assert not goes_back((20, 1), 20)
    gelu = activation("gelu")
    assert not goes_back((20, 50, 50, 1), 20, (gelu, None, None))
    assert not goes_back((20, 50, 1), 20, (gelu, gelu))
