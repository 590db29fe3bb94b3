import contextlib
import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.utils.checkpoint import checkpoint

from sktangent.propagation import propagate
from tests.propagation.reference import assert_has_rule, assert_propagates, samples


def mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 3)).double()


# What goes in and comes out --------------------------------------------------------------------


def test_shapes_and_values():
    module, (x, tangents) = mlp(), samples(5, 4)
    y, dy = propagate(module, x, tangents)
    jacobian = torch.func.vmap(torch.func.jacrev(module))(x)
    torch.testing.assert_close(y, module(x))
    torch.testing.assert_close(dy, torch.einsum("noi,nti->nto", jacobian, tangents))


@pytest.mark.parametrize("n_tangents", [0, 1, 20])
@pytest.mark.parametrize(
    "module", [mlp(), nn.Conv1d(2, 3, 2), torch.cumprod, nn.LSTM(2, 3)], ids=lambda m: str(m)[:6]
)
def test_any_number_of_tangents(module, n_tangents):
    def forward(x):
        if module is torch.cumprod:
            return torch.cumprod(x, 1)
        if isinstance(module, nn.Sequential):
            return module.double()(x)
        out = module.double()(x.unflatten(1, (2, 2)))
        return out[0] if isinstance(module, nn.LSTM) else out

    x, tangents = samples(5, 4, n_tangents=n_tangents)
    y, dy = propagate(forward, x, tangents)
    assert dy.shape == (5, n_tangents, *y.shape[1:])
    if n_tangents:
        assert_propagates(forward, x, tangents)


def test_no_samples():
    y, dy = propagate(mlp(), *samples(0, 4))
    assert y.shape == (0, 3) and dy.shape == (0, 3, 3)


def test_float32_and_strided_input():
    module, (x, tangents) = mlp().float(), samples(5, 4)
    x, tangents = x.float(), tangents.float().transpose(0, 1).contiguous().transpose(0, 1)
    y, dy = propagate(module, x.t().contiguous().t(), tangents)
    assert y.dtype == dy.dtype == torch.float32
    torch.testing.assert_close(y, module(x))


def test_a_module_that_ignores_its_input_has_zero_derivatives():
    weight = torch.ones(5, 2, requires_grad=True)
    y, dy = propagate(lambda x: weight * 2, *samples(5, 4))
    assert y.requires_grad and dy.shape == (5, 3, 2) and not dy.any()


def test_identity():
    x, tangents = samples(5, 4)
    y, dy = propagate(nn.Identity(), x, tangents)
    assert torch.equal(y, x) and torch.equal(dy, tangents)


@pytest.mark.parametrize(
    "x, tangents, error, message",
    [
        ([[1.0]], torch.ones(1, 1, 1), TypeError, "x must be a torch.Tensor, got list"),
        (torch.ones(2, 3).long(), torch.ones(2, 1, 3), TypeError, "x must be floating.*int64"),
        (torch.ones(2, 3), [1.0], TypeError, "tangents must be a torch.Tensor, got list"),
        (torch.ones(2, 3), torch.ones(2, 1, 3).double(), TypeError, "float32, got torch.float64"),
        (torch.ones(2, 3), torch.ones(2, 1, 4), ValueError, r"\(2, n_tangents, 3\).*\(2, 1, 4\)"),
        (torch.ones(2, 3), torch.ones(2, 3), ValueError, r"\(2, n_tangents, 3\).*\(2, 3\)"),
        (torch.ones(2, 3), torch.ones(2), ValueError, r"got \(2,\)"),
        (torch.tensor(1.0), torch.ones(1, 1), ValueError, "without axes"),
        (torch.ones(2, 3), torch.ones(2, 1, 3, device="meta"), ValueError, "device.*cpu.*meta"),
    ],
)
def test_arguments_are_checked(x, tangents, error, message):
    with pytest.raises(error, match=message):
        propagate(nn.Identity(), x, tangents)


@pytest.mark.parametrize(
    "forward, got", [(lambda x: (x, x), "tuple"), (lambda x: None, "NoneType"), (dict, "dict")]
)
def test_other_results_than_one_tensor_are_refused(forward, got):
    module = (lambda x: {"a": x}) if forward is dict else forward
    with pytest.raises(TypeError, match=f"one tensor, got {got}"):
        propagate(module, *samples(5, 4))


# Gradients off ------------------------------------------------------------------------------------


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_gradients_off_gives_the_same_numbers(off):
    module, (x, tangents) = nn.Sequential(mlp(), nn.Softmax(-1)), samples(5, 4)
    expected = propagate(module, x, tangents)
    with off():
        y, dy = propagate(module, x, tangents)
        fallen_back = propagate(lambda x: torch.cumprod(module(x), 1), x.clone(), tangents)[1]
    assert not y.requires_grad and not dy.requires_grad
    assert torch.equal(y, expected[0]) and torch.equal(dy, expected[1])
    again = propagate(lambda x: torch.cumprod(module(x), 1), x, tangents)[1]
    torch.testing.assert_close(fallen_back, again)


def test_an_inner_block_without_gradients_is_constant():
    def forward(x):
        with torch.no_grad():
            factor = torch.tanh(x) * 2
        return factor * x

    x, tangents = samples(5, 4)
    for context in (contextlib.nullcontext(), torch.no_grad()):
        with context:
            _, dy = propagate(forward, x, tangents)
        torch.testing.assert_close(dy, (2 * torch.tanh(x)).unsqueeze(1) * tangents)
    assert_propagates(forward, x, tangents)


def test_in_place_without_gradients_keeps_the_tangents():
    def forward(x):
        hidden = x * 2
        with torch.no_grad():
            hidden.clamp_(-1, 1)
        return hidden * 1

    x, tangents = samples(5, 4)
    y, dy = propagate(forward, x, tangents)
    torch.testing.assert_close(y, (2 * x).clamp(-1, 1))
    torch.testing.assert_close(dy, 2 * tangents)


# What modules do besides calling functions --------------------------------------------------------


class Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 1

    @staticmethod
    def backward(ctx, grad):
        return -grad


class Inner(Reverse):
    """Inherits both ways."""


class Returned(Reverse):
    """Calls no function at all."""

    @staticmethod
    def forward(ctx, x):
        return x


class Rounded(Reverse):
    @staticmethod
    def forward(ctx, x):
        return torch.round(x)


class Recorded(Reverse):
    """Computes with gradients enabled, as functions do that find them for themselves."""

    @staticmethod
    def forward(ctx, x):
        with torch.enable_grad():
            return torch.tanh(x)


class Apart(torch.autograd.Function):
    """In the style that torch.func wants."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return torch.exp(x)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad * ctx.saved_tensors[0]


class Known(Reverse):
    """States its derivative in forward mode."""

    @staticmethod
    def jvp(ctx, tangent):
        return -tangent


class Outer(Reverse):
    @staticmethod
    def forward(ctx, x):
        return Rounded.apply(x)


class Listing(Reverse):
    @staticmethod
    def forward(ctx, pair):
        return pair[0] + pair[1]


CUSTOM = {
    "plain": (Reverse.apply, "Reverse"),
    "inherited": (Inner.apply, "Inner"),
    "straight through": (Rounded.apply, "Rounded"),
    "an input as it is": (Returned.apply, "that returns its input"),
    "gradients enabled": (Recorded.apply, "Recorded"),
    "a context set up apart": (Apart.apply, "Apart"),
    "forward mode": (Known.apply, "Known"),
    "one in the other": (Outer.apply, "Rounded"),
    "inside a tuple": (lambda x: Listing.apply((x, x)), "Listing"),
    "through an alias": (getattr(Reverse, "app" + "ly"), "Reverse"),
    "reentrant checkpoint": (
        lambda x: checkpoint(torch.tanh, x, use_reentrant=True),
        "CheckpointFunction",
    ),
}


@pytest.mark.parametrize("inside", [lambda y: y, torch.tanh, lambda y: y.sum(1, keepdim=True)])
@pytest.mark.parametrize(("apply", "name"), CUSTOM.values(), ids=CUSTOM)
def test_a_custom_autograd_function_is_refused_by_name(apply, name, inside):
    for context in (contextlib.nullcontext(), torch.no_grad(), torch.inference_mode()):
        with context, pytest.raises(TypeError, match=f"autograd.Function {name},"):
            propagate(lambda x: inside(apply(x * 2)), *samples(5, 4))


def test_a_custom_autograd_function_called_by_keyword_is_refused():
    with pytest.raises(TypeError, match="Apart|keyword"):
        propagate(lambda x: Apart.apply(x=x), *samples(5, 4))


def test_a_custom_autograd_function_of_weights_alone_is_followed():
    class Quantized(nn.Linear):
        def forward(self, x):
            return F.linear(x, Rounded.apply(4 * self.weight) / 4, self.bias)

    torch.manual_seed(0)
    assert_propagates(Quantized(4, 3), *samples(5, 4))


def test_inference_mode_within_a_module_is_constant():
    def forward(x):
        with torch.inference_mode():
            scale = float(torch.tanh(x).abs().amax())
        return x * scale

    x, tangents = samples(5, 4)
    torch.testing.assert_close(propagate(forward, x, tangents)[1], tangents * x.abs().max().tanh())


def test_propagate_inside_a_custom_autograd_function():
    class Outer(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, tangents):
            def forward(x):
                with torch.no_grad():
                    scale = x.abs().max()
                return x * scale

            return propagate(forward, x, tangents)[1]

        @staticmethod
        def backward(ctx, grad):
            return None, None

    x, tangents = samples(5, 4)
    torch.testing.assert_close(Outer.apply(x, tangents), tangents * x.abs().max())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("module", [nn.LayerNorm(4), nn.GroupNorm(2, 4), nn.Linear(4, 2)])
def test_compiled_functions_call_it_uncompiled(module):
    module, (x, tangents) = module.double(), samples(3, 4)
    compiled = torch.compile(lambda x: 2 * propagate(module, x, tangents)[1], backend="eager")
    torch.testing.assert_close(compiled(x), 2 * propagate(module, x, tangents)[1])


def test_script_modules():
    module, (x, tangents) = mlp(), samples(5, 4)
    expected = propagate(module, x, tangents)[1]
    scripted = torch.jit.script(module)
    for candidate in (scripted, nn.Sequential(scripted), torch.jit.trace(module, x)):
        torch.testing.assert_close(propagate(candidate, x, tangents)[1], expected)


def test_compiled_modules_run_uncompiled():
    module, (x, tangents) = mlp(), samples(5, 4)
    expected = propagate(module, x, tangents)[1]
    compiled = torch.compile(module, backend="eager")
    nested = nn.Sequential(torch.compile(module[:2], backend="eager"), module[2])
    in_place = mlp()
    in_place.compile(backend="eager")
    function = torch.compile(lambda x: module(x), backend="eager")
    for candidate in (compiled, nested, in_place, function):
        torch.testing.assert_close(propagate(candidate, x, tangents)[1], expected)
    torch.testing.assert_close(compiled(x), module(x))
    torch.testing.assert_close(propagate(compiled, x, tangents)[1], expected)


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.norm = nn.Linear(4, 4), nn.LayerNorm(4)

    def forward(self, x):
        for _ in range(3):
            x = x + torch.tanh(self.norm(self.layer(x)))
        return F.linear(x, self.layer.weight.T)


class Checkpointed(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = mlp(), nn.Linear(3, 2)

    def forward(self, x):
        return self.head(checkpoint(self.body, x * 2, use_reentrant=False))


def weight_normed():
    return nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 6)), nn.Tanh(), nn.Linear(6, 2))


def spectral_normed():
    torch.manual_seed(0)
    layer = parametrizations.spectral_norm(nn.Linear(4, 6))
    return nn.Sequential(layer, nn.SiLU(), nn.Linear(6, 2))


def orthogonal():
    torch.manual_seed(0)
    return nn.Sequential(parametrizations.orthogonal(nn.Linear(4, 4)), nn.Tanh())


def pruned():
    module = mlp()
    prune.l1_unstructured(module[0], "weight", amount=0.3)
    return module


def hooked():
    module = mlp()
    module[0].register_forward_hook(lambda _, args, out: out * torch.sigmoid(out))
    module[2].register_forward_pre_hook(lambda _, args: (args[0] + 1,))
    return module


@pytest.mark.parametrize(
    "build",
    [Shared, weight_normed, spectral_normed, orthogonal, hooked, Checkpointed],
    ids=lambda build: build.__name__,
)
def test_modules_with_parts_of_their_own(build):
    module = build()
    assert_propagates(module, *samples(5, 4), reference=with_norms_written_out(module))


def test_pruned_weights():
    module, (x, tangents) = pruned(), samples(5, 4)
    _, dy = propagate(module, x, tangents)
    jacobian = torch.func.vmap(torch.func.jacrev(module))(x)
    torch.testing.assert_close(dy, torch.einsum("noi,nti->nto", jacobian, tangents))


class WrittenOut(nn.LayerNorm):
    """Layer normalization in functions whose gradients torch gets right when differentiated twice.

    Those of its own function are wrong there, by finite differences.
    """

    def forward(self, x):
        centered = x - x.mean(-1, keepdim=True)
        variance = centered.square().mean(-1, keepdim=True)
        return centered / (variance + self.eps).sqrt() * self.weight + self.bias


def with_norms_written_out(module):
    module = copy.deepcopy(module)
    for part in module.modules():
        if isinstance(part, nn.LayerNorm):
            part.__class__ = WrittenOut
    return module


# Attention ----------------------------------------------------------------------------------------


class SelfAttention(nn.Module):
    def __init__(self, need_weights, mask=None, **kwargs):
        super().__init__()
        torch.manual_seed(0)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True, **kwargs)
        self.need_weights, self.mask = need_weights, mask

    def forward(self, x):
        out, weights = self.attention(x, x, x, need_weights=self.need_weights, attn_mask=self.mask)
        return out if weights is None else out + weights[..., :3] @ x


CAUSAL = torch.ones(3, 3, dtype=torch.bool).triu(1)


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("mask", [None, CAUSAL], ids=["full", "causal"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kwargs", [{}, {"bias": False}, {"add_bias_kv": True}], ids=str)
def test_multihead_attention(need_weights, mask, training, kwargs):
    module = SelfAttention(need_weights, mask, **kwargs).train(training)
    # the fused kernel that autograd would take has no second derivative
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        assert_propagates(module, *samples(2, 3, 4), rtol=1e-10)
    assert_has_rule(module, *samples(2, 3, 4))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("norm_first", [True, False])
def test_transformer_layer(training, activation, norm_first):
    torch.manual_seed(0)
    module = nn.TransformerEncoderLayer(
        4, 2, 8, dropout=0.0, activation=activation, norm_first=norm_first, batch_first=True
    ).train(training)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        reference = with_norms_written_out(module)
        assert_propagates(module, *samples(2, 3, 4), reference=reference)


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"is_causal": True},
        {"scale": 0.3},
        {"attn_mask": CAUSAL.logical_not()},
        {"attn_mask": torch.linspace(-1, 1, 9, dtype=torch.float64).reshape(3, 3)},
    ],
    ids=lambda kwargs: ",".join(kwargs),
)
def test_scaled_dot_product_attention(kwargs):
    def forward(x):
        return F.scaled_dot_product_attention(x, torch.sin(x), x * x, **kwargs)

    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        assert_propagates(forward, *samples(2, 2, 3, 4))
    assert_has_rule(forward, *samples(2, 2, 3, 4))


def test_grouped_query_attention():
    def forward(x):
        key = torch.sin(x[:, :2])
        return F.scaled_dot_product_attention(x, key, key * 2, enable_gqa=True)

    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        assert_propagates(forward, *samples(2, 4, 3, 4))


def test_attention_dropout_draws_the_random_numbers_of_a_plain_pass():
    def forward(x):
        return F.scaled_dot_product_attention(x, torch.sin(x), x * x, dropout_p=0.4)

    x, tangents = samples(2, 2, 3, 4)
    torch.manual_seed(0)
    y, _ = propagate(forward, x, tangents)
    after = torch.rand(1)
    torch.manual_seed(0)
    torch.testing.assert_close(y, forward(x))
    assert torch.equal(after, torch.rand(1))
