"""One fit by two processes, whose weights are those of one.

First both see all samples, and each trains on a half of every batch. Then each maps a file of its
own into memory, half of the samples, and they train on all of them. Start it with

    accelerate launch --cpu --num_processes 2 examples/clusters/accelerate_fit.py

On several GPUs leave ``--cpu`` out, and over several machines say so in ``accelerate config``.
"""

import argparse
import tempfile
import warnings
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning

from sktangent import TangentPropClassifier
from sktangent.tangents import ImageTangents

warnings.simplefilter("ignore", ConvergenceWarning)


def model_for(accelerator, **params):
    return TangentPropClassifier(
        ImageTangents((8, 8)),
        penalty_weight=0.1,
        max_epochs=20,
        random_state=0,
        accelerator=accelerator,
        **params,
    )


def difference(model, other):
    """Return the largest difference between two networks' weights."""
    pairs = zip(model.module_.parameters(), other.module_.parameters(), strict=True)
    return max((a - b).abs().max().item() for a, b in pairs)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cpu", action="store_true", help="train on CPUs even if there are GPUs")
    accelerator = Accelerator(cpu=parser.parse_args().cpu)
    rank, n_ranks = accelerator.process_index, accelerator.num_processes
    X, y = load_digits(return_X_y=True)

    shared = model_for(accelerator).fit(X / 16, y)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "part.npy"
        np.save(path, np.array_split(X / 16, n_ranks)[rank])
        mine = np.load(path, mmap_mode="r")
        parted = model_for(accelerator, batch_size=len(X)).fit(
            mine, np.array_split(y, n_ranks)[rank]
        )

    if accelerator.is_main_process:
        lone, whole = (
            model_for(None, **how).fit(X / 16, y) for how in ({}, {"batch_size": len(X)})
        )
        print(f"{n_ranks} processes on {accelerator.device.type}")
        print(
            f"shared batches: weights differ from one process's by {difference(shared, lone):.1e}"
        )
        print(f"own parts: weights differ from one process's by {difference(parted, whole):.1e}")
    accelerator.wait_for_everyone()
    accelerator.end_training()


if __name__ == "__main__":
    main()
