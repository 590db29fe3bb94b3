import functools
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sktangent.propagation import fallback, propagate
from sktangent.propagation.dual import Dual, is_dual
from tests.propagation.reference import (
    as_matrix,
    assert_propagates,
    assert_propagates_or_refuses,
    differentiates_twice,
    samples,
)

MATRIX = torch.linspace(-1, 2, 16, dtype=torch.float64).reshape(4, 4)


def square(x):
    return x.unflatten(1, (4, 4)) + 3 * torch.eye(4, dtype=x.dtype)


def definite(x):
    return square(x) @ square(x).mT


def image(x):
    return x.unflatten(1, (1, 4, 4))


# name: (function of samples of 16 numbers)
FUNCTIONS = {
    "cholesky": lambda x: torch.linalg.cholesky(definite(x)),
    "cumprod": lambda x: x.cumprod(1),
    "cummax": lambda x: (x * x).cummax(1).values,
    "logcumsumexp": lambda x: torch.logcumsumexp(x * 3, 1),
    "logcumsumexp_method": lambda x: image(x).logcumsumexp(-2),
    "cdist": lambda x: torch.cdist(square(x), MATRIX),
    "cdist_1": lambda x: torch.cdist(square(x), MATRIX, p=1.0),
    "corrcoef": lambda x: x * torch.corrcoef(x).sum(),
    "cosine_similarity": lambda x: F.cosine_similarity(square(x), MATRIX, dim=-1),
    "cross": lambda x: torch.linalg.cross(x[:, :3], x[:, 3:6] ** 2),
    "det": lambda x: torch.det(square(x)).unsqueeze(1),
    "eigh": lambda x: torch.linalg.eigh(definite(x)).eigenvalues,
    "eigvalsh": lambda x: torch.linalg.eigvalsh(definite(x)),
    "fft": lambda x: torch.fft.fft(x).abs(),
    "fold": lambda x: F.fold(x.unflatten(1, (4, 4)) ** 2, (4, 4), 2, stride=2),
    "grid_sample": lambda x: F.grid_sample(
        image(x), torch.linspace(-0.8, 0.7, 90, dtype=x.dtype).reshape(5, 3, 3, 2)
    ),
    "grid_sample_grid": lambda x: F.grid_sample(
        MATRIX.expand(5, 1, 4, 4), torch.tanh(x[:, :8]).reshape(5, 2, 2, 2), align_corners=False
    ),
    "householder": lambda x: torch.linalg.householder_product(square(x), square(x)[:, 0]),
    "huber": lambda x: F.huber_loss(x * x, x, reduction="none"),
    "cross_entropy": lambda x: F.cross_entropy(x, torch.arange(5), reduction="none"),
    "igamma": lambda x: torch.igamma(torch.full_like(x, 2.0), x * x + 0.5),
    "inverse": lambda x: torch.inverse(square(x)),
    "kron": lambda x: torch.stack([torch.kron(row[:4], row[4:]) for row in x]),
    "kthvalue": lambda x: (x * x).kthvalue(2, 1).values,
    "local_response_norm": lambda x: F.local_response_norm(image(x).expand(5, 3, 4, 4), 2),
    "logdet": lambda x: torch.logdet(definite(x)).unsqueeze(1),
    "lstsq": lambda x: torch.linalg.lstsq(square(x)[:, :, :2], square(x)[:, :, 2:]).solution,
    "lu": lambda x: torch.linalg.lu(square(x)).U,
    "matrix_exp": lambda x: torch.matrix_exp(square(x) * 0.3),
    "matrix_power": lambda x: torch.linalg.matrix_power(square(x), 3),
    "median": lambda x: (x * x)[:, :15].median(1).values,
    "mode": lambda x: x.mode(1).values,
    "multigammaln": lambda x: torch.special.multigammaln(x * x + 2, 2),
    "nanmedian": lambda x: (x * x).nanmedian(1).values,
    "normalize": lambda x: F.normalize(x),
    "pairwise_distance": lambda x: F.pairwise_distance(x, x.flip(1) * 2 + 1).unsqueeze(1),
    "pinv": lambda x: torch.linalg.pinv(square(x)[:, :, :3]),
    "pixel_shuffle": lambda x: F.pixel_shuffle(x.reshape(5, 4, 2, 2) ** 2, 2),
    "polygamma": lambda x: torch.polygamma(1, x * x + 0.5),
    "qr": lambda x: torch.linalg.qr(square(x)).R,
    "quantile": lambda x: (x * x).quantile(0.3, 1),
    "renorm": lambda x: x.renorm(2, 0, 1.0),
    "rms_norm": lambda x: F.rms_norm(x, (16,)),
    "scatter_reduce": lambda x: torch.ones_like(x).scatter_reduce(
        1, torch.arange(16).expand(5, 16) % 3, x, "prod"
    ),
    "slogdet": lambda x: torch.linalg.slogdet(square(x)).logabsdet.unsqueeze(1),
    "softmax_dtype": lambda x: torch.softmax(x, 1, dtype=torch.float64),
    "solve": lambda x: torch.linalg.solve(square(x), square(x)[..., :2] ** 2),
    "sort": lambda x: (x * x).sort(1).values,
    "stft": lambda x: torch.stft(
        x, 8, window=torch.ones(8, dtype=x.dtype), return_complex=True
    ).abs(),
    "svdvals": lambda x: torch.linalg.svdvals(square(x)),
    "take_along_dim": lambda x: torch.take_along_dim(x * x, x.argsort(1)[:, :3], 1),
    "topk": lambda x: (x * x).topk(3, 1).values,
    "trapezoid": lambda x: torch.trapezoid(x * x, dim=1),
    "tensor_unfold": lambda x: (x * x).unfold(1, 3, 2),
    "unfold": lambda x: F.unfold(image(x) ** 2, 2),
    "vector_norm": lambda x: torch.linalg.vector_norm(square(x), 3, -1),
    "zeta": lambda x: torch.special.zeta(torch.full_like(x, 3.0), x * x + 1),
    "xlog1py": lambda x: torch.special.xlog1py(x, x * x),
}


# old torches cannot differentiate these twice
NEW = {"grid_sample_grid": "grid_sample"}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.filterwarnings("ignore")
def test_functions_with_and_without_rules(name):
    reference = None
    if name.startswith("logcumsumexp"):
        dim = 1 if name == "logcumsumexp" else -2
        reference = _cumulated(dim)
    if name.startswith("cdist"):
        p = 1.0 if name == "cdist_1" else 2.0

        def reference(x):
            return (square(x).unsqueeze(-2) - MATRIX).norm(p, -1)

    if name == "grid_sample":
        reference = as_matrix(FUNCTIONS[name], 5, 16)
    check = assert_propagates
    if name in NEW:
        check = functools.partial(assert_propagates_or_refuses, name=NEW[name])
    check(FUNCTIONS[name], *samples(5, 16), rtol=1e-9, reference=reference)


UNSTEADY = {"mode", "kron"}


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in UNSTEADY])
@pytest.mark.filterwarnings("ignore")
def test_functions_against_finite_differences(name):
    """Autograd twice is the reference elsewhere; here nothing but the function's values is."""
    function, (x, tangents), step = FUNCTIONS[name], samples(5, 16), 1e-5
    if name in NEW and not differentiates_twice(function, x, tangents):
        return
    x = x.requires_grad_()
    _, dy = propagate(function, x, tangents)
    for t in range(tangents.shape[1]):
        numeric = function(x + step * tangents[:, t]) - function(x - step * tangents[:, t])
        torch.testing.assert_close(dy[:, t], numeric / (2 * step), rtol=1e-5, atol=1e-6)

    def penalty(x):
        return ((propagate(function, x, tangents)[1] - 0.3) ** 2).sum()

    gradient = penalty(x)
    (gradient,) = torch.autograd.grad(gradient, x) if gradient.requires_grad else (x * 0,)
    direction = tangents[:, 0]
    numeric = (penalty(x + step * direction) - penalty(x - step * direction)) / (2 * step)
    exact = (gradient * direction).sum()
    torch.testing.assert_close(exact, numeric, rtol=1e-5, atol=1e-5)


def _cumulated(dim):
    def reference(x):
        x = x * 3 if dim == 1 else image(x)
        parts = [x.narrow(dim, 0, i + 1).logsumexp(dim) for i in range(x.shape[dim])]
        return torch.stack(parts, dim)

    return reference


def without_rules(function):
    """Differentiate a function of one tensor although rules exist."""

    def forward(x):
        return fallback.differentiate(function, (x,), {}) if is_dual(x) else function(x)

    return forward


WITH_RULES = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "sum": lambda x: x.sum(1),
    "product": lambda x: x * x.sin(),
    "linear": lambda x: x * 2 + 1,
    "step": lambda x: x.sign(),
}


@pytest.mark.parametrize("name", WITH_RULES)
def test_differentiation_agrees_where_rules_exist(name):
    assert_propagates(without_rules(WITH_RULES[name]), *samples(5, 4))


def test_parameters_among_the_arguments_get_their_gradients():
    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(MATRIX.clone())

        def forward(self, x):
            if not is_dual(x):
                return F.linear(torch.tanh(x @ self.weight), self.weight)
            hidden = fallback.differentiate(torch.matmul, (x, self.weight), {})
            hidden = fallback.differentiate(torch.tanh, (hidden,), {})
            return fallback.differentiate(F.linear, (hidden, self.weight), {})

    assert_propagates(Layer(), *samples(5, 4))


def test_results_of_any_structure():
    x, tangents = samples(5, 4)
    value = Dual(x, tangents.transpose(0, 1))

    def function(x):
        return {"no": 1}, [x * x, (x.argmax(1), "text")], torch.ones(2)

    with torch.enable_grad():
        _, (y, (index, text)), plain = fallback.differentiate(function, (value,), {})
        pair = fallback.differentiate(torch.max, (value, 1), {})
    assert is_dual(y) and not is_dual(index) and text == "text" and not is_dual(plain)
    torch.testing.assert_close(y.tangents, 2 * x * value.tangents)
    assert is_dual(pair.values) and pair.indices.dtype == torch.int64


@pytest.mark.parametrize("function", [torch.bernoulli, F.gumbel_softmax, F.fractional_max_pool2d])
def test_random_numbers_are_those_of_a_plain_pass(function):
    def forward(x):
        if function is F.fractional_max_pool2d:
            return function(x.reshape(5, 1, 4, 4), 2, output_size=2)
        return function(torch.sigmoid(x)) + x

    x, tangents = samples(5, 16)
    torch.manual_seed(0)
    y, _ = propagate(forward, x, tangents)
    after = torch.rand(1)
    torch.manual_seed(0)
    torch.testing.assert_close(y, forward(x))
    assert torch.equal(after, torch.rand(1))


def test_random_numbers_are_restored_before_another_attempt():
    drawn = []

    def function(x):
        drawn.append(torch.rand(1).item())
        if len(drawn) == 1:
            raise RuntimeError("no formula")
        return x * drawn[-1]

    x, tangents = samples(5, 4)
    forward = without_rules(function)
    _, dy = propagate(forward, x, tangents)
    assert drawn[0] == drawn[1]
    torch.testing.assert_close(dy, tangents * drawn[0])


@pytest.mark.parametrize(
    "name, function",
    [
        ("multi_margin_loss", lambda x: F.multi_margin_loss(x, torch.arange(5), reduction="none")),
        ("segment_reduce", lambda x: torch.segment_reduce(x, "sum", lengths=torch.tensor([2, 3]))),
        ("embedding_bag", lambda x: x @ F.embedding_bag(torch.ones(1, 1).long(), x).T),
    ],
)
def test_what_torch_cannot_differentiate_twice_is_refused_by_name(name, function):
    with pytest.raises((NotImplementedError, TypeError), match=name):
        propagate(function, *samples(5, 6))


def test_a_wrong_call_fails_with_torch_own_message():
    with pytest.raises(RuntimeError, match="must match the size|shapes cannot be multiplied"):
        propagate(lambda x: torch.cumprod(x, 1) @ torch.ones(9, 2, dtype=x.dtype), *samples(5, 4))
    with pytest.raises(IndexError, match="out of range"):
        propagate(lambda x: torch.cumprod(x, 7), *samples(5, 4))


def test_torch_functions_written_in_python_are_entered():
    calls = []

    def spy(func, *args):
        calls.append(func.__name__)
        return original(func, *args)

    original = fallback._enter
    with mock.patch.object(fallback, "_enter", spy):
        assert_propagates(F.normalize, *samples(5, 4))
    assert calls == ["normalize"]


def test_a_function_that_torch_cannot_differentiate_at_all_has_no_tangents():
    x, tangents = samples(5, 4)
    _, dy = propagate(lambda x: x * torch.special.bessel_j0(x.detach()), x, tangents)
    torch.testing.assert_close(dy, torch.special.bessel_j0(x).unsqueeze(1) * tangents)


def test_results_that_do_not_depend_on_the_samples_have_tangents_of_zero():
    def function(x):
        sign, logarithm = torch.linalg.slogdet(square(x))
        return torch.stack([sign, logarithm], 1)

    assert_propagates(function, *samples(5, 16))


def test_a_method_whose_arguments_stand_in_another_order():
    def function(x):
        return torch.polygamma(1, x * x + 1) + (x * x + 1).polygamma(1)

    assert_propagates(function, *samples(5, 4))


def test_misleading_derivatives_are_refused():
    part = torch.zeros(2, dtype=torch.float64)
    with pytest.raises(NotImplementedError, match="as_strided_scatter.*overwrites"):
        propagate(lambda x: torch.as_strided_scatter(x, part, (2,), (1,)), *samples(5, 4))
