"""The short step of a fused Adam: the same parameters as torch's own, to the last bit."""

import copy

import pytest
import torch
from torch import nn
from torch.optim import Adam
from torch.optim.optimizer import register_optimizer_step_pre_hook

from sktangent._speed import adam as stepping
from sktangent._speed.adam import clear_gradients, step


@pytest.fixture
def net(seeded):
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()


@pytest.fixture
def short_steps(monkeypatch):
    """Count the groups that were stepped the short way."""
    done = []
    step_group = stepping._step_group

    def counted(*args):
        done.append(args)
        step_group(*args)

    monkeypatch.setattr(stepping, "_step_group", counted)
    return done


def loss_of(net, i=0):
    x = torch.linspace(-1, 1, 12, dtype=torch.float64).view(4, 3).roll(i)
    return net(x).square().sum()


def train(net, optimizer, take_step, n_steps=5):
    for i in range(n_steps):

        def closure(i=i):
            clear_gradients(optimizer)
            loss = loss_of(net, i)
            loss.backward()
            return loss

        take_step(optimizer, closure)
    return [parameter.detach().clone() for parameter in net.parameters()]


def by_torch(optimizer, closure):
    optimizer.step(closure)


def two_groups(net, **kwargs):
    groups = [{"params": net[0].parameters(), "lr": 0.1}, {"params": net[2].parameters()}]
    return Adam(groups, weight_decay=0.3, fused=True, **kwargs)


ORDINARY = {
    "one group": lambda net: Adam(net.parameters(), lr=0.05, betas=(0.5, 0.9), fused=True),
    "decay": lambda net: Adam(net.parameters(), weight_decay=0.1, eps=1e-3, fused=True),
    "two groups": two_groups,
}
UNUSUAL = {
    "not fused": lambda net: Adam(net.parameters()),
    "amsgrad": lambda net: Adam(net.parameters(), amsgrad=True, fused=True),
    "maximize": lambda net: Adam(net.parameters(), maximize=True, fused=True),
    "a tensor as rate": lambda net: Adam(net.parameters(), lr=torch.tensor(0.1), fused=True),
    "AdamW": lambda net: torch.optim.AdamW(net.parameters(), fused=True),
    "SGD": lambda net: torch.optim.SGD(net.parameters(), lr=0.1),
    "a subclass": lambda net: type("Own", (Adam,), {})(net.parameters(), fused=True),
    "L-BFGS": lambda net: torch.optim.LBFGS(net.parameters(), lr=0.1, max_iter=3),
}


def assert_same(build, net):
    twin = copy.deepcopy(net)
    found, expected = train(net, build(net), step), train(twin, build(twin), by_torch)
    for parameter, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(parameter, wanted, rtol=0, atol=0)


@pytest.mark.parametrize("build", ORDINARY.values(), ids=ORDINARY)
def test_the_short_way_gives_the_same(build, net, short_steps):
    assert_same(build, net)
    assert len(short_steps) == 4 * len(build(net).param_groups)  # torch takes the first of five


@pytest.mark.parametrize("build", UNUSUAL.values(), ids=UNUSUAL)
def test_the_unusual_goes_torch_own_way(build, net, short_steps):
    assert_same(build, net)
    assert not short_steps


def test_frozen_parameters(net, short_steps):
    net[0].requires_grad_(False)
    assert_same(two_groups, net)
    assert len(short_steps) == 4


def test_a_parameter_that_joins_later(net, short_steps):
    def build(net):
        net[0].requires_grad_(False)
        optimizer = Adam(net.parameters(), fused=True)
        optimizer.register_step_post_hook(lambda *args: net[0].requires_grad_())
        return optimizer

    assert_same(build, net)
    optimizer = Adam(net.parameters(), fused=True)
    net[0].requires_grad_(False)
    train(net, optimizer, step, 2)
    net[0].requires_grad_()
    train(net, optimizer, step, 2)
    assert len(short_steps) == 2  # its first step makes its state


def test_parameters_of_two_precisions(net, short_steps):
    other = nn.Parameter(torch.ones(2))
    optimizer = Adam([*net.parameters(), other], lr=0.1, fused=True)

    def closure():
        clear_gradients(optimizer)
        loss = loss_of(net) + other.sum().double()
        loss.backward()
        return loss

    for _ in range(2):
        step(optimizer, closure)
    assert not short_steps
    torch.testing.assert_close(other.detach(), torch.full((2,), 0.8))


def test_hooks_are_called(net, short_steps):
    seen = []
    optimizer = Adam(net.parameters(), fused=True)
    handles = [
        optimizer.register_step_pre_hook(lambda *args: seen.append("before")),
        optimizer.register_step_post_hook(lambda *args: seen.append("after")),
        register_optimizer_step_pre_hook(lambda *args: seen.append("any")),
    ]
    train(net, optimizer, step, 2)
    assert sorted(set(seen)) == ["after", "any", "before"]
    assert len(seen) == 6
    for handle in handles:
        handle.remove()
    train(net, optimizer, step, 1)
    assert len(seen) == 6
    assert len(short_steps) == 1


@pytest.mark.filterwarnings("error")
def test_schedulers_see_every_step(net, short_steps):
    optimizer = Adam(net.parameters(), lr=0.1, fused=True)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    train(net, optimizer, step, 1)
    scheduler.step()  # warns if it saw none
    assert optimizer.param_groups[0]["lr"] == 0.05
    assert not short_steps


def test_a_sparse_gradient_is_refused_by_torch(short_steps):
    weight = nn.Parameter(torch.ones(4, 2))
    optimizer = Adam([weight], fused=True)

    def closure(sparse=False):
        clear_gradients(optimizer)
        rows = nn.functional.embedding(torch.tensor([1]), weight, sparse=sparse)
        rows.sum().backward()
        return rows.sum()

    step(optimizer, closure)
    step(optimizer, closure)
    assert len(short_steps) == 1
    with pytest.raises(RuntimeError, match="sparse"):
        step(optimizer, lambda: closure(sparse=True))


def test_the_closure_may_compute_gradients_without_asking(net):
    optimizer = Adam(net.parameters(), fused=True)
    with torch.no_grad():
        before = [parameter.clone() for parameter in net.parameters()]
        train(net, optimizer, step, 3)
    for parameter, old in zip(net.parameters(), before, strict=True):
        assert not torch.equal(parameter, old)


def test_state_is_torch_own(net, short_steps):
    optimizer = Adam(net.parameters(), fused=True)
    train(net, optimizer, step, 3)
    assert len(short_steps) == 2
    assert {state["step"].item() for state in optimizer.state.values()} == {3}
    twin = copy.deepcopy(net)
    other = Adam(twin.parameters(), fused=True)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    found, expected = train(net, optimizer, step, 2), train(twin, other, by_torch, 2)
    for parameter, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(parameter, wanted, rtol=0, atol=0)


def test_gradients_are_cleared(net):
    optimizer = Adam(net.parameters(), fused=True)
    loss_of(net).backward()
    clear_gradients(optimizer)
    assert all(parameter.grad is None for parameter in net.parameters())


def test_a_clearing_of_the_optimizers_own_is_used(net):
    class Own(Adam):
        def zero_grad(self, set_to_none=False):
            super().zero_grad(set_to_none=False)

    loss_of(net).backward()
    clear_gradients(Own(net.parameters()))
    assert all(torch.equal(p.grad, torch.zeros_like(p)) for p in net.parameters())
