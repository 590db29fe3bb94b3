"""The batches of several folds, side by side, for networks that are trained so."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class FoldData(NamedTuple):
    """What the networks of a fold train on, and where they start.

    Parameters
    ----------
    x : torch.Tensor of shape (n_samples, n_features)
        The samples.
    tangents : torch.Tensor of shape (n_samples, n_tangents, n_features)
        Their tangents; there may be none.
    target : torch.Tensor of shape (n_samples,) or (n_samples, n_outputs)
        The targets.
    derivatives : torch.Tensor of shape (n_samples, n_tangents, n_outputs) or None
        The derivatives wanted.
    sample_weight : torch.Tensor of shape (n_samples,) or None
        The weights of the samples.
    l2 : float
        Weight of the L2 term.
    generator : torch.Generator
        Where orders come from.
    params : list of torch.Tensor
        The initial weight and bias of each layer in turn.
    """

    x: Tensor
    tangents: Tensor
    target: Tensor
    derivatives: Tensor | None
    sample_weight: Tensor | None
    l2: float
    generator: torch.Generator
    params: list[Tensor]


class Batch(NamedTuple):
    """A batch of each fold.

    Parameters
    ----------
    x : torch.Tensor of shape (n_folds, (1 + n_tangents) * n_samples, n_features)
        Samples, and behind them their tangents, those of one kind together.
    target : torch.Tensor of shape (n_folds, n_samples[, n_outputs])
        The targets.
    derivatives : torch.Tensor of shape (n_folds, n_outputs, n_tangents, n_samples) or None
        The derivatives wanted.
    weight : torch.Tensor of shape (n_folds, n_samples)
        What the loss of a sample counts: its weight over the number of samples; zero for samples
        that fill up a fold which is smaller than others.
    n_counted : torch.Tensor of shape (n_folds,)
        The samples of each fold, without those.
    """

    x: Tensor
    target: Tensor
    derivatives: Tensor | None
    weight: Tensor
    n_counted: Tensor

    @property
    def n_samples(self) -> int:
        return self.weight.shape[1]


class Batches:
    """The samples of all folds, of which batches are taken, one of each fold at a time.

    Parameters
    ----------
    folds : list of FoldData
        The folds, which must take as many steps an epoch.
    batch_size : int
        Samples of a fold in a batch.
    shuffle : bool
        Whether to draw the batches anew in each pass.
    """

    def __init__(self, folds: list[FoldData], batch_size: int, shuffle: bool) -> None:
        self.n_folds, self.batch_size, self.shuffle = len(folds), batch_size, shuffle
        self.sizes = [len(fold.x) for fold in folds]
        self.n_samples = folds[0].x.new_tensor(self.sizes)
        self.generators = [_copied(fold.generator) for fold in folds]
        self.n_terms = 1 + folds[0].tangents.shape[1]
        rows = [torch.cat([fold.x[None], fold.tangents.transpose(0, 1)]) for fold in folds]
        self.x = torch.cat([part.flatten(0, 1) for part in rows])
        self.starts = self.n_terms * torch.tensor([0, *itertools.accumulate(self.sizes[:-1])])
        self.target = torch.cat([fold.target for fold in folds])
        self.weight = _all_or_none([fold.sample_weight for fold in folds], self.sizes)
        self.derivatives = (
            None
            if folds[0].derivatives is None
            else torch.cat([fold.derivatives for fold in folds])
        )
        self.whole = None
        if batch_size >= max(self.sizes):
            self.whole = self._batch([torch.arange(size) for size in self.sizes], 0)

    def __iter__(self) -> Iterator[Batch]:
        if self.whole is not None:
            yield self.whole
            return
        orders = [
            torch.randperm(size, generator=generator) if self.shuffle else torch.arange(size)
            for size, generator in zip(self.sizes, self.generators, strict=True)
        ]
        for start in range(0, max(self.sizes), self.batch_size):
            yield self._batch(orders, start)

    def _batch(self, orders: list[Tensor], start: int) -> Batch:
        device = self.x.device
        parts = [order[start : start + self.batch_size] for order in orders]
        n_counted = torch.tensor([len(part) for part in parts])
        width = int(n_counted.max())
        index = torch.stack([F.pad(part, (0, width - len(part))) for part in parts])
        is_counted = torch.arange(width) < n_counted[:, None]
        sizes = torch.tensor(self.sizes)
        terms = torch.arange(self.n_terms)[None, :, None] * sizes[:, None, None]
        rows = (self.starts[:, None, None] + terms + index[:, None]).flatten().to(device)
        x = self.x.index_select(0, rows).view(self.n_folds, -1, self.x.shape[1])
        flat = ((self.starts // self.n_terms)[:, None] + index).flatten().to(device)
        weight = (is_counted / n_counted[:, None]).to(self.x)
        if self.weight is not None:
            weight = weight * self.weight[flat].view_as(weight)
        derivatives = None
        if self.derivatives is not None:
            derivatives = self.derivatives[flat].unflatten(0, index.shape).permute(0, 3, 2, 1)
        target = self.target[flat].unflatten(0, index.shape)
        return Batch(x, target, derivatives, weight, n_counted.to(self.x))


def _all_or_none(weights: list[Tensor | None], sizes: list[int]) -> Tensor | None:
    given = [weight for weight in weights if weight is not None]
    if not given:
        return None
    return torch.cat(
        [given[0].new_ones(n) if w is None else w for w, n in zip(weights, sizes, strict=True)]
    )


def _copied(generator: torch.Generator) -> torch.Generator:
    """Copy a generator, of which other networks of the fold will want the same numbers."""
    copied = torch.Generator()
    copied.set_state(generator.get_state())
    return copied
