"""The closed forms of a chain's Jacobians, against automatic and finite differences."""

import pytest
import torch
from torch import nn
from torch.func import functional_call, jacrev, jvp

from sktangent._speed.chains import find_chain
from sktangent._speed.jacobians import ChainByParameters, outputs_and_jacobian
from sktangent.modules import MLP

pytestmark = pytest.mark.usefixtures("seeded")

CHAINS = {
    **{
        name: lambda name=name: MLP(3, 2, (5, 4), name)
        for name in ("gelu", "sigmoid", "silu", "tanh", "relu")
    },
    "one layer": lambda: nn.Sequential(nn.Linear(3, 2)),
    "no bias": lambda: nn.Sequential(
        nn.Linear(3, 4, bias=False), nn.Tanh(), nn.Linear(4, 2, bias=False)
    ),
    "two in a row": lambda: nn.Sequential(
        nn.Linear(3, 4), nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 2)
    ),
}


@pytest.fixture(params=CHAINS.values(), ids=CHAINS.keys())
def module(request):
    return request.param().double()


@pytest.fixture
def x():
    return torch.randn(6, 3).double()


@pytest.fixture
def tangents():
    return torch.randn(6, 2, 3).double()


def point_of(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def by_torch(module, x, tangents):
    """Write values and directional derivatives as a function of a point, for torch to follow."""
    names, shapes = zip(*((n, p.shape) for n, p in module.named_parameters()), strict=True)

    def function(point):
        parts = point.split([shape.numel() for shape in shapes])
        params = {n: p.view(s) for n, p, s in zip(names, parts, shapes, strict=True)}

        def outputs(x):
            return functional_call(module, params, (x,))

        along = [jvp(outputs, (x,), (tangent,))[1] for tangent in tangents.unbind(1)]
        return torch.stack([outputs(x), *along], dim=1)

    return function


def test_outputs_and_jacobian(module, x):
    y, J = outputs_and_jacobian(find_chain(module, x), x)
    torch.testing.assert_close(y, module(x).detach())
    each = torch.stack([jacrev(module)(sample) for sample in x])
    torch.testing.assert_close(J, each.detach(), rtol=1e-10, atol=1e-12)


def test_samples_of_more_than_one_axis(x):
    module = MLP(6, 2, (5,)).double()
    x = x.view(3, 2, 3)
    y, J = outputs_and_jacobian(find_chain(module, x), x)
    assert J.shape == (3, 2, 2, 3)
    ahead = outputs_and_jacobian(find_chain(module, x), x + 1e-6)[0]
    torch.testing.assert_close(J.sum((2, 3)) * 1e-6, ahead - y, rtol=1e-4, atol=1e-12)


def test_by_parameters_against_autograd(module, x, tangents):
    point, function = point_of(module), by_torch(module, x, tangents)
    closed = ChainByParameters(find_chain(module, x, tangents), x, tangents)
    values, jacobian = closed.linearize(point)
    torch.testing.assert_close(values, function(point), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(closed.values(point), values, rtol=0, atol=0)
    torch.testing.assert_close(jacobian, jacrev(function)(point), rtol=1e-9, atol=1e-12)


def test_by_parameters_against_differences(module, x, tangents):
    closed = ChainByParameters(find_chain(module, x, tangents), x, tangents)
    point, h = point_of(module), 1e-5
    jacobian = closed.linearize(point)[1]
    for i, step in enumerate(h * torch.eye(len(point)).double()):
        slope = (closed.values(point + step) - closed.values(point - step)) / (2 * h)
        torch.testing.assert_close(jacobian[..., i], slope, rtol=1e-5, atol=1e-8)


def test_without_tangents(x):
    module, none = MLP(3, 2, (5,)).double(), torch.zeros(6, 0, 3).double()
    closed = ChainByParameters(find_chain(module, x, none), x, none)
    values, jacobian = closed.linearize(point_of(module))
    assert values.shape == (6, 1, 2)
    function = by_torch(module, x, none)
    torch.testing.assert_close(jacobian, jacrev(function)(point_of(module)))


def test_tangents_that_all_samples_share(x, tangents):
    module, one = MLP(3, 2, (5,)).double(), tangents[:1].expand(6, -1, -1)
    chain = find_chain(module, x, one)
    shared = ChainByParameters(chain, x, one).linearize(point_of(module))
    copied = ChainByParameters(chain, x, one.contiguous()).linearize(point_of(module))
    torch.testing.assert_close(shared, copied)
