"""Fits for other processes to import, and to be killed in."""

import numpy as np
import torch
from skorch.callbacks import EpochScoring, LRScheduler
from torch import nn

from sktangent import TangentPropClassifier
from sktangent.tangents import TransformTangents
from sktangent.training import checkpoints

X = np.random.default_rng(0).normal(size=(120, 4))
LABELS = X[:, 0] + 0.5 * X[:, 1] > 0


def gain(X, amount):
    return X * (1 + amount)


def offset(X, amount):
    return X + amount


def with_dropout():
    return nn.Sequential(
        nn.Linear(4, 30), nn.BatchNorm1d(30), nn.GELU(), nn.Dropout(), nn.Linear(30, 2)
    )


def noisy(folder, **params):
    """Make a classifier whose training draws all that can be drawn, and has much to remember."""
    defaults = {
        "n_projections": 1,
        "augment": 0.1,
        "module": with_dropout,
        "optimizer": "adam",
        "early_stopping": True,
        "n_iter_no_change": 8,
        "batch_size": 20,
        "max_epochs": 40,
        "tol": 0.0,
        "random_state": 3,
        "checkpoint": folder,
        "callbacks": [
            EpochScoring("accuracy", lower_is_better=False, name="accuracy"),
            LRScheduler("CosineAnnealingLR", T_max=40),
        ],
    }
    return TangentPropClassifier(TransformTangents([gain, offset]), **{**defaults, **params})


def train(folder):
    """Train, the state kept after every epoch."""
    torch.set_num_threads(1)
    checkpoints._SECONDS, checkpoints._SHARE = 0.0, float("inf")
    noisy(folder).fit(X, LABELS)
