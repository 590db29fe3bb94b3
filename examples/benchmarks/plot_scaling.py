"""How the time of an epoch and the peak memory of a fit grow.

Over the number of samples, of tangents (all of them, and one random combination), the width and the
depth of the network; each fit in a process of its own. Dotted: time in proportion. Run it with

    python examples/benchmarks/plot_scaling.py [--quick]
"""

import argparse
import json
import subprocess
import sys

import numpy as np
import torch
from _process import peak_memory

from sktangent import TangentPropClassifier

N_FEATURES = 100
BASE = {"n_samples": 4_000, "n_tangents": 6, "n_projections": None, "width": 256, "depth": 2}
SWEEPS = {
    "n_samples": [1_000, 10_000, 30_000, 100_000],
    "n_tangents": [1, 4, 16, 64],
    "width": [64, 256, 1024],
    "depth": [1, 2, 4, 8],
}
QUICK = {"n_samples": [500, 1_000], "n_tangents": [1, 4]}

parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
parser.add_argument("--quick", action="store_true", help="few and small fits")
parser.add_argument("--out", default="scaling.png", help="where to save the picture")
parser.add_argument("--fit", type=json.loads, help=argparse.SUPPRESS)


def rolled(X, n_tangents):
    return np.stack([np.roll(X, t + 1, axis=1) for t in range(n_tangents)], axis=1)


def fit(n_samples, n_tangents, n_projections, width, depth):
    """Fit three epochs; print the seconds of the shortest and the peak memory in MiB."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_samples, N_FEATURES)).astype(np.float32)
    model = TangentPropClassifier(
        lambda X: rolled(X, n_tangents),
        n_projections=n_projections,
        hidden_layer_sizes=(width,) * depth,
        max_epochs=3,
    ).fit(X, rng.integers(0, 10, n_samples))
    print(min(row["dur"] for row in model.history_), peak_memory())


def measure(**changed):
    command = [sys.executable, __file__, "--fit", json.dumps({**BASE, **changed})]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    return tuple(map(float, answer.stdout.split()))


def run(sweeps):
    results = {}
    print(f"{'':12}{'':>10}{'combined':>10}{'s an epoch':>12}{'peak MiB':>10}")
    for name, values in sweeps.items():
        kinds = {"all": None, "one combination": 1} if name == "n_tangents" else {"": None}
        for kind, n_projections in kinds.items():
            figures = [measure(**{name: x, "n_projections": n_projections}) for x in values]
            results[name, kind] = values, *zip(*figures, strict=True)
            for value, (seconds, peak) in zip(values, figures, strict=True):
                combined = n_projections or "-"
                print(f"{name:12}{value:>10,}{combined:>10}{seconds:12.3f}{peak:10.0f}", flush=True)
    return results


def plot(results, out):
    from matplotlib import pyplot as plt

    names = list(dict.fromkeys(name for name, _ in results))
    size = (3.2 * len(names), 5.5)
    fig, axes = plt.subplots(2, len(names), figsize=size, sharex="col", layout="constrained")
    for (name, kind), (values, *figures) in results.items():
        seconds, peaks = figures
        above, below = axes[:, names.index(name)]
        above.loglog(values, seconds, "o-", label=kind or None)
        below.semilogx(values, peaks, "o-")
        if kind in ("", "all"):
            above.plot(values, np.divide(values, values[-1]) * seconds[-1], ":", color="gray")
        below.set(xlabel=name, ylim=(0, None))
        below.set_xticks(values, [f"{value:,}" for value in values], minor=False)
        below.set_xticks([], minor=True)
        if kind:
            above.legend(frameon=False)
    axes[0, 0].set_ylabel("seconds an epoch")
    axes[1, 0].set_ylabel("peak memory in MiB")
    fig.suptitle(f"MLP, {N_FEATURES} features; unless on the axis: {BASE}", fontsize="small")
    fig.savefig(out, dpi=150)


def main():
    options = parser.parse_args()
    if options.fit:
        fit(**options.fit)
        return
    print(f"{torch.get_num_threads()} threads; unless listed: {BASE}")
    plot(run(QUICK if options.quick else SWEEPS), options.out)


if __name__ == "__main__":
    main()
