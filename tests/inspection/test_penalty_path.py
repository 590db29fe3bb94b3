from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktangent.inspection import PenaltyPathDisplay
from sktangent.metrics import make_invariance_scorer
from sktangent.tangents import FeatureTangents

WEIGHTS = [1.0, 0.0, 0.1, 10.0]
FOLDS = np.array([[0.8, 0.9, 1.0], [0.7, 0.8, 0.9], [0.9, 0.8, 1.0], [0.2, 0.3, 0.1]])


def search_of(weights=WEIGHTS, folds=FOLDS, **columns):
    results = {"param_model__penalty_weight": np.ma.array(weights, dtype=object), **columns}
    results.update({f"split{k}_test_score": fold for k, fold in enumerate(folds.T)})
    return SimpleNamespace(cv_results_=results, refit=True, scoring="accuracy", scorer_=len)


class Shrunk(RegressorMixin, BaseEstimator):
    """The sum of the features, of which the first is shrunk."""

    def __init__(self, penalty_weight=1.0, fit_intercept=True):
        self.penalty_weight = penalty_weight
        self.fit_intercept = fit_intercept

    def fit(self, X, y):
        self.n_features_in_ = X.shape[1]
        return self

    def predict(self, X):
        first = X[:, 0] / (1 + self.penalty_weight)
        return first + X[:, 1:].sum(axis=1) + (0 if self.fit_intercept else 9)


def test_means_and_standard_errors():
    display = PenaltyPathDisplay.from_search(search_of())
    np.testing.assert_array_equal(display.weights, [0, 0.1, 1, 10])
    means, errors = FOLDS.mean(axis=1)[[1, 2, 0, 3]], 0.1 / np.sqrt(3)
    line, caps, bars = display.ax_.containers[0]
    np.testing.assert_allclose(line.get_ydata(), means)
    np.testing.assert_allclose(caps[0].get_ydata(), means - errors)
    np.testing.assert_allclose(caps[1].get_ydata(), means + errors)
    # zero is one step to the left, and is called by its name
    np.testing.assert_allclose(line.get_xdata(), [0.01, 0.1, 1, 10])
    assert display.ax_.get_xscale() == "log"
    assert [text.get_text() for text in display.ax_.get_xticklabels()] == ["0", "0.1", "1", "10"]
    assert display.ax_.get_ylabel() == "accuracy"


def test_the_band_and_what_lies_in_it():
    folds = FOLDS.copy()
    folds[0] -= 0.01  # the weight 0.1 is best, 1 and not 0 is within a standard error
    display = PenaltyPathDisplay.from_search(search_of(folds=folds))
    low, high = display.band_
    assert display.best_weight_ == 0.1
    np.testing.assert_allclose([low, high], [0.9 - 0.1 / np.sqrt(3), 0.9])
    np.testing.assert_array_equal(display.within_band_, [0.1, 1])
    band = display.ax_.patches[0]
    corners = band.get_patch_transform().transform(band.get_path().vertices)[:, 1]
    assert (corners.min(), corners.max()) == pytest.approx((low, high))
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert "best: 0.1" in labels
    assert "largest in the band: 1" in labels


def test_of_equals_the_smallest_is_best():
    assert PenaltyPathDisplay.from_search(search_of()).best_weight_ == 0.1


def test_other_parameters_take_their_best():
    search = search_of([0.1, 0.1, 1.0, 1.0], param_other=[1, 2, 1, 2])
    display = PenaltyPathDisplay.from_search(search)
    np.testing.assert_allclose(display.scores, FOLDS[[0, 2]])
    assert "0" not in [text.get_text() for text in display.ax_.get_xticklabels()]


@pytest.mark.parametrize("weights", [[0.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.5, 0.5], [0, 0, 2.0, 2.0]])
def test_few_weights(weights):
    display = PenaltyPathDisplay.from_search(search_of(weights))
    display.figure_.canvas.draw()
    np.testing.assert_array_equal(display.weights, np.unique(weights))


def test_scores_beside_invariance(X):
    y = X.sum(axis=1)
    scoring = {
        "invariance": make_invariance_scorer(FeatureTangents([0])),
        "r2": "r2",
    }
    grid = {"shrunk__penalty_weight": [0, 1.0], "shrunk__fit_intercept": [True, False]}
    model = make_pipeline(StandardScaler(with_mean=False, with_std=False), Shrunk())
    search = GridSearchCV(model, grid, cv=3, scoring=scoring, refit="r2").fit(X, y)
    display = PenaltyPathDisplay.from_search(search)
    score, invariance = display.axes_
    assert display.ax_ is score
    assert score.get_ylabel() == "r2"
    # of a sum of 4 features along the first: 4 g² / (g² + 3), with its slope g
    expected = [1, 4 * 0.25 / 3.25]
    np.testing.assert_allclose(invariance.containers[0][0].get_ydata(), expected, rtol=1e-6)
    rows = search.cv_results_
    best = [rows["mean_test_r2"][k] for k in (0, 1)]  # with the intercept, that is right
    np.testing.assert_allclose(score.containers[0][0].get_ydata(), best)
    by_name = PenaltyPathDisplay.from_search(search, score="r2", invariance="invariance")
    np.testing.assert_array_equal(by_name.invariance_errors, display.invariance_errors)
    grid_of_axes = plt.subplots(2, 1)[1]
    assert list(display.plot(ax=grid_of_axes).axes_) == list(grid_of_axes)


def test_bad_input():
    with pytest.raises(TypeError, match="fitted search"):
        PenaltyPathDisplay.from_search(GridSearchCV(Shrunk(), {"penalty_weight": [0]}))
    search = search_of()
    with pytest.raises(ValueError, match="no metric 'r2', only"):
        PenaltyPathDisplay.from_search(search, score="r2")
    weights = search.cv_results_.pop("param_model__penalty_weight")
    search.cv_results_["param_alpha"] = weights
    with pytest.raises(ValueError, match=r"ends in 'penalty_weight', got \['alpha'\]"):
        PenaltyPathDisplay.from_search(search)
    search.cv_results_.update(param_a__penalty_weight=weights, param_b__penalty_weight=weights)
    with pytest.raises(ValueError, match=r"\['a__penalty_weight', 'b__penalty_weight'\]"):
        PenaltyPathDisplay.from_search(search)
