"""What one training step with an exact penalty costs, against other ways to do the same.

One step is forward, loss, backward and a fused Adam step. Against it run, interleaved in the same
process so that a busy machine is busy for all of them:

- plain: the same network's ordinary step over (1 + n_tangents) times as many rows, which is what
  augmenting the data with as many copies costs;
- jvp: the same penalty through ``torch.func``'s forward mode, vectorized over the tangents;
- twice: the same penalty by double backward, as torch ships it: a call of
  ``torch.autograd.functional.jvp`` for each tangent;
- twice, by hand: the same, sharing one forward and one backward pass between all tangents.

The table gives the median of ours in milliseconds and the ratio of ours to each of the others: the
median over rounds and, in brackets, its quartiles. Run it with

    python examples/benchmarks/step_time.py [--quick] [--threads 2] [--only gelu-256]
"""

import argparse
import time

import numpy as np
import torch
from torch import nn

from sktangent.propagation import propagate

N_TANGENTS = 6
GOALS = {"mlp": {"plain": 1.1, "jvp": 0.67, "twice": 0.45, "twice, by hand": 0.45}}
GOALS["conv"] = {**GOALS["mlp"], "plain": 1.2}


def mlp(*sizes, activation=nn.GELU):
    layers = []
    for n_in, n_out in zip(sizes[:-1], sizes[1:], strict=True):
        layers += [nn.Linear(n_in, n_out), activation()]
    return nn.Sequential(*layers[:-1])


def convolutional(normalize):
    layers = []
    for n_in, n_out in ((1, 16), (16, 32)):
        layers.append(nn.Conv2d(n_in, n_out, 3, padding=1))
        layers += [nn.BatchNorm2d(n_out)] if normalize else []
        layers += [nn.GELU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * 7 * 7, 10))


# name: (kind, network, number of samples, shape of a sample)
CASES = {
    "gelu-256": ("mlp", lambda: mlp(784, 256, 256, 10), 128, (784,)),
    "gelu-1024": ("mlp", lambda: mlp(784, 1024, 1024, 10), 256, (784,)),
    "gelu-small": ("mlp", lambda: mlp(64, 100, 10), 200, (64,)),
    "relu-256": ("mlp", lambda: mlp(784, 256, 256, 10, activation=nn.ReLU), 128, (784,)),
    "tanh-256": ("mlp", lambda: mlp(784, 256, 256, 10, activation=nn.Tanh), 128, (784,)),
    "conv": ("conv", lambda: convolutional(False), 64, (1, 28, 28)),
    "conv-norm": ("conv", lambda: convolutional(True), 64, (1, 28, 28)),
}


def by_jvp(net, x, tangents):
    def along(t):
        return torch.func.jvp(net, (x,), (t,))

    return torch.func.vmap(along, in_dims=1, out_dims=(None, 1))(tangents)


def by_double_backward(net, x, tangents):
    pairs = [
        torch.autograd.functional.jvp(net, x, t, create_graph=True) for t in tangents.unbind(1)
    ]
    return pairs[0][0], torch.stack([dy for _, dy in pairs], 1)


def by_shared_double_backward(net, x, tangents):
    x = x.detach().requires_grad_()
    y = net(x)
    v = torch.zeros_like(y, requires_grad=True)
    (product,) = torch.autograd.grad(y, x, v, create_graph=True)
    columns = [torch.autograd.grad(product, v, t, create_graph=True)[0] for t in tangents.unbind(1)]
    return y, torch.stack(columns, 1)


def make_step(build, derivative, n_samples, shape):
    """Return a function that makes one training step of a network of its own."""
    torch.manual_seed(0)
    net = build()
    optimizer = torch.optim.Adam(net.parameters(), fused=True)
    n_rows = n_samples if derivative else (1 + N_TANGENTS) * n_samples
    x, target = torch.randn(n_rows, *shape), torch.randn(n_rows, 10)
    tangents = torch.randn(n_samples, N_TANGENTS, *shape)

    def step():
        optimizer.zero_grad()
        if derivative:
            y, dy = derivative(net, x, tangents)
            loss = ((y - target).square().sum() + 0.1 * dy.square().sum()) / n_samples
        else:
            loss = (net(x) - target).square().sum() / n_rows
        loss.backward()
        optimizer.step()

    return step


WAYS = {
    "ours": propagate,
    "plain": None,
    "jvp": by_jvp,
    "twice": by_double_backward,
    "twice, by hand": by_shared_double_backward,
}


def measure(build, n_samples, shape, seconds):
    """Return the times of each way, one row a round; nan where torch refuses the network."""
    steps = {}
    for way, derivative in WAYS.items():
        steps[way] = make_step(build, derivative, n_samples, shape)
        try:
            for _ in range(3):
                steps[way]()
        except RuntimeError:
            del steps[way]
    rounds, end = [], time.perf_counter() + seconds
    while len(rounds) < 5 or time.perf_counter() < end:
        times = dict.fromkeys(WAYS, float("nan"))
        for way, step in steps.items():
            start = time.perf_counter()
            step()
            times[way] = time.perf_counter() - start
        rounds.append(list(times.values()))
    return np.array(rounds)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one second a network, not ten")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only", choices=CASES, nargs="*", default=list(CASES))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {options.threads} threads, {N_TANGENTS} tangents")
    print(f"{'network':<11}{'ms':>8}", end="")
    for way in list(WAYS)[1:]:
        print(f"   {'against ' + way:<28}", end="")
    print()
    for name in options.only:
        kind, build, n_samples, shape = CASES[name]
        times = measure(build, n_samples, shape, 1 if options.quick else 10)
        print(f"{name:<11}{np.median(times[:, 0]) * 1e3:8.2f}", end="")
        for column, way in enumerate(list(WAYS)[1:], start=1):
            low, middle, high = np.percentile(times[:, 0] / times[:, column], [25, 50, 75])
            goal = GOALS[kind][way]
            if np.isnan(middle):
                cell = "refused by torch"
            else:
                verdict = "ok" if middle <= goal else "OVER"
                cell = f"{middle:.2f} [{low:.2f}, {high:.2f}] <= {goal} {verdict}"
            print(f"   {cell:<28}", end="")
        print(flush=True)


if __name__ == "__main__":
    main()
