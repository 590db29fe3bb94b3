"""Names that a torch may lack: without each of them in turn, results stay right."""

import importlib.util
import pkgutil
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sktangent import TangentPropRegressor, _torch
from sktangent._speed import adam, products, shortcuts
from sktangent._speed.chains import evaluate, find_chain
from sktangent.propagation import propagate
from sktangent.propagation.compiling import CompiledPropagation
from sktangent.propagation.dual import Dual
from tests.propagation.reference import assert_propagates, samples

SOURCE = Path(_torch.__file__)
PACKAGE = SOURCE.parent


def looked_up():
    """List the names that are looked up, and the constants that hold those of attributes."""
    names = []
    resolve = pkgutil.resolve_name

    def noting(name):
        names.append(name)
        return resolve(name)

    pkgutil.resolve_name = noting
    try:
        fresh_copy()
    finally:
        pkgutil.resolve_name = resolve
    return sorted({*names, _torch._MAKE_FX, _torch._SET_EVAL_FRAME})


def fresh_copy():
    spec = importlib.util.spec_from_file_location("fresh_copy", SOURCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


NAMES = looked_up()
ATTRIBUTES = ["_BACKENDS", "_ORIGINAL", "_LEVEL", "_COMPILED_CALL", "_PARAMETERS", "_HOOKS"]
ATTRIBUTES += ["_STEP_HOOKS", "TENSOR_METHODS"]


@pytest.fixture(autouse=True)
def with_shortcuts():
    with shortcuts(True):
        yield


@pytest.fixture(params=[*NAMES, *ATTRIBUTES])
def missing(request, monkeypatch):
    """Let torch lack a name, as far as sktangent can see."""
    if request.param in ATTRIBUTES:
        value = getattr(_torch, request.param)
        renamed = "_gone" if isinstance(value, str) else ("_gone", *value[1:])
        monkeypatch.setattr(_torch, request.param, renamed)
        return request.param
    resolve = pkgutil.resolve_name

    def blind(name):
        if name == request.param:
            raise AttributeError(name)
        return resolve(name)

    monkeypatch.setattr(pkgutil, "resolve_name", blind)
    for name, value in vars(fresh_copy()).items():
        if not name.startswith("__"):
            monkeypatch.setattr(_torch, name, value)
    return request.param


def gradients(y, dy, module):
    loss = y.square().sum() + dy.square().sum()
    return [y, dy, *torch.autograd.grad(loss, list(module.parameters()))]


def mlp():
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2)).double()


def test_values_and_gradients(missing, seeded):
    data = samples(5, 4)
    assert_propagates(mlp(), *data)
    assert_propagates(nn.Sequential(mlp(), nn.Softmax(-1), nn.GELU(), nn.Linear(2, 2)), *data)
    assert_propagates(lambda x: torch.cumprod(x.unflatten(1, (2, 2)).norm(dim=2), 1), *data)


def test_hooks_and_compiled_calls_are_seen(missing, seeded):
    module, (x, tangents) = mlp(), samples(5, 4)
    handle = module[0].register_forward_hook(lambda module, args, y: 3 * y)
    assert_propagates(module, x, tangents)
    torch.testing.assert_close(evaluate(module, x), module(x))
    handle.remove()
    handle = nn.modules.module.register_module_forward_hook(lambda module, args, y: 2 * y)
    try:
        assert find_chain(module, x, tangents) is None
    finally:
        handle.remove()
    module.compile(backend="eager")
    torch.testing.assert_close(evaluate(module, x), module(x))
    torch.testing.assert_close(propagate(module, x, tangents)[0], module(x))


class Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 1

    @staticmethod
    def backward(ctx, grad):
        return -grad


def test_what_tangents_cannot_follow_is_refused(missing):
    with pytest.raises(TypeError, match="autograd.Function Reverse"):
        propagate(Reverse.apply, *samples(5, 4))
    value = Dual(torch.ones(2, 3), torch.ones(1, 2, 3))
    with pytest.raises(TypeError, match="compiled code"), torch._C.DisableTorchFunctionSubclass():
        torch.cumsum(value, 0)
    x, tangents = samples(5, 4)

    def forward(x):
        with torch.no_grad():
            scale = x.abs().max()
        return x * scale

    torch.testing.assert_close(propagate(forward, x, tangents)[1], tangents * x.abs().max())


def test_modes_and_transformations_are_seen(missing, seeded):
    module, (x, tangents) = mlp(), samples(5, 4)
    modes = [
        torch.overrides.BaseTorchFunctionMode(),
        torch.utils._python_dispatch.TorchDispatchMode(),
        torch.autograd.forward_ad.dual_level(),
    ]
    for mode in modes:
        with mode:
            assert find_chain(module, x, tangents) is None
    per_sample = torch.func.vmap(lambda x, t: propagate(module, x[None], t[None])[1][0])
    torch.testing.assert_close(per_sample(x, tangents), propagate(module, x, tangents)[1])
    dy = propagate(module, x, tangents)[1]
    bars = torch.eye(dy.numel(), dtype=dy.dtype).view(-1, *dy.shape)
    (at_once,) = torch.autograd.grad(
        dy, module[0].weight, bars, is_grads_batched=True, retain_graph=True
    )
    for bar, found in zip(bars[:3], at_once, strict=False):
        (one,) = torch.autograd.grad(dy, module[0].weight, bar, retain_graph=True)
        torch.testing.assert_close(found, one)


def test_products(missing, monkeypatch, seeded):
    monkeypatch.setattr(
        products, "_has_faster_onednn", lambda: torch.backends.mkldnn.is_available()
    )
    monkeypatch.setattr(products, "_MIN_WORK", 1)
    x, weight, bias = torch.randn(7, 3), torch.randn(5, 3), torch.randn(5)
    expected = nn.functional.linear(x, weight, bias)
    torch.testing.assert_close(products.linear(x, weight, bias), expected)
    assert products._has_faster_onednn() in (True, False)
    assert isinstance(_torch.processor(), dict)


def test_scripts(missing):
    function = _torch.scripted(torch.nn.functional.glu)
    torch.testing.assert_close(function(torch.ones(4)), torch.nn.functional.glu(torch.ones(4)))
    assert (function is torch.nn.functional.glu) == (missing == "torch:jit.script")


def test_steps_of_adam(missing, seeded):
    found = []
    for step in (adam.step, lambda optimizer: optimizer.step()):
        torch.manual_seed(1)
        module = mlp()
        optimizer = torch.optim.Adam(module.parameters(), fused=True)
        seen = []
        optimizer.register_step_post_hook(lambda *args, seen=seen: seen.append(1))
        for _ in range(3):
            module.zero_grad()
            module(torch.ones(2, 4, dtype=torch.float64)).square().sum().backward()
            step(optimizer)
        assert len(seen) == 3
        found.append([p.detach() for p in module.parameters()])
    torch.testing.assert_close(*found, rtol=0, atol=0)


OF_OPTIMIZERS = [name for name in NAMES if re.search("foreach|fused|optim", name)]
OF_COMPILERS = [name for name in NAMES if re.search("dynamo|make_fx", name)]


@pytest.mark.parametrize("missing", OF_OPTIMIZERS, indirect=True)
@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_fits(missing, optimizer, X, target):
    def fit():
        model = TangentPropRegressor(
            max_epochs=3, optimizer=optimizer, alpha=0.1, random_state=0, hidden_layer_sizes=5
        )
        return model.fit(X, target, derivatives=np.ones((60, 4))).predict(X)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = fit()
        with shortcuts(False):
            np.testing.assert_allclose(found, fit(), rtol=1e-6)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("missing", [*OF_COMPILERS, "_BACKENDS", "_ORIGINAL"], indirect=True)
def test_compilers(missing, seeded):
    module, (x, tangents) = nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 2)).double(), samples(5, 4)
    expected = gradients(*propagate(module, x, tangents), module)
    compiled = CompiledPropagation(module, backend="eager")
    torch.testing.assert_close(gradients(*compiled(x, tangents), module), expected)
    whole = torch.compile(module, backend="eager")
    torch.testing.assert_close(gradients(*propagate(whole, x, tangents), module), expected)
    propagating = _torch.outside_compilers(propagate.__wrapped__)
    caller = torch.compile(lambda x: 2 * propagating(module, x, tangents)[1], backend="eager")
    torch.testing.assert_close(caller(x), 2 * expected[1])
    torch.compiler.reset()


def test_packed_sequences_are_known():
    packed = torch.nn.utils.rnn.pack_padded_sequence

    with pytest.raises(TypeError, match="Packed sequences"):
        propagate(lambda x: packed(x, [3, 2], batch_first=True).data, *samples(2, 3, 4))


PRIVATE = re.compile(
    r"torch\._[A-Za-z]|torch\.ops\.mkldnn|\._cdata|from torch\._|import _\w+ .*torch"
    r"|_foreach_|_current_level|_compiled_call_impl|_forward_hooks|_step_pre_hooks|get_capabilities"
    r"|\b(Tensor|nn|F|optim|forward_ad|functional|conv|module)\._(?!_)"
)


def test_no_other_file_holds_such_names():
    held = [
        f"{path.name}: {line.strip()}"
        for path in PACKAGE.rglob("*.py")
        if path != SOURCE
        for line in path.read_text().splitlines()
        if PRIVATE.search(line.replace("sktangent import _torch", ""))
    ]
    assert not held
