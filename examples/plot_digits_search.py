"""
How much invariance? A grid search over the penalty weight
==========================================================

A handwritten digit stays the same digit when it is moved, turned or stretched a little. The six
affine generators say so to the network as tangent vectors of every training image. How much weight
this knowledge deserves is a question to the data: cross-validation answers it.
"""

# %%
# Setting up
# ----------
# 320 training images of scikit-learn's digits; all others are for the test.

import argparse
import warnings

from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sktangent import TangentPropClassifier
from sktangent.inspection import PenaltyPathDisplay
from sktangent.metrics import make_invariance_scorer
from sktangent.tangents import ImageTangents

# how long each fit trains is chosen for the comparison
warnings.simplefilter("ignore", ConvergenceWarning)

parser = argparse.ArgumentParser(description="A grid search over the penalty weight on digits.")
parser.add_argument("--out", default="digits_search.png", help="where to save the picture")
parser.add_argument("--quick", action="store_true", help="a small run")
arguments = parser.parse_args()

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X, y, train_size=320, stratify=y, random_state=0
)


def to_unit_range(X):
    """Scale the gray levels, 0 to 16, to 0 to 1: a fixed factor, so no direction is bent."""
    return X / 16


# %%
# The search
# ----------
# A pipeline like any other. A weight of zero is the same network without tangents. Beside the
# accuracy, by which the search chooses, each fold's invariance is scored.

model = make_pipeline(
    FunctionTransformer(to_unit_range),
    TangentPropClassifier(
        ImageTangents((8, 8)), lr=5e-3, max_epochs=20 if arguments.quick else 200, random_state=0
    ),
)
weights = [0, 0.03] if arguments.quick else [0, 0.01, 0.03, 0.1, 0.3]
search = GridSearchCV(
    model,
    {"tangentpropclassifier__penalty_weight": weights},
    scoring={
        "accuracy": "accuracy",
        "invariance": make_invariance_scorer(ImageTangents((8, 8))),
    },
    refit="accuracy",
    cv=3 if arguments.quick else 5,
    n_jobs=2,
)
search.fit(X_train, y_train)

# %%
# What it found
# -------------

best = search.best_params_["tangentpropclassifier__penalty_weight"]
plain = model.set_params(tangentpropclassifier__penalty_weight=0).fit(X_train, y_train)
error, plain_error = 1 - search.score(X_test, y_test), 1 - plain.score(X_test, y_test)
print(f"best penalty weight {best}: test error {error:.1%}, without tangents {plain_error:.1%}")

# %%
# The picture
# -----------
# Above the accuracy over the weight: points are means over the folds, and the grey band is one
# standard error deep, of the difference from the best. Below how far the outputs change along the
# tangents, against any other direction: more weight buys invariance, and outside the band pays for
# it.

display = PenaltyPathDisplay.from_search(search)
display.ax_.set_title(f"Digits, {len(X_train)} training images, six affine tangents", pad=24)
display.figure_.savefig(arguments.out, dpi=150)
