"""Write the estimators that are kept here, and what they predict, into a folder of the version.

By the oldest versions allowed of all packages, since newer ones read files of older ones. Run once
for a version whose files are to stay readable: ``python tests/data/make.py``.
"""

import zipfile
from pathlib import Path

import numpy as np
import skops.io

import sktangent
from sktangent import TangentPropClassifier, TangentPropRegressor
from sktangent.tangents import FeatureTangents


def main() -> None:
    folder = Path(__file__).parent / sktangent.__version__
    folder.mkdir()
    X = np.random.default_rng(0).normal(size=(60, 4))
    params = {"hidden_layer_sizes": (8,), "max_epochs": 30, "random_state": 0}
    classifier = TangentPropClassifier(FeatureTangents([3]), **params)
    classifier.fit(X, np.array(["high", "low", "middle"])[np.digitize(X[:, 0], [-0.5, 0.5])])
    regressor = TangentPropRegressor(dtype="float32", warm_start=True, **params)
    regressor.fit(X, np.stack([np.sin(X[:, 0]), 100 + X[:, 1]], axis=1))
    for model in (classifier, regressor):
        name = type(model).__name__
        skops.io.dump(model, folder / f"{name}.skops", compression=zipfile.ZIP_DEFLATED)
    np.savez(
        folder / "predictions.npz",
        X=X,
        TangentPropClassifier=classifier.predict_proba(X),
        TangentPropRegressor=regressor.predict(X),
    )


if __name__ == "__main__":
    main()
