import pytest
import torch

from sktangent.propagation import propagate
from tests.propagation.cases import check
from tests.propagation.reference import assert_propagates, samples

FUNCTIONS = {
    "sum": lambda x: x.sum(),
    "sum axis": lambda x: torch.sum(x, 1),
    "sum axes": lambda x: x.sum((0, -1), keepdim=True),
    "sum numpy's names": lambda x: x.sum(axis=2, keepdims=True),
    "sum no axes": lambda x: x.sum(dim=()),
    "sum kept": lambda x: x.sum(None, True),
    "sum dtype": lambda x: x.float().double().sum(1, dtype=torch.float64),
    "sum of a number": lambda x: x[0, 0, 0].sum() * x,
    "mean": lambda x: x.mean(),
    "mean axis": lambda x: torch.mean(x, -1),
    "mean axes": lambda x: x.mean([1, 2], True),
    "mean numpy's names": lambda x: x.mean(axis=0, keepdims=False),
    "mean of a number": lambda x: x[0, 0, 0].mean() * x,
    "nansum": lambda x: x.nansum(1),
    "nansum all": lambda x: torch.nansum(x),
    "nanmean": lambda x: x.nanmean(dim=-1, keepdim=True),
    "nanmean all": lambda x: x.nanmean(),
    "cumsum": lambda x: x.cumsum(1),
    "cumsum negative": lambda x: torch.cumsum(x, dim=-1),
    "trace": lambda x: x[0].trace(),
    "var": lambda x: x.var(),
    "var axis": lambda x: x.var(1),
    "var biased": lambda x: torch.var(x, -1, False),
    "var all biased": lambda x: torch.var(x, False),
    "var unbiased": lambda x: x.var(dim=1, unbiased=True, keepdim=True),
    "var correction": lambda x: x.var((0, 2), correction=0, keepdim=True),
    "var all, kept": lambda x: x.var(None, keepdim=True),
    "std": lambda x: x.std(),
    "std axis": lambda x: x.std(-1, keepdim=True),
    "std correction": lambda x: torch.std(x, dim=(1, 2), correction=2),
    "var_mean": lambda x: torch.cat(torch.var_mean(x, 1)),
    "std_mean": lambda x: torch.cat(torch.std_mean(x, dim=-1, correction=0)),
    "prod": lambda x: x.prod(),
    "prod axis": lambda x: x.prod(1),
    "prod kept": lambda x: torch.prod(x, -1, keepdim=True),
    "prod dtype": lambda x: x.prod(0, dtype=torch.float64),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name):
    check(FUNCTIONS[name], 3, 4, 5)


def test_product_with_zeros():
    x, tangents = samples(3, 4, 5)
    x[0, 0, 0] = x[1, 2, 3] = x[1, 2, 4] = 0.0
    assert_propagates(lambda x: x.prod(-1), x, tangents)


def test_equal_samples_have_no_slope_of_the_deviation():
    x, tangents = samples(3, 4)
    x[0] = 0.25
    x.requires_grad_()
    y, dy = propagate(lambda x: x.std(1), x, tangents)
    (gradient,) = torch.autograd.grad(y.sum() + dy.square().sum(), x)
    assert y[0] == 0 and torch.all(dy[0] == 0) and torch.all(gradient[0] == 0)
    assert torch.all(dy[1:] != 0) and torch.isfinite(gradient).all()


def test_sums_over_what_is_not_a_number():
    def function(x):
        holes = torch.where(torch.eye(4, dtype=torch.bool), torch.nan, x)
        return torch.stack([holes.nansum(0), holes.nanmean(0)])

    check(function, 4, 4)
