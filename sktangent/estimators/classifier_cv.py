"""The classifier that chooses its penalty weight."""

from __future__ import annotations

from sklearn.base import _fit_context

from sktangent.estimators.classifier import TangentPropClassifier
from sktangent.estimators.descriptions import ATTRIBUTES, SEARCH_DESCRIPTION, SEARCH_FORMULA
from sktangent.estimators.search import PenaltyWeightSearch, search_constraints


class TangentPropClassifierCV(PenaltyWeightSearch, TangentPropClassifier):  # noqa: D101, it is put together
    __doc__ = (
        """TangentPropClassifier that chooses its penalty weight by cross-validation.
"""
        + SEARCH_FORMULA
        + """
    Parameters
    ----------
    """
        + SEARCH_DESCRIPTION.format(plain="~sktangent.TangentPropClassifier").strip()
        + """
    classes_ : ndarray of shape (n_classes,)
        The labels.
    """
        + ATTRIBUTES.strip()
        + """

    Examples
    --------
    >>> import numpy as np
    >>> from sktangent import TangentPropClassifierCV
    >>> from sktangent.tangents import FeatureTangents
    >>> X = np.random.default_rng(0).normal(size=(60, 4))
    >>> y = np.where(X[:, 0] > 0, "right", "left")
    >>> model = TangentPropClassifierCV(  # the last three must not matter
    ...     FeatureTangents([1, 2, 3]), [0, 1, 10], cv=3, max_epochs=30, random_state=0)
    >>> model.fit(X, y).penalty_weight_ > 0
    True
    """
    )

    _plain = TangentPropClassifier
    _parameter_constraints = search_constraints(TangentPropClassifier)

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y, sample_weight=None, tangents=None, derivatives=None, groups=None):
        """Choose a penalty weight by cross-validation, and train on all samples with it.

        Parameters
        ----------
        X, y, sample_weight, tangents, derivatives
            As in ``fit`` of :class:`~sktangent.TangentPropClassifier`. Each fold has its part.
        groups : array-like of shape (n_samples,), default=None
            The group of each sample, for a ``cv`` that keeps groups together.

        Returns
        -------
        self : TangentPropClassifierCV
            The fitted estimator.

        Raises
        ------
        ValueError, TypeError
            If a parameter or an array is not as described, if the folds do not suit the samples, or
            if every fit of the search diverges, or the last one.
        """
        return self._search(
            X, y, groups, sample_weight=sample_weight, tangents=tangents, derivatives=derivatives
        )
