"""What a fit costs for each sample, tangent and parameter.

A training step over n samples with T tangents each, through linear layers of P parameters in all,
multiplies and adds 3 n (1 + T) P times: once forward and twice backward. So the time of an epoch
over N samples is about

    c N (1 + T) P,

and what this measures is c: the time of an epoch in fits of the estimator, divided by N (1 + T) P.
What a fit does once is left out: the time of few epochs is subtracted from that of more. Beside it
stands 6 / c, floating-point operations a second. Run it with

    python examples/benchmarks/cost.py [--quick] [--device cuda] [--threads 1]
"""

import argparse
import statistics
import time
import warnings

import numpy as np
import torch

from sktangent import TangentPropClassifier

SHAPES = {
    "64-100-10": (64, (100,)),
    "784-512-512-10": (784, (512, 512)),
    "784-1024-1024-10": (784, (1024, 1024)),
}
N_TANGENTS = (0, 1, 6)
N_SAMPLES, BATCH_SIZE = 4000, 200


def fit_time(X, y, tangents, hidden, epochs, device):
    model = TangentPropClassifier(
        None if tangents is None else (lambda X: tangents[: len(X)]),
        hidden_layer_sizes=hidden,
        batch_size=BATCH_SIZE,
        max_epochs=epochs,
        n_iter_no_change=np.inf,
        random_state=0,
        device=device,
    )
    start = time.perf_counter()
    model.fit(X, y)
    seconds = time.perf_counter() - start
    n_parameters = sum(p.numel() for p in model.module_.parameters())
    return seconds, n_parameters


def epoch_time(X, y, tangents, hidden, epochs, device):
    few, _ = fit_time(X, y, tangents, hidden, 1, device)
    more, _ = fit_time(X, y, tangents, hidden, 1 + epochs, device)
    return (more - few) / epochs


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer samples and rounds")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(options.threads)
    n_samples, n_rounds, work_each = (800, 1, 1e9) if options.quick else (N_SAMPLES, 3, 5e9)
    print(f"torch {torch.__version__}, device {options.device}, {options.threads} threads, float32")
    print(f"{'network':18} {'tangents':>8} {'parameters':>10} {'c in ps':>8} {'GFLOP/s':>8}")
    random = np.random.default_rng(0)
    for name, (n_features, hidden) in SHAPES.items():
        X = random.normal(size=(n_samples, n_features)).astype(np.float32)
        y = random.integers(0, 10, n_samples)
        for n_tangents in N_TANGENTS:
            shape = (n_samples, n_tangents, n_features)
            tangents = random.normal(size=shape).astype(np.float32) if n_tangents else None
            _, n_parameters = fit_time(X, y, tangents, hidden, 1, options.device)  # warms up
            work = n_samples * (1 + n_tangents) * n_parameters
            epochs = max(2, round(work_each / work))
            rounds = [
                epoch_time(X, y, tangents, hidden, epochs, options.device) for _ in range(n_rounds)
            ]
            c = statistics.median(rounds) / work
            print(
                f"{name:18} {n_tangents:8} {n_parameters:10} {c * 1e12:8.1f} {6e-9 / c:8.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
