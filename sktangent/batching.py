"""Batches sliced from tensors that already sit on the device, not collated sample by sample."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import skorch.dataset
import torch
from torch.utils.data import DataLoader, Dataset, Subset


class TensorBatches:
    """Iterate over the batches of samples that are held whole, as tensors.

    A drop-in for :class:`torch.utils.data.DataLoader` on in-memory data: the arrays are moved to
    the device once, and a batch is one indexing operation per array. It is a copy, so a module
    that writes into its input leaves the arrays alone.

    Parameters
    ----------
    X : torch.Tensor, ndarray, or dict of these
        The samples, and what else goes with each of them; the first axis is that of the samples.
    y : torch.Tensor or ndarray of shape (n_samples, ...), default=None
        The targets.
    batch_size : int, default=128
        Samples in a batch; the last one may have fewer.
    shuffle : bool, default=False
        Draw a new order for every pass. One batch that holds all samples is never reordered.
    random_state : numpy.random.RandomState, default=None
        Where orders come from; None: torch's global generator.
    device : str or torch.device, default="cpu"
        Where the tensors are kept.

    Raises
    ------
    ValueError
        If the lengths differ or ``batch_size`` is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> from sktangent.batching import TensorBatches
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
        random_state: np.random.RandomState | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        self.X = _to_device(X, device)
        self.y = _to_device(y, device)
        self.n_samples = _common_length(self.X, self.y)
        self.batch_size = min(batch_size, max(self.n_samples, 1))
        self.shuffle = shuffle and self.batch_size < self.n_samples
        self.random_state = random_state
        self.device = device
        if batch_size <= 0:
            raise ValueError(f"batch_size must be positive, got {batch_size}.")

    def __len__(self) -> int:
        return -(-self.n_samples // self.batch_size)

    def __iter__(self) -> Iterator[tuple]:
        if self.shuffle:
            for index in self._order().split(self.batch_size):
                yield _select(self.X, index), _select(self.y, index)
        else:
            for start in range(0, self.n_samples, self.batch_size):
                window = slice(start, start + self.batch_size)
                yield _slice(self.X, window), _slice(self.y, window)

    def _order(self) -> torch.Tensor:
        if self.random_state is None:
            order = torch.randperm(self.n_samples)
        else:
            order = torch.from_numpy(self.random_state.permutation(self.n_samples))
        return order.to(self.device)


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
    >>> from sktangent.batching import make_batches
    >>> len(make_batches(Dataset(np.zeros((10, 2)), np.zeros(10)), batch_size=5))
    2
    """
    held = _held_arrays(dataset)
    loader_options = set(kwargs) - {"batch_size", "shuffle", "random_state"}
    if held is None or loader_options:
        kwargs.pop("random_state", None)
        return DataLoader(dataset, **kwargs)
    return TensorBatches(*held, device=device, **kwargs)


def _held_arrays(dataset: Dataset) -> tuple | None:
    """Take the whole of X and y out of a dataset, if it holds them as arrays."""
    if isinstance(dataset, Subset):
        held = _held_arrays(dataset.dataset)
        if held is None:
            return None
        index = torch.as_tensor(np.asarray(dataset.indices))
        return tuple(_map(lambda array: _as_tensor(array)[index], part) for part in held)
    if type(dataset) is not skorch.dataset.Dataset:
        return None
    parts = (dataset.X, dataset.y)
    return parts if all(_is_held(part) for part in parts) else None


def _is_held(part) -> bool:
    if isinstance(part, dict):
        return all(isinstance(array, (np.ndarray, torch.Tensor)) for array in part.values())
    return part is None or isinstance(part, (np.ndarray, torch.Tensor))


def _map(function, part):
    if part is None:
        return None
    if isinstance(part, dict):
        return {key: function(array) for key, array in part.items()}
    return function(part)


def _as_tensor(array) -> torch.Tensor:
    with warnings.catch_warnings():
        # a read-only array; batches are copies, so that nobody writes into it
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.as_tensor(array)


def _to_device(part, device):
    return _map(lambda array: _as_tensor(array).to(device), part)


def _slice(part, window: slice):
    # what stands in for missing targets is what skorch's own dataset yields
    return torch.zeros(1) if part is None else _map(lambda array: array[window].clone(), part)


def _select(part, index: torch.Tensor):
    return (
        torch.zeros(1) if part is None else _map(lambda array: array.index_select(0, index), part)
    )


def _common_length(X, y) -> int:
    lengths = {len(array) for part in (X, y) if part is not None for array in _arrays(part)}
    if len(lengths) != 1:
        raise ValueError(f"X and y must hold the same number of samples, got {sorted(lengths)}.")
    return lengths.pop()


def _arrays(part):
    return part.values() if isinstance(part, dict) else (part,)
