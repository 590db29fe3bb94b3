"""What a GPU makes of training with tangents.

- steps: an exact penalty along six tangents, against the plain step over seven times as many rows,
  which is what augmenting the data with six copies costs. The throughput is the plain step's time
  over ours: above one, tangents cost less than copies.
- fits: a whole fit with tangents against the same fit without, and, on a GPU, a fit whose data
  are brought there batch by batch against one whose data lie there.

Both of a pair run in turn in the same process, and the device is waited for. The table gives the
median of the ratios of the rounds, and their quartiles. On a machine without a GPU it runs as well,
and says nothing of one. Run it with

    python examples/benchmarks/gpu.py [--quick] [--device cuda]
"""

import argparse
import time
import warnings

import numpy as np
import torch
from torch import nn

from sktangent import TangentPropClassifier
from sktangent.propagation import propagate
from sktangent.training import batches

N_TANGENTS = 6


class Residual(nn.Module):
    def __init__(self, n_in, n_out, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, padding=1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(n_out), nn.BatchNorm2d(n_out)
        self.short = nn.Conv2d(n_in, n_out, 1, stride, bias=False)

    def forward(self, x):
        y = nn.functional.gelu(self.norm1(self.conv1(x)))
        return nn.functional.gelu(self.norm2(self.conv2(y)) + self.short(x))


def resnet():
    blocks = [Residual(1, 16, 1), Residual(16, 32, 2), Residual(32, 64, 2)]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def mlp(*sizes):
    layers = []
    for n_in, n_out in zip(sizes[:-1], sizes[1:], strict=True):
        layers += [nn.Linear(n_in, n_out), nn.GELU()]
    return nn.Sequential(*layers[:-1])


# name: network, number of samples, shape of a sample
NETWORKS = {
    "64-100-100-10": (lambda: mlp(64, 100, 100, 10), 200, (64,)),
    "784-512-512-10": (lambda: mlp(784, 512, 512, 10), 256, (784,)),
    "784-1024-1024-10": (lambda: mlp(784, 1024, 1024, 10), 256, (784,)),
    "ResNet, 6 convolutions": (resnet, 64, (1, 28, 28)),
}


def make_step(build, n_rows, shape, with_tangents, device):
    torch.manual_seed(0)
    net = build().to(device)
    optimizer = torch.optim.Adam(net.parameters(), fused=True)
    x, target = torch.randn(n_rows, *shape, device=device), torch.randn(n_rows, 10, device=device)
    tangents = torch.randn(n_rows, N_TANGENTS, *shape, device=device) if with_tangents else None

    def step():
        optimizer.zero_grad()
        if with_tangents:
            y, dy = propagate(net, x, tangents)
            penalty = 0.1 * dy.square().sum() / n_rows
        else:
            y, penalty = net(x), 0.0
        loss = (y - target).square().sum() / n_rows + penalty
        loss.backward()
        optimizer.step()

    return step


def make_fit(n_samples, with_tangents, device, resident=True):
    random = np.random.default_rng(0)
    X = random.normal(size=(n_samples, 784)).astype(np.float32)
    y = random.integers(0, 10, n_samples)
    V = random.normal(size=(n_samples, N_TANGENTS, 784)).astype(np.float32)
    model = TangentPropClassifier(
        hidden_layer_sizes=(1024, 1024),
        batch_size=256,
        max_epochs=3,
        n_iter_no_change=np.inf,
        random_state=0,
        device=str(device),
    )

    def fit():
        fits, batches._fits = batches._fits, lambda *parts: resident
        try:
            model.fit(X, y, tangents=V if with_tangents else None)
        finally:
            batches._fits = fits

    return fit


def seconds(function, device):
    start = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def compare(name, ours, theirs, device, n_rounds):
    for function in (ours, theirs) * 2:
        seconds(function, device)  # warms up
    rounds = np.array([[seconds(f, device) for f in (ours, theirs)] for _ in range(n_rounds)])
    low, middle, high = np.percentile(rounds[:, 0] / rounds[:, 1], [25, 50, 75])
    milliseconds = np.median(rounds[:, 0]) * 1e3
    print(
        f"{name:44} {milliseconds:9.2f} ms {middle:6.2f} [{low:.2f}, {high:.2f}]"
        f"  throughput {1 / middle:.2f}",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few rounds")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    device = torch.device(options.device)
    about = torch.cuda.get_device_name(device) if device.type == "cuda" else "no GPU"
    print(f"torch {torch.__version__}, {device}, {about}")
    n_rounds = 3 if options.quick else 50
    for name, (build, n_samples, shape) in NETWORKS.items():
        ours = make_step(build, n_samples, shape, True, device)
        plain = make_step(build, (1 + N_TANGENTS) * n_samples, shape, False, device)
        compare(f"step, {name}, against copies", ours, plain, device, n_rounds)
    n_samples, n_rounds = (512, 1) if options.quick else (20_000, 5)
    ours, plain = (make_fit(n_samples, with_tangents, device) for with_tangents in (True, False))
    compare("fit with six tangents, against none", ours, plain, device, n_rounds)
    if device.type == "cuda":
        streamed = make_fit(n_samples, True, device, resident=False)
        compare("fit batch by batch, against resident data", streamed, ours, device, n_rounds)


if __name__ == "__main__":
    main()
