r"""Many small networks trained side by side, as one batch of matrix products.

Networks of one architecture that differ in the samples they see (folds) and in the weights of their
tangents (candidates) take the same steps. Alone, each product is too small to fill a core; stacked,
the first layers of all candidates of a fold are one product with the fold's samples, and those
behind them a batch. Tangents go forward with the samples; where they are more than the outputs, the
outputs go back to the inputs.

Each network has the initial parameters, the orders of samples and the optimizer's state that it
would have alone, and ends as it would alone, to rounding.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sktangent._speed import stacked_forward, stacked_reverse
from sktangent._speed.adam import step
from sktangent._speed.stacked_batches import Batch, Batches, FoldData
from sktangent.propagation.rules.activations import Activation


class Course(NamedTuple):
    """How training goes, for all networks.

    Parameters
    ----------
    loss : nn.MSELoss, nn.CrossEntropyLoss or nn.BCEWithLogitsLoss
        The data term of single outputs.
    activations : tuple of Activation or None
        What follows each layer.
    optimizer : dict
        Arguments of :class:`torch.optim.Adam`.
    batch_size, epochs, patience, tol
        As of the net and of :class:`~sktangent.training.stopping.Stopping`.
    shuffle : bool
        Whether to draw the batches anew in each epoch.
    """

    loss: nn.Module
    activations: tuple[Activation | None, ...]
    optimizer: dict
    batch_size: int
    epochs: int
    patience: float
    tol: float
    shuffle: bool


class Trained(NamedTuple):
    """One network after training: its parameters, and the loss of each epoch.

    Where training diverged, the last loss is not finite, or a parameter is not.
    """

    params: list[Tensor]
    losses: list[float]

    @property
    def is_finite(self) -> bool:
        """Tell whether training has not diverged."""
        return math.isfinite(self.losses[-1]) and all(p.isfinite().all() for p in self.params)


@torch.no_grad()
def train_stacked(
    folds: list[FoldData],
    tangent_weights: Tensor,
    course: Course,
    tell: Callable[[str], None],
) -> dict[tuple[int, int], Trained]:
    """Train a network for each fold and candidate.

    Parameters
    ----------
    folds : list of FoldData
        The folds, which must take as many steps an epoch.
    tangent_weights : torch.Tensor of shape (n_candidates, n_tangents)
        For each candidate the weights of the squared differences along the tangents.
    course : Course
        How training goes.
    tell : callable
        Called with a few words for each epoch, also for those that are not needed any more.

    Returns
    -------
    trained : dict of (int, int) to Trained
        The networks by (fold, candidate).
    """
    stack = _Stack(folds, tangent_weights, course)
    for _ in range(course.epochs):
        if stack.running:
            stack.run_epoch()
        tell(f"{len(stack.running)} of {len(stack.losses)} networks")
    stack.finish(stack.running)
    return stack.finished


class _Stack:
    """The networks that train: a rectangle of folds and candidates."""

    def __init__(self, folds: list[FoldData], tangent_weights: Tensor, course: Course) -> None:
        self.course = course
        self.batches = Batches(folds, course.batch_size, course.shuffle)
        n_folds, n_candidates = len(folds), len(tangent_weights)
        # the candidates in each fold's places
        self.candidates = [list(range(n_candidates)) for _ in folds]
        self.running = set(itertools.product(range(n_folds), range(n_candidates)))
        self.finished: dict[tuple[int, int], Trained] = {}
        self.losses: dict[tuple[int, int], list[float]] = {net: [] for net in self.running}
        self.tangent_weights = tangent_weights.repeat(n_folds, 1)
        device, dtype = folds[0].x.device, folds[0].x.dtype
        l2 = torch.tensor([fold.l2 for fold in folds], device=device, dtype=dtype)
        self.l2 = l2.repeat_interleave(n_candidates).view(-1, 1, 1)
        self.params = [
            torch.stack([p for p in parts for _ in range(n_candidates)])
            for parts in zip(*(fold.params for fold in folds), strict=True)
        ]
        self.optimizer = torch.optim.Adam(self.params, **course.optimizer)
        n_tangents = tangent_weights.shape[1]
        goes_back = stacked_reverse.goes_back(self.params, course.activations, n_tangents)
        self.propagate = (stacked_reverse if goes_back else stacked_forward).propagate
        self.best = torch.full((n_folds * n_candidates,), math.inf, dtype=torch.float64)
        self.stale = torch.zeros(n_folds * n_candidates)

    def everyone(self) -> Iterator[tuple[int, int]]:
        """Name the networks in their places; some may have finished."""
        return ((f, c) for f, places in enumerate(self.candidates) for c in places)

    def run_epoch(self) -> None:
        total = torch.zeros(len(self.best), dtype=self.l2.dtype, device=self.l2.device)
        for batch in self.batches:
            total += self._step(batch)
        losses = total.double().cpu()
        course = self.course
        is_stale = losses > self.best - course.tol
        self.stale = torch.where(is_stale, self.stale + 1, torch.zeros_like(self.stale))
        self.best = torch.where(losses < self.best, losses, self.best)
        over = ((self.stale > course.patience) | ~losses.isfinite()).tolist()
        ended = set()
        for net, loss, is_over in zip(self.everyone(), losses.tolist(), over, strict=True):
            if net in self.running:
                self.losses[net].append(loss)
                if is_over:
                    ended.add(net)
        self.finish(ended)

    def params_of(self, net: tuple[int, int]) -> list[Tensor]:
        fold, candidate = net
        place = fold * len(self.candidates[0]) + self.candidates[fold].index(candidate)
        return [parameter[place] for parameter in self.params]

    def finish(self, nets: set[tuple[int, int]]) -> None:
        """Take networks out, where a whole column of the rectangle has become free."""
        if not nets:
            return
        for net in nets:
            params = [p.clone() for p in self.params_of(net)]
            self.finished[net] = Trained(params, self.losses[net])
        self.running = self.running - nets
        width = max(
            sum(net[0] == fold for net in self.running) for fold in range(self.batches.n_folds)
        )
        if width < len(self.candidates[0]) and width > 0:
            self._narrow(width)

    def _narrow(self, width: int) -> None:
        # in the places of those that have finished, while others of the fold's column run, they go
        # on and nobody looks
        before = len(self.candidates[0])
        kept = []
        for fold, places in enumerate(self.candidates):
            order = sorted(range(before), key=lambda i: (fold, places[i]) not in self.running)
            chosen = sorted(order[:width])
            kept += [fold * before + i for i in chosen]
            self.candidates[fold] = [places[i] for i in chosen]
        kept = torch.tensor(kept)
        self.best, self.stale = self.best[kept], self.stale[kept]
        kept = kept.to(self.l2.device)
        self.tangent_weights, self.l2 = self.tangent_weights[kept], self.l2[kept]
        for parameter in self.params:
            state = self.optimizer.state[parameter]
            parameter.grad = None
            parameter.data = parameter[kept]
            for name in ("exp_avg", "exp_avg_sq"):
                state[name] = state[name][kept]

    def _step(self, batch: Batch) -> Tensor:
        """Take a step, and return each network's loss times its share of the epoch's samples."""
        y, dy, go_back = self.propagate(self.params, self.course.activations, batch)
        loss, by_y, by_dy = self._loss(batch, y, dy)
        go_back(by_y, by_dy)
        for weight in self.params[::2]:
            weight.grad.addcmul_(weight, self.l2)
        step(self.optimizer)
        return loss

    def _loss(self, batch: Batch, y: Tensor, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute each network's loss, and its gradient by the outputs and their derivatives."""
        data, slope = _DATA_TERMS[type(self.course.loss)](y, batch.target)
        by_y = slope * batch.weight[:, None, None]
        loss = (data * batch.weight[:, None]).sum(2)
        if batch.derivatives is not None:
            dy = torch.nan_to_num(dy - batch.derivatives[:, None], nan=0.0)
        strength = self.tangent_weights.view(*y.shape[:2], 1, -1, 1)
        weighted = dy * (strength * batch.weight[:, None, None, None])
        loss = loss + (weighted * dy).sum((2, 3, 4))
        share = batch.n_counted / self.batches.n_samples
        return (loss * share[:, None]).flatten(), by_y, weighted.mul_(2)


def _squared_error(y: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    difference = torch.nan_to_num(y - target.transpose(1, 2)[:, None], nan=0.0)
    return difference.square().sum(2), 2 * difference


def _cross_entropy(y: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    logs = torch.log_softmax(y, dim=2)
    index = target[:, None, None].expand(-1, y.shape[1], 1, -1)
    return -logs.gather(2, index).squeeze(2), logs.exp().scatter_add(
        2, index, -torch.ones_like(index, dtype=y.dtype)
    )


def _binary_cross_entropy(y: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    target = target.transpose(1, 2)[:, None]
    loss = F.binary_cross_entropy_with_logits(y, target.expand_as(y), reduction="none")
    return loss.sum(2), torch.sigmoid(y) - target


# of outputs (n_folds, n_candidates, n_outputs, n_samples) the losses of samples, and their gradient
_DATA_TERMS = {
    nn.MSELoss: _squared_error,
    nn.CrossEntropyLoss: _cross_entropy,
    nn.BCEWithLogitsLoss: _binary_cross_entropy,
}
