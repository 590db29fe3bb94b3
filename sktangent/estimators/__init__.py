"""What scikit-learn sees: the classifier and the regressor."""

from sktangent.estimators.classifier import TangentPropClassifier
from sktangent.estimators.regressor import TangentPropRegressor

__all__ = ["TangentPropClassifier", "TangentPropRegressor"]
