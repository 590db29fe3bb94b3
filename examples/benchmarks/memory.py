"""Peak memory of a fit whose tangents are computed as they are needed, against one without.

Each fit runs in a process of its own, of which the operating system tells the largest size::

    python examples/benchmarks/memory.py [--quick]
"""

import argparse
import subprocess
import sys
import time

import numpy as np
from _process import peak_memory

from sktangent import TangentPropClassifier
from sktangent.tangents import ImageTangents

SIDE = 28
TRANSFORMS = (
    "translation_x",
    "translation_y",
    "rotation",
    "scaling",
    "hyperbolic_axis",
    "hyperbolic_diagonal",
    "thickening",
)


def fit(n_samples, with_tangents):
    """Fit one epoch; print the seconds it took and the peak memory of the process in MiB."""
    rng = np.random.default_rng(0)
    X = rng.random((n_samples, SIDE * SIDE), dtype=np.float32)
    y = rng.integers(0, 10, n_samples)
    tangents = ImageTangents((SIDE, SIDE), transforms=TRANSFORMS) if with_tangents else None
    start = time.perf_counter()
    TangentPropClassifier(tangents, hidden_layer_sizes=(256, 256), max_epochs=1).fit(X, y)
    seconds = time.perf_counter() - start
    print(seconds, peak_memory())


def measure(n_samples, with_tangents):
    command = [sys.executable, __file__, "--fit", str(n_samples), str(int(with_tangents))]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    return tuple(map(float, answer.stdout.split()))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="2,000 samples, not 60,000")
    parser.add_argument("--fit", type=int, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fit:
        fit(*options.fit)
        return
    n_samples = 2_000 if options.quick else 60_000
    kept = n_samples * SIDE * SIDE * len(TRANSFORMS) * 4 / 2**20
    print(f"{n_samples:,} images of {SIDE} x {SIDE}, {len(TRANSFORMS)} tangents: {kept:,.0f} MiB")
    results = {name: measure(n_samples, name == "tangents") for name in ("none", "tangents")}
    for name, (seconds, peak) in results.items():
        print(f"{name:10}{peak:8.0f} MiB {seconds:8.1f} s an epoch")
    ratio = results["tangents"][1] / results["none"][1]
    print(f"ratio of the peaks {ratio:.2f}")


if __name__ == "__main__":
    main()
