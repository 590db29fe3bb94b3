"""What it costs to move samples: a batch of images, a fit of them, and its memory.

A batch of 128 images of 28 x 28 is moved along six affine transformations, against torch's
``affine_grid`` and ``grid_sample`` (bicubic) and, where kornia is installed, its random affine.
Fits are of 10,000 such images, an MLP with two layers of 256 units, in batches of 128. Rounds
alternate, in one process, and a figure is the ratio of medians, by the clock, because a thread
moves samples beside the training: let nothing else run. The peak memory is that of processes of
their own::

    python examples/benchmarks/moves.py [--quick]
"""

import argparse
import statistics
import subprocess
import sys
import time
import warnings

import numpy as np
import torch
from _process import peak_memory
from sklearn.exceptions import ConvergenceWarning

from sktangent import TangentPropClassifier
from sktangent.tangents import ImageTangents

SIDE, BATCH = 28, 128
AFFINE = (
    "translation_x",
    "translation_y",
    "rotation",
    "scaling",
    "hyperbolic_axis",
    "hyperbolic_diagonal",
)
ALL = (*AFFINE, "thickening", "brightness", "contrast")
LARGEST = {**dict.fromkeys(AFFINE, 2.0), "thickening": 0.5, "brightness": 0.1, "contrast": 0.1}
FITS = {
    "plain": {"penalty_weight": 0},
    "augment": {"penalty_weight": 0, "augment": dict.fromkeys(AFFINE, 2.0)},
    "1 of 9 tangents": {"n_projections": 1},
    "augment, 1 of 9 tangents": {"augment": dict.fromkeys(AFFINE, 2.0), "n_projections": 1},
    "the same, moved along 9": {"augment": LARGEST, "n_projections": 1},
}


def images(n_samples):
    rng = np.random.default_rng(0)
    return rng.random((n_samples, SIDE * SIDE), dtype=np.float32), rng.integers(0, 10, n_samples)


def movers():
    """Return, by name, functions that move one and the same batch."""
    X, _ = images(BATCH)
    tangents, batch = ImageTangents((SIDE, SIDE)), torch.from_numpy(X).view(BATCH, 1, SIDE, SIDE)
    amounts = np.random.default_rng(1).uniform(-2, 2, size=(BATCH, 6))
    maps = torch.eye(2, 3) + 0.1 * torch.randn(BATCH, 2, 3, generator=torch.Generator())

    def by_torch():
        grid = torch.nn.functional.affine_grid(maps, batch.shape, align_corners=True)
        torch.nn.functional.grid_sample(
            batch, grid, mode="bicubic", padding_mode="border", align_corners=True
        )

    found = {"torch, bicubic": by_torch, "move": lambda: tangents.move(X, amounts)}
    try:
        from kornia.augmentation import RandomAffine
    except ImportError:
        return found
    linear, cubic = (
        RandomAffine(15, (0.1, 0.1), (0.9, 1.1), p=1.0, resample=mode)
        for mode in ("bilinear", "bicubic")
    )
    return {
        **found,
        "kornia, bilinear": lambda: linear(batch),
        "kornia, bicubic": lambda: cubic(batch),
    }


def fits(n_samples):
    """Return, by name, functions that fit for one epoch."""
    X, y = images(n_samples)
    models = {
        name: TangentPropClassifier(
            ImageTangents((SIDE, SIDE), ALL),
            hidden_layer_sizes=(256, 256),
            batch_size=BATCH,
            max_epochs=1,
            random_state=0,
            **params,
        )
        for name, params in FITS.items()
    }
    return {name: lambda model=model: model.fit(X, y) for name, model in models.items()}


def compare(functions, n_rounds):
    """Print how long each function takes, and over the first."""
    times = {name: [] for name in functions}
    for function in functions.values():
        function()
    for _ in range(n_rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(each) for name, each in times.items()}
    first = next(iter(medians.values()))
    for name, median in medians.items():
        print(f"{name:26}{1e3 * median:10.2f} ms{median / first:8.2f}")


def peak(n_samples, name):
    """Fit in a process of its own, and return its largest size in MiB."""
    command = [sys.executable, __file__, "--fit", str(n_samples), name]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(answer.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few samples and rounds")
    parser.add_argument("--fit", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    if options.fit:
        fits(int(options.fit[0]))[options.fit[1]]()
        print(peak_memory())
        return
    print(f"{torch.get_num_threads()} threads; a batch of {BATCH} images")
    compare(movers(), 20 if options.quick else 100)
    n_samples = 1_000 if options.quick else 10_000
    print(f"one epoch of {n_samples:,} images")
    compare(fits(n_samples), 2 if options.quick else 5)
    n_samples = 2_000 if options.quick else 60_000
    print(f"peak memory, {n_samples:,} images")
    peaks = {name: peak(n_samples, name) for name in FITS}
    for name, size in peaks.items():
        print(f"{name:26}{size:10.0f} MiB{size / peaks['plain']:7.2f}")


if __name__ == "__main__":
    main()
