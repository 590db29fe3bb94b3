"""Compiled propagation: the same values and gradients, and a warning where it cannot be had."""

import copy
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sktangent._speed import products, shortcuts
from sktangent.propagation import propagate
from sktangent.propagation.compiling import CompiledPropagation


def gradients(propagation, module, x, tangents):
    y, dy = propagation(x, tangents)
    (y.square().sum() + dy.square().sum()).backward()
    grads = [None if p.grad is None else p.grad.clone() for p in module.parameters()]
    module.zero_grad()
    return y.detach(), dy.detach(), grads


def assert_same(module, x, tangents, **kwargs):
    twin = copy.deepcopy(module)
    compiled = CompiledPropagation(module, **{"backend": "aot_eager", **kwargs})
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        found = gradients(compiled, module, x, tangents)
        again = gradients(compiled, module, x, tangents)
    expected = gradients(lambda x, t: propagate(twin, x, t), twin, x, tangents)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(again[1], expected[1])
    expected = gradients(lambda x, t: propagate(twin, x, t), twin, x, tangents)
    return twin


@pytest.fixture(autouse=True)
def _fresh(seeded):
    with shortcuts(True):
        yield
    torch.compiler.reset()


def images():
    return torch.randn(4, 2, 6, 6), torch.randn(4, 3, 2, 6, 6)


MODULES = {
    "mlp": lambda: nn.Sequential(nn.Flatten(), nn.Linear(72, 8), nn.ELU(), nn.Linear(8, 3)),
    "conv": lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.SiLU(), nn.MaxPool2d(2), nn.Flatten()),
    "layer norm": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(72, 8), nn.LayerNorm(8), nn.Linear(8, 3)
    ),
    "relu in place": lambda: nn.Sequential(nn.Flatten(), nn.Linear(72, 8), nn.ReLU(inplace=True)),
}


@pytest.mark.parametrize("name", MODULES)
def test_values_and_gradients(name):
    assert_same(MODULES[name](), *images())


class PartlyConstant(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.outer = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x):
        h = self.inner(x)
        with torch.no_grad():
            size = 1 + h.abs().amax(1, keepdim=True)
            norm = self.outer.weight.square().sum()
        return self.outer(h / size) / norm + self.inner.weight.detach().sum()


def test_what_is_computed_without_gradients_is_constant():
    assert_same(PartlyConstant(), torch.randn(5, 3), torch.randn(5, 2, 3))


def test_weights_normalized_by_a_power_iteration():
    assert_same(
        nn.utils.parametrizations.spectral_norm(nn.Linear(3, 4)),
        torch.randn(5, 3),
        torch.randn(5, 2, 3),
    )


class Hidden(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.layer, self.function = nn.Linear(3, 4), function

    def forward(self, x):
        return self.function(self.layer(x))


def hard_gumbel(h):
    """Detach within a function that torch wrote in Python."""
    soft = F.softmax(h, 1)
    return F.gumbel_softmax(h, hard=True) * soft


def positive(h):
    return torch.eye(4) + h[:, :, None] * h[:, None, :]


PARTS = {
    "detached": lambda h: h * h.detach().sin(),
    "data": lambda h: h * h.data,
    "straight through": lambda h: h + (h.round() - h).detach(),
    "detached by torch": hard_gumbel,
    "double precision": lambda h: h.double() * h.double().detach(),
    "a view as it is": lambda h: h.view_as(h) * h.expand_as(h) * h.real,
    # differentiated by autograd, from results that it saves
    "cholesky": lambda h: torch.linalg.cholesky(positive(h))[:, 3],
    "inverse": lambda h: torch.linalg.inv(positive(h))[:, 3],
    "bessel": torch.special.i0e,
}


@pytest.mark.parametrize("name", PARTS)
def test_what_is_detached_and_what_is_saved(name):
    module, data = Hidden(PARTS[name]), (torch.randn(5, 3), torch.randn(5, 2, 3))
    compiled = CompiledPropagation(module, backend="aot_eager")
    ways = (compiled, compiled, lambda x, t: propagate(module, x, t))
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for way in ways:
            torch.manual_seed(1)
            found.append(gradients(way, module, *data))
    torch.testing.assert_close(found[1], found[2])
    if name != "detached by torch":  # recording draws numbers of its own
        torch.testing.assert_close(found[0], found[2])


def overwrite(h):
    h = h * 2
    with torch.no_grad():
        h.clamp_(-1, 1)
    return h * h


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 1

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad


class Custom(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.layer, self.function = nn.LayerNorm(3), function

    def forward(self, x):
        return self.layer(x) * self.function(self.layer.weight)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Hidden(overwrite), "changes by clamp_"),
        (lambda: Custom(Doubled.apply), "custom torch.autograd.Function"),
        (lambda: Custom(lambda w: w.clone().detach_()), "detaches in place"),
    ],
)
def test_what_a_recording_cannot_follow_runs_uncompiled(build, message):
    module, data = build(), (torch.randn(5, 3), torch.randn(5, 2, 3))
    compiled = CompiledPropagation(module, backend="aot_eager")
    with pytest.warns(UserWarning, match=message):
        found = gradients(compiled, module, *data)
    torch.testing.assert_close(
        found, gradients(lambda x, t: propagate(module, x, t), module, *data)
    )


def test_running_statistics_are_updated_once_a_pass():
    module = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten())
    twin = assert_same(module, *images())
    assert module[1].num_batches_tracked == twin[1].num_batches_tracked == 2
    torch.testing.assert_close(module[1].running_var, twin[1].running_var)


def test_evaluation_mode_is_another_function():
    module = nn.Sequential(nn.Flatten(), nn.Linear(72, 8), nn.BatchNorm1d(8))
    assert_same(module, *images())
    assert_same(module.eval(), *images())


def test_by_the_default_compiler():
    assert_same(MODULES["mlp"](), *images(), backend="inductor")


def test_parameters_that_change_are_seen():
    module, (x, tangents) = MODULES["mlp"](), images()
    compiled = CompiledPropagation(module, backend="aot_eager")
    compiled(x, tangents)
    with torch.no_grad():
        module[1].weight.mul_(2)
    torch.testing.assert_close(compiled(x, tangents), propagate(module, x, tangents))


def test_many_shapes_run_uncompiled():
    module = MODULES["mlp"]()
    compiled = CompiledPropagation(module, backend="aot_eager")
    for n in range(1, 8):
        x, tangents = torch.randn(n, 72), torch.randn(n, 2, 72)
        torch.testing.assert_close(compiled(x, tangents), propagate(module, x, tangents))
    assert len(compiled._functions) == 4


class Branching(nn.Linear):
    def forward(self, x):
        y = super().forward(x)
        return y if y.sum() > 0 else 2 * y


def test_a_forward_that_looks_at_its_data_runs_uncompiled():
    module, x, tangents = Branching(3, 2), torch.randn(5, 3), torch.randn(5, 1, 3)
    compiled = CompiledPropagation(module)
    with pytest.warns(UserWarning, match="The training step is not compiled: .* set compile=False"):
        compiled(x, tangents)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for sign in (1, -1):
            torch.testing.assert_close(
                compiled(sign * x, tangents), propagate(module, sign * x, tangents)
            )


def test_chains_are_not_compiled():
    def broken(graph, inputs):
        raise AssertionError("nothing is to be compiled")

    module, x, tangents = nn.Sequential(nn.Linear(3, 2)), torch.randn(5, 3), torch.randn(5, 1, 3)
    compiled = CompiledPropagation(module, backend=broken)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        found = compiled(x, tangents)
    torch.testing.assert_close(found, propagate(module, x, tangents))


def test_a_compiler_that_is_not_there_is_told_of():
    def broken(graph, inputs):
        raise RuntimeError("no compiler at hand")

    module, x, tangents = nn.LayerNorm(3), torch.randn(5, 3), torch.randn(5, 1, 3)
    compiled = CompiledPropagation(module, backend=broken)
    with pytest.warns(UserWarning, match="no compiler at hand"):
        torch.testing.assert_close(compiled(x, tangents), propagate(module, x, tangents))


def normalized(width):
    return nn.Sequential(nn.Flatten(), nn.Linear(72, width), nn.LayerNorm(width))


def convolutional():
    return nn.Sequential(nn.Conv2d(2, 2, 1), nn.Flatten(), nn.Linear(72, 8))


@pytest.mark.parametrize(
    ("module", "is_compiled"),
    [(normalized(8), False), (normalized(7), True), (convolutional(), True)],
)
def test_products_that_are_faster_uncompiled(monkeypatch, module, is_compiled):
    compiled = []
    monkeypatch.setattr(
        torch, "compile", lambda module, **kwargs: compiled.append(module) or module
    )
    monkeypatch.setattr(products, "_is_for_onednn", lambda x: True)
    monkeypatch.setattr(products, "_MIN_WORK", 4 * 3 * 72 * 8)  # samples, tangents, inputs, outputs
    propagation = CompiledPropagation(module)
    for _ in range(2):
        propagation(*images())
    assert len(compiled) == is_compiled
