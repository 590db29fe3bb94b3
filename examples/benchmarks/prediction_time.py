"""Time of predictions, against a bare forward pass of the same network::

python examples/benchmarks/prediction_time.py [--quick]
"""

import argparse
import statistics
import time

import numpy as np
import torch

from sktangent import TangentPropClassifier


def interleave(functions, n_rounds):
    """Call functions in turn; return the times of each."""
    times = {name: [] for name in functions}
    for _ in range(n_rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - start)
    return times


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a small run")
    n_samples, n_rounds = (2_000, 3) if parser.parse_args().quick else (100_000, 15)
    rng = np.random.default_rng(0)
    print(f"{n_samples:,} samples of 100 features, {torch.get_num_threads()} threads")
    print(f"{'':22}{'dtype':10}{'ms':>8}{'ratio':>8}")
    for dtype in (np.float32, np.float64):
        X = rng.normal(size=(n_samples, 100)).astype(dtype)
        model = TangentPropClassifier(max_epochs=1).fit(X, rng.integers(0, 10, n_samples))
        module, x = model.module_, torch.from_numpy(X)

        def forward(module=module, x=x):
            with torch.inference_mode():
                return module(x)

        functions = {"forward": forward}
        for name in ("decision_function", "predict", "predict_proba"):
            method = getattr(model, name)
            functions[name] = lambda method=method, X=X: method(X)
        times = interleave(functions, n_rounds)
        for name, own in times.items():
            ratios = [a / b for a, b in zip(own, times["forward"], strict=True)]
            ms, ratio = statistics.median(own) * 1e3, statistics.median(ratios)
            print(f"{name:22}{dtype.__name__:10}{ms:8.1f}{ratio:8.2f}", flush=True)


if __name__ == "__main__":
    main()
