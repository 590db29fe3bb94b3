import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from sktangent.propagation import propagate
from tests.propagation.reference import assert_propagates, samples

# each row says which keys one query attends to: the second query, to none
MASK = torch.tensor([[1, 1, 0], [0, 0, 0], [1, 0, 1]], dtype=torch.bool)
EMPTY_ROW = {
    "bool": MASK,
    "a mask a sample": MASK.expand(2, 1, 3, 3).clone(),
    "one row for all": torch.zeros(3, dtype=torch.bool),
    "additive": torch.zeros(3, 3, dtype=torch.float64).masked_fill(~MASK, -math.inf) + 0.5,
}


def attend(x, **kwargs):
    return F.scaled_dot_product_attention(x, torch.sin(x), x * x, **kwargs)


@pytest.mark.parametrize("mask", EMPTY_ROW.values(), ids=EMPTY_ROW)
def test_a_query_that_attends_to_nothing_gets_zero(mask):
    with sdpa_kernel(SDPBackend.MATH):
        assert_propagates(lambda x: attend(x, attn_mask=mask), *samples(2, 2, 3, 4))


def test_a_mask_made_from_the_samples():
    def function(x):
        bias = x.mean(-1, keepdim=True).expand(2, 2, 3, 3).masked_fill(~MASK, -math.inf)
        return attend(x, attn_mask=bias)

    with sdpa_kernel(SDPBackend.MATH):
        assert_propagates(function, *samples(2, 2, 3, 4))


class SelfAttention(nn.Module):
    def __init__(self, need_weights):
        super().__init__()
        self.need_weights = need_weights
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x, attn_mask=~MASK, need_weights=self.need_weights)[0]


@pytest.mark.usefixtures("seeded")
def test_multihead_attention_with_an_empty_row():
    with sdpa_kernel(SDPBackend.MATH):
        assert_propagates(SelfAttention(need_weights=False), *samples(2, 3, 4))


@pytest.mark.usefixtures("seeded")
def test_where_torch_gives_nan_so_do_we():
    module = SelfAttention(need_weights=True).double()
    x, tangents = samples(2, 3, 4)
    y, dy = propagate(module, x, tangents)
    torch.testing.assert_close(y, module(x), equal_nan=True)
    assert torch.equal(dy.isnan(), y.isnan().unsqueeze(1).expand_as(dy))


def test_a_mask_beside_a_causal_one_is_refused():
    x, tangents = samples(2, 3, 4)
    with sdpa_kernel(SDPBackend.MATH), pytest.raises(RuntimeError, match="is_causal"):
        attend(x, attn_mask=MASK, is_causal=True)
    with pytest.raises(RuntimeError, match="attn_mask or is_causal=True"):
        propagate(lambda x: attend(x, attn_mask=MASK, is_causal=True), x, tangents)
