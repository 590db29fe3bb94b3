"""Time of a whole fit on random combinations of tangents, in every memory order, over a plain fit.

A fit with 32 tangents a sample and ``n_projections=1`` is timed in turn with the same fit without
tangents, in one process and on one thread. The tangents come as an array, or from a callable, in
one of several memory orders. The table shows the median of the ratio of a round, and its range::

    python examples/benchmarks/projected_fit_time.py [--quick]
"""

import argparse
import statistics
import time
import warnings

import numpy as np
import torch

from sktangent import TangentPropClassifier

N_TANGENTS = 32
ORDERS = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "broadcast, then astype": lambda V: np.broadcast_to(V[0], V.shape).astype(V.dtype),
    "transposed": lambda V: np.ascontiguousarray(V.swapaxes(0, 1)).swapaxes(0, 1),
    "reversed": lambda V: V[:, ::-1, ::-1],
    "sliced": lambda V: np.repeat(V, 2, axis=2)[:, :, ::2],
    "broadcast, by a callable": lambda V: (
        lambda X: np.broadcast_to(V[0], V[: len(X)].shape).astype(V.dtype)
    ),
}


def fit_seconds(X, y, hidden, epochs, tangents):
    model = TangentPropClassifier(
        penalty_weight=0.1,
        n_projections=1,
        hidden_layer_sizes=hidden,
        batch_size=128,
        max_epochs=epochs,
        n_iter_no_change=epochs,
        random_state=0,
    )
    start = time.process_time()
    if callable(tangents):
        model.set_params(tangents=tangents).fit(X, y)
    else:
        model.fit(X, y, tangents=tangents)
    return time.process_time() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small run")
    quick = parser.parse_args().quick
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    cases = [(1800, 64, (100,)), (2000, 784, (256, 256))]
    epochs, n_rounds = (2, 1) if quick else (30, 5)
    print(f"{N_TANGENTS} tangents, batch 128, {epochs} epochs, 1 thread")
    print(f"{'network':16} {'dtype':8} {'memory order':26} {'ratio':>6} {'range':>14}")
    for n_samples, n_features, hidden in cases[: 1 if quick else None]:
        for dtype in (np.float32, np.float64):
            X = rng.normal(size=(n_samples, n_features)).astype(dtype)
            y = rng.integers(0, 10, n_samples)
            V = rng.normal(size=(n_samples, N_TANGENTS, n_features)).astype(dtype)
            for name, order in ORDERS.items():
                tangents, ratios = order(V), []
                for _ in range(n_rounds + 1):
                    plain = fit_seconds(X, y, hidden, epochs, None)
                    ratios.append(fit_seconds(X, y, hidden, epochs, tangents) / plain)
                ratios = ratios[1:]
                network = "-".join(map(str, (n_features, *hidden, 10)))
                print(
                    f"{network:16} {dtype.__name__:8} {name:26} {statistics.median(ratios):6.2f} "
                    f"{min(ratios):6.2f} to {max(ratios):.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
