"""Time of the estimators that choose their weight, against a grid search over the same weights.

The other is ``GridSearchCV(n_jobs=2)`` of the plain estimator, with the same grid, folds and random
states; its processes are warm, and both take turns. Ours scores invariance too. The table shows the
medians of the seconds and of the ratios of a round, the range of these, by how much the folds'
scores differ at most, and whether both choose the same weight, by ``rule="best"``; all in
float64::

    python examples/benchmarks/weight_search.py [--quick] [--only digits]

The last line is the peak memory of a search over 45 networks, in a process of its own, over that of
a single fit.
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
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV

from sktangent import (
    TangentPropClassifier,
    TangentPropClassifierCV,
    TangentPropRegressor,
    TangentPropRegressorCV,
)
from sktangent.tangents import ImageTangents, SeriesTangents

WEIGHTS = [0.0, *np.geomspace(1e-3, 10, 9)]
PLAIN = {
    TangentPropClassifierCV: TangentPropClassifier,
    TangentPropRegressorCV: TangentPropRegressor,
}


def series():
    """Draw two kinds of bumps at random places."""
    rng = np.random.default_rng(0)
    y = np.arange(50) % 2
    at, width = rng.normal(0.5, 0.05, size=(50, 1)), np.where(y, 0.1, 0.13)[:, None]
    X = np.exp(-(((np.linspace(0, 1, 150) - at) / width) ** 2))
    return X + 0.1 * rng.normal(size=X.shape), y


def points():
    X = np.random.default_rng(0).uniform(-1, 1.5, size=(100, 2))
    wave = 2 * np.pi * X
    y = (10 + X**2 - 10 * np.cos(wave)).sum(axis=1)
    return X, y, 2 * X + 20 * np.pi * np.sin(wave)


def digits():
    X, y = load_digits(return_X_y=True)
    return X[:320] / 16, y[:320]


def images(n_samples=2000, dtype=np.float64):
    rng = np.random.default_rng(0)
    X = rng.random((n_samples, 784), dtype=np.float32).astype(dtype)
    return X, rng.integers(0, 10, n_samples)


LARGE = {"hidden_layer_sizes": (256, 256), "n_iter_no_change": 1000}
# name: (data, estimator, tangents, parameters, epochs)
TASKS = {
    "50 series of 150, 150-100-2": (
        series,
        TangentPropClassifierCV,
        SeriesTangents(("shift", "stretch", "warp")),
        {"n_iter_no_change": 1000},
        200,
    ),
    "100 points with gradients, adam": (
        points,
        TangentPropRegressorCV,
        None,
        {"optimizer": "adam", "lr": 0.01},
        200,
    ),
    "100 points with gradients, lm": (
        points,
        TangentPropRegressorCV,
        None,
        {"hidden_layer_sizes": (20, 20), "optimizer": "lm"},
        60,
    ),
    "320 digits, 64-100-10": (digits, TangentPropClassifierCV, ImageTangents((8, 8)), {}, 60),
    "2,000 images, 784-256-256-10": (
        images,
        TangentPropClassifierCV,
        ImageTangents((28, 28)),
        LARGE,
        5,
    ),
}


def compare(load, kind, tangents, params, epochs, weights, n_rounds, n_jobs):
    """Time both searches in turn, after a round that warms them up."""
    X, y, *derivatives = load()
    metadata = {"derivatives": derivatives[0]} if derivatives else {}
    params = {**params, "max_epochs": epochs, "random_state": 0}
    ours = kind(tangents, weights, cv=5, rule="best", n_jobs=n_jobs, **params)
    grid = {"penalty_weight": weights}
    theirs = GridSearchCV(PLAIN[kind](tangents, **params), grid, cv=5, n_jobs=n_jobs)
    rounds = []
    for _ in range(n_rounds + 1):
        times = []
        for search in (ours, theirs):
            start = time.perf_counter()
            search.fit(X, y, **metadata)
            times.append(time.perf_counter() - start)
        rounds.append(times)
    return np.array(rounds[1:]), ours.cv_results_, theirs.cv_results_


def difference(ours, theirs):
    """Find the largest relative difference of two searches' scores on the folds."""
    found, wanted = (
        np.array([results[f"split{k}_test_score"] for k in range(5)]) for results in (ours, theirs)
    )
    return np.max(np.abs(found - wanted) / np.maximum(np.abs(wanted), 1e-6))


def choice(results):
    return int(np.nanargmax(results["mean_test_score"]))


def fit(n_samples, n_weights):
    """Fit an epoch of each network, of one if there are no weights; print seconds and memory."""
    X, y = images(n_samples, np.float32)
    tangents, params = ImageTangents((28, 28)), {**LARGE, "max_epochs": 1, "random_state": 0}
    model = (
        TangentPropClassifierCV(tangents, np.linspace(0, 1, n_weights), cv=5, **params)
        if n_weights
        else TangentPropClassifier(tangents, **params)
    )
    start = time.perf_counter()
    model.fit(X, y)
    print(time.perf_counter() - start, peak_memory())


def measure_memory(n_samples, n_weights):
    command = [sys.executable, __file__, "--fit", str(n_samples), str(n_weights)]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return tuple(map(float, answer.stdout.split()))


def show(name, times, ours, theirs):
    ratios = times[:, 0] / times[:, 1]
    spread = f"{ratios.min():.2f} to {ratios.max():.2f}"
    seconds = "".join(f"{statistics.median(column):8.2f}" for column in times.T)
    same = "same" if choice(ours) == choice(theirs) else "another"
    print(
        f"{name:34}{seconds}{statistics.median(ratios):8.2f}{spread:>15}"
        f"{difference(ours, theirs):11.0e}{same:>9}",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small run")
    parser.add_argument("--only", default="", help="tasks whose names contain it")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fit", type=int, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.fit:
        fit(*options.fit)
        return
    n_jobs = 1 if options.quick else 2  # processes take long to start
    weights, n_rounds = (WEIGHTS[::5], 1) if options.quick else (WEIGHTS, options.rounds)
    print(f"{len(weights)} weights, 5 folds; torch {torch.__version__}, n_jobs={n_jobs}")
    print(f"{'':34}{'ours':>8}{'grid':>8}{'ratio':>8}{'range':>15}{'scores by':>11}{'choice':>9}")
    tasks = list(TASKS)[:2] if options.quick else TASKS
    for name in tasks:
        if options.only in name:
            *task, epochs = TASKS[name]
            epochs = min(epochs, 3) if options.quick else epochs
            show(name, *compare(*task, epochs, weights, n_rounds, n_jobs))
    if options.only in "memory":
        n_samples, n_weights = (200, 1) if options.quick else (2000, 9)
        (seconds, peak), (_, alone) = (measure_memory(n_samples, n) for n in (n_weights, 0))
        print(
            f"{5 * n_weights} networks 784-256-256-10, {n_samples:,} images, an epoch, and a fit: "
            f"{seconds:.1f} s, {peak:.0f} MiB, {peak / alone:.2f} of a single fit's"
        )


if __name__ == "__main__":
    main()
