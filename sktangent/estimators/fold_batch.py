"""The fits of a search as batches of networks that train side by side."""

from __future__ import annotations

import itertools
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from sklearn import get_config
from torch import nn

from sktangent._speed import are_shortcuts_on
from sktangent._speed.chains import Chain, chain_of
from sktangent._speed.stacked import Course, Trained, train_stacked
from sktangent._speed.stacked_batches import FoldData
from sktangent._speed.stacked_reverse import goes_back
from sktangent.estimators.fold_fits import Data, Outcome, Scoring, fit_apart
from sktangent.estimators.kinds import params_of, weights_in
from sktangent.estimators.moved_rows import moves_samples
from sktangent.estimators.waiting import Pending, cut_short, waiting_fit
from sktangent.training.batches import as_tensor
from sktangent.training.computed_rows import ComputedRows
from sktangent.training.progress import told

# parameters with which every fit goes its own way
_OWN_WAY = ("module", "callbacks", "n_projections", "autocast", "accelerator")
_LOSSES = (nn.MSELoss, nn.CrossEntropyLoss, nn.BCEWithLogitsLoss)
# multiplications of the largest product of one network in a step, tangents or outputs included.
# Searches side by side over those one after another took on two cores 0.3 at 1e6, 0.6 at 9e6, and
# 1.0 to 1.4 at 8e7; on one core 0.5 at 1e6, 0.8 at 9e6, and 0.75 to 0.9 at 1e7
_LARGE_PRODUCT = 1e7
# numbers that are held of each output of a layer (values, gradients), and of each parameter
_KEPT_OF_LAYER, _KEPT_OF_PARAMETER = 5, 5
# bytes of layers' outputs at once: larger arrays leave the caches, and come anew from the system in
# each step. In batches of 200 digits with six tangents, five networks at once take 0.6 of the time
# that 50 take
_AT_HAND = 2**25


def is_stackable(plain, candidates: list[dict]) -> bool:
    """Tell by the parameters whether networks may train side by side.

    Parameters
    ----------
    plain : TangentPropEstimator
        The estimator.
    candidates : list of dict
        Its parameters that vary.

    Returns
    -------
    is_stackable : bool
        Whether they may.
    """
    return (
        are_shortcuts_on()
        and all(getattr(plain, name) is None for name in _OWN_WAY)
        and not (plain.early_stopping or plain.compile)
        and getattr(plain, "penalty_on", "logits") == "logits"
        and plain.optimizer in ("auto", "adam", torch.optim.Adam)
        and not plain._get_skorch_params()
        and not any(moves_samples(one.get("augment", plain.augment)) for one in candidates)
    )


def fit_folds(
    plain,
    probe,
    candidates: list[dict],
    data: Data,
    folds: list,
    scoring: Scoring,
    n_jobs: int | None,
    part: float = 1.0,
) -> list[list[Outcome]]:
    """Fit all candidates on all folds, side by side where that can be and is faster.

    Parameters
    ----------
    plain, candidates, data, folds, scoring, part
        As in :func:`fit_stacked`.
    probe : TangentPropEstimator
        The estimator ready to train on all samples; see
        :func:`~sktangent.estimators.waiting.waiting_fit`.
    n_jobs : int or None
        How many at once where they are fitted apart, as in :class:`joblib.Parallel`.

    Returns
    -------
    outcomes : list of list of Outcome
        For each candidate those on the folds.
    """
    outcomes = None
    if is_stackable(plain, candidates) and _is_quick(probe.pending_):
        outcomes = fit_stacked(plain, candidates, data, folds, scoring, part)
    if outcomes is None:
        outcomes = fit_apart(plain, candidates, data, folds, scoring, n_jobs, part)
    return outcomes


def fit_stacked(
    plain, candidates: list[dict], data: Data, folds: list, scoring: Scoring, part: float = 1.0
) -> list[list[Outcome]] | None:
    """Fit all candidates on all folds side by side.

    Parameters
    ----------
    plain : TangentPropEstimator
        The estimator, not fitted.
    candidates : list of dict
        Its parameters that vary: the penalty weight, or the weights of kinds.
    data : Data
        The samples.
    folds : list of (ndarray, ndarray)
        The rows to train on and to score on.
    scoring : Scoring
        How to score.
    part : float, default=1.0
        The part of the epochs to train for.

    Returns
    -------
    outcomes : list of list of Outcome or None
        For each candidate those on the folds; None if this cannot be done.
    """
    start = time.perf_counter()
    parts = [(data.part(train), data.part(test)) for train, test in folds]
    alike = []
    for numbers in _with_and_without_penalty(candidates):
        some = _ready(plain, candidates, numbers, [train for train, _ in parts])
        if some is None:
            return None
        alike.append(some)
    pieces = [piece for some in alike for piece in some.pieces(part)]
    trained: dict[tuple[int, int], Trained] = {}
    with told(sum(piece.course.epochs for piece in pieces), bool(plain.verbose)) as tell:
        for piece in pieces:
            trained |= piece.train(tell)
    seconds = (time.perf_counter() - start) / len(trained)
    outcomes: dict[int, list[Outcome]] = {c: [] for c in range(len(candidates))}
    for fold, (train, test) in enumerate(parts):
        directions = scoring.directions(train, test)
        for some in alike:
            for c in some.numbers:
                one = trained[fold, c]
                scored = time.perf_counter()
                scores = scoring.no_scores()
                if one.is_finite:
                    _put(one.params, some.chains[fold])
                    scores = scoring.scores(some.ready[fold], test, directions)
                is_over = len(one.losses) < _epochs(some.ready[fold].pending_, part)
                outcomes[c].append(Outcome(scores, seconds, time.perf_counter() - scored, is_over))
    _warn_of_diverged(trained.values())
    return list(outcomes.values())


class _Piece(NamedTuple):
    """Networks that train at once: the numbers of their folds and candidates, and all they need."""

    folds: list[int]
    candidates: list[int]
    stacks: list[FoldData]
    strengths: torch.Tensor
    course: Course

    def train(self, tell: Callable[[str], None]) -> dict[tuple[int, int], Trained]:
        found = train_stacked(self.stacks, self.strengths, self.course, tell)
        return {(self.folds[f], self.candidates[c]): one for (f, c), one in found.items()}


class _Alike(NamedTuple):
    """Candidates of which the networks go the same way: their numbers, and each fold's fit."""

    numbers: list[int]
    ready: list
    chains: list[Chain]
    strengths: torch.Tensor

    def pieces(self, part: float) -> Iterator[_Piece]:
        pending = [each.pending_ for each in self.ready]
        for group in _groups(pending):
            stacks = [_fold_data(pending[fold], self.chains[fold]) for fold in group]
            course = _course([pending[fold] for fold in group], self.chains[group[0]], part)
            for folds, some in _cut_up(len(self.numbers), course, stacks):
                yield _Piece(
                    [group[f] for f in folds],
                    [self.numbers[c] for c in some],
                    [stacks[f] for f in folds],
                    self.strengths[some.start : some.stop],
                    course,
                )


def _with_and_without_penalty(candidates: list[dict]) -> list[list[int]]:
    """Part the candidates that need no tangents from the others, which come first."""
    parts: dict[bool, list[int]] = {True: [], False: []}
    for c, one in enumerate(candidates):
        parts[one["penalty_weight"] > 0].append(c)
    return [numbers for numbers in parts.values() if numbers]


def _ready(plain, candidates: list[dict], numbers: list[int], parts: list[Data]) -> _Alike | None:
    """Prepare the folds' fits for some candidates; None: they cannot be stacked."""
    some = [candidates[c] for c in numbers]
    params = _common(some[0])
    ready = [waiting_fit(plain, *train, **params) for train in parts]
    chains = [_chain(each.pending_) for each in ready]
    if None in chains:
        return None
    return _Alike(numbers, ready, chains, _strengths(some, ready[0], parts[0].X[:1]))


def _common(one: dict) -> dict:
    """Give every kind, and the penalty if there is any, the weight one."""
    ones = dict.fromkeys(weights_in(one), 1.0)
    return {**params_of(ones), "penalty_weight": float(one["penalty_weight"] > 0)}


def _strengths(candidates: list[dict], ready, sample) -> torch.Tensor:
    """Tell by what each candidate multiplies the squared differences along each tangent."""
    x = ready.pending_.rows(np.arange(1))
    n_tangents = x["tangents"].shape[1] if "tangents" in x else 0
    weights = np.array([np.full(n_tangents, one["penalty_weight"]) for one in candidates])
    if weights_in(candidates[0]):
        kinds = [name.split("__")[0] for name in ready.tangents_.tangent_names(sample)]
        for row, one in zip(weights, candidates, strict=True):
            row *= [weights_in(one).get(kind, 1.0) for kind in kinds]
    return torch.tensor(weights).to(ready.pending_.net.device, as_tensor(x["x"]).dtype)


def _chain(pending: Pending) -> Chain | None:
    """Find the chain of a net that can be stacked; None: it cannot."""
    net, inputs = pending.net, pending.inputs
    optimizer = net.optimizer_
    usual = (
        type(optimizer) is torch.optim.Adam
        and type(net.criterion_.loss) in _LOSSES
        and not any(isinstance(part, ComputedRows) for part in inputs.values())
        and "derivative_weight" not in inputs
    )
    return chain_of(net.module_, as_tensor(inputs["x"][:1])) if usual else None


def _is_quick(pending: Pending) -> bool:
    """Tell whether a network can be stacked, and its products alone leave a core idle."""
    chain = _chain(pending)
    if chain is None:
        return False
    n_tangents = pending.inputs["tangents"].shape[1] if "tangents" in pending.inputs else 0
    n_terms = _n_terms(_params_of(chain), chain.activations, n_tangents)
    rows = min(pending.schedule.batch_size, len(pending.target)) * n_terms
    return rows * max(layer.weight.numel() for layer in chain.linear) <= _LARGE_PRODUCT


def _n_terms(params: list, activations: tuple, n_tangents: int) -> int:
    """Count what goes through the layers for a sample: itself, and either tangents or outputs."""
    return 1 + (len(params[-1]) if goes_back(params, activations, n_tangents) else n_tangents)


def _groups(pending: list[Pending]) -> Iterable[list[int]]:
    """Gather folds that take as many steps an epoch."""
    groups: dict[int, list[int]] = {}
    for fold, each in enumerate(pending):
        steps = -(-len(each.target) // each.schedule.batch_size)
        groups.setdefault(steps, []).append(fold)
    return groups.values()


def _fold_data(pending: Pending, chain: Chain) -> FoldData:
    device = pending.net.device
    parts = {name: as_tensor(part).to(device) for name, part in pending.inputs.items()}
    x = parts["x"].flatten(1)
    tangents = (
        parts["tangents"].flatten(2) if "tangents" in parts else x.new_empty(len(x), 0, x.shape[1])
    )
    return FoldData(
        x,
        tangents,
        as_tensor(pending.target).to(device),
        parts.get("derivatives"),
        parts.get("sample_weight"),
        pending.net.l2,
        pending.generator,
        [p.detach() for p in _params_of(chain)],
    )


def _course(folds: list[Pending], chain: Chain, part: float) -> Course:
    pending = folds[0]
    (group,) = pending.net.optimizer_.param_groups
    names = ("lr", "betas", "eps", "weight_decay", "fused")
    stopping = dict(pending.net.callbacks_)["stopping"]
    return Course(
        pending.net.criterion_.loss,
        chain.activations,
        {name: group[name] for name in names},
        max(each.schedule.batch_size for each in folds),  # where they differ, it is all samples
        _epochs(pending, part),
        stopping.patience,
        stopping.tol,
        pending.net.iterator_train__shuffle,
    )


def _epochs(pending: Pending, part: float) -> int:
    return cut_short(pending.schedule, part).epochs


def _cut_up(
    n_candidates: int, course: Course, stacks: list[FoldData]
) -> Iterable[tuple[range, range]]:
    """Part the folds, then the candidates, so that a step's numbers stay in bounded memory.

    Candidates of a fold stay together as long as that can be: they share their first product.
    """
    x, tangents = stacks[0].x, stacks[0].tangents
    params = stacks[0].params
    n_terms = _n_terms(params, course.activations, tangents.shape[1])
    rows = min(course.batch_size, len(x)) * n_terms
    of_layers = _KEPT_OF_LAYER * rows * sum(len(bias) for bias in params[1::2])
    of_params = _KEPT_OF_PARAMETER * sum(p.numel() for p in params)
    at_once = min(
        get_config()["working_memory"] * 2**20 / (of_layers + of_params), _AT_HAND / of_layers
    )
    at_once = max(1, int(at_once / x.element_size()))
    return itertools.product(
        _cut(len(stacks), max(1, at_once // n_candidates)), _cut(n_candidates, at_once)
    )


def _cut(n: int, size: int) -> list[range]:
    return [range(i, min(i + size, n)) for i in range(0, n, size)]


def _params_of(chain: Chain) -> list[nn.Parameter]:
    return [p for layer in chain.linear for p in (layer.weight, layer.bias)]


def _put(params: list[torch.Tensor], chain: Chain) -> None:
    with torch.no_grad():
        for parameter, value in zip(_params_of(chain), params, strict=True):
            parameter.copy_(value)


def _warn_of_diverged(trained: Iterable[Trained]) -> None:
    n_diverged = sum(not one.is_finite for one in trained)
    if n_diverged:
        warnings.warn(
            f"Training diverged in {n_diverged} fits of the search; they count as NaN. Try a "
            "smaller lr or smaller penalty_weights.",
            UserWarning,
            stacklevel=6,
        )
