import pytest
import torch
import torch.nn.functional as F

from tests.propagation.cases import check
from tests.propagation.reference import assert_propagates, samples

FUNCTIONS = {
    "softmax": lambda x: torch.softmax(x, 1),
    "softmax method": lambda x: x.softmax(dim=-1),
    "softmax dtype": lambda x: x.softmax(-1, torch.float64),
    "functional softmax": lambda x: F.softmax(x, dim=2),
    "special softmax": lambda x: torch.special.softmax(x, 0),
    "Softmax2d": torch.nn.Softmax2d(),
    "log_softmax": lambda x: torch.log_softmax(x, -1),
    "log_softmax method": lambda x: x.log_softmax(1),
    "functional log_softmax": lambda x: F.log_softmax(x, 1),
    "special log_softmax": lambda x: torch.special.log_softmax(x, 1),
    "softmin": lambda x: F.softmin(x, 1),
    "Softmin": torch.nn.Softmin(-1),
    "logsumexp": lambda x: torch.logsumexp(x, 1),
    "logsumexp axes": lambda x: x.logsumexp((0, -1), keepdim=True),
    "special logsumexp": lambda x: torch.special.logsumexp(x, dim=-1),
    "softmax of a number": lambda x: x[0, 0, 0].softmax(0) * x,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name):
    check(FUNCTIONS[name], 3, 4, 5)


@pytest.mark.filterwarnings("ignore:Implicit dimension choice")
@pytest.mark.parametrize("function", [F.softmax, F.log_softmax, F.softmin])
@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 5), (2, 3, 2, 2)])
def test_axis_that_is_not_named(function, shape):
    check(function, *shape)


def test_large_logits():
    x, tangents = samples(3, 4)
    assert_propagates(lambda x: torch.logsumexp(x * 1000.0, 1), x, tangents)
    assert_propagates(lambda x: F.log_softmax(x * 1000.0, 1), x, tangents)


@pytest.mark.parametrize("hard", [False, True])
def test_gumbel_softmax(hard):
    x, tangents = samples(3, 4, 5)
    assert_propagates(lambda x: F.gumbel_softmax(x, tau=0.7, hard=hard, dim=1), x, tangents)


def test_masked_attention_weights():
    mask = torch.ones(5, 5, dtype=torch.bool).tril()

    def function(x):
        scores = (x @ x.mT).masked_fill(~mask, -torch.inf)
        return F.softmax(scores, -1) @ x

    check(function, 3, 5, 4)
