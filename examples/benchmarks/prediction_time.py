"""Time of predictions, against a bare forward pass of the same network, and of one sample's.

With JENN installed, also the value of one sample with its Jacobian, against JENN's evaluation
(``model(x)``, which computes both) of a network of the same size::

    python examples/benchmarks/prediction_time.py [--quick]
"""

import argparse
import statistics
import time
import warnings

import numpy as np
import torch

from sktangent import TangentPropClassifier, TangentPropRegressor

try:
    import jenn
except ImportError:
    jenn = None


def interleave(functions, n_rounds):
    """Call functions in turn; return the times of each."""
    times = {name: [] for name in functions}
    for _ in range(n_rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - start)
    return times


def print_times(times, baseline, label):
    """Print medians of times, and of their ratios to a baseline's in the same rounds."""
    for name, own in times.items():
        ratios = [a / b for a, b in zip(own, times[baseline], strict=True)]
        ms, ratio = statistics.median(own) * 1e3, statistics.median(ratios)
        print(f"{name:22}{label:10}{ms:8.3g}{ratio:8.2f}", flush=True)


def compare_with_jenn(n_rounds):
    X = np.random.default_rng(0).random((50, 5))
    y, slopes, x = X.sum(axis=1), np.ones_like(X), X[:1]
    for sizes in ((12, 12), (100,)):
        rival = jenn.NeuralNet([5, *sizes, 1])
        rival.fit(X.T, y[None], slopes.T[None], max_iter=20)
        model = TangentPropRegressor(hidden_layer_sizes=sizes, max_epochs=2, optimizer="lm")
        model.fit(X, y, derivatives=slopes)
        functions = {
            "JENN": lambda rival=rival: rival(x.T),
            "predict with Jacobian": lambda model=model: model.predict(x, return_jacobian=True),
        }
        print_times(interleave(functions, n_rounds), "JENN", "-".join(map(str, sizes)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a small run")
    quick = parser.parse_args().quick
    warnings.simplefilter("ignore")
    n_samples, n_rounds = (2_000, 3) if quick else (100_000, 15)
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
        print_times(interleave(functions, n_rounds), "forward", dtype.__name__)
    if jenn is not None:
        print("one sample of 5 features")
        compare_with_jenn(30 if quick else 2_000)


if __name__ == "__main__":
    main()
