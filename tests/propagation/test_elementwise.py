import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sktangent.propagation import propagate
from tests.propagation.reference import (
    assert_has_rule,
    assert_propagates,
    penalty_gradients,
    samples,
)

ACTIVATIONS = [
    nn.CELU(2.0),  # in the slope, torch rounds 1 / alpha to single precision
    nn.ELU(0.7),
    nn.GELU(),
    nn.GELU("tanh"),
    nn.GLU(),
    nn.Hardshrink(),
    nn.Hardswish(),
    nn.Hardtanh(-0.5, 0.8),
    nn.LeakyReLU(0.2),
    nn.LogSigmoid(),
    nn.Mish(),
    nn.PReLU(),
    nn.PReLU(6),
    nn.RReLU(),
    nn.RReLU().eval(),
    nn.ReLU(),
    nn.ReLU6(),
    nn.SELU(),
    nn.SiLU(),
    nn.Sigmoid(),
    nn.Softplus(2.0, 3.0),
    nn.Softshrink(),
    nn.Softsign(),
    nn.Tanh(),
    nn.Tanhshrink(),
    nn.Threshold(0.1, -0.4),
]


def between_layers(activation, width=6):
    torch.manual_seed(3)
    inner = width // 2 if isinstance(activation, nn.GLU) else width
    return nn.Sequential(nn.Linear(4, width), activation, nn.Linear(inner, 2))


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
def test_activations(activation):
    module, data = between_layers(activation), samples(5, 4)
    assert_propagates(module, *data)
    assert_has_rule(module, *data)


@pytest.mark.parametrize("inplace", [False, True])
def test_hardsigmoid(inplace):
    """Torch cannot differentiate it twice, and takes 1 / 6 in single precision for its slope."""

    class WrittenOut(nn.Module):
        def forward(self, x):
            return F.relu6(x + 3) / 6

    module, data = between_layers(nn.Hardsigmoid(inplace)), samples(5, 4)
    assert_propagates(module, *data, rtol=1e-7, reference=between_layers(WrittenOut()))
    assert_has_rule(module, *data)


@pytest.mark.parametrize(
    "activation",
    [
        nn.CELU(inplace=True),
        nn.ELU(inplace=True),
        nn.Hardswish(inplace=True),
        nn.Hardtanh(inplace=True),
        nn.LeakyReLU(inplace=True),
        nn.Mish(inplace=True),
        nn.RReLU(inplace=True),
        nn.ReLU(inplace=True),
        nn.ReLU6(inplace=True),
        nn.SELU(inplace=True),
        nn.SiLU(inplace=True),
        nn.Threshold(0.1, -0.4, inplace=True),
    ],
    ids=repr,
)
def test_in_place_activations(activation):
    class Reused(nn.Module):  # the value from before must be seen changed
        def __init__(self):
            super().__init__()
            self.first, self.activation = nn.Linear(4, 6), activation

        def forward(self, x):
            hidden = self.first(x)
            view = hidden.view(-1, 2, 3)
            self.activation(hidden)
            return hidden * view.flatten(1)

    outer = nn.Sequential(Reused(), nn.Linear(6, 2))
    assert_propagates(outer, *samples(5, 4))
    assert_has_rule(outer, *samples(5, 4))


@pytest.mark.parametrize(
    "function",
    [F.relu_, F.elu_, F.celu_, F.selu_, F.leaky_relu_, F.hardtanh_, F.threshold_, F.rrelu_]
    + [torch.tanh_, torch.sigmoid_, torch.exp_, torch.sin_],
    ids=lambda function: function.__name__,
)
def test_functions_spelled_in_place(function):
    args = (0.1, 0.3) if function is F.threshold_ else ()

    def forward(x):
        hidden = x * 1.5
        function(hidden, *args)
        return hidden * x

    assert_propagates(forward, *samples(5, 4))
    assert_has_rule(forward, *samples(5, 4))


UNIT = "acos arccos asin arcsin atanh arctanh erfinv"
POSITIVE = "log log2 log10 log1p sqrt rsqrt lgamma digamma"
ANYWHERE = """
    exp exp2 expm1 sin cos tan atan arctan sinh cosh asinh arcsinh reciprocal square abs absolute
    erf erfc neg negative positive deg2rad rad2deg frac sinc tanh sigmoid i0 relu selu
"""


def _math_cases():
    for names, domain in (
        (UNIT, lambda x: torch.tanh(x) * 0.9),
        (POSITIVE, lambda x: x * x + 0.2),
        (ANYWHERE, lambda x: x),
        ("acosh arccosh", lambda x: x * x + 1.2),
        ("logit", lambda x: torch.sigmoid(x)),
    ):
        for name in names.split():
            yield pytest.param(name, domain, id=name)


@pytest.mark.parametrize("name, domain", _math_cases())
def test_math_functions_and_their_methods(name, domain):
    data = samples(5, 4)
    spellings = [getattr(torch, name)]
    if hasattr(torch.Tensor, name):
        spellings.append(lambda x: getattr(x, name)())
    for function in spellings:
        assert_propagates(lambda x, f=function: f(domain(x)), *data, rtol=1e-9)
        assert_has_rule(lambda x, f=function: f(domain(x)), *data)


@pytest.mark.parametrize(
    "name", ["expit", "exp2", "expm1", "log1p", "erf", "erfc", "gammaln", "digamma", "ndtr", "entr"]
)
def test_special_functions(name):
    function = getattr(torch.special, name)

    def forward(x):
        return function(x * x + 0.3)

    assert_propagates(forward, *samples(5, 4))
    assert_has_rule(forward, *samples(5, 4))


@pytest.mark.parametrize("function", [torch.hypot, torch.atan2, torch.logaddexp])
@pytest.mark.parametrize("arrange", ["both", "first", "second"])
def test_functions_of_two_values(function, arrange):
    constant = torch.linspace(-1, 2, 4, dtype=torch.float64)

    def forward(x):
        first = constant if arrange == "second" else x.unsqueeze(1) * 2
        second = constant if arrange == "first" else x
        return function(first, second)

    assert_propagates(forward, *samples(5, 4))
    assert_has_rule(forward, *samples(5, 4))


def test_sinc_near_zero_agrees_with_its_series():
    x = torch.tensor([[0.0, 1e-9, 1e-4, 5e-3, 7e-3]], dtype=torch.float64)
    z = torch.pi * x
    _, dy = propagate(torch.sinc, x, torch.ones_like(x).unsqueeze(1))
    series = torch.pi * z * (-1 / 3 + z**2 / 30 - z**4 / 840)
    torch.testing.assert_close(dy[0], series, rtol=1e-9, atol=1e-14)


def test_logit_with_eps_is_flat_outside():
    x = torch.tensor([[-0.2, 0.05, 0.4, 0.97]], dtype=torch.float64)
    assert_propagates(lambda x: torch.logit(x, 0.1), x, torch.ones(1, 2, 4, dtype=torch.float64))


def test_random_slopes_are_drawn_once():
    module = nn.RReLU()
    x, tangents = samples(50, 4)
    torch.manual_seed(0)
    y, dy = propagate(module, x, tangents)
    after = torch.rand(1)
    torch.manual_seed(0)
    expected = module(x)
    assert torch.equal(y, expected)
    assert torch.equal(after, torch.rand(1))
    torch.testing.assert_close(dy, tangents * (y / x).unsqueeze(1))


@pytest.mark.parametrize(
    "activation",
    [nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.Tanh(), nn.Sigmoid(), nn.Softplus(), nn.ELU()]
    + [nn.SELU(), nn.CELU(0.6), nn.Mish(), nn.ReLU(), nn.LeakyReLU()],
    ids=repr,
)
def test_gradient_of_the_gradient(activation):
    """The penalty's gradient is itself differentiated, as a Hessian-vector product needs it."""
    module = between_layers(activation).double()
    x, tangents = samples(5, 4)
    parameters = list(module.parameters())

    def first(*values):
        names = [name for name, _ in module.named_parameters()]
        values = dict(zip(names, values, strict=True))

        def forward(x):
            return torch.func.functional_call(module, values, (x,))

        y, dy = propagate(forward, x, tangents)
        penalty = (y**2).sum() + ((dy - 0.3) ** 2).sum()
        return torch.autograd.grad(penalty, list(values.values()), create_graph=True)

    values = [p.detach().clone().requires_grad_() for p in parameters]
    second = torch.autograd.grad(sum((g * g).sum() for g in first(*values)), values)
    direction = [torch.randn_like(v) for v in values]
    step = 1e-6
    shifted = [
        sum(
            (g * g).sum().item()
            for g in first(*[v + s * step * d for v, d in zip(values, direction, strict=True)])
        )
        for s in (1, -1)
    ]
    numeric = (shifted[0] - shifted[1]) / (2 * step)
    exact = sum((g * d).sum().item() for g, d in zip(second, direction, strict=True))
    assert exact == pytest.approx(numeric, rel=1e-6, abs=1e-7)


def test_frozen_input_of_a_curved_function():
    x, tangents = samples(5, 4)
    _, dy = propagate(torch.tanh, x, tangents)
    torch.testing.assert_close(dy, tangents * (1 - torch.tanh(x) ** 2).unsqueeze(1))
    weight = torch.ones(4, dtype=torch.float64, requires_grad=True)
    y, dy = propagate(lambda x: torch.tanh(x) * weight, x, tangents)
    (gradient,) = penalty_gradients(y, dy, [weight])
    assert gradient.abs().min() > 0


def test_complex_intermediate_values():
    assert_propagates(lambda x: torch.fft.rfft(x).abs(), *samples(5, 8))
    assert_propagates(lambda x: torch.view_as_real(torch.exp(torch.fft.fft(x))), *samples(5, 8))
