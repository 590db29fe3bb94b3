"""The objective as a sum of squares: residuals, their Jacobian, and the loss that they make."""

import pytest
import torch
from torch import nn

from sktangent._speed import shortcuts
from sktangent.criterion import TangentPropLoss
from sktangent.modules import MLP
from sktangent.propagation import propagate
from sktangent.training.least_squares import LeastSquares

N, T, F, M = 6, 3, 4, 2


@pytest.fixture
def parts():
    torch.manual_seed(0)
    derivatives, y = torch.randn(N, T, M).double(), torch.randn(N, M).double()
    derivatives[0, 1, 1] = y[2, 0] = torch.nan
    return {
        "x": torch.randn(N, F).double(),
        "y": y,
        "tangents": torch.randn(N, T, F).double(),
        "derivatives": derivatives,
        "sample_weight": torch.rand(N).double(),
        "derivative_weight": torch.rand(N, T, M).double(),
        "penalty_weight": 0.3,
    }


def module(activation="gelu", sizes=(5, 4)):
    torch.manual_seed(1)
    return MLP(F, M, sizes, activation).double()


def objective(module, parts):
    y, dy = propagate(module, parts["x"], parts["tangents"])
    criterion = TangentPropLoss(penalty_weight=parts["penalty_weight"])
    return criterion(
        y,
        parts["y"],
        dy,
        parts["derivatives"],
        parts["sample_weight"],
        parts["derivative_weight"],
    )


MODULES = pytest.mark.parametrize(
    "make",
    [
        module,
        lambda: module("tanh"),
        lambda: module("silu", (6,)),
        lambda: module("relu"),
        lambda: module("softplus"),
        lambda: module(sizes=()),
        lambda: nn.Sequential(nn.Linear(F, 5, bias=False), nn.Tanh(), nn.Linear(5, M)).double(),
        lambda: nn.Sequential(
            nn.Linear(F, 5), nn.LayerNorm(5), nn.Tanh(), nn.Linear(5, M)
        ).double(),
    ],
)


@MODULES
def test_the_squares_are_the_loss(make, parts):
    net = make()
    problem = LeastSquares(net, **parts)
    residuals = problem.residuals(problem.start())
    expected = objective(net, parts)
    torch.testing.assert_close(residuals.square().sum(), expected.total.detach())
    losses = problem.losses(residuals)
    torch.testing.assert_close(losses.loss, expected.total.detach())
    torch.testing.assert_close(losses.data_loss, expected.data.detach())
    torch.testing.assert_close(losses.penalty, expected.penalty.detach())
    assert len(residuals) == N * (1 + T) * M - 2  # those that are not known are left out


@MODULES
def test_the_jacobian_is_that_of_the_residuals(make, parts):
    problem = LeastSquares(make(), **parts)
    point = problem.start()
    residuals, jacobian = problem.linearize(point)
    torch.testing.assert_close(residuals, problem.residuals(point))
    h = 1e-6
    for i in range(0, len(point), 3):
        step = torch.zeros_like(point)
        step[i] = h
        slope = (problem.residuals(point + step) - problem.residuals(point - step)) / (2 * h)
        torch.testing.assert_close(jacobian[:, i], slope, rtol=1e-5, atol=1e-7)


@MODULES
def test_moving_there_and_back(make, parts):
    net = make()
    problem = LeastSquares(net, **parts)
    point = problem.start() + 0.1
    problem.move_to(point)
    torch.testing.assert_close(problem.start(), point)
    total = problem.residuals(point).square().sum()
    torch.testing.assert_close(total, objective(net, parts).total.detach())


def test_without_shortcuts_the_residuals_are_the_same(parts):
    fast = LeastSquares(module(), **parts)
    expected = fast.residuals(fast.start())
    with shortcuts(False):
        slow = LeastSquares(module(), **parts)
        torch.testing.assert_close(slow.residuals(slow.start()), expected)


def test_samples_alone():
    x, y = torch.randn(N, F).double(), torch.randn(N, M).double()
    net = module()
    problem = LeastSquares(net, x, y)
    expected = ((net(x) - y) / N**0.5).flatten()
    torch.testing.assert_close(problem.residuals(problem.start()), expected.detach())
