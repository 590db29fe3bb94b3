"""How invariant a fitted estimator is along tangent vectors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import is_classifier
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from sktangent._checks import check_samples, validating
from sktangent._outputs import STEP, changes, is_exact, outputs_of, tangents_at, windows

_MOST_DIRECTIONS = 64


def local_invariance_error(
    estimator,
    X: ArrayLike,
    tangents: Callable | ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    per_tangent: bool = False,
) -> float | np.ndarray:
    r"""Compare how much the output changes along tangent vectors and along random directions.

    .. math::

        e = \frac{\sum_i s_i \sum_t \lVert J_f(x_i)\,\tau_{it} \rVert^2}
                 {\sum_i s_i \sum_t E_u \lVert J_f(x_i)\,u_{it} \rVert^2}
          = \frac{\sum_i s_i \sum_t \lVert J_f(x_i)\,\tau_{it} \rVert^2}
                 {\sum_i s_i \sum_t \lVert \tau_{it} \rVert^2 \lVert J_f(x_i) \rVert_F^2 / n}

    with random directions :math:`u_{it}` of the length of :math:`\tau_{it}` in the :math:`n`
    features. 0: the output does not change along the tangents; 1: as much as along any direction;
    more: the tangents are what it looks at. The numerator is the local equivariance error of Gruver
    et al. [1]_ for an output that must stay the same, squared; dividing by what chance gives takes
    the units of output and tangents out of it, so that estimators can be compared.

    Parameters
    ----------
    estimator : estimator
        A fitted classifier or regressor, pipeline or search. The output is ``predict_proba``, or
        else ``decision_function``, or else ``predict``, of a classifier as indicators of the
        labels. Estimators of sktangent are differentiated exactly. Others are asked twice for each
        direction, a 64th of the samples' spread (the root of the sum of the features' variances)
        to either side, and instead of all random directions for up to 64 orthogonal ones, which
        for a smooth output of no more features comes to the same.
    X : array-like of shape (n_samples, n_features) or (n_samples, *input_shape)
        The samples.
    tangents : callable or array-like of shape (n_samples, n_tangents, *input_shape)
        The tangent vectors, in the units of X.
    sample_weight : array-like of shape (n_samples,), default=None
        s. None: ones.
    per_tangent : bool, default=False
        Return one error for each tangent, the sums over t left out.

    Returns
    -------
    error : float or ndarray of shape (n_tangents,)
        e; 0 where the output does not change at all.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If it has none of the three methods.
    ValueError
        If an array is not as described.

    References
    ----------
    .. [1] N. Gruver, M. Finzi, M. Goldblum, A. G. Wilson. "The Lie derivative for measuring learned
       equivariance." ICLR 2023.

    Examples
    --------
    A linear model of the first of two features, which changes only along that:

    >>> import numpy as np
    >>> from sklearn.linear_model import LinearRegression
    >>> from sktangent.metrics import local_invariance_error
    >>> X = np.random.default_rng(0).normal(size=(20, 2))
    >>> model = LinearRegression().fit(X, X[:, 0])
    >>> local_invariance_error(model, X, lambda X: np.tile(np.eye(2), (len(X), 1, 1)),
    ...                        per_tangent=True).round(6) + 0.0
    array([2., 0.])
    """
    estimator = getattr(estimator, "best_estimator_", estimator)
    check_is_fitted(estimator)
    samples = check_samples(X, estimator)
    V = tangents_at(tangents, X, samples)
    with validating(sample_weight, "sample_weight"):
        weight = _check_sample_weight(
            sample_weight, samples, dtype=np.float64, ensure_non_negative=True
        )
    if not weight.any():
        raise ValueError("sample_weight is zero for every sample.")
    find = _exact_changes if is_exact(estimator) else _differences
    along, at_random = find(estimator, X, samples, V)
    lengths = np.square(V.reshape(*V.shape[:2], -1), dtype=np.float64).sum(2)
    changed, expected = weight @ along, weight @ (lengths * at_random[:, None])
    if not per_tangent:
        changed, expected = changed.sum(), expected.sum()
    error = np.divide(changed, expected, out=np.zeros_like(expected), where=expected > 0)
    return error if per_tangent else float(error)


def make_invariance_scorer(tangents: Callable) -> Callable:
    """Make a scorer of the invariance along tangent vectors, for searches and cross-validation.

    Parameters
    ----------
    tangents : callable
        ``tangents(X)`` gives the tangent vectors, in the units of the X that is scored.

    Returns
    -------
    scorer : callable
        ``scorer(estimator, X, y)`` is minus the :func:`local_invariance_error`, so that greater is
        better; it can be pickled if ``tangents`` can.

    Raises
    ------
    TypeError
        If ``tangents`` is not callable: an array knows nothing of a fold's samples.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LinearRegression
    >>> from sklearn.model_selection import cross_validate
    >>> from sktangent.metrics import make_invariance_scorer
    >>> from sktangent.tangents import FeatureTangents
    >>> X = np.random.default_rng(0).normal(size=(20, 2))
    >>> scoring = {"r2": "r2", "invariance": make_invariance_scorer(FeatureTangents([1]))}
    >>> scores = cross_validate(LinearRegression(), X, X[:, 0], scoring=scoring)
    >>> np.abs(scores["test_invariance"]).round(6)
    array([0., 0., 0., 0., 0.])
    """
    if not callable(tangents):
        raise TypeError(
            "tangents must be callable, since each fold has other samples, got "
            f"{type(tangents).__name__}."
        )
    return _InvarianceScorer(tangents)


def is_invariance_scorer(scorer) -> bool:
    """Tell whether a scorer is one that :func:`make_invariance_scorer` made."""
    return isinstance(scorer, _InvarianceScorer)


class _InvarianceScorer:
    """Minus the local invariance error, along the tangents of the samples that are scored."""

    def __init__(self, tangents: Callable) -> None:
        self.tangents = tangents

    def __call__(self, estimator, X, y=None, sample_weight=None) -> float:
        return -local_invariance_error(estimator, X, self.tangents, sample_weight=sample_weight)

    def __repr__(self) -> str:
        return f"make_invariance_scorer({self.tangents!r})"


def _exact_changes(estimator, X, samples: np.ndarray, V: np.ndarray) -> tuple:
    """Compute each sample's squared derivatives along its tangents, and their mean over all."""
    J = estimator.jacobian(X, **({"output": "proba"} if is_classifier(estimator) else {}))
    J, V = J.reshape(*J.shape[:2], -1), V.reshape(*V.shape[:2], -1)
    at_random = np.einsum("nof,nof->n", J, J, dtype=np.float64) / samples[0].size
    return np.square(V @ J.swapaxes(1, 2), dtype=np.float64).sum(2), at_random


def _differences(estimator, X, samples: np.ndarray, V: np.ndarray) -> tuple:
    """Do the same by central differences."""
    n_samples, n_tangents = V.shape[:2]
    flat = V.reshape(n_samples, n_tangents, -1).astype(np.float64)
    lengths = np.linalg.norm(flat, axis=2, keepdims=True)
    along = np.divide(flat, lengths, out=np.zeros_like(flat), where=lengths > 0)
    directions = _orthogonal_directions(flat.shape[2])
    step = STEP * (np.sqrt(samples.reshape(n_samples, -1).var(axis=0).sum()) or 1.0)
    outputs = outputs_of(estimator)
    squares = np.empty((n_samples, n_tangents + len(directions)))
    for rows in windows(n_samples, 2 * squares.shape[1]):
        common = np.broadcast_to(directions, (len(along[rows]), *directions.shape))
        moves = step * np.concatenate([along[rows], common], axis=1)
        change = changes(outputs, _safe_indexing(X, rows), samples[rows], moves)
        squares[rows] = np.square(change / (2 * step)).sum(2)
    return (
        squares[:, :n_tangents] * lengths[:, :, 0] ** 2,
        squares[:, n_tangents:].mean(1),
    )


def _orthogonal_directions(n_features: int) -> np.ndarray:
    """Draw random orthogonal directions, (n_directions, n_features), always the same."""
    n_directions = min(n_features, _MOST_DIRECTIONS)
    normal = np.random.RandomState(0).normal(size=(n_features, n_directions))
    return np.linalg.qr(normal)[0].T
