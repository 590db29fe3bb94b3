import pytest
import torch
import torch.nn.functional as F

from sktangent.propagation import propagate
from tests.propagation.cases import check
from tests.propagation.reference import assert_propagates, samples

NORMS = {
    "norm": lambda x: x.norm(),
    "norm axis": lambda x: x.norm(dim=1),
    "norm power": lambda x: torch.norm(x, 3, -1, True),
    "norm one": lambda x: x.norm(1, 2),
    "norm largest": lambda x: x.norm(torch.inf, 1),
    "norm smallest": lambda x: x.norm(-torch.inf, 1),
    "vector_norm": lambda x: torch.linalg.vector_norm(x),
    "vector_norm axes": lambda x: torch.linalg.vector_norm(x, 2, (0, 2), keepdim=True),
    "vector_norm 2.5": lambda x: torch.linalg.vector_norm(x, 2.5, 1),
    "vector_norm dtype": lambda x: torch.linalg.vector_norm(x, dim=1, dtype=torch.float64),
    "linalg.norm": lambda x: torch.linalg.norm(x),
    "linalg.norm axis": lambda x: torch.linalg.norm(x, 1, dim=1),
    "linalg.norm vector": lambda x: torch.linalg.norm(x[0, 0], 3),
}


@pytest.mark.parametrize("name", NORMS)
def test_norms(name):
    check(NORMS[name], 3, 4, 5)


FALLEN_BACK = {
    "normalize": lambda x: F.normalize(x),
    "normalize axis": lambda x: F.normalize(x, p=3.0, dim=-1),
    "matrix norm": lambda x: torch.linalg.norm(x, "fro", dim=(1, 2)),
    "matrix norm by name": lambda x: torch.linalg.matrix_norm(x),
    "power below two": lambda x: x.norm(1.5, 1),
    "cosine similarity": lambda x: F.cosine_similarity(x, x.flip(1).exp(), dim=-1),
    "pairwise distance": lambda x: F.pairwise_distance(x, x.flip(1).exp()),
}


@pytest.mark.parametrize("name", FALLEN_BACK)
def test_left_to_differentiation(name):
    assert_propagates(FALLEN_BACK[name], *samples(3, 4, 5))


@pytest.mark.parametrize("order", [1, 2, 3, torch.inf])
def test_zeros_have_no_slope_of_their_norm(order):
    x, tangents = samples(3, 4)
    x[1] = 0.0
    x.requires_grad_()
    y, dy = propagate(lambda x: torch.linalg.vector_norm(x, order, 1), x, tangents)
    (gradient,) = torch.autograd.grad(y.sum() + dy.square().sum(), x)
    assert y[1] == 0 and torch.all(dy[1] == 0) and torch.all(gradient[1] == 0)
    assert torch.all(dy[::2] != 0) and torch.isfinite(gradient).all()


def test_equal_largest_elements_share_the_slope():
    x, tangents = samples(2, 4)
    x[0] = torch.tensor([1.0, -2.0, 2.0, 0.5])
    assert_propagates(lambda x: x.norm(torch.inf, 1), x, tangents)
