"""What each shortcut of sktangent saves of a whole fit, and all of them together.

A fit with every shortcut runs in turn, in the same process, with one of which a single shortcut is
left out, and with one without any; the table shows the median of the ratios, with over without,
and their range. Small numbers are good; a shortcut near 1 does nothing for that fit::

    python examples/benchmarks/shortcuts.py [--quick] [--only digits] [--without chains]

What malloc learns it keeps, so the shortcut of memory is measured in processes of their own.
"""

import argparse
import functools
import itertools
import statistics
import subprocess
import sys
import time
import warnings
from unittest import mock

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from sktangent import TangentPropClassifier, TangentPropRegressor
from sktangent._speed import adam, chains, products, scripts, shortcuts
from sktangent.propagation.rules import normalization
from sktangent.tangents import ImageTangents

LEFT_OUT = {
    "chains": lambda: mock.patch.object(chains, "find_chain", lambda *args: None),
    "going back": lambda: mock.patch.object(chains, "takes_less", lambda *args: False),
    "products": lambda: mock.patch.object(products, "_has_faster_onednn", lambda: False),
    "Adam's step": lambda: mock.patch.object(adam, "are_shortcuts_on", lambda: False),
    "scripts": lambda: mock.patch.object(scripts, "are_shortcuts_on", lambda: False),
    "layer norm": lambda: mock.patch.object(normalization, "are_shortcuts_on", lambda: False),
    "all of them": lambda: shortcuts(False),
}


def layer_norms():
    hidden = [(nn.Linear(n_in, 256), nn.LayerNorm(256), nn.GELU()) for n_in in (784, 256)]
    return nn.Sequential(*hidden[0], *hidden[1], nn.Linear(256, 10))


def convolutions():
    layers = []
    for n_in, n_out in ((1, 16), (16, 32)):
        layers += [nn.Conv2d(n_in, n_out, 3, padding=1), nn.GELU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * 7 * 7, 10))


def digits():
    X, y = load_digits(return_X_y=True)
    return (X / 16).astype(np.float32), y


def images(n_samples):
    rng = np.random.default_rng(0)
    return rng.random((n_samples, 784), dtype=np.float32), rng.integers(0, 10, n_samples)


def points(n_samples=100, n_features=5):
    X = np.random.default_rng(0).uniform(size=(n_samples, n_features))
    return X, np.sin(6 * X).sum(axis=1), 6 * np.cos(6 * X)


# name: (data, tangents, parameters)
FITS = {
    "digits, 64-100-10, batch 32": (digits, None, {"batch_size": 32}),
    "digits, 64-100-10, batch 200": (digits, None, {}),
    "digits, batch 32, 6 tangents": (digits, ImageTangents((8, 8)), {"batch_size": 32}),
    "digits, batch 200, 6 tangents": (digits, ImageTangents((8, 8)), {}),
    "images, 784-256-256-10, 6 tangents": (
        functools.partial(images, 2000),
        ImageTangents((28, 28)),
        {"hidden_layer_sizes": (256, 256), "batch_size": 128},
    ),
    "moved images, 784-256-256-10": (
        functools.partial(images, 4000),
        ImageTangents((28, 28)),
        {"hidden_layer_sizes": (256, 256), "batch_size": 128, "augment": 2, "penalty_weight": 0},
    ),
    "images, 784-1024-1024-10, no tangents": (
        functools.partial(images, 4000),
        None,
        {"hidden_layer_sizes": (1024, 1024), "batch_size": 256},
    ),
    "images, 784-1024-1024-10, 6 tangents": (
        functools.partial(images, 2000),
        ImageTangents((28, 28)),
        {"hidden_layer_sizes": (1024, 1024), "batch_size": 256},
    ),
    "images, layer norms, 6 tangents": (
        functools.partial(images, 2000),
        ImageTangents((28, 28)),
        {"module": layer_norms, "batch_size": 128},
    ),
    "100 points with gradients": (points, None, {"optimizer": "lm"}),
    "2,000 points with 20 gradients, Adam": (
        functools.partial(points, 2000, 20),
        None,
        {"hidden_layer_sizes": (100, 100), "optimizer": "adam"},
    ),
}
MEMORY = "images, convolutions, 6 tangents", "memory"


def fit(X, y, *derivatives, tangents, epochs, **params):
    kind = TangentPropRegressor if derivatives else TangentPropClassifier
    params = {"penalty_weight": 0.1, "max_epochs": epochs, "tol": 0, "random_state": 0, **params}
    metadata = {"derivatives": derivatives[0]} if derivatives else {}
    kind(tangents, **params).fit(X, y, **metadata)


def seconds(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def ratios(work, left_out, n_rounds):
    """Time the work with all shortcuts and with some left out, in turn."""
    found = []
    for _ in range(n_rounds + 1):
        with_all = seconds(work)
        with left_out():
            found.append(with_all / seconds(work))
    return found[1:]


STEPS = """
import sys, time, warnings
warnings.simplefilter("ignore")
sys.path.insert(0, {folder!r})
import shortcuts
from unittest import mock
if {is_left_out}:
    import sktangent.net
    sktangent.net.keep_freed_memory = lambda: None
X, y = shortcuts.images(500)
tangents = shortcuts.ImageTangents((1, 28, 28))
params = dict(module=shortcuts.convolutions, batch_size=64, epochs={epochs})
work = lambda: shortcuts.fit(X.reshape(-1, 1, 28, 28), y, tangents=tangents, **params)
work()
print(shortcuts.seconds(work))
"""


def memory_ratios(epochs, n_rounds):
    """Time the same fit in processes that keep what a step frees, and that do not."""
    found = []
    for _ in range(n_rounds):
        times = []
        for is_left_out in (False, True):
            code = STEPS.format(folder=sys.path[0], is_left_out=is_left_out, epochs=epochs)
            process = subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=True
            )
            times.append(float(process.stdout))
        found.append(times[0] / times[1])
    return found


def show(name, left_out, values):
    spread = f"{min(values):.2f} to {max(values):.2f}"
    print(f"{name:40} {left_out:12} {statistics.median(values):6.2f} {spread:>14}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small run")
    parser.add_argument("--only", default="", help="fits whose names begin so")
    parser.add_argument("--without", default="", help="shortcuts whose names begin so")
    arguments = parser.parse_args()
    epochs, n_rounds = (1, 1) if arguments.quick else (5, 7)
    warnings.simplefilter("ignore")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"{'a fit':40} {'without':12} {'ratio':>6} {'range':>14}")
    fits = list(FITS)[:2] if arguments.quick else FITS
    for name, left_out in itertools.product(fits, LEFT_OUT):
        if name.startswith(arguments.only) and left_out.startswith(arguments.without):
            load, tangents, params = FITS[name]
            work = functools.partial(fit, *load(), tangents=tangents, epochs=epochs, **params)
            show(name, left_out, ratios(work, LEFT_OUT[left_out], n_rounds))
    if MEMORY[0].startswith(arguments.only) and MEMORY[1].startswith(arguments.without):
        show(*MEMORY, memory_ratios(epochs, n_rounds))


if __name__ == "__main__":
    main()
