"""Tangent Prop for scikit-learn: networks that are told how their output must change."""

from sktangent._version import __version__
from sktangent.estimators import (
    TangentPropClassifier,
    TangentPropClassifierCV,
    TangentPropRegressor,
    TangentPropRegressorCV,
)

__all__ = [
    "TangentPropClassifier",
    "TangentPropClassifierCV",
    "TangentPropRegressor",
    "TangentPropRegressorCV",
    "__version__",
]
