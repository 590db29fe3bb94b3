"""What is kept of an estimator in a file, and how it is made of that again.

Arrays and plain values: the parameters of the network, and what the estimator has learned beside
them. The skorch net around the network is built anew. What only training needs, the states of the
optimizer and of random numbers, is kept where training is to go on, after ``partial_fit`` or with
``warm_start``; the rows of the history lose their batches.
"""

from __future__ import annotations

import dataclasses
import inspect
import warnings

import numpy as np
import torch
from sklearn.utils import check_random_state
from sklearn.utils.fixes import parse_version

from sktangent._plain import from_plain, to_plain
from sktangent._randomness import seeded
from sktangent._version import __version__
from sktangent.estimators.build import resolve_device
from sktangent.estimators.network import wrap
from sktangent.estimators.schedule import Schedule
from sktangent.net import TangentPropNet
from sktangent.training.history import EpochHistory

# raised when files can no longer be read by what wrote files so far
_FORMAT = 1


def to_state(estimator, attributes: dict) -> dict:
    """Describe an estimator by arrays and plain values.

    Parameters
    ----------
    estimator : TangentPropEstimator
        The estimator.
    attributes : dict
        Its attributes.

    Returns
    -------
    state : dict
        What :func:`from_state` takes.
    """
    state = {**attributes, "_saved_by": {"format": _FORMAT, "version": __version__}}
    if "net_" in state:
        goes_on = estimator.warm_start or estimator._in_parts
        state["net_"] = _describe(state["net_"], goes_on)
        if not goes_on:
            del state["_random_state"]
        state["_schedule"] = dataclasses.asdict(estimator._schedule)
    return to_plain(state)


def from_state(estimator, state: dict) -> None:
    """Give an estimator the attributes that it was described by, and a net.

    Parameters
    ----------
    estimator : TangentPropEstimator
        A new estimator.
    state : dict
        What :func:`to_state` returned.

    Raises
    ------
    ValueError
        If a newer version wrote it, in a way that this one does not know.

    Warns
    -----
    UserWarning
        If a newer version wrote it, in a way that this one may know.
    """
    _check_writer(type(estimator).__name__, **state.get("_saved_by", {}))
    attributes = {name: value for name, value in state.items() if name != "_saved_by"}
    vars(estimator).update({**_defaults(type(estimator)), **from_plain(attributes)})
    if "net_" in attributes:
        described = vars(estimator).pop("net_")
        estimator._schedule = Schedule(**estimator._schedule)
        if not hasattr(estimator, "_random_state"):
            estimator._random_state = check_random_state(estimator.random_state)
        estimator.net_ = _rebuild(estimator, described)


def _check_writer(estimator: str, format: int = _FORMAT, version: str = __version__) -> None:
    by = f"This {estimator} was saved by sktangent {version}"
    advice = "Install that version, or a newer one, to load it."
    if format > _FORMAT:
        raise ValueError(f"{by}, in a format that sktangent {__version__} does not know. {advice}")
    if parse_version(version) > parse_version(__version__):
        warnings.warn(
            f"{by}, which may have written what sktangent {__version__} reads wrongly. {advice}",
            UserWarning,
            stacklevel=4,
        )


def _defaults(kind: type) -> dict:
    """Tell the defaults of all parameters: the file may be older than some of them."""
    parameters = inspect.signature(kind).parameters.items()
    return {name: known.default for name, known in parameters if known.default is not known.empty}


def warn_if_state_is_lost(net: TangentPropNet) -> None:
    """Tell that training goes on with a network of which the optimizer's state was not saved."""
    if vars(net).pop("_lost_state", False):
        warnings.warn(
            "The model was loaded from a file without the state of its optimizer, which starts "
            "anew, as do its random numbers. Set warm_start=True before saving to keep it.",
            UserWarning,
            stacklevel=5,
        )


def _describe(net: TangentPropNet, goes_on: bool) -> dict:
    optimizer = net.optimizer_.state_dict()
    return {
        "module": net.module_,
        "criterion": dict(net.criterion_.state_dict()),
        "optimizer": optimizer if goes_on or not optimizer["state"] else None,
        "history": _to_columns(net.history),
        "device": str(net.device),
    }


def _rebuild(estimator, described: dict) -> TangentPropNet:
    device = _device_or_cpu(described["device"])
    with seeded(0, device):  # a user's criterion may draw
        net = wrap(
            described["module"].to(device),
            estimator._make_net,
            estimator,
            estimator._schedule,
            estimator._l2(estimator._schedule),
            estimator._criterion_params(),
            device,
        )
    if described["criterion"]:
        net.criterion_.load_state_dict(described["criterion"])
    if described["optimizer"] is None:
        net._lost_state = True
    else:
        net.optimizer_.load_state_dict(described["optimizer"])
    net.history_ = EpochHistory(_to_rows(described["history"]))
    return net


def _device_or_cpu(device: str) -> torch.device:
    try:
        return resolve_device(device)
    except ValueError:
        warnings.warn(
            f"The model was saved on device {device!r}, which is not there; it is on the CPU now.",
            UserWarning,
            stacklevel=5,
        )
        return torch.device("cpu")


def _to_columns(history) -> dict:
    """Write the history of epochs, without their batches, as one array for each name."""
    rows = [{name: x for name, x in row.items() if name != "batches"} for row in history]
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {}
    for name in names:
        at = [i for i, row in enumerate(rows) if name in row]
        values = _as_array([rows[i][name] for i in at])
        columns[name] = {"at": None if len(at) == len(rows) else at, "values": values}
    return {"n_rows": len(rows), "columns": columns}


def _as_array(values: list) -> np.ndarray | list:
    kinds = set(map(type, values))
    if kinds == {int}:
        least, most = map(np.min_scalar_type, (min(values), max(values)))
        return np.array(values, dtype=np.promote_types(least, most))
    return np.array(values) if kinds in ({float}, {bool}) else values


def _to_rows(written: dict) -> list[dict]:
    rows: list[dict] = [{"batches": []} for _ in range(written["n_rows"])]
    for name, column in written["columns"].items():
        values = column["values"]
        at = range(len(rows)) if column["at"] is None else column["at"]
        values = values.tolist() if isinstance(values, np.ndarray) else values
        for i, value in zip(at, values, strict=True):
            rows[i][name] = value
    return rows
