"""What scikit-learn sees: classifier and regressor, and those that choose their penalty weight."""

from sktangent.estimators.classifier import TangentPropClassifier
from sktangent.estimators.classifier_cv import TangentPropClassifierCV
from sktangent.estimators.regressor import TangentPropRegressor
from sktangent.estimators.regressor_cv import TangentPropRegressorCV

__all__ = [
    "TangentPropClassifier",
    "TangentPropClassifierCV",
    "TangentPropRegressor",
    "TangentPropRegressorCV",
]
