"""The regressor that chooses its penalty weight."""

from __future__ import annotations

from sklearn.base import _fit_context

from sktangent.estimators.descriptions import ATTRIBUTES, SEARCH_DESCRIPTION, SEARCH_FORMULA
from sktangent.estimators.regressor import TangentPropRegressor
from sktangent.estimators.search import PenaltyWeightSearch, search_constraints


class TangentPropRegressorCV(PenaltyWeightSearch, TangentPropRegressor):  # noqa: D101, it is put together
    __doc__ = (
        """TangentPropRegressor that chooses its penalty weight by cross-validation.
"""
        + SEARCH_FORMULA
        + """
    Parameters
    ----------
    """
        + SEARCH_DESCRIPTION.format(plain="~sktangent.TangentPropRegressor").strip()
        + """
    """
        + ATTRIBUTES.strip()
        + """

    Examples
    --------
    >>> import numpy as np
    >>> from sktangent import TangentPropRegressorCV
    >>> from sktangent.tangents import FeatureTangents
    >>> X = np.random.default_rng(0).normal(size=(60, 4))
    >>> model = TangentPropRegressorCV(  # the last three must not matter
    ...     FeatureTangents([1, 2, 3]), [0, 1, 10], cv=3, max_epochs=30, random_state=0)
    >>> model.fit(X, np.sin(X[:, 0])).penalty_weight_ > 0
    True
    """
    )

    _plain = TangentPropRegressor
    _parameter_constraints = search_constraints(TangentPropRegressor)

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(
        self,
        X,
        y,
        sample_weight=None,
        tangents=None,
        derivatives=None,
        derivative_weight=None,
        groups=None,
    ):
        """X."""
        metadata = {"sample_weight": sample_weight, "tangents": tangents}
        metadata |= {"derivatives": derivatives, "derivative_weight": derivative_weight}
        return self._search(X, y, groups, **metadata)
