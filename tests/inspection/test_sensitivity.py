import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba
from sklearn.datasets import make_multilabel_classification
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.svm import LinearSVC

from sktangent import TangentPropClassifier, TangentPropRegressor
from sktangent.inspection import SensitivityDisplay


def bars(ax):
    return [[bar.get_height() for bar in group] for group in ax.containers]


def linear(kind, X, Y):
    if kind == "ours":
        return TangentPropRegressor(hidden_layer_sizes=(), random_state=0).fit(X, Y)
    return LinearRegression().fit(X, Y)


def coefficients(model, X):
    return model.jacobian(X)[0] if hasattr(model, "jacobian") else np.atleast_2d(model.coef_)


@pytest.mark.parametrize("kind", ["ours", "sklearn"])
def test_squared_coefficients_stacked_over_outputs(kind, X):
    Y = X @ np.random.default_rng(1).normal(size=(4, 2))
    model = linear(kind, X, Y)
    display = SensitivityDisplay.from_estimator(model, X)
    W = coefficients(model, X)
    np.testing.assert_allclose(bars(display.ax_), W**2, rtol=1e-5)
    upper = [bar.get_y() for bar in display.ax_.containers[1]]
    np.testing.assert_allclose(upper, W[0] ** 2, rtol=1e-5)
    assert [text.get_text() for text in display.ax_.get_legend().get_texts()] == [
        "output 0",
        "output 1",
    ]
    assert "squared" in display.ax_.get_ylabel()


def test_two_classes_have_one_output(X, labels):
    model = LogisticRegression().fit(X, labels)
    proba = model.predict_proba(X)[:, 1]
    slope = np.mean((proba * (1 - proba)) ** 2)
    display = SensitivityDisplay.from_estimator(model, X)
    assert display.outputs == ["class spam"]
    np.testing.assert_allclose(bars(display.ax_)[0], slope * model.coef_[0] ** 2, rtol=1e-3)


def test_a_decision_function_is_of_the_second_class(X, labels):
    model = LinearSVC().fit(X, labels)
    display = SensitivityDisplay.from_estimator(model, X)
    assert display.outputs == ["class spam"]
    np.testing.assert_allclose(bars(display.ax_), model.coef_**2, rtol=1e-6)


def test_three_classes(X, three_labels):
    model = TangentPropClassifier(max_epochs=5, tol=0, random_state=0).fit(X, three_labels)
    display = SensitivityDisplay.from_estimator(model, X)
    expected = np.square(model.jacobian(X, output="proba")).mean(axis=0)
    np.testing.assert_allclose(bars(display.ax_), expected)
    assert display.outputs == ["class 0", "class 1", "class 2"]


@pytest.mark.parametrize("n_labels", [2, 3])
def test_every_label_of_several_is_an_output(n_labels):
    X, y = make_multilabel_classification(40, n_features=4, n_classes=n_labels, random_state=0)
    model = TangentPropClassifier(max_epochs=2, tol=0, random_state=0).fit(X, y)
    assert SensitivityDisplay.from_estimator(model, X).sensitivities_.shape == (n_labels, 4)


def test_many_outputs_are_summed(X):
    model = LinearRegression().fit(X, X @ np.random.default_rng(1).normal(size=(4, 9)))
    display = SensitivityDisplay.from_estimator(model, X)
    np.testing.assert_allclose(bars(display.ax_), [np.square(model.coef_).sum(axis=0)], rtol=1e-6)


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 2)])
def test_a_map_of_images(shape):
    X = np.random.default_rng(0).normal(size=(30, 12))
    model = LinearRegression().fit(X, X @ np.arange(12.0))
    display = SensitivityDisplay.from_estimator(
        model, X, image_shape=shape, channels="auto" if len(shape) == 2 else "first"
    )
    (image,) = display.ax_.images
    squares = np.square(np.arange(12.0)).reshape(shape)
    expected = squares if len(shape) == 2 else squares.sum(axis=0)
    np.testing.assert_allclose(image.get_array(), expected, rtol=1e-6, atol=1e-9)
    assert display.ax_.get_xlabel() == "column (pixels)"


@pytest.mark.parametrize("kind", ["ours", "sklearn"])
def test_profiles_of_a_linear_model(kind, X):
    model = linear(kind, X, X @ [3.0, -2.0, 0.0, 1.0])
    W = coefficients(model, X)[0]
    at = np.array([1.0, 2.0, 3.0, 4.0])
    display = SensitivityDisplay.from_estimator(model, X, at=at, profiled=[0, 1])
    display.plot_profiles()
    assert display.axes_.shape == (1, 2)
    for j, ax in enumerate(display.axes_[0]):
        profile, *slopes = ax.lines
        grid = profile.get_xdata()
        np.testing.assert_allclose(grid[[0, -1]], [X[:, j].min(), X[:, j].max()])
        rest = model.predict(np.where(np.arange(4) == j, 0.0, at)[None])[0]
        np.testing.assert_allclose(profile.get_ydata(), rest + W[j] * grid, atol=1e-4)
        assert len(slopes) == 7
        for slope in slopes:
            rise = np.diff(slope.get_ydata())[0] / np.diff(slope.get_xdata())[0]
            assert rise == pytest.approx(W[j], rel=1e-4)
            middle = np.mean(slope.get_xdata())
            assert np.mean(slope.get_ydata()) == pytest.approx(rest + W[j] * middle, abs=1e-4)


def test_profiles_of_a_curve_follow_it():
    X = np.linspace(-2, 2, 41)[:, None]
    model = TangentPropRegressor(random_state=0).fit(X, X[:, 0] ** 2, derivatives=2 * X)
    display = SensitivityDisplay.from_estimator(model, X).plot_profiles()
    np.testing.assert_allclose(display.profiles[0, :, 0], display.grids[0] ** 2, atol=0.05)
    np.testing.assert_allclose(display.slopes[0, :, 0], 2 * display.grids[0], atol=0.1)


def test_the_most_sensitive_are_profiled():
    X = np.random.default_rng(0).normal(size=(30, 8))
    model = LinearRegression().fit(X, X @ [0, 5, 4, 3, 0, 2, 7, 1.0])
    display = SensitivityDisplay.from_estimator(model, X).plot_profiles()
    assert list(display.profiled) == [1, 2, 3, 5, 6, 7]
    assert display.axes_.shape == (2, 3)


@pytest.mark.parametrize("n_outputs", [1, 2])
def test_derivatives_against_the_truth(n_outputs, X):
    model = LinearRegression().fit(X, X @ np.arange(1.0, 4 * n_outputs + 1).reshape(4, -1))
    true = np.random.default_rng(0).normal(size=(60, 4, n_outputs))
    true[0, 1] = np.nan
    given = true[:, :, 0] if n_outputs == 1 else true
    display = SensitivityDisplay.from_estimator(model, X, derivatives=given).plot_derivatives()
    diagonal, *points = display.ax_.lines
    np.testing.assert_array_equal(diagonal.get_xdata(), diagonal.get_ydata())
    assert [line.get_label() for line in points] == ["x0", "x1", "x2", "x3"]
    found = np.atleast_2d(model.coef_)
    for j, line in enumerate(points):
        known = ~np.isnan(true[:, j])
        np.testing.assert_array_equal(line.get_xdata(), true[:, j][known])
        expected = np.broadcast_to(found[:, j], true[:, j].shape)[known]
        np.testing.assert_allclose(line.get_ydata(), expected, rtol=1e-6)
    assert len({line.get_marker() for line in points}) == 4
    known = ~np.isnan(true)
    errors = np.square(true - found.T)[known].sum()
    r2 = 1 - errors / np.square(true[known] - true[known].mean()).sum()
    assert display.ax_.get_title() == f"R² = {r2:.4f}"


def test_frames_searches_and_axes_given(X, target):
    frame = pd.DataFrame(X, columns=["length", "width", "age", "mass"])
    search = GridSearchCV(LinearRegression(), {"fit_intercept": [True]}).fit(frame, target)
    ax = plt.subplots()[1]
    display = SensitivityDisplay.from_estimator(search, frame, ax=ax)
    assert display.ax_ is ax
    assert display.features == list(frame.columns)
    assert [text.get_text() for text in ax.get_xticklabels()] == list(frame.columns)
    places = plt.subplots(2, 2)[1]
    assert (display.plot_profiles(ax=places[0, 0]).axes_.shape) == (2, 3)
    colour = display.ax_.lines[0].get_color()
    assert to_rgba(colour) == to_rgba("#0072B2")


def test_bad_input(X, target):
    model = LinearRegression().fit(X, target)
    with pytest.raises(NotFittedError):
        SensitivityDisplay.from_estimator(LinearRegression(), X)
    with pytest.raises(ValueError, match=r"at must have shape \(4,\), got \(3,\)"):
        SensitivityDisplay.from_estimator(model, X, at=[0, 0, 0])
    with pytest.raises(ValueError, match="profiled must be numbers of the 4 features, got .4"):
        SensitivityDisplay.from_estimator(model, X, profiled=[4])
    with pytest.raises(ValueError, match=r"derivatives must have shape \(60, 4, 1\)"):
        SensitivityDisplay.from_estimator(model, X, derivatives=np.ones((60, 3)))
    with pytest.raises(ValueError, match="NaN alone"):
        SensitivityDisplay.from_estimator(model, X, derivatives=np.full((60, 4), np.nan))
    with pytest.raises(ValueError, match="derivatives are needed"):
        SensitivityDisplay.from_estimator(model, X).plot_derivatives()
    with pytest.raises(ValueError, match="image_shape"):
        SensitivityDisplay.from_estimator(model, X, image_shape=(3, 3))
