import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from sktangent.inspection import TangentDisplay
from sktangent.tangents import (
    FeatureTangents,
    ImageTangents,
    SeriesTangents,
    TangentUnion,
    TransformTangents,
)

AMOUNTS = [-1.0, 0.0, 0.5]


class Turn:
    """The rotation of the plane."""

    def __call__(self, X):
        return np.stack([-X[:, 1], X[:, 0]], axis=1)[:, None]

    def move(self, X, amounts):
        c, s = np.cos(amounts[:, 0]), np.sin(amounts[:, 0])
        return np.stack([c * X[:, 0] - s * X[:, 1], s * X[:, 0] + c * X[:, 1]], axis=1)


class Shine(ImageTangents):
    def move(self, X, amounts):
        return X + amounts.sum(axis=1)[:, None]


def ydata(ax):
    return [line.get_ydata() for line in ax.lines]


def test_features_and_their_true_moves():
    X = np.array([[3.0, 1.0], [0.0, 2.0]])
    display = TangentDisplay.from_tangents(Turn(), X, amounts=AMOUNTS)
    assert display.axes_.shape == (2, 2)
    assert display.names == ["Turn"]
    for (left, right), (x, y) in zip(display.axes_, X, strict=True):
        np.testing.assert_array_equal(ydata(left)[0], [-y, x])
        lines = ydata(right)
        for k, a in enumerate([-1.0, 0.5]):  # x itself is drawn once, not as amount zero
            np.testing.assert_allclose(lines[2 * k], [x - a * y, y + a * x])
            c, s = np.cos(a), np.sin(a)
            np.testing.assert_allclose(lines[2 * k + 1], [c * x - s * y, s * x + c * y])
        np.testing.assert_array_equal(lines[4], [x, y])
        assert len(lines) == 5
    assert display.moved.shape == (2, 1, 3, 2)
    assert display.ax_ is display.axes_[0, 0]
    assert display.figure_ is display.ax_.figure


def test_images_as_cells():
    ramp = np.tile(2.0 * np.arange(12.0), (10, 1))[None]
    tangents = ImageTangents((10, 12), ["translation_x", "translation_y"])
    display = TangentDisplay.from_tangents(tangents, ramp, amounts=AMOUNTS)
    assert display.layout == "images"
    cells, strip, _ = display.axes_[0]
    shift, nothing = (image.get_array() for image in cells.images)
    np.testing.assert_allclose(shift[:, 4:8], -2, atol=5e-2)
    np.testing.assert_allclose(nothing, 0, atol=1e-12)
    pictures = [image.get_array() for image in strip.images]
    assert len(pictures) == 6
    for a, picture in zip(AMOUNTS, pictures[:3], strict=True):
        np.testing.assert_allclose(picture, ramp[0] + a * shift)
    assert [label.get_text() for label in cells.get_yticklabels()] == list(tangents.transforms)
    assert [label.get_text() for label in strip.get_xticklabels()] == ["-1", "0", "0.5"]
    assert strip.get_xlabel() == "amount a\n(pixels)"


def test_flat_images_beside_their_true_moves():
    X = np.random.default_rng(0).random((2, 35))
    display = TangentDisplay.from_tangents(Shine((5, 7), "brightness"), X, amounts=[-0.5, 1.0])
    assert display.axes_.shape == (1, 3)
    straight, moved = ([image.get_array() for image in ax.images] for ax in display.axes_[0, 1:])
    for row in range(2):
        for column, a in enumerate([-0.5, 1.0]):
            expected = X[row].reshape(5, 7) + a
            np.testing.assert_allclose(straight[2 * row + column], expected)
            np.testing.assert_allclose(moved[2 * row + column], expected)
    assert display.axes_[0, 0].get_yticklabels()[1].get_text() == "sample 1\nbrightness"
    assert "intensity" in display.axes_[0, 2].get_xlabel()


@pytest.mark.parametrize("shape", [(3, 5, 6), (5, 6, 3)])
def test_colours(shape):
    X = np.random.default_rng(0).random((1, *shape))
    display = TangentDisplay.from_tangents(
        ImageTangents(shape, "contrast"), X, amounts=[0.0], layout="images"
    )
    colours = X[0] if shape[-1] == 3 else np.moveaxis(X[0], 0, -1)
    scaled = (colours - X.min()) / (X.max() - X.min())
    np.testing.assert_allclose(display.axes_[0, 1].images[0].get_array(), scaled)
    contrast = (colours - X.mean()) / np.abs(X - X.mean()).max()
    np.testing.assert_allclose(display.axes_[0, 0].images[0].get_array(), 0.5 + contrast / 2)


def test_two_channels_are_drawn_as_their_mean():
    X = np.random.default_rng(0).random((1, 2, 4, 5))
    display = TangentDisplay.from_tangents(lambda X: np.ones_like(X)[:, None], X, amounts=[1.0])
    np.testing.assert_allclose(display.axes_[0, 1].images[0].get_array(), X[0].mean(axis=0) + 1)


def test_series_over_their_positions():
    places = [400.0, 500.0, 700.0, 800.0]
    X = np.array([[1.0, 3.0, 2.0, 0.0]])
    tangents = SeriesTangents(["gain", "offset"], positions=places)
    display = TangentDisplay.from_tangents(tangents, X, amounts=[2.0])
    gain, offset = display.axes_
    np.testing.assert_array_equal(gain[0].lines[0].get_xdata(), places)
    np.testing.assert_array_equal(ydata(gain[0])[0], X[0])
    np.testing.assert_array_equal(ydata(gain[1])[0], 3 * X[0])
    np.testing.assert_array_equal(ydata(offset[0])[0], np.ones(4))
    np.testing.assert_array_equal(ydata(offset[1])[0], X[0] + 2)
    assert "units of the signal" in offset[0].get_ylabel()
    assert offset[1].get_xlabel() == "position"


def test_channels_of_a_series_are_lines_of_their_own():
    X = np.random.default_rng(0).random((1, 2, 6))
    display = TangentDisplay.from_tangents(SeriesTangents("gain"), X, amounts=[1.0])
    np.testing.assert_array_equal(ydata(display.axes_[0, 0])[:2], X[0])
    plain = TangentDisplay.from_tangents(
        lambda X: X[:, None], X[:, 0], amounts=[1.0], layout="series"
    )
    assert len(plain.axes_[0, 0].lines[0].get_ydata()) == 6


def stretch(X, amount):
    return X * (1 + amount)


def add(X, by):
    return X + by.sum()


@pytest.mark.parametrize(
    ("tangents", "names"),
    [
        (SeriesTangents(["warp", "gain"], n_warps=2), ["warp 1", "warp 2", "gain"]),
        (TransformTangents([stretch, add], n_parameters=[None, 2]), ["stretch", "add 1", "add 2"]),
        (lambda X: X[:, None], ["tangent"]),
        (lambda X: np.ones((len(X), 2, 4)), ["tangent 1", "tangent 2"]),
        (np.ones((3, 1, 4)), ["tangent"]),
        (FeatureTangents([3, 0]), ["x3", "x0"]),
        (
            TangentUnion(
                [("image", ImageTangents((2, 2), "scaling")), ("own", lambda X: X[:, None])]
            ),
            ["image__scaling", "own"],
        ),
    ],
)
def test_names(tangents, names):
    X = np.random.default_rng(0).random((3, 4))
    assert TangentDisplay.from_tangents(tangents, X, layout="features").names == names


def test_columns_of_a_frame():
    X = pd.DataFrame(np.eye(2, 3), columns=["length", "width", "age"])
    tangents = FeatureTangents("age", groups=[["length", "width"]], directions={"length": -0.5})
    display = TangentDisplay.from_tangents(tangents, X)
    assert display.names == tangents.tangent_names(X)
    assert [text.get_text() for text in display.axes_[-1, 0].get_xticklabels()] == list(X.columns)
    assert TangentDisplay.from_tangents(tangents, X, names=list("abc")).names == ["a", "b", "c"]


def test_a_union_moves_if_all_of_it_does():
    X = np.random.default_rng(0).random((1, 4))
    still = TangentUnion(
        [("image", ImageTangents((2, 2), "contrast")), ("own", lambda X: X[:, None])]
    )
    assert TangentDisplay.from_tangents(still, X).moved is None
    moving = TangentUnion(
        [("image", ImageTangents((2, 2), "contrast")), ("each", FeatureTangents([0]))]
    )
    assert TangentDisplay.from_tangents(moving, X).moved is not None


def test_axes_that_are_given():
    X = np.array([[3.0, 1.0]])
    figure, (left, right) = plt.subplots(1, 2)
    display = TangentDisplay.from_tangents(Turn(), X, ax=right)
    assert display.figure_ is figure
    assert display.axes_.shape == (1, 2)
    assert not right.axison
    again = display.plot(ax=plt.subplots(1, 2)[1])
    assert again is display
    assert display.figure_ is not figure
    with pytest.raises(ValueError, match="one axes or 2 of them, got 3"):
        display.plot(ax=plt.subplots(1, 3)[1])
    with pytest.raises(ValueError, match="one of a grid"):
        display.plot(ax=plt.figure().add_axes([0, 0, 1, 1]))


def test_bad_input():
    X = np.ones((1, 4))
    with pytest.raises(ValueError, match="layout must be one of"):
        TangentDisplay.from_tangents(lambda X: X[:, None], X, layout="picture")
    with pytest.raises(ValueError, match="must have shape"):
        TangentDisplay.from_tangents(lambda X: X, X)
    with pytest.raises(ValueError, match="image_shape"):
        TangentDisplay.from_tangents(lambda X: X[:, None], X, image_shape=(3, 3))
