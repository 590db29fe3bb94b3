"""What a net trains on: samples, weights, tangents, known and unknown targets."""

from __future__ import annotations

import math

import numpy as np
from sklearn import get_config
from sklearn.utils import check_consistent_length
from skorch.dataset import Dataset
from skorch.helper import predefined_split

from sktangent.estimators.combined_rows import CombinedRows
from sktangent.estimators.moved_rows import MovedRows
from sktangent.estimators.row_storage import keep_or_compute, take_rows
from sktangent.estimators.tangent_rows import TangentRows

_OF_BATCHES = ("iterator_train__batch_size", "iterator_train__shuffle")


def collect_inputs(
    find: TangentRows | CombinedRows | MovedRows | None,
    inputs: dict[str, np.ndarray],
    X: np.ndarray,
    train: slice | np.ndarray,
    skorch_params: dict,
) -> dict:
    """Collect what the net trains on: kept, or computed when it is needed."""
    budget = _memory_budget(skorch_params)
    if isinstance(find, MovedRows):
        others = {name: part for name, part in inputs.items() if name != "x"}
        return {"x": find.computed(train), **take_rows(others, train, budget)}
    collected = take_rows(inputs, train, budget)
    if isinstance(find, CombinedRows):
        collected["tangents"] = find.computed(train)
    elif find is not None:
        collected.update(keep_or_compute(find, X, train, budget))
    return collected


def check_augment(augment, callable_tangents, skorch_params: dict, **given) -> None:
    """Refuse what cannot go with samples that move.

    Parameters
    ----------
    augment : float or dict
        How far they move.
    callable_tangents : callable or None
        The parameter of the estimator.
    skorch_params : dict
        The estimator's parameters that are meant for skorch.
    **given : object
        What ``fit`` was given: ``tangents``, ``derivatives`` and ``derivative_weight``.

    Raises
    ------
    ValueError
        If something cannot.
    """
    if given["derivatives"] is not None or given["derivative_weight"] is not None:
        raise ValueError(
            f"augment={augment!r} cannot go with derivatives or their weights: samples "
            "that move would need targets that move. Set augment=None."
        )
    if callable_tangents is None or given["tangents"] is not None:
        raise ValueError(
            f"augment={augment!r} needs the parameter tangents, a callable with a "
            "move(X, amounts), and none in fit, which belong to samples that stay."
        )
    loader = [name for name in _of_loaders(skorch_params) if name not in _OF_BATCHES]
    if loader:
        raise ValueError(
            f"augment={augment!r} moves samples batch by batch, which a loader of "
            f"torch's does not know: leave out {loader}."
        )


def with_nan(y: np.ndarray, is_unknown: np.ndarray) -> np.ndarray:
    """Put NaN back where targets are not known."""
    is_unknown = is_unknown.reshape(y.shape)
    if is_unknown.all(axis=0).any():
        raise ValueError("y is NaN for every sample; at least one value of each must be known.")
    return np.where(is_unknown, np.nan, y)


def check_something_is_known(
    y: np.ndarray, derivatives, find: TangentRows | MovedRows | None
) -> None:
    """Refuse targets of NaN where derivatives do not make up for them."""
    if derivatives is None:
        if find is None or not find.with_derivatives:
            raise ValueError(
                "y contains NaN, which says that a value is not known, and there are no "
                "derivatives: neither in fit, nor along with the tangents of the callable."
            )
        return
    check_consistent_length(y, derivatives)
    parts = [np.asarray(part, dtype=np.float64).reshape(len(y), -1) for part in (y, derivatives)]
    is_empty = np.isnan(np.hstack(parts)).all(axis=1)
    if is_empty.any():
        raise ValueError(
            f"y and derivatives are NaN for sample {np.flatnonzero(is_empty)[0]}; of each sample "
            "at least one value or derivative must be known."
        )


def relative_weight(weight: np.ndarray, mean: float, dtype: np.dtype) -> dict[str, np.ndarray]:
    """Measure weights in their mean; where all are the same, they are left out."""
    if np.allclose(weight[weight > 0], mean, rtol=1e-9, atol=0):
        return {}
    return {"sample_weight": (weight / mean).astype(dtype)}


def fixed_split(inputs: dict[str, np.ndarray], target: np.ndarray, valid: np.ndarray | None):
    """Set the samples apart that the net is validated on, if there are any."""
    return (
        None
        if valid is None
        else predefined_split(Dataset(take_rows(inputs, valid), target[valid]))
    )


def plain_or_dict(inputs: dict) -> np.ndarray | dict:
    """Leave out the dict of inputs that are samples alone, so that callbacks see plain samples."""
    plain = inputs.keys() == {"x"} and isinstance(inputs["x"], np.ndarray)
    return inputs["x"] if plain else inputs


def _memory_budget(skorch_params: dict) -> float:
    """Tell how many bytes copies may take before rows are computed as they are needed."""
    if _of_loaders(skorch_params):
        return math.inf  # a loader of torch's takes arrays only
    return get_config()["working_memory"] * 2**20


def _of_loaders(skorch_params: dict) -> list[str]:
    return [name for name in skorch_params if name.startswith("iterator_train__")]
