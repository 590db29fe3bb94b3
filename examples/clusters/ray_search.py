"""A search over the penalty weight by Ray's workers.

The network and the tangents are defined here, in ``__main__``, and travel with each fit. Ray would
send the samples with each fit too; what travels instead is where they lie in its store, which every
machine holds once.

    python examples/clusters/ray_search.py [--quick] [--address ADDRESS]
"""

import argparse
import os
import tempfile
import warnings
from collections import Counter
from pathlib import Path

import joblib
import numpy as np
import ray
import torch
from ray.util.joblib import register_ray
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV

from sktangent import TangentPropClassifier

warnings.simplefilter("ignore", ConvergenceWarning)


class Stored:
    """An array in the store: pickled as its place there, mapped into memory where it is used."""

    def __init__(self, array, folder):
        self.array, self.folder, self.shape = array, folder, array.shape
        self.place = ray.put(array)

    def __len__(self):
        return len(self.array)

    def __getitem__(self, rows):
        return self.array[rows]

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.array, dtype=dtype)

    def __getstate__(self):
        return {name: value for name, value in vars(self).items() if name != "array"}

    def __setstate__(self, state):
        vars(self).update(state)
        self.array = ray.get(self.place)
        with open(self.folder / "fits", "a") as notes:
            in_place = not self.array.flags.owndata and not self.array.flags.writeable
            notes.write(f"{os.getpid()} {in_place}\n")


class Net(torch.nn.Module):
    def __init__(self, n_features, n_classes):
        super().__init__()
        self.hidden, self.out = torch.nn.Linear(n_features, 32), torch.nn.Linear(32, n_classes)

    def forward(self, x):
        return self.out(torch.nn.functional.gelu(self.hidden(x)))


def search_for(quick):
    model = TangentPropClassifier(
        lambda X: np.asarray(X)[:, np.newaxis],  # brighter
        module=Net,
        lr=1e-2,
        max_epochs=5 if quick else 50,
        random_state=0,
    )
    grid = {"penalty_weight": [0.001, 0.01, 0.1], "alpha": [1e-4, 1e-2]}
    return GridSearchCV(model, grid, cv=3)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few epochs")
    parser.add_argument("--address", help="of a running cluster")
    options = parser.parse_args()
    X, y = load_digits(return_X_y=True)
    X, y = X / 16, y
    X, y = (X[:300], y[:300]) if options.quick else (X, y)
    local = {} if options.address else {"num_cpus": 2, "include_dashboard": False}
    ray.init(address=options.address, **local)
    register_ray()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        with joblib.parallel_config("ray", n_jobs=2):
            search = search_for(options.quick).fit(Stored(X, folder), y)
        fits = [line.split() for line in (folder / "fits").read_text().splitlines()]
    ray.shutdown()
    lone = search_for(options.quick).fit(X, y)
    names = [name for name in lone.cv_results_ if name.startswith("split")]
    alike = all(np.array_equal(search.cv_results_[name], lone.cv_results_[name]) for name in names)
    alike &= np.array_equal(search.predict_proba(X), lone.predict_proba(X))
    by_worker = Counter(pid for pid, _ in fits)
    print(f"{search.best_params_}, {search.best_score_:.3f}")
    print(f"the same as alone: {alike}")
    print(f"fits by worker: {sorted(by_worker.values())}")
    print(f"samples read in place, without a copy: {all(place == 'True' for _, place in fits)}")


if __name__ == "__main__":
    main()
