import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.propagation.reference import assert_has_rule, assert_propagates, samples


def constant(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


class WithWeight(nn.Module):
    """A function of the samples and of one learned weight."""

    def __init__(self, function, *shape):
        super().__init__()
        self.function, self.weight = function, nn.Parameter(constant(*shape))

    def forward(self, x):
        return self.function(torch.sin(x), self.weight)


LAYERS = {
    "linear": (nn.Linear(4, 3), (5, 4)),
    "linear_no_bias": (nn.Linear(4, 3, bias=False), (5, 4)),
    "linear_deep": (nn.Linear(4, 3), (5, 2, 3, 4)),
    "linear_frozen": (nn.Linear(4, 3).requires_grad_(False), (5, 4)),
    "twice": (nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2)), (5, 4)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_linear_layers(name):
    module, shape = LAYERS[name]
    assert_propagates(module, *samples(*shape))
    assert_has_rule(module, *samples(*shape))


@pytest.mark.parametrize("n_axes", [1, 2, 3])
@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_convolutions(n_axes, mode):
    layer = getattr(nn, f"Conv{n_axes}d")
    module = nn.Sequential(
        layer(2, 4, 3, padding=1, padding_mode=mode), nn.Tanh(), layer(4, 2, 2, stride=2, groups=2)
    )
    data = samples(3, 2, *(5, 4, 4)[:n_axes])
    assert_propagates(module, *data)
    assert_has_rule(module, *data)


@pytest.mark.parametrize("n_axes", [1, 2, 3])
@pytest.mark.parametrize("padding", ["same", "valid", 2])
def test_convolutions_with_dilation(n_axes, padding):
    module = getattr(nn, f"Conv{n_axes}d")(2, 3, 2, padding=padding, dilation=2)
    assert_propagates(module, *samples(3, 2, *(5, 4, 4)[:n_axes]))


@pytest.mark.parametrize("n_axes", [1, 2, 3])
def test_transposed_convolutions(n_axes):
    layer = getattr(nn, f"ConvTranspose{n_axes}d")
    module = nn.Sequential(
        layer(2, 4, 3, stride=2, output_padding=1, padding=1), nn.Tanh(), layer(4, 2, 2, groups=2)
    )
    data = samples(3, 2, *(4, 3, 3)[:n_axes])
    assert_propagates(module, *data)
    assert_has_rule(module, *data)


def test_convolution_of_one_sample_without_a_batch_axis():
    module = WithWeight(lambda x, w: F.conv1d(x.T, w).T, 3, 4, 2)
    assert_propagates(module, *samples(5, 4))
    assert_has_rule(module, *samples(5, 4))


def test_convolution_whose_weight_depends_on_the_samples():
    def forward(x):
        return F.conv1d(x.unsqueeze(0), x.unsqueeze(2), bias=x.sum(1), groups=1)[0]

    assert_propagates(forward, *samples(4, 4))


PRODUCTS = {
    "matmul": (lambda x, w: x @ w, (5, 4), (4, 3)),
    "matmul_left": (lambda x, w: (w @ x.mT).mT, (5, 4), (3, 4)),
    "matmul_rank": (lambda x, w: torch.matmul(x, w).movedim(0, -2), (5, 4), (2, 4, 3)),
    "matmul_vector": (lambda x, w: x @ w, (5, 4), (4,)),
    "matmul_vector_left": (lambda x, w: w @ x.mT, (5, 4), (4,)),
    "vector_matmul": (lambda x, w: x.flatten() @ w, (5, 4), (20, 3)),
    "vector_batches": (lambda x, w: torch.matmul(x.flatten(), w), (5, 4), (2, 20, 3)),
    "batches_vector": (lambda x, w: torch.matmul(w, x.flatten()), (5, 4), (2, 3, 20)),
    "matmul_both": (lambda x, w: x @ (x.mT @ x) @ w, (5, 4), (4, 3)),
    "both_ranks": (lambda x, w: torch.matmul(x.unsqueeze(1), (x.mT @ x)) * w, (5, 4), (4,)),
    "mm": (lambda x, w: torch.mm(x, w) + x.mm(w), (5, 4), (4, 3)),
    "bmm": (lambda x, w: torch.bmm(x, w), (5, 2, 3), (5, 3, 4)),
    "mv": (lambda x, w: torch.mv(x, w), (5, 4), (4,)),
    "dot": (lambda x, w: x * torch.dot(x.flatten(), w), (5, 4), (20,)),
    "inner_both": (lambda x, w: x * torch.inner(x[:, 0], x[:, 1]) * w, (5, 4), (4,)),
    "outer": (lambda x, w: torch.outer(x[:, 0], w) + x[:, 0].outer(x[0]), (5, 4), (4,)),
    "addmm": (lambda x, w: torch.addmm(w[0], x, w, beta=0.5, alpha=2), (5, 4), (4, 3)),
    "addmm_all": (lambda x, w: torch.addmm(x, x, w, beta=0.5, alpha=2), (5, 4), (4, 4)),
    "addmv": (lambda x, w: torch.addmv(x[:, 0], x, w), (5, 4), (4,)),
    "addr": (lambda x, w: torch.addr(x, x[:, 0], w, alpha=0.3), (5, 4), (4,)),
    "baddbmm": (lambda x, w: torch.baddbmm(w[:, :1], x, w, beta=0.2), (5, 2, 3), (5, 3, 4)),
    "baddbmm_zero": (lambda x, w: torch.baddbmm(w[:, :1], x, w, beta=0), (5, 2, 3), (5, 3, 4)),
    "addbmm": (lambda x, w: x[:, :, 0] @ torch.addbmm(w[0, :2], x, w), (5, 2, 3), (5, 3, 3)),
    "tensordot": (lambda x, w: torch.tensordot(x, w, 1), (5, 2, 4), (4, 3)),
    "tensordot_axes": (lambda x, w: torch.tensordot(x, w, ([1, 2], [1, 0])), (5, 2, 4), (4, 2)),
    "tensordot_left": (lambda x, w: torch.tensordot(w, x, ([0], [2])).mT, (5, 1, 4), (4,)),
    "tensordot_both": (lambda x, w: torch.tensordot(x, x.T @ x, 1) * w, (5, 4), (4,)),
    "einsum": (lambda x, w: torch.einsum("ni,ij->nj", x, w), (5, 4), (4, 3)),
    "einsum_implied": (lambda x, w: torch.einsum("ni,ij", x, w), (5, 4), (4, 3)),
    "einsum_ellipsis": (lambda x, w: torch.einsum("...i,ij->...j", x, w), (5, 2, 4), (4, 3)),
    "einsum_implied_ellipsis": (lambda x, w: torch.einsum("...i,ij", x, w), (5, 2, 4), (4, 3)),
    "einsum_repeated": (lambda x, w: torch.einsum("nii->ni", x @ w), (5, 4, 3), (3, 4)),
    "einsum_three": (lambda x, w: torch.einsum("ni, nj, ij -> n", x, x * x, w), (5, 4), (4, 4)),
    "einsum_list": (lambda x, w: torch.einsum("ni,ij->nj", [x, w]), (5, 4), (4, 3)),
    "linear_vector": (lambda x, w: F.linear(x, w), (5, 4), (4,)),
    "linear_by_hand": (lambda x, w: F.linear(x, x[:3] * w, x[:3, 0]), (5, 4), (3, 4)),
    "bilinear": (lambda x, w: F.bilinear(x, x.cos(), w), (5, 4), (3, 4, 4)),
    "bilinear_one": (lambda x, w: F.bilinear(w[0], x, w), (4, 4), (3, 4, 4)),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products(name):
    function, shape, weight_shape = PRODUCTS[name]
    module = WithWeight(function, *weight_shape)
    assert_propagates(module, *samples(*shape))
    assert_has_rule(module, *samples(*shape))


@pytest.mark.parametrize("name", ["sublists", "chain_matmul", "tensordot_tensor"])
def test_products_left_to_differentiation(name):
    weight = constant(4, 4)
    function = {
        "sublists": lambda x: torch.einsum(x, [0, 1], weight, [1, 2], [0, 2]),
        "chain_matmul": lambda x: torch.linalg.multi_dot([x, weight, weight]),
        "tensordot_tensor": lambda x: torch.tensordot(x, weight, torch.tensor([[1], [0]])),
    }[name]
    assert_propagates(function, *samples(5, 4))


def test_bilinear_layer():
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.form = nn.Bilinear(4, 4, 3)

        def forward(self, x):
            return self.form(x, torch.tanh(x))

    assert_propagates(Pair(), *samples(5, 4))
    assert_has_rule(Pair(), *samples(5, 4))
