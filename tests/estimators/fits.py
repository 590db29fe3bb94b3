"""Fits for other processes to import."""

from torch import nn

from sktangent import TangentPropRegressor
from sktangent.tangents import FeatureTangents


def _with_dropout():
    return nn.Sequential(nn.Linear(4, 30), nn.GELU(), nn.Dropout(), nn.Linear(30, 1))


def fit_with_dropout(X, y):
    """Fit with all that is drawn at random, and return predictions."""
    model = TangentPropRegressor(
        FeatureTangents(),
        module=_with_dropout,
        n_projections=1,
        augment=0.1,
        early_stopping=True,
        batch_size=20,
        max_epochs=3,
        random_state=3,
    )
    return model.fit(X, y).predict(X)
