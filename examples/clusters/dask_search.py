"""A search over the penalty weight on a Dask cluster, one of whose workers is killed in the middle.

The cluster is two processes on this machine; the address of another goes into ``--scheduler``. The
network, the tangents and the scaling are defined here, in ``__main__``, and travel with each fit.
The samples travel once to each worker, by ``scatter``: each one counts how often it unpickled them.
So do the rows of the folds, or else Dask keeps them on one worker, and they are gone with it.

    python examples/clusters/dask_search.py [--quick] [--no-kill] [--scheduler ADDRESS]
"""

import argparse
import itertools
import os
import signal
import tempfile
import warnings
from collections import Counter
from pathlib import Path

import dask
import joblib
import numpy as np
import torch
from dask.distributed import Client, LocalCluster
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.preprocessing import FunctionTransformer

from sktangent import TangentPropClassifier

warnings.simplefilter("ignore", ConvergenceWarning)


class Counted:
    """Samples that note in a folder which processes unpickle them."""

    def __init__(self, array, folder):
        self.array, self.folder, self.shape = array, folder, array.shape

    def __len__(self):
        return len(self.array)

    def __getitem__(self, rows):
        return self.array[rows]

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.array, dtype=dtype)

    def __setstate__(self, state):
        vars(self).update(state)
        with open(self.folder / "unpickled", "a") as notes:
            notes.write(f"{os.getpid()}\n")


class Net(torch.nn.Module):
    def __init__(self, n_features, n_classes):
        super().__init__()
        self.hidden, self.out = torch.nn.Linear(n_features, 32), torch.nn.Linear(32, n_classes)

    def forward(self, x):
        return self.out(torch.nn.functional.gelu(self.hidden(x)))


class Brightness:
    """The direction in which an image becomes brighter; the first call on a worker may be fatal."""

    def __init__(self, fatal=None):
        self.fatal = fatal

    def __call__(self, X):
        if self.fatal is not None and os.getpid() != self.fatal.owner:
            self.fatal.strike()
        return np.asarray(X)[:, np.newaxis]


class Fatal:
    """Kills one process, the first that asks after so many others have passed."""

    def __init__(self, folder, after):
        self.folder, self.after, self.owner = folder, after, os.getpid()

    def strike(self):
        with open(self.folder / "passed", "a+") as notes:
            notes.write(".")
            notes.seek(0)
            n_passed = len(notes.read())
        if n_passed == self.after:
            os.kill(os.getpid(), signal.SIGKILL)


def search_for(tangents, quick, folds):
    model = TangentPropClassifier(
        tangents,
        module=Net,
        preprocessor=FunctionTransformer(lambda X: X / 16),
        lr=1e-2,
        max_epochs=5 if quick else 50,
        random_state=0,
    )
    grid = {"penalty_weight": [0.001, 0.01, 0.1], "alpha": [1e-4, 1e-2]}
    return GridSearchCV(model, grid, cv=folds)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few epochs")
    parser.add_argument("--no-kill", action="store_true", help="let all workers live")
    parser.add_argument("--scheduler", help="address of a running cluster")
    options = parser.parse_args()
    X, y = load_digits(return_X_y=True)
    X, y = (X[:300], y[:300]) if options.quick else (X, y)
    folds = list(StratifiedKFold(3).split(X, y))
    # or else Dask takes back all copies but one of what was sent to every worker
    dask.config.set({"distributed.scheduler.active-memory-manager.start": False})
    cluster = options.scheduler or LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None
    )
    with tempfile.TemporaryDirectory() as folder, Client(cluster) as client:
        folder = Path(folder)
        fatal = None if options.no_kill else Fatal(folder, after=10)
        searched = Counted(X, folder)
        everywhere = [searched, y, *itertools.chain(*folds)]
        with joblib.parallel_config("dask", client=client, scatter=everywhere):
            search = search_for(Brightness(fatal), options.quick, folds).fit(searched, y)
        if not options.scheduler:
            cluster.close()
        pids = [int(pid) for pid in (folder / "unpickled").read_text().split()]
    lone = search_for(Brightness(), options.quick, folds).fit(X, y)
    names = [name for name in lone.cv_results_ if name.startswith("split")]
    alike = all(np.array_equal(search.cv_results_[name], lone.cv_results_[name]) for name in names)
    alike &= np.array_equal(search.predict_proba(X), lone.predict_proba(X))
    n_fits = len(lone.cv_results_["params"]) * lone.n_splits_
    print(f"{search.best_params_}, {search.best_score_:.3f}")
    print(f"the same as alone: {alike}")
    by_worker = Counter(pid for pid in pids if pid != os.getpid())
    print(f"{n_fits} fits; each worker unpickled the samples: {sorted(by_worker.values())} times")


if __name__ == "__main__":
    main()
