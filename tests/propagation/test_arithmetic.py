import operator

import pytest
import torch

from sktangent.propagation import propagate
from tests.propagation.reference import assert_has_rule, assert_propagates, samples

POSITIVE = torch.linspace(0.5, 2, 4, dtype=torch.float64)
BATCHES = torch.linspace(0.3, 3, 40, dtype=torch.float64).reshape(2, 5, 4)  # one axis more than x


@pytest.mark.parametrize("other", [1.7, 2, POSITIVE, BATCHES, POSITIVE[0]], ids=str)
@pytest.mark.parametrize("name", ["add", "sub", "mul", "truediv", "pow"])
def test_operators_with_a_constant(name, other):
    function = getattr(operator, name)

    def forward(x):
        x = x * x + 0.3
        return (function(x, other) * x * function(other, x)).sum(-1)

    # batches of two stand in front of the samples: put the samples first again
    module = (lambda x: forward(x).T) if other is BATCHES else forward
    assert_propagates(module, *samples(5, 4))
    assert_has_rule(module, *samples(5, 4))


@pytest.mark.parametrize("name", ["add", "sub", "mul", "truediv", "pow"])
def test_operators_with_two_duals(name):
    function = getattr(operator, name)

    def forward(x):
        x = x * x + 0.3
        row = x[0]  # one axis less
        return function(x, 2 * x + 1) + function(row.detach() * x.mean(), x) + function(x, x.sum())

    assert_propagates(forward, *samples(5, 4))


@pytest.mark.parametrize("name", ["iadd", "isub", "imul", "itruediv", "ipow"])
def test_operators_in_place(name):
    def forward(x):
        hidden = x * x + 0.5
        before = hidden
        hidden = getattr(operator, name)(hidden, 2.0)
        hidden = getattr(operator, name)(hidden, x**4 + 1)
        return before * hidden

    assert_propagates(forward, *samples(5, 4))
    assert_has_rule(forward, *samples(5, 4))


FUNCTIONS = {
    "add_alpha": lambda x: torch.add(x * x, x, alpha=0.3) + torch.add(POSITIVE, x, alpha=2),
    "add_number_alpha": lambda x: torch.add(x, 2.0, alpha=0.5).add(x.sin(), alpha=3),
    "sub_alpha": lambda x: torch.sub(x * x, x, alpha=0.3) + torch.rsub(x, POSITIVE, alpha=2),
    "rsub_number": lambda x: torch.rsub(x, 1.0) * (3 - x),
    "div_trunc": lambda x: x * torch.div(x * 5, 2.0, rounding_mode="floor"),
    "addcmul": lambda x: torch.addcmul(x, x.sin(), POSITIVE, value=0.4),
    "addcdiv": lambda x: torch.addcdiv(POSITIVE, x, x * x + 1, value=0.4),
    "lerp": lambda x: torch.lerp(x, x.sin(), 0.3) + torch.lerp(POSITIVE, x * 2, x.cos()),
    "pow_zero": lambda x: x**0 + x**1 * x.pow(3),
    "pow_tensor": lambda x: torch.pow(x * x + 0.1, torch.tensor([0.0, 1.0, 2.0, 0.5])),
    "pow_base": lambda x: 2.0**x + torch.pow(POSITIVE, x),
    "float_power": lambda x: torch.float_power(x * x + 0.1, 1.5),
    "xlogy": lambda x: torch.xlogy(x, x * x + 0.2) + torch.xlogy(2.0, x.exp()),
    "where": lambda x: torch.where(x > 0, x * x, x.sin()),
    "where_number": lambda x: torch.where(x > 0, x * x, 0.5) + torch.where(x > 0.5, POSITIVE, x),
    "where_method": lambda x: (x * x).where(x > 0, x.sin()),
    "where_rank": lambda x: torch.where(x.unsqueeze(1) > 0, x.unsqueeze(1), POSITIVE[:1]),
    "clamp": lambda x: torch.clamp(x * x, 0.1, 0.9) * x.clamp(min=-0.2),
    "clip_max": lambda x: x.clip(max=0.4) + x.clamp_min(0.1) * x.clamp_max(0.3),
    "clamp_tensor": lambda x: torch.clamp(x, -POSITIVE, POSITIVE),
    "maximum": lambda x: torch.maximum(x, x * x) + torch.minimum(x, POSITIVE),
    "maximum_tie": lambda x: torch.maximum(x * x, x * x) * torch.minimum(POSITIVE, x),
    "masked_fill": lambda x: (x * x).masked_fill(x > 0.3, 2.0) * x,
    "neg": lambda x: -x * +x - abs(x),
    "mul_method": lambda x: x.mul(x).multiply(2.0).div(3).divide(POSITIVE).true_divide(1.5),
    "clone": lambda x: (x * x).clone().contiguous().double(),
    "to": lambda x: (x * x).to(torch.float64).type_as(POSITIVE).cpu(),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name):
    assert_propagates(FUNCTIONS[name], *samples(5, 4))
    assert_has_rule(FUNCTIONS[name], *samples(5, 4))


NO_RULE = {
    "remainder": lambda x: torch.remainder(x * x, 0.7) + (x * 3) % 0.4,
    "fmod": lambda x: torch.fmod(x * x, 0.7),
    "fmax": lambda x: torch.fmax(x, x * x),
    "clamp_dual_bounds": lambda x: torch.clamp(x * x, min=x.sin() * 0.1, max=x.abs()),
}


@pytest.mark.parametrize("name", NO_RULE)
def test_functions_left_to_differentiation(name):
    assert_propagates(NO_RULE[name], *samples(5, 4))


def test_double_precision_constant_promotes_samples():
    x, tangents = (value.float() for value in samples(3, 4))
    y, dy = propagate(lambda x: (x + POSITIVE) / POSITIVE.sum(), x, tangents)
    assert y.dtype == dy.dtype == torch.float64
    torch.testing.assert_close(dy, tangents.double() / POSITIVE.sum())


def test_integer_conversion_is_constant():
    x, tangents = samples(3, 4)
    _, dy = propagate(lambda x: x * x.long() + x.to(torch.int32), x, tangents)
    torch.testing.assert_close(dy, tangents * x.long().unsqueeze(1))


@pytest.mark.parametrize(
    "function",
    [torch.sign, torch.round, torch.floor, torch.ceil, torch.trunc, torch.zeros_like]
    + [torch.detach, torch.isnan, lambda x: x > 0, lambda x: x.argsort(-1)]
    + [lambda x: x.new_ones(x.shape), lambda x: x // 0.3],
)
def test_steps_carry_no_tangents(function):
    x, tangents = samples(3, 4)
    y, dy = propagate(lambda x: function(x) * x, x, tangents)
    expected = function(x)
    torch.testing.assert_close(y, expected * x)
    torch.testing.assert_close(dy, expected.unsqueeze(1) * tangents)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.float_power(x, 2),
        lambda x: x.float_power(3.5),
        lambda x: torch.float_power(x, x),
        lambda x: torch.float_power(2, x),
        lambda x: x.float_power(torch.tensor(3)),
    ],
)
def test_float_power_is_computed_in_double_precision(function):
    x, tangents = (value.float() for value in samples(3, 4))
    x = x.abs() + 0.1
    y, dy = propagate(function, x, tangents)
    exact_y, exact_dy = propagate(function, x.double(), tangents.double())
    assert y.dtype == dy.dtype == function(x).dtype == torch.float64
    torch.testing.assert_close(y, exact_y, rtol=1e-14, atol=0)
    torch.testing.assert_close(dy, exact_dy, rtol=1e-14, atol=1e-14)
