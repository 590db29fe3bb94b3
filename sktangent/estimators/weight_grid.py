r"""Which penalty weights a search tries.

Where none are given, they are log-spaced around the weight at which the penalty of a plain fit, one
without a penalty, costs as much as knowing nothing:

.. math:: w_0 = \frac{E_0}{P}, \qquad E_0 = \frac1n \sum_i s_i L(0, y_i), \qquad
          P = \frac1n \sum_i s_i \sum_t \lVert J_f(x_i)\,\tau_{it} - d_{it} \rVert^2 ,

f the plain fit. At :math:`10^{-2} w_0` the plain fit's penalty is a hundredth of the data term of
a network that says nothing, and begins to matter. Training with it makes P smaller than the plain
fit has it, above all that of a classifier, whose outputs go on growing without a penalty; at
:math:`10^2 w_0` it rules for sure. The test error on digits is smallest at 10 to 100 w_0, on
spectra and smooth functions at about w_0.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from numbers import Integral

import numpy as np
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from sktangent.propagation import propagate

_LOWEST, _HIGHEST = 1e-2, 100.0
# samples that the penalty of the plain fit is measured on, at most
_MEASURED = 1000


def check_grid(given, parameter: str = "penalty_weights") -> np.ndarray:
    """Return weights that were given as an increasing array, or say what is wrong with them.

    Parameters
    ----------
    given : array-like
        The weights.
    parameter : str, default="penalty_weights"
        What they are called in errors.

    Returns
    -------
    weights : ndarray
        The distinct weights, increasing.

    Raises
    ------
    ValueError, TypeError
        If there are none, or one is not a finite number that is zero or more.

    Examples
    --------
    >>> from sktangent.estimators.weight_grid import check_grid
    >>> check_grid([1, 0, 0.1])
    array([0. , 0.1, 1. ])
    """
    try:
        weights = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{parameter} must hold numbers, got {given!r}.") from error
    if weights.ndim != 1 or weights.size == 0:
        raise ValueError(f"{parameter} must hold at least one number, got {given!r}.")
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise ValueError(f"{parameter} must hold finite numbers, zero or more, got {given!r}.")
    return np.unique(weights)


def find_grid(n_weights: int, scale: float) -> np.ndarray:
    """Return zero and log-spaced weights around a scale.

    Parameters
    ----------
    n_weights : int
        How many in all.
    scale : float
        w_0; zero where there is no penalty to weigh.

    Returns
    -------
    weights : ndarray of shape (n_weights,)
        The weights, increasing; zero alone where there is no penalty.

    Examples
    --------
    >>> from sktangent.estimators.weight_grid import find_grid
    >>> find_grid(5, 0.1).round(4).tolist()
    [0.0, 0.001, 0.0215, 0.4642, 10.0]
    """
    if not scale > 0:
        return np.zeros(1)
    above_zero = np.geomspace(_LOWEST, _HIGHEST, n_weights - 1) if n_weights > 2 else [1.0]
    return np.array([0.0, *(scale * above for above in above_zero)])[:n_weights]


def natural_scales(plain, probe, X, y, metadata: dict) -> np.ndarray:
    """Find w_0 of each tangent alone; zero where there are no tangents.

    Parameters
    ----------
    plain : TangentPropEstimator
        The estimator.
    probe : TangentPropEstimator
        Its :func:`~sktangent.estimators.waiting.waiting_fit` on the same samples, with a penalty.
    X, y : array-like
        The samples and targets.
    metadata : dict
        Further arguments of ``fit``.

    Returns
    -------
    scales : ndarray of shape (n_tangents,)
        E_0 over each tangent's part of P; infinite where that is zero.
    """
    pending = probe.pending_
    n_samples = len(pending.target)
    index = np.unique(np.linspace(0, n_samples - 1, min(_MEASURED, n_samples)).astype(int))
    device = pending.net.device
    rows = {name: torch.tensor(part, device=device) for name, part in pending.rows(index).items()}
    if "tangents" not in rows:
        return np.zeros(0)
    without = clone(plain).set_params(penalty_weight=0.0, warm_start=False, verbose=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the final fit will tell
        fitted = without.fit(X, y, **metadata)
    criterion, module = pending.net.criterion_, fitted.module_.eval()
    target = torch.as_tensor(pending.target[index], device=device)
    weight = rows.get("sample_weight")
    with torch.no_grad():
        outputs, slopes = propagate(module, rows["x"], rows["tangents"])
        nothing = criterion.data_term(torch.zeros_like(outputs), target, weight)
        penalties = [
            criterion.penalty_term(
                outputs,
                target,
                slopes[:, t : t + 1],
                _along(rows, "derivatives", t),
                weight,
                _along(rows, "derivative_weight", t),
            )
            for t in range(slopes.shape[1])
        ]
    with np.errstate(divide="ignore"):
        return nothing.item() / np.array([penalty.item() for penalty in penalties])


def _along(rows: dict[str, torch.Tensor], name: str, t: int) -> torch.Tensor | None:
    """Take what is given for one tangent, if it is given."""
    return rows[name][:, t : t + 1] if name in rows else None


def scale_of(scales: np.ndarray) -> float:
    """Find w_0 of several tangents together; one without a penalty counts for nothing."""
    total = (1 / scales).sum() if len(scales) else 0.0
    return 1 / total if total > 0 and np.isfinite(total) else float(len(scales) > 0)


def by_kind(given: Mapping, names: list[str], scales: np.ndarray) -> dict:
    """Find the weights to try of each kind of a union.

    Parameters
    ----------
    given : dict of str to int or array-like
        ``penalty_weights``.
    names : list of str
        The names of its tangents, ``kind__tangent``.
    scales : ndarray of shape (n_tangents,)
        Those of :func:`natural_scales`.

    Returns
    -------
    weights : dict of str to ndarray
        The weights.
    """
    kinds = np.array([name.split("__")[0] for name in names])
    return {
        kind: find_grid(grid, scale_of(scales[kinds == kind]))
        if isinstance(grid, Integral)
        else check_grid(grid, f"penalty_weights[{kind!r}]")
        for kind, grid in given.items()
    }


def check_kinds(given: Mapping, tangents) -> None:
    """Say what is wrong with weights by kind, as far as that can be told before any fit."""
    known = [] if tangents is None else kind_names(tangents)
    if not known:
        raise ValueError(
            f"penalty_weights by kind need tangents=TangentUnion(...), got tangents={tangents!r}."
        )
    if not given:
        raise ValueError("penalty_weights must hold at least one kind, got {}.")
    for kind, grid in given.items():
        if kind not in known:
            raise ValueError(f"penalty_weights has {kind!r}, which is none of the kinds {known}.")
        if not isinstance(grid, Integral):
            check_grid(grid, f"penalty_weights[{kind!r}]")
        elif isinstance(grid, bool) or grid < 1:
            raise ValueError(f"penalty_weights[{kind!r}] must be at least 1, got {grid!r}.")


def kind_names(tangents) -> list[str]:
    """Name the kinds of a union; of other tangents there are none."""
    prefix = "weights__"
    params = tangents.get_params(deep=True) if hasattr(tangents, "get_params") else {}
    return [name.removeprefix(prefix) for name in params if name.startswith(prefix)]
