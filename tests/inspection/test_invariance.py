import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktangent import TangentPropClassifier
from sktangent.inspection import InvarianceDisplay
from sktangent.tangents import ImageTangents

GRID = np.linspace(-1, 1, 41)[:, None] + 0.025  # no sample on a threshold


def shift(X, amount):
    return X + amount


class Threshold(ClassifierMixin, BaseEstimator):
    """Label k where X lies above k thresholds, one column of labels for each feature."""

    def __init__(self, thresholds=(0.0,)):
        self.thresholds = thresholds

    def fit(self, X, y=None):
        self.classes_ = np.arange(len(self.thresholds) + 1)
        return self

    def predict(self, X):
        labels = np.digitize(np.asarray(X), self.thresholds)
        return labels[:, 0] if labels.shape[1] == 1 else labels


class Identity(RegressorMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.n_features_in_ = X.shape[1]
        return self

    def predict(self, X):
        return np.asarray(X)[:, 0] if X.shape[1] == 1 else np.asarray(X)


@pytest.mark.parametrize("thresholds", [(0.0,), (-0.5, 0.5)])
def test_accuracy_of_thresholds(thresholds):
    model = Threshold(thresholds).fit(GRID)
    amounts = np.arange(-4, 5) / 10
    display = InvarianceDisplay.from_estimator(
        model, GRID, model.predict(GRID), transform=shift, amounts=amounts, level=0.8
    )
    # a sample step of 0.05 turns one sample of 41 over each threshold
    exact = 1 - np.abs(amounts) / 0.05 / 41 * len(thresholds)
    (line,) = display.lines_
    np.testing.assert_allclose(line.get_ydata(), exact)
    np.testing.assert_array_equal(line.get_xdata(), amounts)
    reach = 0.2 * 0.05 * 41 / len(thresholds)
    expected = (-min(reach, 0.4), min(reach, 0.4))
    np.testing.assert_allclose(display.ranges_["Threshold"], expected)
    np.testing.assert_allclose(display.ax_.lines[0].get_xdata(), expected)
    np.testing.assert_allclose(display.ax_.lines[0].get_ydata(), [0.8, 0.8])
    np.testing.assert_allclose(display.ax_.lines[2].get_xdata(), expected)
    error = np.sqrt(exact * (1 - exact) / 40)
    np.testing.assert_allclose(display.bands[0], [exact - error, exact + error])
    corners = display.ax_.collections[0].get_paths()[0].vertices
    assert corners[:, 1].min() == pytest.approx((exact - error).min())
    assert display.ax_.get_ylabel() == "accuracy"


def test_multilabel_hits_have_every_label_right():
    X = np.hstack([GRID, -GRID])
    model = Threshold().fit(X)
    display = InvarianceDisplay.from_estimator(
        model, X, model.predict(X), transform=shift, amounts=[0.05, 20.0]
    )
    np.testing.assert_allclose(display.lines[0], [1, 39 / 41, 0])


def test_r2_of_the_identity():
    y = GRID[:, 0]
    model = Identity().fit(GRID)
    display = InvarianceDisplay.from_estimator(model, GRID, y, transform=shift, amounts=0.5)
    assert len(display.amounts) == 41
    np.testing.assert_allclose(display.lines[0], 1 - display.amounts**2 / y.var())
    np.testing.assert_allclose(display.bands[0, 0], display.bands[0, 1])  # all move alike
    np.testing.assert_allclose(
        display.ranges_["Identity"], np.sqrt(0.1 * y.var()) * np.array([-1, 1]), atol=1e-3
    )
    assert display.ax_.get_ylabel() == "R²"


def test_r2_of_several_outputs_is_their_mean():
    Y = GRID * [1.0, 2.0]
    display = InvarianceDisplay.from_estimator(
        Identity().fit(Y), Y, Y, transform=shift, amounts=[0.3]
    )
    assert display.lines[0, 1] == pytest.approx(1 - (0.09 / Y.var(axis=0)).mean())


def test_change_of_a_linear_model():
    model = LinearRegression().fit(np.eye(3), [[3.0, 4.0], [0.0, 0.0], [1.0, 0.0]])
    X = np.random.default_rng(0).normal(size=(30, 3))
    display = InvarianceDisplay.from_estimator(
        model, X, transform=lambda X, a: X + [a, 0, 0], amounts=[-1, 0.5]
    )
    slope = np.linalg.norm(model.coef_[:, 0])
    np.testing.assert_allclose(display.lines_[0].get_ydata(), slope * np.array([1, 0, 0.5]))
    np.testing.assert_allclose(display.bands[0], display.lines[[0, 0]])
    assert display.ranges_ is None
    assert display.ax_.get_ylabel() == "change of the output"


def test_change_of_probabilities(X, three_labels):
    model = TangentPropClassifier(max_epochs=3, tol=0, random_state=0).fit(X, three_labels)
    display = InvarianceDisplay.from_estimator(model, X, transform=shift, amounts=[1.0])
    change = np.linalg.norm(model.predict_proba(X + 1) - model.predict_proba(X), axis=1)
    found = [display.bands[0, 0, 1], display.lines[0, 1], display.bands[0, 1, 1]]
    np.testing.assert_allclose(found, np.quantile(change, [0.1, 0.5, 0.9]))
    assert display.ax_.get_ylabel() == "change of the probabilities"


class Slide(ImageTangents):
    """Whole pixels, wrapped around."""

    def move(self, X, amounts):
        steps = amounts.astype(int)
        images = X.reshape(len(X), *self.image_shape)
        moved = [
            np.roll(image, step[::-1], axis=(0, 1))
            for image, step in zip(images, steps, strict=True)
        ]
        return np.reshape(moved, X.shape)


@pytest.mark.parametrize("along", ["translation_y", 1, -1])
def test_along_tangents_that_can_move(along):
    X = np.eye(6)  # one bright pixel in an image of 2 rows and 3 columns
    y = np.array([1.0, 2, 3, 4, 5, 6])
    model = LinearRegression(fit_intercept=False).fit(X, y)
    tangents = Slide((2, 3), ["translation_x", "translation_y"])
    display = InvarianceDisplay.from_estimator(
        model, X, transform=tangents, amounts=[-1.0, 1.0], along=along
    )
    assert display.ax_.get_xlabel() == "translation_y (pixels)"
    moved = tangents.move(X, np.tile([0, 1], (6, 1)))
    assert display.lines[0, 2] == pytest.approx(np.median(np.abs(model.predict(moved) - y)))


def test_several_estimators_side_by_side():
    y = np.digitize(GRID[:, 0], [0.0])
    models = {"early": Threshold((-0.2,)).fit(GRID), "right": Threshold().fit(GRID)}
    display = InvarianceDisplay.from_estimator(models, GRID, y, transform=shift, amounts=0.5)
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert [label.split(":")[0] for label in labels] == ["early", "right"]
    early, right = display.lines_
    assert (early.get_color(), early.get_linestyle()) != (right.get_color(), right.get_linestyle())
    assert early.get_ydata()[display.amounts == -0.2] == pytest.approx(1)
    assert right.get_ydata()[display.amounts == 0] == 1
    ax = plt.subplots()[1]
    assert display.plot(ax=ax) is display
    assert display.ax_ is ax
    assert display.figure_ is ax.figure


def test_frames_pipelines_and_searches(X, labels):
    frame = pd.DataFrame(X, columns=list("abcd"))
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(frame, labels)
    search = GridSearchCV(model, {"logisticregression__C": [1.0]}).fit(frame, labels)
    given = {"transform": shift, "amounts": 1.0}
    expected = InvarianceDisplay.from_estimator(model, frame, labels, **given)
    assert expected.names == ["LogisticRegression"]
    found = InvarianceDisplay.from_estimator(search, frame, labels, **given)
    np.testing.assert_allclose(found.lines, expected.lines)


def test_a_score_that_is_not_positive_has_no_range():
    y = np.random.default_rng(0).normal(size=41)
    display = InvarianceDisplay.from_estimator(
        Identity().fit(GRID), GRID, 9 - y, transform=shift, amounts=0.5
    )
    assert np.isnan(display.ranges_["Identity"]).all()


def test_bad_input():
    model = Threshold().fit(GRID)
    y = model.predict(GRID)
    draw = InvarianceDisplay.from_estimator
    with pytest.raises(NotFittedError):
        draw(LinearRegression(), GRID, y, transform=shift, amounts=1)
    with pytest.raises(TypeError, match="transform must be callable, or have move"):
        draw(model, GRID, y, transform="turn", amounts=1)
    with pytest.raises(ValueError, match="amounts must be finite"):
        draw(model, GRID, y, transform=shift, amounts=[np.nan])
    with pytest.raises(ValueError, match="level must be above 0 and at most 1, got 90"):
        draw(model, GRID, y, transform=shift, amounts=1, level=90)
    with pytest.raises(ValueError, match="at least one estimator"):
        draw({}, GRID, y, transform=shift, amounts=1)
    with pytest.raises(ValueError, match="not both together"):
        draw({"a": model, "b": Identity().fit(GRID)}, GRID, y, transform=shift, amounts=1)
    with pytest.raises(ValueError, match="y must vary"):
        draw(Identity().fit(GRID), GRID, np.ones(41), transform=shift, amounts=1)
    images, slide = np.eye(6), Slide((2, 3), ["translation_x"])
    linear = LinearRegression().fit(images, np.arange(6.0))
    with pytest.raises(ValueError, match="along must be one of .*translation_x.*, got 'rotation'"):
        draw(linear, images, transform=slide, amounts=1, along="rotation")
    with pytest.raises(ValueError, match="along must number one of 1 tangents, got 1"):
        draw(linear, images, transform=slide, amounts=1, along=1)
