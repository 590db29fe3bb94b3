"""Tangents through a preprocessing: what the callers of :func:`push_forward` see."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import _safe_indexing

from sktangent._checks import SAMPLES, check_numbers, check_tangents
from sktangent._tables import columns_without_numbers, frame_or, like_frame, with_zeros_for_words
from sktangent.preprocessing.chain import push
from sktangent.preprocessing.function import flatten, name, transform, unwrap

# Numbers in each of some dozen temporary arrays: 8 MB in double precision.
_CHUNK = 2**20


def push_forward(transformer: Any, X: ArrayLike, tangents: ArrayLike) -> np.ndarray:
    r"""Push tangents forward through a fitted transformer.

    A tangent :math:`\tau` of a sample x becomes the tangent of the transformed sample,

    .. math:: J_T(x)\, \tau = \lim_{h \to 0} \frac{T(x + h \tau) - T(x)}{h},

    so that it means the same direction before and after the transformer T.

    Parameters
    ----------
    transformer : transformer
        A fitted scikit-learn transformer, or a :class:`~sklearn.pipeline.Pipeline`,
        :class:`~sklearn.compose.ColumnTransformer` or
        :class:`~sklearn.pipeline.FeatureUnion` of them, nested as you like. It must
        transform each sample by itself, and always in the same way. It is left as it is.
    X : array-like or DataFrame of shape (n_samples, *input_shape)
        The samples, numeric and finite, as the transformer takes them: a ``ColumnTransformer``
        that knows its columns by name needs the DataFrame. More than two axes are for
        transformers that take them.
    tangents : array-like of shape (n_samples, n_tangents, *input_shape)
        The tangent vectors, in the units of X, in the order of its columns.

    Returns
    -------
    pushed : ndarray of shape (n_samples, n_tangents, *output_shape)
        The tangent vectors of the transformed samples, in the units of the transformer's output.
        float32 where X is, otherwise float64; computed in double precision in either case.
        Dense also where the transformer's output is sparse.

    Raises
    ------
    NotFittedError
        If the transformer is not fitted.
    TypeError
        If ``transformer`` is not a transformer or does not return real numbers, X is sparse or
        has columns that are not numeric, or ``tangents`` are not real numbers.
    ValueError
        If X and ``tangents`` do not fit together or are not finite; if the transformer gives NaN
        or infinity, at X or next to it; or if it has no derivative, as described in Notes.

    See Also
    --------
    GaussianBlur : A linear transformer of images.

    Notes
    -----
    Pipelines, column transformers and feature unions follow the chain rule, transformer by
    transformer. For each of them:

    - An **affine** one is recognized by what it does: :math:`T(a + b) - T(a) - T(b) + T(0)` is
      zero within rounding, for samples a and for tangents and random directions b from once to
      :math:`10^{12}` times the size of the data. Then the result is exact within rounding, also
      where features are of very different scale or lie far from zero:
      :math:`(T(c \tau) - T(0)) / c` with a c so large that no digit of :math:`\tau` is lost.
    - Of **any other**, the derivative is taken by central differences of second order, with
      Richardson's extrapolation to the fourth. The step is 1/256 of the spread of the features
      that the tangent moves along, whatever the tangent's length; where three step sizes do not
      agree to 1e-8, it is made smaller or larger. Where each output depends on the feature of the
      same index alone (found by a test as well), each feature has its own step and derivative,
      once for all tangents. A relative error of about 1e-9 is usual. It is larger where a
      feature's spread is far below its mean, and for transformers that compute in single
      precision.

    Some transformers have no useful derivative. They are recognized by what they do as well:

    - Piecewise constant ones, as :class:`~sklearn.preprocessing.KBinsDiscretizer`,
      :class:`~sklearn.preprocessing.OneHotEncoder`,
      :class:`~sklearn.preprocessing.OrdinalEncoder` and
      :class:`~sklearn.preprocessing.Binarizer`, raise ValueError, as an output that jumps has a
      derivative of zero or none. Where no tangent moves along their columns, as in a column
      transformer, their tangents are zero and all is well.
    - Piecewise linear ones, as :class:`~sklearn.preprocessing.QuantileTransformer` or
      :class:`~sklearn.preprocessing.MinMaxScaler` with ``clip=True``, have a derivative between
      their kinks, and that is returned. At a kink the two sides differ: up to 5 % of the
      entries may lie at one, and get the mean of both sides; more raise ValueError, as does an
      output that has kinks at half of the samples. A ``QuantileTransformer`` with
      as many quantiles as training samples has a kink at each of them. Even between its kinks,
      its slope is that between two neighbouring quantiles, a noisy thing:
      :class:`~sklearn.preprocessing.PowerTransformer` and
      :class:`~sklearn.preprocessing.SplineTransformer` are smooth.
    - At the border of a domain, as zero for a square root, ValueError is raised.

    Memory beside the result is some 200 MB, however many samples there are.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sktangent.preprocessing import push_forward
    >>> X = np.array([[0.0, 1000.0], [2.0, 3000.0]])
    >>> scaler = StandardScaler().fit(X)
    >>> both_by_one = np.ones((2, 1, 2))
    >>> push_forward(scaler, X, both_by_one)[0]
    array([[1.   , 0.001]])
    """
    if isinstance(transformer, type) or not hasattr(transformer, "transform"):
        raise TypeError(
            "transformer must be a fitted transformer with a transform method, got "
            f"{transformer!r}."
        )
    given, X = X, check_numbers(with_zeros_for_words(X), "X", **SAMPLES)
    V = check_tangents(tangents, X, "tangents", keep=SAMPLES["dtype"])
    _check_columns(given, V)
    frame = frame_or(given, X)
    pushed = None
    for rows in _chunks(transformer, frame, X, V):
        moves = V[rows].astype(np.float64, copy=False)
        part = push(transformer, _in_doubles(frame, X, rows), moves)[1]
        if pushed is None:
            pushed = np.empty((*V.shape[:2], *part.shape[2:]), dtype=X.dtype)
        with np.errstate(over="ignore"):
            pushed[rows] = part
        if not np.isfinite(pushed[rows]).all():
            raise ValueError(
                f"transformer {name(transformer)} pushes tangents forward to NaN, infinity or "
                f"values too large for {X.dtype}."
            )
    return pushed


def _in_doubles(frame: Any, X: np.ndarray, rows: slice) -> Any:
    return like_frame(_safe_indexing(frame, rows), X[rows].astype(np.float64))


def _chunks(transformer: Any, frame: Any, X: np.ndarray, V: np.ndarray) -> list[slice]:
    first = transform(transformer, _in_doubles(frame, X, slice(0, 1)))
    width = max(math.prod(X.shape[1:]), flatten(unwrap(first)).shape[1], 1)
    n_chunks = -(-len(X) * V.shape[1] * width // _CHUNK)
    # Of equal size: a feature's spread is that within the chunk, and a last one of two samples
    # would know little of it.
    edges = np.linspace(0, len(X), min(n_chunks, len(X)) + 1).round().astype(int)
    return [slice(a, b) for a, b in zip(edges[:-1], edges[1:], strict=True)]


def _check_columns(X: ArrayLike, V: np.ndarray) -> None:
    moved = [X.columns[i] for i in columns_without_numbers(X) if V[:, :, i].any()]
    if moved:
        raise TypeError(f"X must be numeric where tangents move along, and these are not: {moved}.")
