"""One fit by several processes, on one machine or many, that Hugging Face's accelerate has started.

Every process, a **rank**, runs the whole program. A training step goes over a part of the rows of
one joint batch, and before the optimizer steps, the gradients are averaged over the ranks, each
weighted by its number of rows: the step is the one that a lone process takes on the joint batch.

skorch's own ``AccelerateMixin`` hands the module to torch's ``DistributedDataParallel``. That waits
for its own ``forward``, which samples with tangents do not pass; it weighs all ranks alike,
whatever number of rows they had; it repeats samples to fill batches up; and it steps without the
closure that L-BFGS and the L2 term need. So the net averages gradients itself, and asks accelerate
for no more than who is there, and for sums, lists and copies over all of them.

Outside of :func:`together` all functions here leave things as they are.
"""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Iterator, Sequence
from contextvars import ContextVar

import joblib
import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

_LOSSES = ("loss", "data_loss", "penalty")


class Ranks:
    """The processes that train one model together.

    Parameters
    ----------
    accelerator : accelerate.Accelerator
        Tells them to one another.

    Attributes
    ----------
    n, index : int
        How many there are, and which this one is.
    have_own_parts : bool
        Whether each was given samples of its own; else all were given the same.
    """

    def __init__(self, accelerator) -> None:
        self._accelerator = accelerator
        self.n, self.index = accelerator.num_processes, accelerator.process_index
        self.have_own_parts = False

    def gather(self, value) -> list:
        """Collect a value from each."""
        from accelerate.utils import gather_object

        return gather_object([value])

    def of_first(self, value):
        """Take over what the first has."""
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([value])[0]

    def sum(self, values: Tensor) -> Tensor:
        """Add up over all."""
        return self._accelerator.reduce(values, reduction="sum")

    def part_of_batch(self, n_samples: int) -> slice:
        """Tell which rows of a joint batch are this rank's; of fewer than ranks, all are each's."""
        if self.have_own_parts or n_samples < self.n:
            return slice(0, n_samples)
        bounds = (n_samples * i // self.n for i in (self.index, self.index + 1))
        return slice(*bounds)

    def batch_sizes(self, n_samples: int, batch_size: int) -> list[int]:
        """Divide own samples into as many batches as all ranks' samples make together."""
        counts, sizes = zip(*self.gather((n_samples, batch_size)), strict=True)
        n_batches = -(-sum(counts) // max(sizes))
        if min(counts) < n_batches:
            raise ValueError(
                f"Each process must have a sample for each of the {n_batches} batches of an epoch, "
                f"got {list(counts)} samples. Set a larger batch_size."
            )
        ends = [n_samples * i // n_batches for i in range(n_batches + 1)]
        return np.diff(ends).tolist()


_ranks: ContextVar[Ranks | None] = ContextVar("sktangent_ranks", default=None)


@contextlib.contextmanager
def together(accelerator) -> Iterator[None]:
    """Let the fits in this block be parts of one that all processes of an accelerator do.

    Parameters
    ----------
    accelerator : accelerate.Accelerator or None
        None, or one of a single process: nothing changes.

    Raises
    ------
    ValueError
        If the accelerator is to do what a net here does by parameters of its own, or not at all.

    Examples
    --------
    >>> from sktangent.training.distributed import rank, together
    >>> with together(None):
    ...     print(rank())
    None
    """
    _check(accelerator)
    if accelerator is None or accelerator.num_processes == 1:
        yield
        return
    token = _ranks.set(Ranks(accelerator))
    try:
        yield
    finally:
        _ranks.reset(token)


def fits_together(method):
    """Make an estimator's method run :func:`together` by its ``accelerator``."""

    @functools.wraps(method)
    def among_others(self, *args, **kwargs):
        if vars(self).pop("_misses_accelerator", False) and self.accelerator is None:
            warnings.warn(
                "The accelerator stayed behind where the estimator was pickled, for a worker or "
                "into a file, and this process fits alone. Set accelerator to fit with others.",
                UserWarning,
                stacklevel=4,
            )
        with together(self.accelerator):
            return method(self, *args, **kwargs)

    return among_others


def without_accelerator(attributes: dict) -> dict:
    """Leave an accelerator, which belongs to processes that run, out of an estimator's state."""
    shares_out = getattr(attributes.get("accelerator"), "num_processes", 1) > 1
    noted = {"_misses_accelerator": True} if shares_out else {}
    return {**attributes, "accelerator": None, **noted}


def current() -> Ranks | None:
    """Return the processes that fit together with this one; None if it is alone."""
    return _ranks.get()


def rank() -> int | None:
    """Tell which of the processes that fit together this one is; None if it is alone."""
    ranks = _ranks.get()
    return None if ranks is None else ranks.index


def writes() -> bool:
    """Tell whether this process is the one that writes files and tells of progress."""
    return not rank()


def note_samples(X, y: np.ndarray) -> None:
    """Find out whether all ranks were given the same samples, or each its own part of them.

    Parameters
    ----------
    X : ndarray
        The samples; the first and the last are compared.
    y : ndarray
        Their targets, which are all compared.
    """
    ranks = _ranks.get()
    if ranks is not None:
        seen = ranks.gather(joblib.hash((X.shape, np.array(X[[0, -1]]), np.array(y))))
        ranks.have_own_parts = len(set(seen)) > 1


def have_own_parts() -> bool:
    """Tell whether each rank was given samples of its own."""
    ranks = _ranks.get()
    return ranks is not None and ranks.have_own_parts


def count(n_samples: int) -> int:
    """Count the samples of all ranks."""
    return sum(_ranks.get().gather(n_samples)) if have_own_parts() else n_samples


def average(values: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Average over the samples of all ranks, as :func:`numpy.average` does over the first axis.

    Examples
    --------
    >>> import numpy as np
    >>> from sktangent.training.distributed import average
    >>> average(np.array([1.0, 4.0]), np.array([2.0, 1.0])).item()
    2.0
    """
    mean = np.average(values, axis=0, weights=weights)
    if not have_own_parts():
        return mean
    total = len(values) if weights is None else weights.sum()
    means, totals = zip(*_ranks.get().gather((mean, total)), strict=True)
    return np.average(means, axis=0, weights=totals)


def any_rank(flag: bool) -> bool:
    """Tell whether something holds on any rank."""
    ranks = _ranks.get()
    return bool(flag) if ranks is None else any(ranks.gather(bool(flag)))


def all_labels(labels: np.ndarray) -> np.ndarray:
    """Unite the labels that the ranks have found."""
    ranks = _ranks.get()
    return labels if ranks is None else np.unique(np.concatenate(ranks.gather(labels)))


def of_first(value):
    """Take over what the first rank has, through pickle."""
    ranks = _ranks.get()
    return value if ranks is None else ranks.of_first(value)


def common_random_state(random_state: np.random.RandomState) -> np.random.RandomState:
    """Take over the first rank's random state; from it ranks with own samples get their own."""
    ranks = _ranks.get()
    random_state = of_first(random_state)
    if ranks is None or not ranks.have_own_parts or ranks.index == 0:
        return random_state
    seed = random_state.randint(np.iinfo(np.int32).max)
    return np.random.RandomState([ranks.index, seed])


def start_alike(modules: Sequence[nn.Module]) -> None:
    """Take over the first rank's parameters and buffers."""
    _take_over([tensor for module in modules for tensor in module.parameters()])
    take_over_buffers(modules)


def take_over_buffers(modules: Sequence[nn.Module]) -> None:
    """Take over the first rank's buffers, in which batch normalization keeps its statistics."""
    _take_over([tensor for module in modules for tensor in module.buffers()])


def join_step(step: dict, optimizers: Sequence[Optimizer], n_samples: int) -> dict:
    """Make a rank's step on a part of a batch one on the joint batch.

    Parameters
    ----------
    step : dict
        What the step returns; ``loss`` and its terms are means over the samples of the part.
    optimizers : sequence of torch.optim.Optimizer
        They hold the parameters, with gradients of ``loss``, which become those of the joint loss.
    n_samples : int
        The number of samples in the part.

    Returns
    -------
    step : dict
        The same, with the joint losses.
    """
    ranks = _ranks.get()
    if ranks is None:
        return step
    params = [p for o in optimizers for group in o.param_groups for p in group["params"]]
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in params]
    losses = {name: step[name].detach() for name in _LOSSES if name in step}
    is_used = grads[0].new_tensor([p.grad is not None for p in params])
    parts = [*(grad.flatten() for grad in grads), *(x.reshape(1) for x in losses.values()), is_used]
    total = ranks.sum(torch.cat([*parts, is_used.new_ones(1)]) * n_samples)
    *grads, losses_, is_used = (total[:-1] / total[-1]).split(
        [*(grad.numel() for grad in grads), len(losses), len(params)]
    )
    _set_gradients(params, grads, is_used)
    return {**step, **dict(zip(losses, losses_, strict=True))}


def sum_over_ranks(*values: float) -> list[float]:
    """Add up numbers over all ranks, to the last bit the same on each."""
    ranks = _ranks.get()
    if ranks is None:
        return list(values)
    return np.sum(ranks.gather(values), axis=0).tolist()


def _check(accelerator) -> None:
    if accelerator is None:
        return
    if accelerator.mixed_precision not in (None, "no"):
        raise ValueError(
            "accelerator must leave the precision alone, got "
            f"mixed_precision={accelerator.mixed_precision!r}; set autocast='bfloat16' instead."
        )
    if accelerator.gradient_accumulation_steps != 1:
        raise ValueError(
            "accelerator must not accumulate gradients, got gradient_accumulation_steps="
            f"{accelerator.gradient_accumulation_steps}; set a smaller batch_size."
        )
    kind = str(getattr(accelerator.distributed_type, "value", accelerator.distributed_type))
    if kind != "NO" and not kind.startswith("MULTI_"):
        raise ValueError(
            f"accelerator must hold the whole network in each process, got {kind}; configure it "
            "for several CPUs or GPUs without sharding."
        )


def _take_over(tensors: list[Tensor]) -> None:
    if rank() is None:
        return
    from accelerate.utils import broadcast

    for tensor in tensors:
        tensor.data.copy_(broadcast(tensor.data.clone()))


def _set_gradients(params: list[Tensor], grads: list[Tensor], is_used: Tensor) -> None:
    """Set the joint gradients; parameters that no rank has used stay without one."""
    unsure = any(p.grad is None for p in params)  # else nothing is read from the device
    used = is_used.tolist() if unsure else [1.0] * len(params)
    for parameter, grad, share in zip(params, grads, used, strict=True):
        if parameter.grad is not None:
            parameter.grad.copy_(grad.view_as(parameter))
        elif share > 0:
            parameter.grad = grad.view_as(parameter).to(parameter.dtype)
