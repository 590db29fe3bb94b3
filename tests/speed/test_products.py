"""Products by oneDNN: the same as torch's own, back and twice back, and only where nobody looks."""

import contextlib

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sktangent import _torch
from sktangent._speed import products
from sktangent._speed.products import linear
from sktangent.propagation import propagate

pytestmark = pytest.mark.usefixtures("seeded")


@pytest.fixture
def calls(monkeypatch):
    """Let oneDNN compute every product that it can, and count them."""
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")
    done = []
    by_onednn = products._by_onednn

    def counted(*args):
        done.append(args)
        return by_onednn(*args)

    monkeypatch.setattr(products, "_by_onednn", counted)
    monkeypatch.setattr(products, "_has_faster_onednn", lambda: True)
    monkeypatch.setattr(products, "_MIN_WORK", 1)
    monkeypatch.setattr(products, "_MIN_COLUMNS", 1)
    return done


def draw(*shape):
    return torch.randn(*shape)


FACTORS = {
    "rows": lambda: (draw(7, 3), draw(5, 3)),
    "more axes": lambda: (draw(4, 2, 3), draw(5, 3)),
    "one column": lambda: (draw(7, 3), draw(1, 3)),
    "one input": lambda: (draw(7, 1), draw(5, 1)),
    "transposed weight": lambda: (draw(7, 3), draw(3, 5).t()),
    "transposed rows": lambda: (draw(3, 7).t(), draw(5, 3)),
    "both transposed": lambda: (draw(3, 7).t(), draw(3, 5).t()),
    "parts of rows": lambda: (draw(14, 6)[::2, :3], draw(5, 3)),
    "repeated rows": lambda: (draw(1, 3).expand(7, 3), draw(5, 3)),
}
every_pair = pytest.mark.parametrize("factors", FACTORS.values(), ids=FACTORS)


def gradients(function, factors, *, twice):
    leaves = [factor.detach().requires_grad_() for factor in factors]
    y = function(*leaves)
    found = torch.autograd.grad(y.sin().sum(), leaves, create_graph=twice)
    if not twice:
        return y, *found
    return torch.autograd.grad(sum(part.square().sum() for part in found), leaves)


def assert_close(found, expected):
    """Compare with what was computed in double precision."""
    for part, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(part.double(), wanted, rtol=1e-5, atol=1e-4)


@every_pair
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("twice", [True, False])
def test_values_and_gradients(calls, factors, with_bias, twice):
    x, weight = factors()
    given = (x, weight, draw(len(weight))) if with_bias else (x, weight)
    found = gradients(linear, given, twice=twice)
    assert len(calls) >= 2  # the product and, back, at least that of the rows
    assert_close(found, gradients(F.linear, [g.double() for g in given], twice=twice))


STRIDES = {
    "a part as weight": lambda: (draw(7, 3), draw(10, 6)[::2, 3:]),
    "a repeated row as weight": lambda: (draw(7, 3), draw(1, 3).expand(5, 3)),
    "a repeated column as weight": lambda: (draw(7, 3), draw(5, 1).expand(5, 3)),
    "windows as weight": lambda: (draw(7, 3), draw(7).unfold(0, 3, 1)),
    "windows as rows": lambda: (draw(9).unfold(0, 3, 1), draw(5, 3)),
    "a column as bias": lambda: (draw(7, 3), draw(5, 3), draw(5, 2)[:, 0]),
    "a repeated bias": lambda: (draw(7, 3), draw(5, 3), draw(1).expand(5)),
}


@pytest.mark.parametrize("factors", STRIDES.values(), ids=STRIDES)
def test_strides_that_are_not_onednn_own(calls, factors):
    given = factors()
    found = gradients(linear, given, twice=False)
    assert_close(found, gradients(F.linear, [g.double() for g in given], twice=False))


def sparse_weight():
    return draw(7, 3), draw(5, 3).to_sparse_csr()


def sparse_rows():
    return draw(7, 3).to_sparse_csr(), draw(5, 3)


def nested_rows():
    return torch.nested.nested_tensor([draw(2, 3), draw(4, 3)]), draw(5, 3)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("factors", [sparse_weight, sparse_rows, nested_rows])
def test_other_layouts_stay_with_torch(calls, factors):
    x, weight = factors()
    for found, expected in zip(linear(x, weight), F.linear(x, weight), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert not calls


@every_pair
def test_without_gradients(calls, factors):
    x, weight = factors()
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            y = linear(x, weight)
        assert not y.requires_grad
        assert_close([y], [F.linear(x.double(), weight.double())])
    assert len(calls) == 2


@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_factors_that_need_no_gradient(calls, frozen):
    leaves = [draw(7, 3), draw(5, 3), draw(5)]
    for i, leaf in enumerate(leaves):
        leaf.requires_grad_(i != frozen)
    linear(*leaves).sum().backward()
    expected = [t.detach().double().requires_grad_(t.requires_grad) for t in leaves]
    F.linear(*expected).sum().backward()
    for leaf, wanted in zip(leaves, expected, strict=True):
        assert (leaf.grad is None) == (wanted.grad is None)
        assert leaf.grad is None or torch.allclose(leaf.grad.double(), wanted.grad, atol=1e-5)


def test_many_gradients_at_once(calls):
    x, weight = draw(4, 3), draw(2, 3).requires_grad_()
    bars = torch.eye(8).view(8, 4, 2)
    found = torch.autograd.grad(linear(x, weight), weight, bars, is_grads_batched=True)
    expected = torch.autograd.grad(F.linear(x, weight), weight, bars, is_grads_batched=True)
    torch.testing.assert_close(found, expected)


def seen_by(mode):
    @contextlib.contextmanager
    def enter(x):
        with mode():
            yield x

    return enter


@contextlib.contextmanager
def dual_number(x):
    with torch.autograd.forward_ad.dual_level():
        yield torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))


WATCHERS = {
    "autocast": seen_by(lambda: torch.autocast("cpu", torch.bfloat16)),
    "a function mode": seen_by(torch.overrides.BaseTorchFunctionMode),
    "a dispatch mode": seen_by(FlopCounterMode),
    "oneDNN turned off": seen_by(lambda: torch.backends.mkldnn.flags(enabled=False)),
    "forward mode": dual_number,
}


@pytest.mark.parametrize("watch", WATCHERS.values(), ids=WATCHERS)
def test_who_watches_sees_torch_own_function(calls, watch):
    x, weight = draw(7, 3), draw(5, 3)
    with watch(x) as x:
        y, expected = linear(x, weight), F.linear(x, weight)
    torch.testing.assert_close(y, expected, rtol=0, atol=0)
    assert not calls


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.*torch.jit.trace")
def test_transformations_see_torch_own_function(calls):
    x, weight = draw(7, 3), draw(5, 3)
    for function in (linear, F.linear):
        torch.func.vmap(lambda row, f=function: f(row[None], weight))(x)
        torch.func.grad(lambda x, f=function: f(x, weight).sum())(x)
    torch.jit.trace(linear, (x, weight), check_trace=False)
    assert not calls


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
def test_other_precisions_stay_with_torch(calls, kind):
    x, weight = draw(7, 3).to(kind), draw(5, 3).to(kind)
    torch.testing.assert_close(linear(x, weight), F.linear(x, weight), rtol=0, atol=0)
    assert not calls


@pytest.mark.parametrize(
    ("x", "weight", "bias"),
    [
        (draw(7, 4), draw(5, 3), None),
        (draw(7, 3), draw(5, 3).double(), None),
        (draw(7, 3), draw(5, 3), draw(4)),
        (draw(7, 3), draw(5, 3), draw(5).double()),
        (draw(7, 3), draw(5, 3), draw(5).to("meta")),
    ],
)
def test_what_does_not_fit_fails_as_in_torch(calls, x, weight, bias):
    with pytest.raises(RuntimeError) as by_torch:
        F.linear(x, weight, bias)
    with pytest.raises(RuntimeError) as by_us:
        linear(x, weight, bias)
    assert str(by_us.value) == str(by_torch.value)
    assert not calls


@pytest.mark.parametrize("as_chain", [True, False])
def test_a_network_is_propagated_as_in_double_precision(calls, as_chain):
    net = nn.Sequential(nn.Linear(6, 9), nn.GELU(), nn.Linear(9, 8), nn.Tanh(), nn.Linear(8, 2))
    x, tangents = draw(11, 6), draw(11, 3, 6)

    def outcome(net, *data):
        y, dy = propagate(net if as_chain else lambda x: net(x), *data)
        loss = y.square().sum() + dy.square().sum()
        return y, dy, *torch.autograd.grad(loss, list(net.parameters()))

    found = outcome(net, x, tangents)
    assert len(calls) > 10
    assert_close(found, outcome(net.double(), x.double(), tangents.double()))


def test_small_products_stay_with_torch(calls, monkeypatch):
    monkeypatch.setattr(products, "_MIN_WORK", 7 * 3 * 5)
    linear(draw(7, 3), draw(5, 3))
    assert len(calls) == 1
    linear(draw(6, 3), draw(5, 3))
    assert len(calls) == 1


def test_a_copy_of_the_rows_must_be_repaid(calls, monkeypatch):
    monkeypatch.setattr(products, "_MIN_COLUMNS", 6)
    linear(draw(7, 3), draw(5, 3))
    assert len(calls) == 1
    linear(draw(3, 7).t(), draw(5, 3))
    assert len(calls) == 1
    linear(draw(3, 7).t(), draw(6, 3))
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("processor", "expected"),
    [
        ({"cpu_name": "AMD EPYC 9654", "avx512_f": True}, True),
        ({"cpu_name": "AMD EPYC 7763", "avx512_f": False}, False),
        ({"cpu_name": "Intel(R) Xeon(R) Platinum 8480", "avx512_f": True}, False),
        ({}, False),
    ],
)
def test_on_which_processors_onednn_is_faster(monkeypatch, processor, expected):
    monkeypatch.setattr(_torch, "processor", lambda: processor)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    assert products._has_faster_onednn.__wrapped__() is expected
