"""Time of a fit against those who do the same: a torch loop, skorch, scikit-learn.

All peers run in one process, in turn, on scikit-learn's digits. Each fits twice and the second fit
is timed: while the first one runs, threads of the library before it still wait for work, and take
the cores. The table shows the median of the ratio of the times of a round, and its range over the
rounds::

    python examples/benchmarks/fit_time.py [--quick]
"""

import argparse
import statistics
import time
import warnings
from functools import partial

import numpy as np
import skorch
import torch
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier
from torch import nn

from sktangent import TangentPropClassifier
from sktangent.modules import MLP
from sktangent.propagation import propagate
from sktangent.tangents import ImageTangents

BATCH_SIZE = 128
HIDDEN = (100,)


def sktangent_fit(X, y, epochs, tangents=None):
    TangentPropClassifier(
        tangents,
        penalty_weight=0.1,
        hidden_layer_sizes=HIDDEN,
        activation="relu",
        batch_size=BATCH_SIZE,
        max_epochs=epochs,
        n_iter_no_change=epochs,
        random_state=0,
    ).fit(X, y)


def torch_fit(X, y, epochs, tangents=None):
    """Write the loop by hand: slice, step, and read the losses at the end of the epoch."""
    x, target = torch.from_numpy(X), torch.from_numpy(y)
    tau = None if tangents is None else torch.from_numpy(tangents(X))
    module = MLP(X.shape[1], 10, HIDDEN, "relu").to(x.dtype)
    weights = [p for name, p in module.named_parameters() if not name.endswith("bias")]
    biases = [p for name, p in module.named_parameters() if name.endswith("bias")]
    groups = [
        {"params": weights, "weight_decay": 1e-4 / BATCH_SIZE},
        {"params": biases, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.Adam(groups, lr=1e-3, fused=True)
    for _ in range(epochs):
        losses = []
        for index in torch.randperm(len(x)).split(BATCH_SIZE):
            if tau is None:
                loss = nn.functional.cross_entropy(module(x[index]), target[index])
            else:
                logits, slopes = propagate(module, x[index], tau[index])
                data = nn.functional.cross_entropy(logits, target[index])
                loss = data + 0.1 * slopes.square().sum() / len(index)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        torch.stack(losses).mean().item()


def skorch_fit(X, y, epochs):
    dtype = torch.from_numpy(X).dtype
    skorch.NeuralNetClassifier(
        MLP(X.shape[1], 10, HIDDEN, "relu").to(dtype),
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=1e-3,
        max_epochs=epochs,
        batch_size=BATCH_SIZE,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    ).fit(X, y)


def sklearn_fit(X, y, epochs):
    MLPClassifier(
        HIDDEN, batch_size=BATCH_SIZE, max_iter=epochs, n_iter_no_change=epochs, random_state=0
    ).fit(X, y)


def rounds(ours, peer, n_rounds):
    """Time two fits in turn, and return the ratio of each round."""
    ratios = []
    for _ in range(n_rounds + 1):
        times = []
        for fit in (ours, peer):
            fit()
            start = time.perf_counter()
            fit()
            times.append(time.perf_counter() - start)
        ratios.append(times[0] / times[1])
    return ratios[1:]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small run")
    quick = parser.parse_args().quick
    epochs, n_rounds = (3, 2) if quick else (30, 9)
    warnings.simplefilter("ignore")
    X, y = load_digits(return_X_y=True)
    images = ImageTangents((8, 8))
    print(
        f"digits {X.shape}, {epochs} epochs, batch {BATCH_SIZE}, {torch.get_num_threads()} threads"
    )
    print(f"{'a fit':44} {'dtype':8} {'ratio':>6} {'range':>14}")
    for dtype in (np.float32, np.float64):
        data = ((X / 16).astype(dtype), y)
        rows = [
            ("without tangents / torch loop", None, torch_fit),
            ("six tangents / torch loop", images, torch_fit),
            ("without tangents / skorch, its iterators", None, skorch_fit),
            ("without tangents / MLPClassifier", None, sklearn_fit),
        ]
        for name, tangents, peer in rows:
            arguments = (*data, epochs) if tangents is None else (*data, epochs, tangents)
            ratios = rounds(partial(sktangent_fit, *arguments), partial(peer, *arguments), n_rounds)
            spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
            median = statistics.median(ratios)
            print(f"{name:44} {dtype.__name__:8} {median:6.2f} {spread:>14}", flush=True)


if __name__ == "__main__":
    main()
