"""What one training step costs, against other ways to do the same.

One step is forward, loss, backward and a fused Adam step. The steps of a table's row run in turn
in the same process, so that a busy machine is busy for all of them; of two in a row the second is
timed.

An exact penalty along six tangents, against

- plain: the same network's ordinary step over (1 + n_tangents) times as many rows, which is what
  augmenting the data with as many copies costs;
- jvp: the same penalty through ``torch.func``'s forward mode, vectorized over the tangents;
- twice: the same penalty by double backward, as torch ships it: a call of
  ``torch.autograd.functional.jvp`` for each tangent;
- twice, by hand: the same, sharing one forward and one backward pass between all tangents.

The same against double backward as the forum's thread does it, one sample and one tangent after
the other (the smallest network only).

The same compiled, against plain, for networks that are more than linear layers and activations.

One random combination of 32 tangents, against a plain step over the samples alone.

One random combination of all coordinate directions, which estimates the full squared Jacobian,
against the published Jacobian regularizer's way to do so: the gradient of a random combination of
the outputs, by double backward (J. Hoffman, D. Roberts, S. Yaida: *Robust Learning with Jacobian
Regularization*, 2019).

The tables give the median of ours in milliseconds and the ratio of ours to each of the others: the
median over rounds and, in brackets, its quartiles. Run it with

    python examples/benchmarks/step_time.py [--quick] [--threads 2] [--only gelu-256] [--mkl]

On AMD's processors sktangent multiplies large matrices by oneDNN, all others by MKL. ``--mkl``
turns oneDNN off, which shows what remains on other processors; convolutions, which are always
computed by oneDNN, are slow then.
"""

import argparse
import time

import numpy as np
import torch
from torch import nn

from sktangent.projections import project
from sktangent.propagation import propagate
from sktangent.propagation.compiling import CompiledPropagation

N_TANGENTS, N_PROJECTED = 6, 32


def mlp(*sizes, activation=nn.GELU):
    layers = []
    for n_in, n_out in zip(sizes[:-1], sizes[1:], strict=True):
        layers += [nn.Linear(n_in, n_out), activation()]
    return nn.Sequential(*layers[:-1])


def normalized_mlp():
    hidden = [(nn.Linear(n_in, 256), nn.LayerNorm(256), nn.GELU()) for n_in in (784, 256)]
    return nn.Sequential(*hidden[0], *hidden[1], nn.Linear(256, 10))


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
    "gelu-norm": ("mlp", normalized_mlp, 128, (784,)),
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


def by_thread(net, x, tangents):
    pairs = [
        [torch.autograd.functional.jvp(net, row, t, create_graph=True) for t in along]
        for row, along in zip(x, tangents, strict=True)
    ]
    dy = torch.stack([torch.stack([slope for _, slope in row]) for row in pairs])
    return torch.stack([row[0][0] for row in pairs]), dy


def by_projection(net, x, tangents):
    return propagate(net, x, project(tangents, None, 1)[0])


def by_jacobian_regularizer(net, x, tangents):
    x = x.detach().requires_grad_()
    y = net(x)
    direction = nn.functional.normalize(torch.randn_like(y), dim=1)
    (gradient,) = torch.autograd.grad((y * direction).sum(), x, create_graph=True)
    return y, gradient * y.shape[1] ** 0.5


def make_step(build, derivative, n_rows, x, tangents):
    """Return a function that makes one training step of a network of its own."""
    torch.manual_seed(0)
    net = build()
    optimizer = torch.optim.Adam(net.parameters(), fused=True)
    x = x[torch.arange(n_rows) % len(x)]
    target = torch.randn(n_rows, 10)

    def step():
        optimizer.zero_grad()
        loss = 0.0
        if derivative is None:
            y = net(x)
        else:
            y, dy = derivative(net, x, tangents)
            loss = 0.1 * dy.square().sum() / n_rows
        loss = loss + (y - target).square().sum() / n_rows
        loss.backward()
        optimizer.step()

    return step


def exact_steps(name):
    _, build, n_samples, shape = CASES[name]
    x, tangents = torch.randn(n_samples, *shape), torch.randn(n_samples, N_TANGENTS, *shape)
    ways = {
        "ours": propagate,
        "plain": None,
        "jvp": by_jvp,
        "twice": by_double_backward,
        "twice, by hand": by_shared_double_backward,
    }
    n_rows = dict.fromkeys(ways, n_samples) | {"plain": (1 + N_TANGENTS) * n_samples}
    return {way: make_step(build, how, n_rows[way], x, tangents) for way, how in ways.items()}


def thread_steps(name):
    _, build, n_samples, shape = CASES[name]
    x, tangents = torch.randn(n_samples, *shape), torch.randn(n_samples, N_TANGENTS, *shape)
    ways = {"ours": propagate, "thread": by_thread}
    return {way: make_step(build, how, n_samples, x, tangents) for way, how in ways.items()}


def compiled_steps(name):
    _, build, n_samples, shape = CASES[name]
    x, tangents = torch.randn(n_samples, *shape), torch.randn(n_samples, N_TANGENTS, *shape)
    compiled = {}

    def by_compiler(net, x, tangents):
        return compiled.setdefault(net, CompiledPropagation(net))(x, tangents)

    return {
        "ours": make_step(build, by_compiler, n_samples, x, tangents),
        "plain": make_step(build, None, (1 + N_TANGENTS) * n_samples, x, tangents),
    }


def projected_steps(name):
    _, build, n_samples, shape = CASES[name]
    x, tangents = torch.randn(n_samples, *shape), torch.randn(n_samples, N_PROJECTED, *shape)
    ways = {"ours": by_projection, "plain": None}
    return {way: make_step(build, how, n_samples, x, tangents) for way, how in ways.items()}


def jacobian_steps(name):
    _, build, n_samples, shape = CASES[name]
    x, n_inputs = torch.randn(n_samples, *shape), torch.Size(shape).numel()
    tangents = torch.eye(n_inputs).reshape(n_inputs, *shape).expand(n_samples, n_inputs, *shape)
    ways = {"ours": by_projection, "Jacobian regularizer": by_jacobian_regularizer}
    return {way: make_step(build, how, n_samples, x, tangents) for way, how in ways.items()}


def refused_by_torch(step):
    try:
        for _ in range(3):
            step()
    except RuntimeError:
        return True
    return False


def measure(steps, seconds):
    """Return the times of each way, one row a round; nan where torch refuses the network."""
    refused = {way for way, step in steps.items() if refused_by_torch(step)}
    rounds, end = [], time.perf_counter() + seconds
    while len(rounds) < 5 or time.perf_counter() < end:
        times = dict.fromkeys(steps, float("nan"))
        for way in steps.keys() - refused:
            steps[way]()  # in a training, too, the step before was one of the same kind
            start = time.perf_counter()
            steps[way]()
            times[way] = time.perf_counter() - start
        rounds.append(list(times.values()))
    return dict(zip(steps, np.array(rounds).T, strict=True))


def cell(ours, theirs):
    low, middle, high = np.percentile(ours / theirs, [25, 50, 75])
    if np.isnan(middle):
        return "refused by torch"
    return f"{middle:.3g} [{low:.3g}, {high:.3g}]"


def table(title, names, make_steps, seconds):
    print(f"\n{title}")
    for name in names:
        times = measure(make_steps(name), seconds)
        ours = times.pop("ours")
        print(f"{name:<11}{np.median(ours) * 1e3:8.2f} ms")
        for way, theirs in times.items():
            print(f"{'':11} against {way:22} {cell(ours, theirs)}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="three networks, a second each")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only", choices=CASES, nargs="*", default=list(CASES))
    parser.add_argument("--mkl", action="store_true", help="multiply without oneDNN")
    options = parser.parse_args()
    if options.mkl:
        torch.backends.mkldnn.set_flags(False)
    torch.set_num_threads(options.threads)
    seconds = 1 if options.quick else 10
    options.only = options.only[:3] if options.quick else options.only
    by = "MKL alone" if options.mkl else "the faster library"
    print(f"torch {torch.__version__}, {options.threads} threads, products by {by}")
    title = f"exact penalty, {N_TANGENTS} tangents"
    table(title, options.only, exact_steps, seconds)
    title = "exact penalty, the forum's way"
    smallest = [name for name in options.only if name == "gelu-small"]
    table(title, smallest, thread_steps, seconds)
    compiled = [name for name in options.only if name in ("gelu-norm", "conv", "conv-norm")]
    title = "exact penalty, compiled"
    names = compiled[:1] if options.quick else compiled
    table(title, names, compiled_steps, seconds)
    title = f"one random combination of {N_PROJECTED} tangents"
    table(title, options.only, projected_steps, seconds)
    dense = [name for name in options.only if CASES[name][0] == "mlp"]
    title = "one random combination of all coordinate directions"
    table(title, dense, jacobian_steps, seconds)


if __name__ == "__main__":
    main()
