"""Whether training was cut short by the number of epochs that was asked for."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from sklearn.exceptions import ConvergenceWarning

from sktangent.net import TangentPropNet
from sktangent.training.stopping import Stopping


def still_falls(losses: Sequence[float], tol: float, relative_tol: bool = False) -> bool:
    """Tell whether losses fall by more than a tolerance an epoch, over the last tenth of them.

    Over several epochs, since losses of small batches go up and down.

    Parameters
    ----------
    losses : sequence of float
        The loss of every epoch.
    tol : float
        The tolerance.
    relative_tol : bool, default=False
        Measure it as a part of the best loss.

    Returns
    -------
    falls : bool
        Whether they do; of a single epoch it is taken for granted.

    Examples
    --------
    >>> from sktangent.estimators.convergence import still_falls
    >>> still_falls([3.0, 2.0, 1.0], tol=0.5), still_falls([3.0, 2.0, 1.9], tol=0.5)
    (True, False)
    """
    n_last = max(1, len(losses) // 10)
    if len(losses) == n_last:
        return True
    before, after = min(losses[:-n_last]), min(losses[-n_last:])
    return before - after > n_last * tol * (before if relative_tol else 1)


def warn_if_unfinished(net: TangentPropNet, n_epochs: int, max_epochs: int | str) -> None:
    """Tell that the epochs that were asked for are fewer than training needs.

    Parameters
    ----------
    net : TangentPropNet
        The net.
    n_epochs : int
        How many epochs it has just been trained for.
    max_epochs : int or "auto"
        How many were asked for.
    """
    stopping = dict(net.callbacks_).get("stopping")
    if n_epochs != max_epochs or not isinstance(stopping, Stopping):
        return
    losses = [row.get(stopping.monitor) for row in net.history[-n_epochs:]]
    if None in losses:  # interrupted in the last epoch
        return
    if still_falls(losses, stopping.tol, stopping.relative_tol):
        warnings.warn(
            f"max_epochs={n_epochs} reached while {stopping.monitor} still falls by more than "
            f"tol={stopping.tol} an epoch. With more epochs, or 'auto', it would go on.",
            ConvergenceWarning,
            stacklevel=6,
        )
