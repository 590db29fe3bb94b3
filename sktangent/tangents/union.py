"""Several kinds of tangents together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import clone

from sktangent._checks import (
    check_multipliers,
    check_names,
    check_nonnegative,
    check_samples,
)
from sktangent._html import diagram
from sktangent._tables import named_like
from sktangent.tangents._answers import (
    check_answer,
    check_moved,
    combinations_of,
    count_of,
    join_derivatives,
    names_of,
)
from sktangent.tangents._base import BaseTangents

_WEIGHT = "weights__"


class TangentUnion(BaseTangents):
    r"""Several kinds of tangents together, each with its weight.

    The tangents of kind k are multiplied by :math:`\sqrt{w_k}`, and so are the derivatives
    wanted along them, if a kind gives any. Thereby its part of the penalty is multiplied by
    :math:`w_k`:

    .. math:: \sum_k \sum_{t \in k} \| J \sqrt{w_k} \tau_t - \sqrt{w_k} d_t \|^2
              = \sum_k w_k \sum_{t \in k} \| J \tau_t - d_t \|^2.

    Parameters
    ----------
    tangents : list of callable, or of (name, callable)
        The kinds, any callable among them, in the order of the tangents. One without a name is
        called after its class in lower case, with a number behind it where several have the
        same, as :func:`sklearn.pipeline.make_union` does it: ``imagetangents``,
        ``function-1``.
    weights : sequence of float, dict of str to float, or None, default=None
        :math:`w_k`, zero or more: one for each kind in order, or by name, 1 where there is
        none. None: all are 1.

    Attributes
    ----------
    tangents_ : list of (name, callable)
        The kinds after :meth:`fit`: fitted clones of those that have a ``fit``.

    Notes
    -----
    By its name, a search reaches each kind (``image``), its parameters
    (``image__transforms``) and its weight (``weights__image``); inside an estimator these are
    ``tangents__image__transforms`` and ``tangents__weights__image``.

    A weight of zero leaves the tangents of a kind in place, as zeros.

    Examples
    --------
    >>> import numpy as np
    >>> from sktangent.tangents import ImageTangents, TangentUnion
    >>> union = TangentUnion(
    ...     [("image", ImageTangents((8, 8))), ("light", lambda X: np.ones_like(X)[:, None])],
    ...     weights={"light": 0.25},
    ... )
    >>> V = union(np.zeros((3, 64)))
    >>> V.shape
    (3, 7, 64)
    >>> float(V[0, 6, 0])
    0.5
    >>> union = union.set_params(image__transforms="rotation", weights__light=4.0)
    >>> union(np.zeros((3, 64)))[0, :, 0]
    array([0., 2.])
    """

    def __init__(
        self,
        tangents: Sequence[Callable | tuple[str, Callable]],
        weights: Sequence[float] | Mapping[str, float] | None = None,
    ):
        self.tangents = tangents
        self.weights = weights

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters.

        Parameters
        ----------
        deep : bool, default=True
            Whether to include each kind, its parameters and its weight, by name.

        Returns
        -------
        params : dict
            Parameters by name.
        """
        params = super().get_params(deep=False)
        if not deep:
            return params
        try:
            named = _named(self.tangents)
            weights = _check_weights(self.weights, [name for name, _ in named])
        except (TypeError, ValueError):
            # Parameters are validated when they are used.
            return params
        for (name, kind), weight in zip(named, weights, strict=True):
            params[name] = kind
            params[f"{_WEIGHT}{name}"] = weight
            if hasattr(kind, "get_params") and not isinstance(kind, type):
                nested = kind.get_params(deep=True)
                params.update({f"{name}__{key}": value for key, value in nested.items()})
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters, of the kinds too.

        Parameters
        ----------
        **params : dict
            ``tangents``, ``weights``; and, by the name of a kind, ``<name>`` for the kind
            itself, ``<name>__<parameter>`` and ``weights__<name>``.

        Returns
        -------
        self : TangentUnion
            The union itself.

        Raises
        ------
        ValueError
            If there is no such parameter.
        """
        for name in ("tangents", "weights"):
            if name in params:
                setattr(self, name, params.pop(name))
        # The kinds first: what follows may be parameters of new ones.
        known = self.get_params()
        for name in [name for name in params if "__" not in name and name in known]:
            self._replace(name, params.pop(name))
        for name in [name for name in params if name.startswith(_WEIGHT)]:
            self._set_weight(name.removeprefix(_WEIGHT), params.pop(name))
        return super().set_params(**params)

    def _sk_visual_block_(self):
        """Show the kinds inside, the fitted ones where there are."""
        return diagram(self, getattr(self, "tangents_", None) or _named(self.tangents))

    def _replace(self, name: str, kind: Callable) -> None:
        named = _named(self.tangents)
        # With every name written out, since those made from classes may change with the kind.
        self.tangents = [(other, kind if other == name else old) for other, old in named]

    def _set_weight(self, name: str, weight: float) -> None:
        names = [other for other, _ in _named(self.tangents)]
        check_names(name, names, "weights")
        weights = dict(zip(names, _check_weights(self.weights, names), strict=True))
        self.weights = {**weights, name: weight}

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Fit clones of the kinds that have a ``fit``.

        Parameters
        ----------
        X : array-like of shape (n_samples, *input_shape)
            The samples, given on to the kinds as they are.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            The targets.

        Returns
        -------
        self : TangentUnion
            The fitted union.

        Raises
        ------
        TypeError, ValueError
            If a parameter is not as described, or a kind refuses X or y.
        """
        named = _named(self.tangents)
        _check_weights(self.weights, [name for name, _ in named])
        self.tangents_ = [
            (name, clone(kind, safe=False).fit(X, y) if hasattr(kind, "fit") else kind)
            for name, kind in named
        ]
        return self

    def __call__(self, X: ArrayLike) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Compute the tangent vectors of samples, of all kinds.

        Parameters
        ----------
        X : array-like of shape (n_samples, *input_shape)
            The samples, given on to the kinds as they are.

        Returns
        -------
        V : ndarray of shape (n_samples, n_tangents, *input_shape)
            The tangent vectors, float32 where X is float32, otherwise float64.
        d : ndarray of shape (n_samples, n_tangents) or (n_samples, n_tangents, n_outputs)
            The derivatives wanted, only if a kind gives any; zero for those that give none.

        Raises
        ------
        TypeError, ValueError
            If X is not as described, or a kind refuses it or gives what are not its tangents.
        """
        samples = check_samples(X, self)
        named, factors = self._kinds()
        answers = [check_answer(kind(X), name, samples) for name, kind in named]
        ends = np.cumsum([V.shape[1] for V, _ in answers])
        V = np.empty((len(samples), ends[-1], *samples.shape[1:]), dtype=samples.dtype)
        for (part, _), end, factor in zip(answers, ends, factors.tolist(), strict=True):
            np.multiply(part, factor, out=V[:, end - part.shape[1] : end])
        if all(d is None for _, d in answers):
            return V
        return V, join_derivatives(answers, factors)

    def move(self, X: ArrayLike, amounts: ArrayLike) -> np.ndarray:
        r"""Move samples by each kind in turn, by :math:`\sqrt{w_k}` times its amounts.

        Parameters
        ----------
        X : array-like of shape (n_samples, *input_shape)
            The samples.
        amounts : array-like of shape (n_samples, n_tangents)
            How far to move each sample along each of its tangents, in the tangents' units.

        Returns
        -------
        moved : ndarray of the shape of X
            The moved samples, float32 where X is float32, otherwise float64.

        Raises
        ------
        TypeError
            If a kind has no ``move``, or the amounts are not numbers.
        ValueError
            If X or the amounts are not as described, or a kind refuses them.

        Examples
        --------
        >>> from sktangent.tangents import FeatureTangents, TangentUnion
        >>> kinds = [("first", FeatureTangents([0])), ("last", FeatureTangents([2]))]
        >>> TangentUnion(kinds, weights={"last": 4}).move([[0.0, 0.0, 0.0]], [[1.0, 1.0]])
        array([[1., 0., 2.]])
        """
        moved = check_samples(X, self)
        named, factors = self._kinds()
        for name, kind in named:
            if not hasattr(kind, "move"):
                raise TypeError(
                    f"tangents has {name!r}, which cannot move samples: it has no move(X, amounts)."
                )
        counts = [count_of(kind, name, X) for name, kind in named]
        amounts = check_multipliers(amounts, (len(moved), sum(counts)), "amounts")
        parts = np.split(amounts, np.cumsum(counts)[:-1], axis=1)
        for (name, kind), part, factor in zip(named, parts, factors, strict=True):
            answer = kind.move(named_like(X, moved), factor * part)
            moved = check_moved(answer, name, moved)
        return moved

    def combine(self, X: ArrayLike, coefficients: ArrayLike) -> np.ndarray:
        r"""Compute linear combinations of the tangent vectors of all kinds.

        Parameters
        ----------
        X : array-like of shape (n_samples, *input_shape)
            The samples.
        coefficients : array-like of shape (n_samples, k, n_tangents)
            Those of k combinations for each sample.

        Returns
        -------
        V : ndarray of shape (n_samples, k, *input_shape)
            The combinations :math:`\sum_t c_{kt} \tau_t`, float32 where X is float32, otherwise
            float64. Kinds that have a ``combine`` combine before they compute.

        Raises
        ------
        TypeError, ValueError
            If X or the coefficients are not as described, or a kind refuses them, or wants
            derivatives other than zero, whose combinations are not told here.
        """
        samples = check_samples(X, self)
        named, factors = self._kinds()
        counts = [count_of(kind, name, X) for name, kind in named]
        coefficients = check_multipliers(
            coefficients, (len(samples), -1, sum(counts)), "coefficients"
        )
        parts = np.split(coefficients, np.cumsum(counts)[:-1], axis=2)
        V = np.zeros((*coefficients.shape[:2], *samples.shape[1:]), dtype=samples.dtype)
        for (name, kind), part, factor in zip(named, parts, factors, strict=True):
            V += combinations_of(kind, name, X, samples, factor * part)
        return V

    def tangent_names(self, X: ArrayLike) -> list[str]:
        """Name the tangents by kind and transformation: ``image__rotation``.

        Parameters
        ----------
        X : array-like of shape (n_samples, *input_shape)
            The samples, given on to the kinds as they are.

        Returns
        -------
        names : list of str
            One for each tangent; those of a callable that gives them no names have the kind's.

        Raises
        ------
        TypeError, ValueError
            As the call.
        """
        return [
            f"{name}__{one}" if one else name
            for name, kind in self._kinds()[0]
            for one in names_of(kind, name, X)
        ]

    @property
    def _combines_first(self) -> bool:
        kinds = [kind for _, kind in self._kinds()[0]]
        return all(getattr(kind, "_combines_first", hasattr(kind, "combine")) for kind in kinds)

    def _kinds(self) -> tuple[list[tuple[str, Callable]], np.ndarray]:
        """Return the kinds, fitted if they are, and what their tangents are multiplied by."""
        named = self.tangents_ if hasattr(self, "tangents_") else _named(self.tangents)
        return named, np.sqrt(_check_weights(self.weights, [name for name, _ in named]))


def _named(tangents: Sequence[Callable | tuple[str, Callable]]) -> list[tuple[str, Callable]]:
    """Return (name, kind) for each kind, with distinct names."""
    if isinstance(tangents, (str, Mapping)) or not isinstance(tangents, Sequence):
        raise TypeError(f"tangents must be a list of callables, got {tangents!r}.")
    if not tangents:
        raise ValueError("tangents must hold at least one kind, got an empty list.")
    pairs = [one if isinstance(one, tuple) else (None, one) for one in tangents]
    for pair in pairs:
        if len(pair) != 2 or not isinstance(pair[0], str | None) or not _is_kind(pair[1]):
            raise TypeError(f"tangents must hold callables, or (name, callable), got {pair!r}.")
    classes = [type(kind).__name__.lower() for name, kind in pairs if name is None]
    total, seen = Counter(classes), Counter()
    named = []
    for name, kind in pairs:
        if name is None:
            name = type(kind).__name__.lower()
            seen[name] += 1
            name = f"{name}-{seen[name]}" if total[name] > 1 else name
        named.append((name, kind))
    _check_distinct([name for name, _ in named])
    return named


def _is_kind(kind: object) -> bool:
    # A class is callable as well, and forgotten parentheses are likelier.
    return callable(kind) and not isinstance(kind, type)


def _check_distinct(names: list[str]) -> None:
    for name in names:
        if "__" in name or name in ("", "tangents", "weights"):
            raise ValueError(
                f"tangents has the name {name!r}: it must not be empty, 'tangents', 'weights' or "
                "contain '__'."
            )
        if names.count(name) > 1:
            raise ValueError(f"tangents must not hold a name twice, got {name!r}.")


def _check_weights(
    weights: Sequence[float] | Mapping[str, float] | None, names: list[str]
) -> list[float]:
    """Return one weight for each name."""
    if weights is None:
        return [1.0] * len(names)
    if isinstance(weights, Mapping):
        if weights:
            check_names(list(weights), names, "weights")
        return [check_nonnegative(weights.get(name, 1.0), "weights") for name in names]
    if isinstance(weights, str) or not isinstance(weights, (Sequence, np.ndarray)):
        raise TypeError(f"weights must be a list or a dict of numbers, got {weights!r}.")
    if len(weights) != len(names):
        raise ValueError(
            f"weights must have {len(names)} entries, as there are kinds, got {len(weights)}."
        )
    return [check_nonnegative(weight, "weights") for weight in weights]
