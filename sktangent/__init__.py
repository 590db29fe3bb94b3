"""Tangent Prop for scikit-learn: networks that are told how their output must change."""

from sktangent._version import __version__
from sktangent.estimators import TangentPropClassifier, TangentPropRegressor

__all__ = ["TangentPropClassifier", "TangentPropRegressor", "__version__"]
