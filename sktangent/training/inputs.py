"""The dict of samples and of what goes with them: its parts, and whether they fit a net."""

from __future__ import annotations

from collections.abc import Mapping

import skorch
import torch
from skorch.dataset import get_len
from skorch.utils import is_dataset
from torch.utils.data import DataLoader

from sktangent.training.batches import make_batches


def part_of(X, name: str):
    """Take one part out of samples; None if they do not have it.

    Parameters
    ----------
    X : torch.Tensor, ndarray or dict
        Samples, or a dict with the samples at ``"x"`` beside other parts. A dict without ``"x"``
        has no parts: as in skorch, it holds arguments of the module's ``forward``.
    name : {"x", "tangents", "derivatives", "derivative_weight", "sample_weight"}
        Which part.

    Returns
    -------
    part : torch.Tensor, ndarray or None
        The part.

    Examples
    --------
    >>> from sktangent.training.inputs import part_of
    >>> part_of({"x": [1.0], "sample_weight": [2.0]}, "sample_weight")
    [2.0]
    """
    if isinstance(X, Mapping):
        return X.get(name) if "x" in X else None
    return X if name == "x" else None


def count_samples(batch) -> int:
    """Count the samples of a batch.

    Parameters
    ----------
    batch : tuple of (X, y), or X alone
        As an iterator yields it.

    Returns
    -------
    n_samples : int
        The length of the first axis.

    Examples
    --------
    >>> import torch
    >>> from sktangent.training.inputs import count_samples
    >>> count_samples(({"x": torch.zeros(3, 2)}, torch.zeros(3)))
    3
    """
    X = batch[0] if isinstance(batch, (tuple, list)) else batch
    x = part_of(X, "x")
    return len(x) if isinstance(x, torch.Tensor) else get_len(X)


_NEEDS = (
    ("tangents", "x"),
    ("derivatives", "tangents"),
    ("derivative_weight", "tangents"),
)


def check_parts(X, criterion, weighs_samples: bool) -> None:
    """Check that the parts of samples are complete, and of use to a criterion.

    Parameters
    ----------
    X : torch.Tensor, ndarray or dict
        The samples.
    criterion : callable
        The criterion.
    weighs_samples : bool
        Whether the data term knows sample weights.

    Raises
    ------
    ValueError
        If a part goes with another one that is not there.
    TypeError
        If the criterion has no use for a part.

    Examples
    --------
    >>> import torch
    >>> from sktangent.training.inputs import check_parts
    >>> check_parts({"x": torch.zeros(3, 2)}, torch.nn.MSELoss(), weighs_samples=False)
    """
    if not isinstance(X, Mapping):
        return
    given = {name for name in X if X[name] is not None}
    for name, needed in _NEEDS:
        if name in given and needed not in given:
            raise ValueError(f"X holds {name!r} and must hold {needed!r} too, got {sorted(given)}.")
    what = type(criterion).__name__
    wanted = f"use criterion=TangentPropLoss, criterion__loss={what}"
    if "tangents" in given and not hasattr(criterion, "penalty_term"):
        raise TypeError(f"X holds 'tangents', and criterion {what} has no penalty_term; {wanted}.")
    if {"x", "sample_weight"} <= given and not weighs_samples:
        raise TypeError(f"X holds 'sample_weight', which criterion {what} cannot use; {wanted}.")


def check_targets(X, y, dataset, iterator) -> None:
    """Check that there are targets, or something that may bring them.

    Parameters
    ----------
    X : array, dict or torch.utils.data.Dataset
        The samples.
    y : array or None
        The targets.
    dataset, iterator : callable
        A net's ``dataset`` and ``iterator_train``; others than the usual ones may bring targets.

    Raises
    ------
    ValueError
        If there are none.

    Examples
    --------
    >>> import torch
    >>> from skorch.dataset import Dataset
    >>> from torch.utils.data import DataLoader
    >>> from sktangent.training.inputs import check_targets
    >>> check_targets(torch.zeros(3, 2), torch.zeros(3), Dataset, DataLoader)
    """
    is_usual = dataset is skorch.dataset.Dataset and iterator in (make_batches, DataLoader)
    if y is None and is_usual and not is_dataset(X):
        raise ValueError(
            "y is None, and must hold the targets, unless X is a torch Dataset that yields them, "
            "or get_loss of a subclass does without."
        )
