"""What training means: constant batch statistics, one update, one mask, one draw of chance."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sktangent.propagation import propagate
from tests.propagation.reference import assert_has_rule, penalty_gradients, samples


class Block(nn.Module):
    """Residual block with batch normalization."""

    def __init__(self, n_in, n_out, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(n_out)
        self.shortcut = nn.Sequential(
            nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out)
        )

    def forward(self, x):
        h = F.silu(self.norm1(self.conv1(x)))
        h = self.norm2(self.conv2(h))
        h += self.shortcut(x)
        return F.silu(h)


class ResidualNet(nn.Module):
    def __init__(self, **norm_options):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1, bias=False),
            nn.BatchNorm2d(4, **norm_options),
            nn.SiLU(),
            nn.MaxPool2d(2),
        )
        self.blocks = nn.Sequential(Block(4, 6, 2), Block(6, 6, 1))
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        h = self.blocks(self.stem(x))
        return self.head(F.adaptive_avg_pool2d(h, 1).flatten(1))


class StatisticsFrom(nn.Module):
    """The same net, run on the batch and, row by row, on what differs from it by a step.

    Each batch normalization takes the statistics of the first ``n`` rows alone and applies them to
    all rows. The further rows can then be moved without moving the statistics, while these stay
    functions of the parameters.
    """

    def __init__(self, net, n):
        super().__init__()
        self.net = net
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.forward = self._forward_of(module, n)

    @staticmethod
    def _forward_of(norm, n):
        def forward(x):
            mean = x[:n].mean((0, 2, 3), keepdim=True)
            variance = x[:n].var((0, 2, 3), correction=0, keepdim=True)
            standard = (x - mean) / (variance + norm.eps).sqrt()
            return standard * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)

        return forward

    def forward(self, x):
        return self.net(x)


def reference_with_constant_statistics(net, x, tangents):
    """Return y and J τ by reverse over reverse, rows that move beside rows that do not."""
    n = len(x)
    net = StatisticsFrom(net, n)
    moving = x.detach().clone().requires_grad_()
    out = net(torch.cat([x, moving]))
    y, moved = out[:n], out[n:]
    v = torch.zeros_like(moved, requires_grad=True)
    (vjp,) = torch.autograd.grad(moved, moving, v, create_graph=True)
    columns = [
        torch.autograd.grad(vjp, v, tangents[:, t], create_graph=True)[0]
        for t in range(tangents.shape[1])
    ]
    return y, torch.stack(columns, 1)


def test_residual_net_in_training():
    torch.manual_seed(0)
    net = ResidualNet().double()
    twin = copy.deepcopy(net)
    x, tangents = samples(4, 1, 8, 8)
    y, dy = propagate(net, x, tangents)
    expected_y, expected_dy = reference_with_constant_statistics(twin, x, tangents)
    torch.testing.assert_close(y, expected_y, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(dy, expected_dy, rtol=1e-10, atol=1e-12)
    ours = penalty_gradients(y, dy, list(net.parameters()))
    theirs = penalty_gradients(expected_y, expected_dy, list(twin.parameters()))
    for (name, _), actual, expected in zip(net.named_parameters(), ours, theirs, strict=True):
        scale = expected.abs().max()
        assert (actual - expected).abs().max() <= 1e-10 * scale, name


def test_residual_net_takes_rules_alone():
    assert_has_rule(ResidualNet(), *samples(4, 1, 8, 8))


@pytest.mark.parametrize(
    "options", [{}, {"momentum": None}, {"track_running_stats": False}, {"affine": False}], ids=str
)
def test_buffers_after_two_passes_are_those_of_two_plain_passes(options):
    torch.manual_seed(0)
    net = ResidualNet(**options).double()
    plain = copy.deepcopy(net)
    x, tangents = samples(4, 1, 8, 8)
    for batch in (x, x.flip(-1)):
        propagate(net, batch, tangents)
        plain(batch)
    for name, expected in plain.named_buffers():
        torch.testing.assert_close(net.get_buffer(name), expected, rtol=1e-12, atol=1e-12)
    assert net.blocks[0].norm1.num_batches_tracked == 2


class DroppingNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.dropout2d = nn.Dropout2d(0.3)
        self.hidden = nn.Linear(64, 16)
        self.alpha = nn.AlphaDropout(0.2)
        self.out = nn.Linear(16, 3)

    def forward(self, x):
        h = F.max_pool2d(self.dropout2d(torch.tanh(self.conv(x))), 2)
        h = F.dropout(F.selu(self.hidden(h.flatten(1))), 0.4, self.training)
        return self.out(self.alpha(h) + 0.1 * torch.randn_like(h))


def test_chance_is_drawn_as_in_a_plain_pass():
    torch.manual_seed(0)
    net = DroppingNet()
    x, tangents = (value.float() for value in samples(5, 1, 8, 8))
    torch.manual_seed(3)
    expected = net(x)
    state = torch.get_rng_state()
    torch.manual_seed(3)
    y, _ = propagate(net, x, tangents)
    torch.testing.assert_close(y, expected)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_sample_and_its_tangents_share_their_masks():
    torch.manual_seed(0)
    net = DroppingNet().double()
    x, tangents = samples(5, 1, 8, 8)
    torch.manual_seed(3)
    _, dy = propagate(net, x, tangents)
    step = 1e-6

    def moved(sign):
        torch.manual_seed(3)
        return net(x + sign * step * tangents[:, 0])

    with torch.no_grad():
        difference = (moved(1) - moved(-1)) / (2 * step)
    torch.testing.assert_close(dy[:, 0], difference, rtol=1e-5, atol=1e-7)


def test_dropout_and_batch_statistics_are_off_in_evaluation():
    torch.manual_seed(0)
    net = nn.Sequential(ResidualNet(), nn.Dropout(0.5)).double().eval()
    x, tangents = samples(4, 1, 8, 8)
    before = copy.deepcopy(net.state_dict())
    one, _ = propagate(net, x[:1], tangents[:1])
    both, _ = propagate(net, x, tangents)
    torch.testing.assert_close(one, both[:1])
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name
