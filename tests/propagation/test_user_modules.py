"""Modules as people write them: the rules must work together, not only alone."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.propagation.cases import check_module


class UNet(nn.Module):
    """Down, up again, and a bridge; odd sizes are padded."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(2, 4, 3, padding=1)
        self.deep = nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect")
        self.up = nn.ConvTranspose2d(6, 4, 2, stride=2)
        self.out = nn.Conv2d(12, 1, 1)

    def forward(self, x):
        bridge = F.silu(self.down(x))
        deep = torch.tanh(self.deep(F.max_pool2d(bridge, 2)))
        up = self.up(deep)
        up = F.pad(up, (0, bridge.shape[-1] - up.shape[-1], 0, bridge.size(2) - up.size(2)))
        wide = F.interpolate(deep, size=bridge.shape[2:], mode="bilinear", align_corners=False)
        return self.out(torch.cat([bridge, up, wide[:, :4]], dim=1)).squeeze(1)


class SqueezeExcite(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(4, 2, 1), nn.Conv2d(2, 4, 1)
        self.norm = nn.GroupNorm(2, 4)

    def forward(self, x):
        scale = x.mean((2, 3), keepdim=True)
        scale = torch.sigmoid(self.fc2(F.gelu(self.fc1(scale))))
        return self.norm(x * scale).amax(dim=(-2, -1))


class MaskedMean(nn.Module):
    """Mean over those steps of a sequence that are not padding."""

    def __init__(self):
        super().__init__()
        self.encode = nn.Linear(3, 5)
        self.norm = nn.RMSNorm(5)

    def forward(self, x):
        mask = torch.arange(x.shape[1]) < torch.tensor([[2], [4], [3]])
        h = self.norm(torch.tanh(self.encode(x)))
        h = h.masked_fill(~mask.unsqueeze(-1), 0.0)
        return h.sum(dim=1) / mask.sum(1, keepdim=True)


class GatedResidual(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.widen, self.narrow = nn.GroupNorm(1, 6), nn.Linear(6, 16), nn.Linear(8, 6)

    def forward(self, x):
        value, gate = self.widen(self.norm(x)).chunk(2, dim=-1)
        return x + self.narrow(value * torch.sigmoid(gate))


class SequenceClassifier(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.lstm = nn.LSTM(3, 4, batch_first=True, bidirectional=True, **options)
        self.score = nn.Linear(8, 1, bias=False)  # a bias would cancel in the softmax
        self.head = nn.Linear(16, 2)

    def forward(self, x):
        h, (last, _) = self.lstm(x)
        weights = F.softmax(self.score(h), dim=1)
        pooled = torch.einsum("nto,ntc->nc", weights, h)
        ends = torch.cat([last[-2], last[-1]], dim=1)
        return self.head(torch.cat([pooled, ends], dim=-1))


class Attention(nn.Module):
    """Several heads, written out."""

    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(6, 18), nn.Linear(6, 6)

    def forward(self, x):
        n, length, width = x.shape
        q, k, v = self.qkv(x).view(n, length, 3, 2, width // 2).permute(2, 0, 3, 1, 4).unbind(0)
        scores = q @ k.transpose(-2, -1) / k.size(-1) ** 0.5
        ahead = torch.triu(torch.ones(length, length, dtype=torch.bool), diagonal=1)
        weights = scores.masked_fill(ahead, float("-inf")).softmax(dim=-1)
        return self.out((weights @ v).transpose(1, 2).contiguous().view(n, length, width))


class VisionMixer(nn.Module):
    """Patches, mixed across place and across channel."""

    def __init__(self):
        super().__init__()
        self.embed, self.across = nn.Conv2d(1, 5, 2, 2), nn.Linear(9, 9)
        self.head = nn.Linear(5, 2)

    def forward(self, x):
        patches = self.embed(x).flatten(2).transpose(1, 2)
        mixed = self.across(patches.mT).mT + patches
        token = mixed.new_zeros(len(x), 1, 5)
        return self.head(torch.cat((token, F.gelu(mixed)), dim=1)[:, 1:].mean(1))


class PointNet(nn.Module):
    """Distances to learned points, and the nearest of them."""

    def __init__(self):
        super().__init__()
        self.points = nn.Parameter(torch.randn(4, 3))

    def forward(self, x):
        difference = x[:, None, :] - self.points[None]
        distances = torch.linalg.vector_norm(difference, dim=-1)
        nearest, index = distances.min(dim=1)
        spread = distances.std(dim=1) + torch.logsumexp(-distances, dim=1)
        return torch.stack([nearest, spread, self.points[index].sum(-1) * nearest], dim=-1)


class Denoiser(nn.Module):
    """Pooling that is undone, and a shuffle to higher resolution."""

    def __init__(self):
        super().__init__()
        self.conv, self.up = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 1)

    def forward(self, x):
        h = F.leaky_relu(self.conv(x), 0.1)
        pooled, indices = F.max_pool2d(h, 2, return_indices=True)
        h = h + F.max_unpool2d(torch.tanh(pooled), indices, 2)
        return F.avg_pool2d(F.pixel_shuffle(self.up(h), 2), 2)


class InPlace(nn.Module):
    """Writes into what it has computed."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 6)

    def forward(self, x):
        h = self.linear(x)
        h[:, :2] = torch.sigmoid(h[:, :2])
        h[:, 2:4].tanh_()
        left, right = h[:, :3], h[:, 3:].clone()
        right.mul_(left).add_(1.0)
        return torch.cat([left, right], 1)


MODULES = {
    "UNet": (UNet, (2, 2, 5, 7)),
    "squeeze and excite": (SqueezeExcite, (2, 4, 3, 3)),
    "masked mean": (MaskedMean, (3, 4, 3)),
    "gated residual": (GatedResidual, (3, 6)),
    "LSTM": (SequenceClassifier, (3, 5, 3)),
    "attention": (Attention, (2, 4, 6)),
    "mixer": (VisionMixer, (2, 1, 6, 6)),
    "points": (PointNet, (3, 3)),
    "denoiser": (Denoiser, (2, 1, 6, 4)),
    "in place": (InPlace, (3, 4)),
}


@pytest.mark.parametrize("name", MODULES)
def test_modules(name):
    kind, shape = MODULES[name]
    torch.manual_seed(0)
    check_module(kind(), *shape)
