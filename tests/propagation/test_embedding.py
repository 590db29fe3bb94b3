import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sktangent.propagation import propagate
from tests.propagation.reference import assert_propagates, samples

indices = torch.tensor([[0, 2], [1, 1]])


@pytest.mark.parametrize(
    "function",
    [
        nn.Embedding(5, 3),
        nn.EmbeddingBag(5, 3),
        lambda x: F.embedding(x, torch.ones(5, 3)),
        lambda x: torch.embedding(torch.ones(5, 3), x),
    ],
)
def test_samples_cannot_be_looked_up(function):
    with pytest.raises(TypeError, match="[Ee]mbed"):
        propagate(function, indices, torch.zeros(2, 3, 2))
    with pytest.raises(TypeError, match="[Ee]mbed"):
        propagate(function, *samples(2, 2))


def test_a_constant_can_be_looked_up():
    class Conditioned(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(5, 3)

        def forward(self, x):
            return torch.tanh(x * self.table(indices[:, 0]))

    torch.manual_seed(0)
    assert_propagates(Conditioned(), *samples(2, 3))


def test_a_table_made_from_the_samples():
    assert_propagates(lambda x: F.embedding(indices, x.exp()), *samples(3, 4))
