"""Good data, of which each case spoils one part."""

import numpy as np
import pandas as pd
from skorch.callbacks import Callback

from sktangent import TangentPropClassifier, TangentPropRegressor

N = 12
X = np.random.default_rng(0).normal(size=(N, 3))
Y = {TangentPropClassifier: np.array(["a", "b"] * 6), TangentPropRegressor: X[:, 0]}
V = np.random.default_rng(1).normal(size=(N, 2, 3))
FRAME = pd.DataFrame(X, columns=["a", "b", "c"])
IMAGES = np.random.default_rng(2).uniform(size=(3, 6, 6))
SIGNALS = np.random.default_rng(3).normal(size=(3, 8))


class Untrained(Callback):
    """Fail if training begins."""

    def on_train_begin(self, net, **kwargs):
        raise AssertionError("training began")


def put(values, value, where=(0, 0)):
    """Return a copy with one value changed."""
    values = values.copy()
    values[where] = value
    return values


def fit(estimator, X=X, y=None, sample_weight=None, tangents=None, derivatives=None, **params):
    """Fit for two epochs; parameters of ``fit`` beside those of the constructor."""
    given = {"sample_weight": sample_weight, "tangents": tangents, "derivatives": derivatives}
    if "derivative_weight" in params:
        given["derivative_weight"] = params.pop("derivative_weight")
    if "kind" in params:
        params["tangents"] = params.pop("kind")
    defaults = {"max_epochs": 2, "random_state": 0, "callbacks": [Untrained()], "optimizer": "adam"}
    model = estimator(**{**defaults, **params})
    return model.fit(X, Y[estimator] if y is None else y, **given)
