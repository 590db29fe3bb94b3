"""Fitting a preprocessor with sample weights: each part of it that takes weights is given them."""

from __future__ import annotations

import numpy as np
from sklearn import config_context
from sklearn.base import BaseEstimator
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.utils.metadata_routing import get_routing_for_object
from sklearn.utils.validation import has_fit_parameter


def fit_weighted(transformer, X, y: np.ndarray, weight: np.ndarray):
    """Fit a transformer as if each sample were there as often as its weight says.

    scikit-learn's metadata routing hands the weights on, through pipelines, column transformers,
    unions and whatever else routes, to the parts whose ``fit`` takes them. A part for which
    ``set_fit_request`` was called keeps what was said there. Others see all samples alike, as all
    do if one of them refuses to route.

    Parameters
    ----------
    transformer : transformer
        What is fitted, itself.
    X : DataFrame or ndarray of shape (n_samples, *input_shape)
        The samples.
    y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        The targets.
    weight : ndarray of shape (n_samples,)
        The weights. Where all are the same they are left out.

    Returns
    -------
    transformer : transformer
        The same, fitted.
    """
    if np.all(weight == weight[0]):
        return transformer.fit(X, y)
    parts = [part for part in _with_inner(transformer) if has_fit_parameter(part, "sample_weight")]
    with config_context(enable_metadata_routing=True):
        for part in parts:
            _request_weight(part)
        try:
            if get_routing_for_object(transformer).consumes("fit", {"sample_weight"}):
                return transformer.fit(X, y, sample_weight=weight)
        except (UnsetMetadataPassedError, NotImplementedError):
            pass  # a part, a search for example, would not know what else to do with them
    return transformer.fit(X, y)


def _with_inner(estimator) -> list:
    """List an estimator and those that it is made of."""
    inner = estimator.get_params(deep=True).values()
    return [part for part in (estimator, *inner) if isinstance(part, BaseEstimator)]


def _request_weight(part: BaseEstimator) -> None:
    request = getattr(get_routing_for_object(part), "fit", None)
    if request is None or request.requests.get("sample_weight") is None:
        part.set_fit_request(sample_weight=True)
