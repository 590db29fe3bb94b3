"""The tangents of samples and the derivatives wanted along them, in the network's units."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from sklearn import config_context, get_config
from sklearn.utils import _safe_indexing

from sktangent._checks import (
    check_derivatives,
    check_numbers,
    check_tangents,
    distinct_rows,
    repeats_one_row,
)
from sktangent._memory import memory_for
from sktangent.estimators.input_map import InputMap
from sktangent.training.batches import forward_strides
from sktangent.training.distributed import average, of_first

_FEWER_TANGENTS = (
    "Let tangents(X) compute fewer, or return a view where all samples have the same "
    "(np.broadcast_to); give a callable in place of an array, which is asked for some samples at a "
    "time; set a smaller batch_size."
)


@dataclass(frozen=True)
class NetworkUnits:
    """How tangents and derivatives in the units of X and y become the network's.

    Attributes
    ----------
    inputs : InputMap
        The way of samples and tangents to the network.
    target_scale : ndarray of shape (n_outputs,)
        What derivatives are divided by.
    feature_scale : ndarray of shape (n_features,) or None
        What derivatives by the features themselves are measured in.
    """

    inputs: InputMap
    target_scale: np.ndarray
    feature_scale: np.ndarray | None = None


class TangentRows:
    """Tangent vectors, and the derivatives wanted along them, of any rows of X.

    Parameters
    ----------
    frame : DataFrame or ndarray
        The samples as they were given.
    X : ndarray of shape (n_samples, *input_shape)
        The samples.
    tangents : callable, array-like or None
        Where tangent vectors come from; None: they are the coordinate directions.
    derivatives : array-like or None
        The derivatives wanted along them.
    weight : array-like or None
        A factor for each squared difference in the penalty, as ``derivative_weight`` of ``fit``.
    units : NetworkUnits
        What becomes of both.

    Attributes
    ----------
    with_derivatives : bool
        Whether derivatives are wanted; of those that come with the tangents it is known once some
        have been found.
    shape : tuple of int or None
        (n_tangents, *shape of what the network sees of a sample), once some have been found.
    """

    def __init__(
        self, frame, X: np.ndarray, tangents, derivatives, weight, units: NetworkUnits
    ) -> None:
        self._frame = frame
        self._X = X
        self._by_feature = tangents is None
        self._source = _coordinate_directions(X) if tangents is None else tangents
        if not callable(self._source):
            self._source = compute_tangents(self._source, X)[0]
        self._derivatives = derivatives
        self._weight = weight
        self._units = units
        self.with_derivatives = derivatives is not None
        self.shape: tuple[int, ...] | None = None
        self._are_checked = self._weight_is_checked = False
        self._config = get_config()  # which threads do not share

    def __call__(self, rows: slice | np.ndarray) -> dict[str, np.ndarray]:
        """Find those of some samples."""
        units = self._units
        with computing(self._config, rows, len(self._X)):
            V, d = self._raw(rows)
            if self._derivatives is not None:
                d = self._checked_derivatives(V.shape[1])[rows]
            elif d is not None:
                d = _with_outputs(d, (*V.shape[:2], len(units.target_scale)), V.dtype)
            V = units.inputs.push_forward(_safe_indexing(self._frame, rows), V)
            self._check_like_before(V, d)
        scale = units.feature_scale if self._by_feature else 1.0
        found = {"tangents": _scaled(V, scale)}
        if d is not None:
            d = (d / units.target_scale).astype(d.dtype)
            found["derivatives"] = _scaled(d, scale)
        return found if self._weight is None else self._weighted(found, rows)

    def _check_like_before(self, V: np.ndarray, derivatives: np.ndarray | None) -> None:
        """Check that other samples have as many tangents as the first, and derivatives too."""
        if self.shape is None:
            self.shape = V.shape[1:]
            self.with_derivatives = derivatives is not None
        check_as_many(V, self.shape[0])
        if self.with_derivatives is (derivatives is None):
            raise ValueError(
                "tangents(X) returned derivatives for one part of X and none for another; NaN says "
                "that one is not known."
            )

    def is_view(self, V: np.ndarray) -> bool:
        """Tell whether some samples' tangents lie, each in one piece, in the array as given."""
        is_given = isinstance(self._source, np.ndarray) and np.may_share_memory(V, self._source)
        return is_given and V[0].flags.c_contiguous

    def _raw(self, rows: slice | np.ndarray) -> tuple[np.ndarray, object]:
        if callable(self._source):
            return compute_tangents(self._source, self._X[rows])
        if isinstance(rows, slice) or not repeats_one_row(self._source):
            return self._source[rows], None
        return np.broadcast_to(self._source[:1], (len(rows), *self._source.shape[1:])), None

    def _weighted(self, found: dict[str, np.ndarray], rows: slice | np.ndarray) -> dict:
        """Weigh the derivatives; what holds for all outputs goes into the tangents."""
        V = found["tangents"]
        shape = (len(self._X), V.shape[1], len(self._units.target_scale))
        if not self._weight_is_checked:
            self._weight = _check_derivative_weight(self._weight, shape)
            self._weight_is_checked = True
        weight = np.broadcast_to(self._weight, shape)[rows].astype(V.dtype)
        if self._weight.shape[2] > 1:
            return {**found, "derivative_weight": weight}
        root = np.sqrt(weight[:, :, 0])
        if len(self._weight) == 1:
            root = root[0]
        return {name: _scaled(part, root) for name, part in found.items()}

    def _checked_derivatives(self, n_tangents: int) -> np.ndarray:
        if not self._are_checked:
            shape = (len(self._X), n_tangents, len(self._units.target_scale))
            self._derivatives = _with_outputs(self._derivatives, shape, self._X.dtype)
            self._are_checked = True
        return self._derivatives


@contextlib.contextmanager
def computing(config: dict, rows: slice | np.ndarray, n_samples: int) -> Iterator[None]:
    """Compute under scikit-learn's settings of a fit; errors say for which samples it was.

    Parameters
    ----------
    config : dict
        The settings, which threads do not share.
    rows : slice or ndarray of int
        The samples.
    n_samples : int
        How many there are.
    """
    try:
        with config_context(**config), memory_for("tangents", _FEWER_TANGENTS):
            yield
    except Exception as error:
        index = np.arange(n_samples)[rows]
        named = np.array2string(index, threshold=20, separator=", ")
        if len(index) > 1 and (np.diff(index) == 1).all():
            named = f"{index[0]} to {index[-1]}"
        error.add_note(f"It came up with the tangents of samples {named} of X.")
        raise


def check_as_many(V: np.ndarray, n_tangents: int) -> None:
    """Check that samples have as many tangents as others."""
    if V.shape[1] != n_tangents:
        raise ValueError(
            f"tangents(X) returned {n_tangents} tangents for one part of X and {V.shape[1]} for "
            "another; all samples must have as many."
        )


def compute_tangents(tangents: Callable | np.ndarray, X: np.ndarray) -> tuple[np.ndarray, object]:
    """Call the ``tangents`` callable, or take the array, and check what comes.

    Parameters
    ----------
    tangents : callable or array-like of shape (n_samples, n_tangents, *input_shape)
        Where the tangent vectors come from. A callable may return derivatives along with them.
    X : ndarray of shape (n_samples, *input_shape)
        The samples.

    Returns
    -------
    V : ndarray of shape (n_samples, n_tangents, *input_shape)
        The tangent vectors, in the dtype of X.
    derivatives : array-like or None
        What the callable returned along with them, as it is.
    """
    if not callable(tangents):
        return forward_strides(check_tangents(tangents, X, "tangents")), None
    answer = tangents(X)
    if not isinstance(answer, tuple):
        return forward_strides(check_tangents(answer, X, "tangents(X)")), None
    if len(answer) != 2:
        raise ValueError(
            f"tangents(X) must return V or (V, derivatives), got a tuple of length {len(answer)}."
        )
    return forward_strides(check_tangents(answer[0], X, "tangents(X)[0]")), answer[1]


def moments(values: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the weighted mean and standard deviation of each column; of a constant one, 1."""
    # in units, powers of two, in which squares neither overflow nor vanish, the same for all ranks
    exponent = of_first(np.frexp(np.abs(values).max(axis=0))[1])
    values = np.ldexp(values, -exponent)
    mean = average(values, weight)
    scale = np.sqrt(average((values - mean) ** 2, weight))
    is_constant = scale <= 10 * np.finfo(values.dtype).eps * np.abs(mean)
    return np.ldexp(mean, exponent), np.where(is_constant, 1.0, np.ldexp(scale, exponent))


def _coordinate_directions(X: np.ndarray) -> np.ndarray:
    n_inputs = X[0].size
    basis = np.eye(n_inputs, dtype=X.dtype).reshape(n_inputs, *X.shape[1:])
    return np.broadcast_to(basis, (len(X), *basis.shape))


def _with_outputs(derivatives, shape: tuple[int, int, int], dtype: np.dtype) -> np.ndarray:
    """Check the derivatives wanted, and give them the axis of the outputs."""
    d = check_derivatives(derivatives, shape, dtype, "derivatives")
    return forward_strides(d.reshape(shape))


def _check_derivative_weight(weight, shape: tuple[int, int, int]) -> np.ndarray:
    """Check the weights of derivatives, and give them three axes."""
    weight = check_numbers(
        weight, "derivative_weight", dtype=np.float64, ensure_2d=False, allow_nd=True
    )
    given = weight.shape
    if weight.ndim == 1:  # one for each tangent
        weight = weight[None, :]
    weight = weight[:, :, None] if weight.ndim == 2 else weight
    fits = weight.ndim == 3 and all(
        n in (1, wanted) for n, wanted in zip(weight.shape, shape, strict=True)
    )
    if not fits:
        raise ValueError(
            f"derivative_weight must have shape ({shape[1]},), {shape[:2]} or {shape}: for each "
            "tangent, sample and tangent, or sample, tangent and output, with 1 for an axis "
            f"along which it is the same. Got {given}."
        )
    if (weight < 0).any():
        raise ValueError(f"derivative_weight must not be negative, got {weight.min()}.")
    return weight


def _scaled(V: np.ndarray, scale: np.ndarray | float) -> np.ndarray:
    """Multiply each tangent, or the derivatives along it, by its scale; of a view, one copy.

    The scales are those of tangents, or of samples and tangents.
    """
    if np.ndim(scale) == 0 and scale == 1:
        return V
    per_sample = np.ndim(scale) == 2
    scale = np.reshape(scale, (*np.shape(scale), *(1,) * (V.ndim - 2)))
    rows = V if per_sample else distinct_rows(V)
    return np.broadcast_to((rows * scale).astype(V.dtype), V.shape)
