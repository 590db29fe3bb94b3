import numpy as np
import pytest
import torch
from scipy import ndimage

from sktangent.preprocessing import GaussianBlur
from sktangent.tangents import ImageTangents
from sktangent.tangents.images import _exponentials

AFFINE = (
    "translation_x",
    "translation_y",
    "rotation",
    "scaling",
    "hyperbolic_axis",
    "hyperbolic_diagonal",
)
ALL = (*AFFINE, "thickening", "brightness", "contrast")
SHAPES = [(28, 28), (20, 31), (31, 20)]
QUARTER = np.pi / 2


def smooth(shape, n=3, seed=0):
    """Return images of wide blobs that fade out before the border."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    centres = rng.uniform(0.4, 0.6, size=(n, 4, 2)) * np.subtract(shape, 1)
    offsets = np.stack([y, x]) - centres[..., np.newaxis, np.newaxis]
    widths = rng.uniform(2.5, 3.0, size=(n, 4, 1, 1))
    return np.exp(-0.5 * (offsets**2).sum(axis=2) / widths**2).mean(axis=1)


def derivative(tangents, X, direction, h=1e-4):
    amounts = np.tile(direction, (len(X), 1))
    return (tangents.move(X, h * amounts) - tangents.move(X, -h * amounts)) / (2 * h)


def half(shape):
    return (max(shape) - 1) / 2


@pytest.mark.parametrize("smoothing", [0, 1.0])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ALL)
def test_the_derivative_of_a_move_is_the_tangent(name, shape, smoothing):
    X = smooth(shape)
    tangents = ImageTangents(shape, name, smoothing=smoothing)
    np.testing.assert_allclose(derivative(tangents, X, [1]), tangents(X)[:, 0], atol=1e-6)


@pytest.mark.parametrize("smoothing", [0, 1.0])
def test_the_derivative_of_a_move_is_the_combination_of_tangents_of_any_image(smoothing):
    X = np.random.default_rng(0).random((4, 3, 11, 9))
    tangents = ImageTangents((3, 11, 9), ALL, smoothing=smoothing)
    direction = np.random.default_rng(1).normal(size=9)
    expected = np.einsum("t,nt...->n...", direction, tangents(X))
    np.testing.assert_allclose(derivative(tangents, X, direction, 1e-5), expected, atol=1e-6)


@pytest.mark.parametrize("smoothing", [0, 1.0])
def test_no_amount_leaves_images_as_they_are(smoothing):
    X = np.random.default_rng(0).random((4, 12, 9))
    tangents = ImageTangents((12, 9), ALL, smoothing=smoothing)
    np.testing.assert_array_equal(tangents.move(X, np.zeros((4, 9))), X)
    of_one = np.zeros((4, 9))
    of_one[0] = 0.5
    np.testing.assert_allclose(tangents.move(X, of_one)[1:], X[1:], atol=1e-13)


@pytest.mark.parametrize("shape", [(28, 28), (9, 9), (8, 8)])
def test_a_quarter_of_a_turn_is_exact_and_four_are_none(shape):
    X = np.random.default_rng(0).random((3, *shape))
    tangents, amounts = ImageTangents(shape, "rotation"), np.full((3, 1), QUARTER * half(shape))
    turned = tangents.move(X, amounts)
    np.testing.assert_allclose(turned, np.rot90(X, axes=(1, 2)), atol=1e-12)
    for _ in range(3):
        turned = tangents.move(turned, amounts)
    np.testing.assert_allclose(turned, X, atol=1e-12)
    np.testing.assert_allclose(tangents.move(X, 4 * amounts), X, atol=1e-12)


def test_shifts_by_whole_pixels_are_exact_and_bring_the_border_in():
    X = np.random.default_rng(0).random((2, 12, 9))
    tangents = ImageTangents((12, 9), ("translation_x", "translation_y"))
    moved = tangents.move(X, [[2, -3], [-4, 0]])
    np.testing.assert_allclose(moved[0, :-3, 2:], X[0, 3:, :-2], atol=1e-13)
    np.testing.assert_allclose(moved[1, :, :-4], X[1, :, 4:], atol=1e-13)
    np.testing.assert_allclose(moved[1, :, -4:], np.tile(X[1, :, -1:], 4), atol=1e-13)
    np.testing.assert_allclose(moved[0, -3:, 2:], np.tile(X[0, -1:, :-2], (3, 1)), atol=1e-13)


@pytest.mark.parametrize("shape", SHAPES)
def test_images_are_resampled_once_by_the_cubic_spline(shape):
    # scipy's matrix maps (row, column) of the result to those of the source.
    X, amounts = np.random.default_rng(0).random((1, *shape)), [[0.7, -1.3, 2.1, -0.4, 0.9, 1.1]]
    tx, ty, turn, grow, axis, diagonal = np.divide(amounts[0], half(shape))
    generator = torch.tensor(
        [[grow - axis, diagonal - turn, ty], [diagonal + turn, grow + axis, tx], [0, 0, 0]]
    )
    inverse = torch.linalg.matrix_exp(-generator).numpy()
    centre = np.subtract(shape, 1) / 2
    offset = centre + half(shape) * inverse[:2, 2] - inverse[:2, :2] @ centre
    expected = ndimage.affine_transform(X[0], inverse[:2, :2], offset, order=3, mode="nearest")
    moved = ImageTangents(shape, AFFINE).move(X, amounts)[0]
    np.testing.assert_allclose(moved, expected, atol=1e-6)


@pytest.mark.parametrize("name", AFFINE)
def test_opposite_moves_undo_each_other(name):
    X, amounts = smooth((40, 40)), np.array([[3.0], [-2.2], [0.4]])
    tangents = ImageTangents((40, 40), name)
    moved = tangents.move(X, amounts)
    assert np.abs(moved - X).max() > 0.05
    np.testing.assert_allclose(tangents.move(moved, -amounts), X, atol=5e-4)
    np.testing.assert_allclose(
        tangents.move(moved, amounts), tangents.move(X, 2 * amounts), atol=5e-4
    )


@pytest.mark.parametrize("size", [0, 1e-3, 0.1, 3, 2 * np.pi])
def test_exponentials_are_those_of_torch(size):
    matrices = size * np.random.default_rng(0).uniform(-1, 1, size=(20, 3, 3))
    expected = torch.linalg.matrix_exp(torch.from_numpy(matrices)).numpy()
    error = np.abs(_exponentials(matrices) - expected).max() / np.abs(expected).max()
    assert error < 1e-13


def test_what_lies_far_outside_is_the_border():
    X = np.random.default_rng(0).random((1, 12, 12))
    moved = ImageTangents((12, 12), "translation_x").move(X, [[11.3]])[0]
    np.testing.assert_allclose(moved[:, :2], np.repeat(X[0, :, :1], 2, axis=1), atol=1e-6)


def test_no_amount_gives_a_copy():
    X = np.random.default_rng(0).random((2, 8, 8))
    moved = ImageTangents((8, 8)).move(X, np.zeros((2, 6)))
    assert not np.shares_memory(moved, X)


def test_generators_are_summed_before_they_are_exponentiated():
    X = smooth((40, 40))
    tangents = ImageTangents((40, 40), ("rotation", "hyperbolic_axis"))
    amounts = np.full((3, 2), 8.0)
    halfway = tangents.move(tangents.move(X, amounts / 2), amounts / 2)
    np.testing.assert_allclose(halfway, tangents.move(X, amounts), atol=5e-3)
    one_by_one = tangents.move(tangents.move(X, amounts * [1, 0]), amounts * [0, 1])
    assert np.abs(one_by_one - halfway).max() > 0.02


def test_contrast_and_brightness_are_groups_and_come_last():
    X = smooth((28, 28))
    tangents = ImageTangents((28, 28), ("contrast", "brightness"))
    moved = tangents.move(X, [[np.log(2), 0.5]] * 3)
    mean = X.mean(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(moved, mean + 2 * (X - mean) + 0.5)
    contrast = ImageTangents((28, 28), "contrast")
    there = contrast.move(X, [[1.5], [-1.5], [0.3]])
    np.testing.assert_allclose(contrast.move(there, [[-1.5], [1.5], [-0.3]]), X, atol=1e-12)
    both = ImageTangents((28, 28), ("brightness", "translation_x")).move(X, [[1.0, 2.0]] * 3)
    shifted = ImageTangents((28, 28), "translation_x").move(X, [[2.0]] * 3)
    np.testing.assert_allclose(both, shifted + 1)


def test_thickening_stays_within_the_intensities():
    X = smooth((28, 28))
    tangents = ImageTangents((28, 28), "thickening")
    thick, thin = tangents.move(X, [[2.0]] * 3), tangents.move(X, [[-2.0]] * 3)
    assert (thick.sum(axis=(1, 2)) > X.sum(axis=(1, 2))).all()
    assert (thin.sum(axis=(1, 2)) < X.sum(axis=(1, 2))).all()
    assert thick.max() <= 1.02 * X.max()
    y, x = np.mgrid[:28, :28]
    dx, dy = -ImageTangents((28, 28), ("translation_x", "translation_y"))(X)[0]
    places = np.stack([y + 2 * dy, x + 2 * dx])
    expected = ndimage.map_coordinates(X[0], places, order=3, mode="nearest")
    np.testing.assert_allclose(thick[0], expected, atol=1e-6)


def test_what_the_blur_takes_away_stays_in_place():
    X = np.random.default_rng(0).random((2, 20, 20))
    tangents = ImageTangents((20, 20), "translation_x", smoothing=1.0)
    blurred = GaussianBlur((20, 20), 1.0).fit_transform(X)
    there = ImageTangents((20, 20), "translation_x").move(blurred, [[2.0]] * 2)
    np.testing.assert_allclose(tangents.move(X, [[2.0]] * 2), X - blurred + there)


def test_layouts_and_dtypes():
    channels = np.random.default_rng(0).random((4, 3, 11, 9))
    amounts = np.random.default_rng(1).normal(size=(4, 9))
    moved = ImageTangents((3, 11, 9), ALL).move(channels, amounts)
    last = np.moveaxis(channels, 1, -1)
    np.testing.assert_allclose(
        ImageTangents((11, 9, 3), ALL).move(last, amounts), np.moveaxis(moved, 1, -1), atol=1e-12
    )
    flat = ImageTangents((3, 11, 9), ALL).move(channels.reshape(4, -1), amounts)
    np.testing.assert_array_equal(flat, moved.reshape(4, -1))
    single = ImageTangents((3, 11, 9), ALL).move(channels.astype(np.float32), amounts)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, moved, atol=1e-4)
    assert ImageTangents((11, 9)).move(np.ones((2, 99), dtype=int), np.ones((2, 6))).dtype == float


def test_each_sample_counts_alone_and_is_left_alone():
    X, amounts = np.random.default_rng(0).random((200, 20, 20)), np.linspace(-3, 3, 1200)
    tangents, amounts, before = ImageTangents((20, 20)), amounts.reshape(200, 6), X.copy()
    state = torch.get_rng_state()
    moved = tangents.move(X, amounts)
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(X, before)
    np.testing.assert_allclose(tangents.move(X[170:171], amounts[170:171])[0], moved[170])


@pytest.mark.parametrize("smoothing", [0, 1.0])
@pytest.mark.parametrize("shape", [(11, 9), (3, 11, 9), (11, 9, 3)])
def test_combinations_are_those_of_the_tangents(shape, smoothing):
    X = np.random.default_rng(0).random((150, *shape))
    tangents = ImageTangents(shape, ALL, smoothing=smoothing)
    coefficients = np.random.default_rng(1).normal(size=(150, 2, 9))
    expected = np.einsum("nkt,nt...->nk...", coefficients, tangents(X))
    np.testing.assert_allclose(tangents.combine(X, coefficients), expected, atol=1e-12)
    single = tangents.combine(X.astype(np.float32), coefficients)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 2)])
def test_smallest_images(shape):
    X = np.random.default_rng(0).random((3, *shape))
    tangents = ImageTangents(shape, ALL)
    np.testing.assert_allclose(tangents.move(X, np.zeros((3, 9))), X, atol=1e-12)
    assert np.isfinite(tangents.move(X, np.full((3, 9), 0.5))).all()


@pytest.mark.parametrize(
    ("amounts", "error", "message"),
    [
        ([[0.0] * 6], ValueError, r"amounts must have shape .* here \(2, 6\), got \(1, 6\)"),
        (np.zeros((2, 5)), ValueError, r"got \(2, 5\)"),
        (0.5, ValueError, r"got \(\)"),
        (np.full((2, 6), np.nan), ValueError, "amounts holds NaN or infinity"),
        (np.full((2, 6), "a"), TypeError, "amounts must be numbers"),
        (np.full((2, 6), True), TypeError, "amounts must be numbers"),
        ([[0.0] * 6, [0.0]], ValueError, "one array"),
        ([[12.0, 0, 0, 0, 0, 0]] * 2, ValueError, "'translation_x' must be below 12.*got 12"),
        ([[0, -10.0, 0, 0, 0, 0]] * 2, ValueError, "'translation_y' must be below 10.*got 10"),
        (
            [[0, 0, 36.0, 0, 0, 0]] * 2,
            ValueError,
            "'rotation' must be below 34.5.*whole turn, got 36",
        ),
        ([[0, 0, 0, -13.0, 0, 0]] * 2, ValueError, "'scaling' must be below 12"),
    ],
)
def test_wrong_amounts_are_named(amounts, error, message):
    with pytest.raises(error, match=message):
        ImageTangents((10, 12)).move(np.zeros((2, 120)), amounts)


def test_wrong_coefficients_are_named():
    tangents = ImageTangents((10, 12))
    with pytest.raises(ValueError, match=r"coefficients must .* \(2, k, 6\), got \(2, 6\)"):
        tangents.combine(np.zeros((2, 120)), np.zeros((2, 6)))
    with pytest.raises(ValueError, match="coefficients holds NaN"):
        tangents.combine(np.zeros((2, 120)), np.full((2, 1, 6), np.inf))
