import pytest
import torch

from sktangent.propagation import propagate
from tests.propagation.reference import assert_propagates, samples


def multiplied_after(share):
    """Make a function that takes a constant of h, then changes h in place."""

    def function(x):
        h = x + 1
        constant = share(h)
        h.mul_(3)
        return h * constant

    return function


@torch.no_grad()
def as_constant(h):
    return h.view(-1).detach().view_as(h)


@torch.no_grad()
def as_view(h):
    return h.view(-1).view_as(h)


@torch.no_grad()
def as_rows(h):
    return torch.stack(h.unbind(0))


@torch.no_grad()
def as_first_row(h):
    return h.unbind(0)[0]


SHARED = {
    "detach": lambda h: h.detach(),
    "torch.detach": lambda h: torch.detach(h),
    "data": lambda h: h.data,
    "detached view": lambda h: h.view(2, -1).detach().view(3, 4),
    "view of what was detached": lambda h: h.detach()[1],
    "detached view without gradients": as_constant,
}
COPIED = {
    "detached copy": lambda h: h.clone().detach(),
    "copy of what was detached": lambda h: h.detach() * 1,
    "copy without gradients": as_rows,
}
CONSTANTS = {**SHARED, **COPIED}


@pytest.mark.parametrize("share", CONSTANTS.values(), ids=CONSTANTS)
def test_constants_see_what_is_done_in_place(share):
    assert_propagates(multiplied_after(share), *samples(3, 4))


@pytest.mark.parametrize("share", [as_view, as_first_row])
def test_a_view_without_gradients_of_what_changes_in_place_is_refused_as_by_torch(share):
    function = multiplied_after(share)
    x, tangents = samples(3, 4)
    with pytest.raises(RuntimeError, match="no_grad"):
        function(x.requires_grad_())
    with pytest.raises(RuntimeError, match="no_grad"):
        propagate(function, x, tangents)


@pytest.mark.parametrize("share", SHARED.values(), ids=SHARED)
@pytest.mark.parametrize(
    "change",
    [
        lambda h: h.zero_(),
        lambda h: h.copy_(h * 2),
        lambda h: h.__setitem__((slice(None), 1), 2.0),
        lambda h: torch.nn.functional.relu(h, inplace=True),
        lambda h: torch.nn.functional.dropout(h, 0.5, True, inplace=True),
    ],
    ids=["zero_", "copy_", "setitem", "relu", "dropout"],
)
def test_every_way_to_change_in_place(share, change):
    def function(x):
        h = x + 1
        constant = share(h)
        change(h)
        return h * constant + constant

    assert_propagates(function, *samples(3, 4))


def test_a_view_and_a_constant_of_one_value():
    def function(x):
        h = x + 1
        view, constant = h[:, :2], h.detach()
        view.mul_(3)
        h.mul_(2)
        return h * constant + view.sum(1, keepdim=True)

    assert_propagates(function, *samples(3, 4))


def test_tangents_that_were_broadcast():
    def function(x):
        h = x[:1] + torch.ones(3, 4, dtype=x.dtype)
        constant = h.detach()
        return h.mul_(2) * constant

    assert_propagates(function, *samples(3, 4))


def test_what_a_function_saved_is_guarded_as_in_torch():
    """Torch refuses to go back through what was overwritten."""

    def function(x):
        h = x.exp()
        h.detach().zero_()
        return h

    x, tangents = samples(3, 4)
    y, _ = propagate(function, x.requires_grad_(), tangents)
    torch.testing.assert_close(y, torch.zeros_like(x))
