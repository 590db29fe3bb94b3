"""Linear layers and activations in one piece: the same as by the rules, back and twice back too."""

import contextlib

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from sktangent._speed import chains, products
from sktangent._speed.chains import evaluate, find_chain
from sktangent._speed.reverse_chains import takes_less
from sktangent.modules import MLP
from sktangent.propagation import propagate, register_rule
from sktangent.propagation.dual import _RULES, Dual

pytestmark = pytest.mark.usefixtures("seeded", "way")


@pytest.fixture(params=["forward", "reverse"])
def way(request, monkeypatch):
    """Let tangents go forward, or outputs back wherever that can be."""

    monkeypatch.setattr(chains, "takes_less", lambda *args: request.param == "reverse")


def draw(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def chain(*layers):
    return nn.Sequential(*layers).double()


ACTIVATIONS = [nn.GELU, nn.ReLU, nn.Sigmoid, nn.SiLU, nn.Tanh]
CHAINS = {
    **{
        act.__name__: lambda act=act: chain(nn.Linear(3, 5), act(), nn.Linear(5, 2))
        for act in ACTIVATIONS
    },
    "two hidden layers": lambda: chain(
        nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4), nn.GELU(), nn.Linear(4, 2)
    ),
    "no bias": lambda: chain(nn.Linear(3, 5, bias=False), nn.SiLU(), nn.Linear(5, 2, bias=False)),
    "no activation": lambda: chain(nn.Linear(3, 5), nn.Identity(), nn.Linear(5, 2)),
    "one layer": lambda: chain(nn.Linear(3, 2)),
    "in place": lambda: chain(nn.Linear(3, 5), nn.ReLU(inplace=True), nn.Linear(5, 2)),
    "MLP": lambda: MLP(3, 2, (6, 4), "tanh").double(),
    "flattened": lambda: chain(nn.Flatten(), nn.Linear(3, 5), nn.GELU(), nn.Linear(5, 2)),
    "shared": lambda: (lambda layer: chain(nn.Linear(3, 4), layer, nn.Tanh(), layer))(
        nn.Linear(4, 4)
    ),
}
every_chain = pytest.mark.parametrize("build", CHAINS.values(), ids=CHAINS)


def by_rules(module, x, tangents):
    return propagate(lambda x: module(x), x, tangents)


def gradients(propagation, module, x, tangents, **kwargs):
    y, dy = propagation(module, x, tangents)
    wanted = [p for p in (x, tangents, *module.parameters()) if p.requires_grad]
    loss = (y.exp().sum() + (dy * dy.detach().cos()).sum() + (dy**2).sum()) / 3
    return (y, dy, *torch.autograd.grad(loss, wanted, **kwargs))


def assert_same(module, x, tangents):
    assert find_chain(module, x, tangents) is not None
    torch.testing.assert_close(
        gradients(propagate, module, x, tangents), gradients(by_rules, module, x, tangents)
    )


@every_chain
@pytest.mark.parametrize("n_tangents", [1, 4])
def test_values_and_gradients_are_those_of_the_rules(build, n_tangents):
    assert_same(build(), draw(7, 3), draw(7, n_tangents, 3))
    assert_same(build(), draw(7, 3).requires_grad_(), draw(7, n_tangents, 3).requires_grad_())


@every_chain
def test_derivatives_against_finite_differences(build):
    module, x, tangents = build(), draw(4, 3).requires_grad_(), draw(4, 2, 3).requires_grad_()
    inputs = (x, tangents, *module.parameters())

    def outputs(x, tangents, *params):
        return propagate(module, x, tangents)

    torch.autograd.gradcheck(outputs, inputs)
    torch.autograd.gradgradcheck(outputs, inputs)


@every_chain
def test_tangents_that_are_the_same_for_all_samples(build):
    basis = torch.eye(3, dtype=torch.float64)
    assert_same(build(), draw(7, 3), basis.expand(7, 3, 3))
    assert_same(build(), draw(7, 3).requires_grad_(), basis.requires_grad_().expand(7, 3, 3))
    assert_same(build(), draw(1, 3), basis.expand(1, 3, 3))


@pytest.mark.parametrize("frozen", [(0,), (0, 1), (2, 3), (0, 1, 2, 3), (1, 4)])
def test_parameters_that_are_not_trained(frozen):
    module = CHAINS["two hidden layers"]()
    for i, parameter in enumerate(module.parameters()):
        parameter.requires_grad_(i not in frozen)
    assert_same(module, draw(7, 3), draw(7, 2, 3))
    assert_same(module, draw(7, 3).requires_grad_(), draw(7, 2, 3))


def test_images_are_flattened():
    for module in (chain(nn.Flatten(), nn.Linear(12, 2)), MLP(12, 2, 4).double()):
        x, tangents = draw(5, 3, 4).requires_grad_(), draw(5, 2, 3, 4).requires_grad_()
        assert_same(module, x, tangents)


def test_tangents_in_any_order_of_memory():
    x, tangents = draw(3, 7).t(), draw(2, 7, 3).transpose(0, 1)
    assert_same(CHAINS["GELU"](), x, tangents)
    assert_same(CHAINS["GELU"](), x, tangents.requires_grad_())


def test_going_back_twice_gives_the_same():
    module, x, tangents = CHAINS["two hidden layers"](), draw(5, 3), draw(5, 2, 3)
    y, dy = propagate(module, x, tangents)
    loss = y.square().sum() + dy.square().sum()
    found = [torch.autograd.grad(loss, module.parameters(), retain_graph=True) for _ in range(2)]
    torch.testing.assert_close(*found, rtol=0, atol=0)


@every_chain
def test_gradients_that_can_be_differentiated_again(build):
    module, x, tangents = build(), draw(5, 3), draw(5, 2, 3)
    torch.testing.assert_close(
        gradients(propagate, module, x, tangents, create_graph=True),
        gradients(by_rules, module, x, tangents),
    )


def test_tangents_that_depend_on_the_samples():
    module = CHAINS["GELU"]()
    x = draw(5, 3).requires_grad_()

    def gradient(way, **kwargs):
        dy = way(module, x, torch.stack([x.roll(1, 1), x**2], 1))[1]
        return torch.autograd.grad(dy.sum(), x, **kwargs)[0]

    for create_graph in (False, True):
        found = gradient(propagate, create_graph=create_graph)
        torch.testing.assert_close(found.detach(), gradient(by_rules))


@pytest.mark.parametrize("create_graph", [False, True])
def test_a_single_input_that_needs_a_gradient(create_graph):
    module = chain(nn.Linear(3, 2)).requires_grad_(False)
    x, tangents = draw(5, 3), draw(5, 2, 3).requires_grad_()
    dy = propagate(module, x, tangents)[1]
    found = torch.autograd.grad(dy.sum(), tangents, create_graph=create_graph)[0]
    torch.testing.assert_close(found, module[0].weight.sum(0).expand(5, 2, 3))
    module[0].bias.requires_grad_()
    y = propagate(module, x, tangents.detach())[0]
    found = torch.autograd.grad(y.sum(), module[0].bias, create_graph=create_graph)[0]
    torch.testing.assert_close(found, torch.full((2,), 5.0, dtype=torch.float64))


@pytest.mark.parametrize("index", [0, 1])
def test_many_gradients_at_once(index):
    module, x, tangents = CHAINS["two hidden layers"](), draw(4, 3), draw(4, 2, 3)
    found = []
    for way in (propagate, by_rules):
        output = way(module, x, tangents)[index]
        bars = torch.eye(output.numel(), dtype=torch.float64).view(-1, *output.shape)
        weight = module[0].weight
        found += torch.autograd.grad(output, weight, bars, is_grads_batched=True)
    torch.testing.assert_close(*found)


def test_jacobians_of_derivatives():
    module, x, tangents = CHAINS["GELU"](), draw(3, 3), draw(3, 2, 3)
    found = [
        torch.autograd.functional.jacobian(
            lambda x, way=way: way(module, x, tangents)[1], x, vectorize=vectorize
        )
        for way in (propagate, by_rules)
        for vectorize in (False, True)
    ]
    for other in found[1:]:
        torch.testing.assert_close(found[0], other)


def test_going_back_under_autocast():
    module, x, tangents = CHAINS["GELU"]().float(), draw(5, 3).float(), draw(5, 2, 3).float()
    y, dy = propagate(module, x, tangents)
    loss = y.sum() + dy.square().sum()
    with torch.autocast("cpu", torch.bfloat16):
        found = torch.autograd.grad(loss, module.parameters())
    y, dy = propagate(module, x, tangents)
    loss = y.sum() + dy.square().sum()
    torch.testing.assert_close(found, torch.autograd.grad(loss, module.parameters()))


def test_without_memory():
    module = CHAINS["GELU"]().to("meta")
    y, dy = propagate(module, draw(5, 3).to("meta"), draw(5, 2, 3).to("meta"))
    assert (y.shape, dy.shape) == ((5, 2), (5, 2, 2))


def test_one_of_the_two_outputs_is_enough():
    module, x, tangents = CHAINS["GELU"](), draw(5, 3), draw(5, 2, 3)
    for index in (0, 1):
        losses = [way(module, x, tangents)[index].square().sum() for way in (propagate, by_rules)]
        found = [torch.autograd.grad(loss, module[0].weight)[0] for loss in losses]
        torch.testing.assert_close(*found)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients(mode):
    module, x, tangents = CHAINS["GELU"](), draw(5, 3), draw(5, 2, 3)
    with mode():
        found = propagate(module, x, tangents)
    assert not any(part.requires_grad for part in found)
    torch.testing.assert_close(found, by_rules(module, x, tangents), check_layout=False)


class Own(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def hooked(register, hook):
    def build():
        module = CHAINS["Tanh"]()
        getattr(module[0], register)(hook)
        return module

    return build


def patched():
    module, other = CHAINS["Tanh"](), nn.Linear(3, 5).double()
    module[0].forward = lambda x: other(x)
    return module


def hooked_flatten():
    module = CHAINS["flattened"]()
    module[0].register_forward_hook(lambda module, args, y: 3 * y)
    return module


NO_CHAINS = {
    "a forward hook": hooked("register_forward_hook", lambda module, args, y: 3 * y),
    "a hook before": hooked("register_forward_pre_hook", lambda module, args: (args[0] + 1,)),
    "a forward of its own": patched,
    "a subclass": lambda: chain(Own(3, 5), nn.Tanh(), nn.Linear(5, 2)),
    "a parametrization": lambda: chain(
        parametrizations.weight_norm(nn.Linear(3, 5)), nn.Linear(5, 2)
    ),
    "a hook on what flattens": hooked_flatten,
    "another GELU": lambda: chain(nn.Linear(3, 5), nn.GELU("tanh"), nn.Linear(5, 2)),
    "two activations": lambda: chain(nn.Linear(3, 5), nn.Tanh(), nn.SiLU(), nn.Linear(5, 2)),
    "an activation at the end": lambda: chain(nn.Linear(3, 2), nn.Tanh()),
    "an activation at the start": lambda: chain(nn.Tanh(), nn.Linear(3, 2)),
    "another layer": lambda: chain(nn.Linear(3, 5), nn.LayerNorm(5), nn.Linear(5, 2)),
    "nothing": chain,
}


@pytest.mark.parametrize("build", NO_CHAINS.values(), ids=NO_CHAINS)
def test_other_modules_go_through_the_rules(build):
    module, x, tangents = build(), draw(5, 3), draw(5, 2, 3)
    assert find_chain(module, x, tangents) is None
    y, dy = propagate(module, x, tangents)
    torch.testing.assert_close(y, module(x))
    torch.testing.assert_close(dy[:, 0], torch.func.jvp(module, (x,), (tangents[:, 0],))[1])


def test_classes_that_are_changed_go_through_the_rules(monkeypatch):
    module, x, tangents = CHAINS["Tanh"](), draw(5, 3), draw(5, 2, 3)
    with monkeypatch.context() as patch:
        patch.setattr(nn.Tanh, "forward", lambda self, x: x.sin())
        assert find_chain(module, x, tangents) is None
    assert find_chain(module, x, tangents) is not None

    class Twice(nn.Sequential):
        def __call__(self, x):
            return 2 * super().__call__(x)

    assert find_chain(Twice(*module), x, tangents) is None


def test_samples_of_more_axes_go_through_the_rules():
    module, x, tangents = CHAINS["GELU"](), draw(5, 4, 3), draw(5, 2, 4, 3)
    assert find_chain(module, x, tangents) is None
    assert propagate(module, x, tangents)[1].shape == (5, 2, 4, 2)


def test_modes_see_every_function():
    module, x, tangents = CHAINS["GELU"](), draw(5, 3), draw(5, 2, 3)
    modes = [
        torch.autocast("cpu", torch.bfloat16),
        torch.overrides.BaseTorchFunctionMode(),
        torch.utils._python_dispatch.TorchDispatchMode(),
        torch.autograd.forward_ad.dual_level(),
    ]
    for mode in modes:
        with mode:
            assert find_chain(module, x, tangents) is None
    assert find_chain(module, x, tangents) is not None


def test_transformations_of_functions():
    module, x, tangents = CHAINS["GELU"](), draw(5, 3), draw(5, 2, 3)
    expected = by_rules(module, x, tangents)
    by_sample = torch.func.vmap(lambda x, t: propagate(module, x[None], t[None]))(x, tangents)
    for found, wanted in zip(by_sample, expected, strict=True):
        torch.testing.assert_close(found[:, 0], wanted)
    ways = [
        torch.func.jvp(lambda x, way=way: way(module, x, tangents)[1], (x,), (tangents[:, 0],))
        for way in (propagate, by_rules)
    ]
    torch.testing.assert_close(*ways)


@contextlib.contextmanager
def rule_for(function):
    before = _RULES[function]
    try:
        yield register_rule(function)
    finally:
        _RULES[function] = before


def test_a_rule_of_the_users_own_is_followed():
    module, x, tangents = CHAINS["ReLU"](), draw(5, 3), draw(5, 2, 3)
    with rule_for(nn.functional.relu) as register:
        register(lambda input, inplace=False: Dual(input.primal.relu(), input.tangents))
        dy = propagate(module, x, tangents)[1]
    torch.testing.assert_close(dy, tangents @ module[0].weight.T @ module[2].weight.T)


def test_a_hook_for_all_modules_is_called():
    seen = []
    handle = nn.modules.module.register_module_forward_hook(lambda *args: seen.append(args[0]))
    try:
        propagate(CHAINS["GELU"](), draw(5, 3), draw(5, 2, 3))
    finally:
        handle.remove()
    assert len(seen) == 4


def test_wrong_samples_fail_as_they_do_in_the_module():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        propagate(CHAINS["GELU"](), draw(5, 4), draw(5, 2, 4))
    with pytest.raises(RuntimeError, match="dtype"):
        propagate(CHAINS["GELU"](), draw(5, 3).float(), draw(5, 2, 3).float())


@pytest.fixture
def pieces(monkeypatch):
    """Let every chain be evaluated in one piece, and count those that are."""
    done = []
    outputs = chains.Chain.outputs

    def counted(self, x):
        done.append(self)
        return outputs(self, x)

    monkeypatch.setattr(chains.Chain, "outputs", counted)
    monkeypatch.setattr(chains, "_has_faster_layers", lambda module, x: True)
    return done


@every_chain
def test_outputs_alone(pieces, build):
    module, x = build(), draw(7, 3)
    y = evaluate(module, x)
    assert len(pieces) == 1
    torch.testing.assert_close(y, module(x))
    wanted = list(module.parameters())
    found = torch.autograd.grad(y.sin().sum(), wanted)
    torch.testing.assert_close(found, torch.autograd.grad(module(x).sin().sum(), wanted))


@pytest.mark.parametrize("build", NO_CHAINS.values(), ids=NO_CHAINS)
def test_outputs_of_other_modules(pieces, build):
    module, x = build(), draw(7, 3)
    torch.testing.assert_close(evaluate(module, x), module(x))
    assert not pieces


def test_in_one_piece_only_where_a_product_is_large(monkeypatch):
    module, x = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)), draw(7, 3).float()
    monkeypatch.setattr(products, "_is_for_onednn", lambda x: x.dtype is torch.float32)
    for size, expected in ((7 * 3 * 5, True), (7 * 3 * 5 + 1, False)):
        monkeypatch.setattr(products, "_MIN_WORK", size)
        assert chains._has_faster_layers(module, x) is expected
        assert not chains._has_faster_layers(module, x.double())
        assert not chains._has_faster_layers(module[0], x)


def test_outputs_go_back_where_that_takes_less():
    def is_less(sizes, n_tangents, are_shared=False):
        shapes = [(n_out, n_in) for n_in, n_out in zip(sizes, sizes[1:], strict=False)]
        return takes_less(shapes, n_tangents, are_shared)

    assert is_less((150, 100, 2), 5)
    assert is_less((20, 100, 1), 20, are_shared=True)
    assert not is_less((64, 100, 10), 6)
    assert not is_less((784, 30, 2), 6)
    assert not is_less((700, 100, 2), 6, are_shared=True)  # once for all through the first layer


@every_chain
@pytest.mark.parametrize("is_shared", [False, True])
def test_what_comes_out_can_be_changed(build, is_shared):
    module, x = build(), draw(7, 3)
    tangents = draw(1, 4, 3).expand(7, 4, 3) if is_shared else draw(7, 4, 3)
    y, dy = propagate(module, x, tangents)
    expected = dy.detach() - 1
    dy -= 1
    torch.testing.assert_close(dy, expected)
    torch.autograd.grad((y.sum() + dy.view(-1).square().sum()), [*module.parameters()])
