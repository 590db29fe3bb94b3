"""Batches sliced from tensors that already sit on the device, not collated sample by sample."""

from __future__ import annotations

import copy
import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

import numpy as np
import skorch.dataset
import torch
from torch.utils.data import DataLoader, Dataset, Subset

from sktangent._memory import described, memory_for
from sktangent._randomness import generator_for
from sktangent._speed.threads import map_ahead, map_beside
from sktangent.projections import draw
from sktangent.training.computed_rows import ComputedRows
from sktangent.training.distributed import Ranks

_FEWER_SAMPLES = (
    "Set device='cpu', lower sklearn.set_config(working_memory=...), so that tangents are computed "
    "batch by batch, or train on fewer samples at a time by partial_fit."
)
# samples, so that what a product copies of tangents in another order stays small
_PROJECTED_AT_ONCE = 1024


class TensorBatches:
    """Iterate over the batches of samples that are held whole, as tensors.

    A drop-in for :class:`torch.utils.data.DataLoader` on in-memory data: the arrays are moved to
    the device once, and a batch is one indexing operation per array. It is a copy, so a module
    that writes into its input leaves the arrays alone. Arrays that would fill more than half of
    what a GPU has free stay where they are, and batches go there through pinned memory, up to two
    ahead.

    Parameters
    ----------
    X : torch.Tensor, ndarray, or dict of these and of ComputedRows
        The samples, and what else goes with each of them; the first axis is that of the samples.
        Rows are computed in a thread, up to two batches ahead, where that pays: for a GPU, and on
        a CPU with several cores if it takes long.
    y : torch.Tensor or ndarray of shape (n_samples, ...), default=None
        The targets.
    batch_size : int, default=128
        Samples in a batch; the last one may have fewer.
    shuffle : bool, default=False
        Draw a new order for every pass. One batch that holds all samples is never reordered.
    generator : torch.Generator, default=None
        Where orders come from, on the CPU. None: the generator of the fit that runs, and outside of
        fits torch's global one.
    device : str or torch.device, default="cpu"
        Where the tensors are kept.
    n_projections : int, default=None
        Put so many random combinations, drawn anew for every pass, in the place of the
        ``"tangents"`` in X and of the ``"derivatives"`` along them; see
        :func:`~sktangent.projections.project`.

    Raises
    ------
    ValueError
        If the lengths differ or ``batch_size`` is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> from sktangent.training.batches import TensorBatches
    >>> batches = TensorBatches({"x": np.arange(10.0)}, np.arange(10), batch_size=4)
    >>> [len(y) for _, y in batches]
    [4, 4, 2]
    """

    def __init__(
        self,
        X,
        y=None,
        batch_size: int = 128,
        shuffle: bool = False,
        generator: torch.Generator | None = None,
        device: str | torch.device = "cpu",
        n_projections: int | None = None,
    ) -> None:
        self.n_samples = _common_length(X, y)
        held, self._computed = _split_computed(X)
        self._home = device if _fits(device, held, y) else "cpu"
        self.X = _hold(held, self._home)
        self.y = _hold(y, self._home)
        self._batch_size, self._shuffle = batch_size, shuffle
        self.batch_size = min(batch_size, max(self.n_samples, 1))
        self.shuffle = shuffle and self.batch_size < self.n_samples
        self.generator = generator
        self.device = device
        self.n_projections = n_projections
        self._ranks: Ranks | None = None
        if batch_size <= 0:
            raise ValueError(f"batch_size must be positive, got {batch_size}.")
        n_whole, rest = divmod(self.n_samples, self.batch_size)
        self.sizes = [self.batch_size] * n_whole + [rest] * (rest > 0)

    def __len__(self) -> int:
        return len(self.sizes)

    def among(self, ranks: Ranks) -> TensorBatches:
        """Return this rank's part of the batches that some processes go over together."""
        batches = copy.copy(self)
        batches._ranks = ranks
        if ranks.have_own_parts:
            batches.sizes = ranks.batch_sizes(self.n_samples, self._batch_size)
            batches.shuffle = self._shuffle and len(batches.sizes) > 1
        return batches

    def __iter__(self) -> Iterator[tuple]:
        windows = list(self._windows())
        # where others have a part of the batches, what they combine is not combined here
        held = self._project_held() if self._ranks is None else self.X
        plans = ((window, self._plans(window)) for window in windows)
        batches = self._map()(partial(self._batch, held), plans)
        if self.n_projections is None or not (self._computed or self._ranks):
            yield from batches
        else:
            yield from self._project_batches(batches, windows, held)

    def _map(self) -> Callable:
        """Return what goes over the batches: ``map``, or one that works ahead where that pays."""
        is_cpu = torch.device(self.device).type == "cpu"
        if not is_cpu and (self._computed or self._home != self.device):
            return map_ahead
        return map_beside if any(part.takes_long for part in self._computed) else map

    def _windows(self) -> Iterator[slice | torch.Tensor]:
        if self.shuffle:
            return iter(self._order().split(self.sizes))
        ends = itertools.accumulate(self.sizes)
        return (slice(end - n, end) for end, n in zip(ends, self.sizes, strict=True))

    def _part(self, window: slice | torch.Tensor) -> slice:
        """Tell which part of a batch is to be trained on here."""
        if self._ranks is None:
            return slice(None)
        n = window.stop - window.start if isinstance(window, slice) else len(window)
        return self._ranks.part_of_batch(n)

    def _plans(self, window: slice | torch.Tensor) -> list[Callable[[], dict]]:
        """Draw what all rows of a batch need, and leave to do what is wanted here."""
        if not self._computed:
            return []
        rows, part = _row_numbers(window), self._part(window)
        return [computed.planned(rows, part) for computed in self._computed]

    def _batch(self, held, planned: tuple[slice | torch.Tensor, list[Callable]]) -> tuple:
        window, plans = planned
        own = _of_window(window, self._part(window))
        X, y = _take(held, own), _take(self.y, own)
        if self._home != self.device:
            X, y = _send(X, self.device), _send(y, self.device)
        for compute in plans:
            X.update(_send(compute(), self.device))
        return X, y

    def _project_held(self):
        """Combine the tangents of all samples: in turn, they are read sooner than in batches."""
        if self.n_projections is None or "tangents" not in _names(self.X):
            return self.X
        parts = _tangents_of(self.X)
        drawn = draw(self.n_samples, *parts, self.n_projections)
        if drawn.signs is None:
            return self.X
        starts = range(0, self.n_samples, _PROJECTED_AT_ONCE)
        combined = [
            drawn.of(window).combine(*(None if part is None else part[window] for part in parts))
            for window in (slice(start, start + _PROJECTED_AT_ONCE) for start in starts)
        ]
        tangents, derivatives = zip(*combined, strict=True)
        return _with_tangents(
            self.X,
            torch.cat(tangents),
            None if derivatives[0] is None else torch.cat(derivatives),
        )

    def _project_batches(self, batches: Iterable[tuple], windows: list, held) -> Iterator[tuple]:
        """Combine tangents batch by batch, with what is drawn for all samples at the first."""
        drawn = None
        for (X, y), window in zip(batches, windows, strict=True):
            if "tangents" in _names(X) and held is self.X:  # else they are combined already
                drawn = drawn or draw(self.n_samples, *_tangents_of(X), self.n_projections)
                own = _of_window(window, self._part(window))
                X = _with_tangents(X, *drawn.of(own).combine(*_tangents_of(X)))
            yield X, y

    def _order(self) -> torch.Tensor:
        generator = generator_for("cpu") if self.generator is None else self.generator
        order = torch.randperm(self.n_samples, generator=generator)
        return order.to(self._home)


def make_batches(
    dataset: Dataset, device: str | torch.device = "cpu", **kwargs
) -> TensorBatches | DataLoader:
    """Build the fastest iterator that a dataset allows.

    Parameters
    ----------
    dataset : torch.utils.data.Dataset
        If it is a skorch dataset over arrays or tensors, or a subset of one,
        :class:`TensorBatches` slices it; else a :class:`torch.utils.data.DataLoader` collates it.
    device : str or torch.device, default="cpu"
        Where :class:`TensorBatches` keeps the samples.
    **kwargs : dict
        Arguments of the iterator.

    Returns
    -------
    batches : TensorBatches or torch.utils.data.DataLoader
        Iterates over ``(X, y)``.

    Examples
    --------
    >>> import numpy as np
    >>> from skorch.dataset import Dataset
    >>> from sktangent.training.batches import make_batches
    >>> len(make_batches(Dataset(np.zeros((10, 2)), np.zeros(10)), batch_size=5))
    2
    """
    held = _held_arrays(dataset)
    loader_options = set(kwargs) - {"batch_size", "shuffle", "generator", "n_projections"}
    if held is None or loader_options:
        kwargs.pop("n_projections", None)
        return DataLoader(dataset, **{"generator": generator_for("cpu"), **kwargs})
    return TensorBatches(*held, device=device, **kwargs)


def _held_arrays(dataset: Dataset) -> tuple | None:
    """Take the whole of X and y out of a dataset, if it holds them as arrays."""
    if isinstance(dataset, Subset):
        held = _held_arrays(dataset.dataset)
        if held is None:
            return None
        index = np.asarray(dataset.indices)
        return tuple(_map(lambda array: _subset(array, index), part) for part in held)
    if type(dataset) is not skorch.dataset.Dataset:
        return None
    parts = (dataset.X, dataset.y)
    return parts if all(_is_held(part) for part in parts) else None


def _subset(array, index: np.ndarray):
    if isinstance(array, ComputedRows):
        return array.subset(index)
    return as_tensor(array)[torch.as_tensor(index)]


def _split_computed(X) -> tuple:
    if not isinstance(X, dict):
        return X, []
    computed = [part for part in X.values() if isinstance(part, ComputedRows)]
    return {k: part for k, part in X.items() if not isinstance(part, ComputedRows)}, computed


def _is_held(part) -> bool:
    if isinstance(part, dict):
        return all(isinstance(array, ComputedRows) or _is_array(array) for array in part.values())
    return part is None or _is_array(part)


def _is_array(array) -> bool:
    """Tell whether torch can hold an array: not where each sample is an object of its own."""
    if isinstance(array, np.ndarray):
        return array.dtype.kind in "biufc"
    return isinstance(array, torch.Tensor)


def _map(function, part):
    if part is None:
        return None
    if isinstance(part, dict):
        return {key: function(array) for key, array in part.items()}
    return function(part)


def forward_strides(array: np.ndarray) -> np.ndarray:
    """Copy an array if it runs backwards along an axis, which torch cannot follow."""
    return array.copy() if min(array.strides, default=0) < 0 else array


def as_tensor(array) -> torch.Tensor:
    """Look at an array as a tensor, without a copy if that can be."""
    if isinstance(array, np.ndarray):
        array = forward_strides(array)
        if array.flags.writeable:
            return torch.as_tensor(array)
    with warnings.catch_warnings():
        # a read-only array; batches are copies, so that nobody writes into it
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.as_tensor(array)


def _to_device(part, device):
    return _map(lambda array: _move(as_tensor(array), device), part)


def _hold(part, device):
    """Move all samples to the device; of what does not fit there, tell the size."""
    arrays = [array for array in _arrays(part) if hasattr(array, "dtype")]
    sizes = "; ".join(described(array.shape, array.dtype.itemsize) for array in arrays)
    with memory_for(f"all samples on {device}, {sizes}", _FEWER_SAMPLES):
        return _to_device(part, device)


def _move(array: torch.Tensor, device) -> torch.Tensor:
    if _repeats_one_row(array):
        return array[:1].to(device).expand(array.shape)
    return array.to(device)


def _fits(device: str | torch.device, *parts) -> bool:
    """Tell whether a device has room for arrays, and as much again for what training needs."""
    device = torch.device(device)
    if device.type != "cuda":
        return True
    arrays = [as_tensor(array) for part in parts if part is not None for array in _arrays(part)]
    n_bytes = sum(array[:1].nbytes if _repeats_one_row(array) else array.nbytes for array in arrays)
    return 2 * n_bytes <= torch.cuda.mem_get_info(device)[0]


def _send(part, device):
    """Bring a batch to the device; to a GPU without waiting for it."""
    return _map(lambda array: _send_array(as_tensor(array), torch.device(device)), part)


def _send_array(array: torch.Tensor, device: torch.device) -> torch.Tensor:
    if device.type != "cuda" or array.is_cuda or _repeats_one_row(array):
        return _move(array, device)
    return array.pin_memory().to(device, non_blocking=True)


def _repeats_one_row(array: torch.Tensor) -> bool:
    return array.ndim > 0 and len(array) > 0 and array.stride(0) == 0


def _take(part, window: slice | torch.Tensor):
    if part is None:  # what stands in for missing targets is what skorch's own dataset yields
        return torch.zeros(1)
    return _map(lambda array: _take_rows(array, window), part)


def _take_rows(array: torch.Tensor, window: slice | torch.Tensor) -> torch.Tensor:
    if _repeats_one_row(array):  # and so does each of its parts, without a copy
        return array[window] if isinstance(window, slice) else array[: len(window)]
    return array[window].clone() if isinstance(window, slice) else array.index_select(0, window)


def _row_numbers(window: slice | torch.Tensor) -> np.ndarray:
    if isinstance(window, slice):
        return np.arange(window.start, window.stop)
    return window.cpu().numpy()


def _of_window(window: slice | torch.Tensor, part: slice) -> slice | torch.Tensor:
    if part.stop is None:
        return window
    if isinstance(window, slice):
        return slice(window.start + part.start, window.start + part.stop)
    return window[part]


def _names(part) -> Iterable[str]:
    return part if isinstance(part, Mapping) else ()


def _tangents_of(X: Mapping) -> tuple[torch.Tensor, torch.Tensor | None]:
    return X["tangents"], X.get("derivatives")


def _with_tangents(X: Mapping, tangents: torch.Tensor, derivatives: torch.Tensor | None) -> dict:
    X = {**X, "tangents": tangents}
    return X if derivatives is None else {**X, "derivatives": derivatives}


def _common_length(X, y) -> int:
    lengths = {len(array) for part in (X, y) if part is not None for array in _arrays(part)}
    if len(lengths) != 1:
        raise ValueError(f"X and y must hold the same number of samples, got {sorted(lengths)}.")
    return lengths.pop()


def _arrays(part):
    return part.values() if isinstance(part, dict) else (part,)
