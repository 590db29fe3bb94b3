from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktangent import TangentPropRegressorCV
from sktangent.inspection import PenaltyPathDisplay
from sktangent.metrics import make_invariance_scorer
from sktangent.model_selection import one_standard_error
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


def test_means():
    display = PenaltyPathDisplay.from_search(search_of())
    np.testing.assert_array_equal(display.weights, [0, 0.1, 1, 10])
    line = display.ax_.lines[0]
    np.testing.assert_allclose(line.get_ydata(), FOLDS.mean(axis=1)[[1, 2, 0, 3]])
    # zero is one step to the left, and is called by its name
    np.testing.assert_allclose(line.get_xdata(), [0.01, 0.1, 1, 10])
    assert display.ax_.get_xscale() == "log"
    assert [text.get_text() for text in display.ax_.get_xticklabels()] == ["0", "0.1", "1", "10"]
    assert display.ax_.get_ylabel() == "accuracy"


def lower_edge(display):
    """Return the band's lower edge at each place of the line, as drawn."""
    vertices = display.ax_.collections[0].get_paths()[0].vertices
    places = display.ax_.lines[0].get_xdata()
    return [vertices[np.isclose(vertices[:, 0], place), 1].min() for place in places]


def test_the_band_is_paired_over_folds():
    # folds differ by much, from the best, which is weight 1, the others little
    easy_and_hard = np.array([0.9, 0.5])
    folds = easy_and_hard - np.array([[0, 0], [0.01, 0.03], [0.02, 0.06], [0, 0.1]])
    display = PenaltyPathDisplay.from_search(search_of(folds=folds))
    assert display.best_weight_ == 1
    # half the difference of two folds is the standard error of their mean
    errors = np.array([0.01, 0.02, 0, 0.05])
    np.testing.assert_allclose(display.band_, np.stack([0.7 - errors, np.full(4, 0.7)], axis=1))
    np.testing.assert_allclose(lower_edge(display), 0.7 - errors)
    # the weight 10 lies on the edge; 0 and 0.1 are lower by twice their standard error
    np.testing.assert_array_equal(display.within_band_, [1, 10])
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert "best: 1" in labels
    assert "largest in the band: 10" in labels


def test_the_band_agrees_with_the_rule():
    rng = np.random.default_rng(0)
    for _ in range(20):
        search = search_of(folds=0.8 + 0.1 * rng.normal(size=3) + 0.03 * rng.normal(size=(4, 3)))
        search.cv_results_["mean_test_score"] = FOLDS.mean(axis=1)  # by which metrics are found
        display = PenaltyPathDisplay.from_search(search)
        is_candidate = display.scores.mean(axis=1) >= display.scores[0].mean()
        candidates = np.intersect1d(display.within_band_, display.weights[is_candidate])
        assert candidates[-1] == WEIGHTS[one_standard_error(search.cv_results_)]
        plt.close(display.figure_)


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
    line, caps, _ = invariance.containers[0]
    np.testing.assert_allclose(line.get_ydata(), expected, rtol=1e-6)
    errors = display.invariance_errors.std(axis=1, ddof=1) / np.sqrt(3)
    np.testing.assert_allclose(caps[1].get_ydata() - caps[0].get_ydata(), 2 * errors, atol=1e-12)
    rows = search.cv_results_
    best = [rows["mean_test_r2"][k] for k in (0, 1)]  # with the intercept, that is right
    np.testing.assert_allclose(score.lines[0].get_ydata(), best)
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


def test_of_an_estimator_that_chooses_its_weight(X):
    search = TangentPropRegressorCV(
        FeatureTangents([0]), 12, cv=3, optimizer="adam", max_epochs=2, random_state=0
    ).fit(X, X[:, 1])
    display = PenaltyPathDisplay.from_search(search)
    assert display.chosen_weight == search.penalty_weight_
    errors = -search.cv_results_["mean_test_invariance"]
    line = display.axes_[1].lines[0]
    np.testing.assert_allclose(line.get_ydata(), errors[np.argsort(search.penalty_weights_)])
    labels = [text.get_text() for text in display.axes_[1].get_xticklabels()]
    ticks = display.axes_[1].get_xticks()
    assert labels[0] == "0"
    assert len(labels) < 12
    np.testing.assert_allclose(ticks[1:], [float(label) for label in labels[1:]])
    assert ticks[0] < search.penalty_weights_[1] <= ticks[1]


def test_the_chosen_weight_is_marked_where_it_is_not_the_best():
    search = search_of()
    search.best_index_ = 0
    labels = [t.get_text() for t in PenaltyPathDisplay.from_search(search).ax_.get_legend().texts]
    assert labels[1:] == ["best: 0.1", "chosen: 1"]
