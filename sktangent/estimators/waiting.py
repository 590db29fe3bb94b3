"""Fits that stop short: before training, with everything checked, built and ready, or in it."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import NamedTuple

import numpy as np
import torch
from sklearn.base import clone

from sktangent._randomness import generator_for
from sktangent.estimators.schedule import Schedule
from sktangent.net import TangentPropNet
from sktangent.training.computed_rows import ComputedRows


class Pending(NamedTuple):
    """What training would begin with.

    Parameters
    ----------
    net : TangentPropNet
        The net, with its initial parameters.
    schedule : Schedule
        How it would be trained.
    inputs : dict of str to ndarray or ComputedRows
        What the net would see.
    target : ndarray
        The targets, as the criterion takes them.
    generator : torch.Generator
        The fit's random numbers on the CPU, as training would find them.
    """

    net: TangentPropNet
    schedule: Schedule
    inputs: dict
    target: np.ndarray
    generator: torch.Generator

    def rows(self, index: np.ndarray) -> dict[str, np.ndarray]:
        """Take some rows of the inputs, and compute those that are computed when needed."""
        taken: dict = {}
        for name, part in self.inputs.items():
            taken.update(part[index] if isinstance(part, ComputedRows) else {name: part[index]})
        return taken


class _Waiting:
    """Takes the place of training in front of a plain estimator."""

    def _train(self, net, schedule, inputs, target, fresh, incremental) -> None:
        self.pending_ = Pending(net, schedule, inputs, target, generator_for("cpu"))


def waiting_fit(plain, X, y, metadata: dict, **params):
    """Do all that ``fit`` does before it trains.

    Parameters
    ----------
    plain : TangentPropEstimator
        The estimator; it is left alone.
    X, y : array-like
        The samples and targets.
    metadata : dict
        Further arguments of ``fit``.
    **params : dict
        Parameters that differ from those of ``plain``.

    Returns
    -------
    estimator : TangentPropEstimator
        One of the same kind, with ``pending_`` beside all that a fitted one has.
    """
    estimator = clone(plain)
    estimator.__class__ = _kind(_Waiting, type(plain))
    return estimator.set_params(warm_start=False, **params).fit(X, y, **metadata)


class _Short:
    """Takes the place of training in front of a plain estimator, and cuts it short."""

    def _train(self, net, schedule, *args) -> None:
        super()._train(net, cut_short(schedule, self._part), *args)


def train_in_part(estimator, part: float) -> None:
    """Let the next ``fit`` of a plain estimator train for a part of its epochs.

    Parameters
    ----------
    estimator : TangentPropEstimator
        The estimator; all else goes on as if it were to train for all of them.
    part : float
        The part.
    """
    estimator.__class__ = _kind(_Short, type(estimator))
    estimator._part = part


def cut_short(schedule: Schedule, part: float) -> Schedule:
    """Give a schedule a part of its epochs, one at least."""
    return dataclasses.replace(schedule, epochs=math.ceil(part * schedule.epochs))


@functools.cache
def _kind(first: type, kind: type) -> type:
    return type(kind.__name__, (first, kind), {})
