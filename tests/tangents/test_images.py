import pickle

import numpy as np
import pytest
from scipy import ndimage, sparse
from sklearn.base import clone

from sktangent.preprocessing import GaussianBlur
from sktangent.tangents import ImageTangents

AFFINE = (
    "translation_x",
    "translation_y",
    "rotation",
    "scaling",
    "hyperbolic_axis",
    "hyperbolic_diagonal",
)
ALL = (*AFFINE, "thickening", "brightness", "contrast")
SHAPES = [(28, 28), (64, 64), (36, 48), (48, 36)]


class Blobs:
    """A sum of Gaussians as a function of the plane, its origin at the centre of the frame.

    The blobs fade out before the border, and are wide enough for the sampling (the standard
    deviation is at least 3 pixels).
    """

    def __init__(self, shape, n_blobs=5, seed=0):
        rng = np.random.default_rng(seed)
        reach = np.array([shape[1], shape[0]]) / 10
        self.shape = shape
        self.centres = rng.uniform(-reach, reach, size=(n_blobs, 2))
        self.variances = rng.uniform(3, 3.3, size=n_blobs) ** 2
        self.heights = rng.uniform(0.3, 1, size=n_blobs)

    def grid(self):
        """Return the places of the pixels, (2, height, width): to the right, downwards."""
        height, width = self.shape
        x = np.arange(width) - (width - 1) / 2
        y = np.arange(height) - (height - 1) / 2
        return np.stack(np.meshgrid(x, y))

    def parts(self, places, sigma=0.0):
        variances = (self.variances + sigma**2)[:, None, None]
        offsets = places - self.centres[:, :, None, None]
        heights = self.heights[:, None, None] * self.variances[:, None, None] / variances
        values = heights * np.exp(-0.5 * (offsets**2).sum(axis=1) / variances)
        return values, -offsets / variances[:, None] * values[:, None]

    def values(self, places, sigma=0.0):
        return self.parts(places, sigma)[0].sum(axis=0)

    def gradient(self, places, sigma=0.0):
        return self.parts(places, sigma)[1].sum(axis=0)


def map_of(name, amount, half):
    """Return the linear map and the shift that carry the content, of places in pixels."""
    identity, still, a = np.eye(2), np.zeros(2), amount / half
    cosh, sinh = np.cosh(a), np.sinh(a)
    return {
        "translation_x": (identity, [amount, 0]),
        "translation_y": (identity, [0, amount]),
        # Counterclockwise as displayed, with y downwards.
        "rotation": ([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]], still),
        "scaling": ((1 + a) * identity, still),
        "hyperbolic_axis": (np.diag([np.exp(a), np.exp(-a)]), still),
        "hyperbolic_diagonal": ([[cosh, sinh], [sinh, cosh]], still),
    }[name]


def transformed(blobs, name, amount, sigma=0.0):
    places = blobs.grid()
    values = blobs.values(places, sigma)
    if name == "thickening":
        return blobs.values(places + amount * blobs.gradient(places, sigma), sigma)
    if name == "brightness":
        return values + amount
    if name == "contrast":
        return values.mean() + (1 + amount) * (values - values.mean())
    matrix, shift = map_of(name, amount, (max(blobs.shape) - 1) / 2)
    sources = np.linalg.inv(matrix) @ (places.reshape(2, -1) - np.reshape(shift, (2, 1)))
    return blobs.values(sources.reshape(places.shape), sigma)


def central_difference(blobs, name, sigma=0.0, amount=1e-3):
    ahead, behind = (transformed(blobs, name, a, sigma) for a in (amount, -amount))
    return (ahead - behind) / (2 * amount)


def relative_error(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


def pattern(shape, seed=0):
    return np.random.default_rng(seed).random(shape)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ALL)
def test_tangent_is_the_derivative_of_the_true_transformation(name, shape):
    # Three pixels along the border are left out: the blobs reach a little beyond it.
    blobs, inside = Blobs(shape), (slice(3, -3),) * 2
    image = blobs.values(blobs.grid())[np.newaxis]
    tangent = ImageTangents(shape, name)(image)[0, 0]
    assert relative_error(tangent[inside], central_difference(blobs, name)[inside]) <= 1e-3


@pytest.mark.parametrize("sigma", [0.8, 1.5])
@pytest.mark.parametrize("name", ALL)
def test_smoothed_tangent_is_the_derivative_of_the_true_blurred_image(name, sigma):
    blobs = Blobs((48, 48))
    image = blobs.values(blobs.grid())[np.newaxis]
    tangent = ImageTangents((48, 48), name, smoothing=sigma)(image)[0, 0]
    assert relative_error(tangent, central_difference(blobs, name, sigma)) <= 1e-3


@pytest.mark.parametrize("name", AFFINE)
def test_image_that_goes_on_behind_the_border(name):
    # Six pixels along the border are left out: there the image behind the frame is unknown.
    shape, inside = (40, 40), (slice(6, -6),) * 2
    blobs = Blobs(shape)
    blobs.centres, blobs.variances = blobs.centres * 5, blobs.variances * 4
    image = blobs.values(blobs.grid())[np.newaxis]
    tangent = ImageTangents(shape, name)(image)[0, 0]
    expected = central_difference(blobs, name)
    assert relative_error(tangent[inside], expected[inside]) <= 1e-3


@pytest.mark.parametrize("name", AFFINE)
def test_tangent_is_the_derivative_of_resampling_any_image_by_a_cubic_spline(name):
    # Noise: there is no smoothness here. Twelve pixels along the border are left out, where
    # the spline's own border rule differs.
    shape, amount, inside = (40, 50), 1e-4, (slice(12, -12),) * 2
    image = pattern(shape)
    half, centre = (max(shape) - 1) / 2, (np.array(shape) - 1) / 2

    def resampled(a):
        matrix, shift = map_of(name, a, half)
        # scipy counts rows first, and wants the way back.
        back = np.linalg.inv(matrix)[::-1, ::-1]
        offset = centre - back @ (centre + np.asarray(shift)[::-1])
        return ndimage.affine_transform(image, back, offset, order=3, mode="nearest")

    expected = (resampled(amount) - resampled(-amount)) / (2 * amount)
    tangent = ImageTangents(shape, name)(image[np.newaxis])[0, 0]
    assert relative_error(tangent[inside], expected[inside]) <= 1e-5


@pytest.mark.parametrize("shape", [(61, 61), (41, 61), (61, 41)])
def test_unit_is_one_pixel_at_the_edge_of_the_longer_side(shape):
    # On ramps that rise by one a pixel, a tangent is minus the displacement of the content.
    # Ten pixels along the border are left out: a ramp ends there. All six are linear in the
    # coordinates, so that u = 1 at the outermost pixels fixes their unit.
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(float)
    downwards, to_right = -ImageTangents(shape, AFFINE)(np.stack([rows, columns]))
    u, v = ((place - place.mean()) / 30 for place in (columns, rows))
    one, none = np.ones(shape), np.zeros(shape)
    inside = (slice(None), slice(10, -10), slice(10, -10))
    expected_right = np.stack([one, none, v, u, u, v])[inside]
    expected_down = np.stack([none, one, -u, v, -v, u])[inside]
    np.testing.assert_allclose(to_right[inside], expected_right, atol=2e-5)
    np.testing.assert_allclose(downwards[inside], expected_down, atol=2e-5)


def test_directions():
    # A bright dot right of the centre: where does it go?
    image = np.zeros((1, 21, 21))
    image[0, 10, 15] = 1
    image = GaussianBlur((21, 21), 1.5).transform(image)
    V = dict(zip(ALL, ImageTangents((21, 21), ALL)(image)[0], strict=True))
    moves = {
        "translation_x": (0, 2),
        "translation_y": (2, 0),
        "rotation": (-2, 0),
        "scaling": (0, 2),
        "hyperbolic_axis": (0, 2),
        "hyperbolic_diagonal": (2, 0),
    }
    for name, (down, right) in moves.items():
        ahead, behind = V[name][10 + down, 15 + right], V[name][10 - down, 15 - right]
        assert ahead > 0.005 > -0.005 > behind, name
    assert V["thickening"].min() > -1e-12
    assert V["contrast"][10, 15] > 0 > V["contrast"][0, 0]
    assert np.all(V["brightness"] == 1)


def test_geometric_tangents_are_linear_in_the_image_and_thickening_is_quadratic():
    first, second = pattern((2, 1, 12, 15))
    tangents = ImageTangents((12, 15), AFFINE, smoothing=0.7)
    np.testing.assert_allclose(
        tangents(2 * first - 3 * second), 2 * tangents(first) - 3 * tangents(second), atol=1e-12
    )
    thickening = ImageTangents((12, 15), "thickening", smoothing=0.7)
    np.testing.assert_allclose(thickening(-3 * first), 9 * thickening(first), atol=1e-12)


def test_a_constant_image_moves_nowhere():
    V = ImageTangents((9, 7), (*AFFINE, "thickening", "contrast"), smoothing=1)(
        np.full((1, 63), 5.0)
    )
    np.testing.assert_allclose(V, 0, atol=1e-13)


def test_smoothing_is_the_blur_of_the_images_to_the_last_pixel():
    X = pattern((3, 3, 11, 14))
    blurred = GaussianBlur((3, 11, 14), sigma=1.2).transform(X)
    np.testing.assert_allclose(
        ImageTangents((3, 11, 14), ALL, smoothing=1.2)(X),
        ImageTangents((3, 11, 14), ALL)(blurred),
        atol=1e-12,
    )


def test_smoothing_is_close_to_the_derivative_of_gaussian_filter():
    # The two sample the same continuous filter; on noise they differ by 0.4 % at this width.
    image, inside = pattern((60, 60)), (slice(10, -10),) * 2
    right, down = ImageTangents((60, 60), AFFINE[:2], smoothing=2)(image[np.newaxis])[0]
    for tangent, order in ((right, (0, 1)), (down, (1, 0))):
        filtered = -ndimage.gaussian_filter(image, 2, order=order)
        assert relative_error(tangent[inside], filtered[inside]) <= 0.01


def test_border_keeps_its_values_behind_the_frame():
    image = pattern((10, 12))
    padded = np.pad(image, 40, mode="edge")
    # Shifts only: the other units depend on the size of the frame.
    small = ImageTangents((10, 12), AFFINE[:2])(image[np.newaxis])
    large = ImageTangents(padded.shape, AFFINE[:2])(padded[np.newaxis])
    np.testing.assert_allclose(small, large[..., 40:-40, 40:-40], atol=1e-12)


def test_layouts_agree():
    X = pattern((4, 3, 12, 10))
    V = ImageTangents((3, 12, 10), ALL, smoothing=0.6)(X)
    last = ImageTangents((12, 10, 3), ALL, smoothing=0.6)
    assert V.shape == (4, 9, 3, 12, 10)
    np.testing.assert_allclose(last(np.moveaxis(X, 1, -1)), np.moveaxis(V, 2, -1), atol=1e-12)
    flat = ImageTangents((3, 12, 10), ALL, smoothing=0.6)(X.reshape(4, -1))
    np.testing.assert_array_equal(flat, V.reshape(4, 9, -1))
    gray = ImageTangents((12, 10), AFFINE, smoothing=0.6)
    np.testing.assert_allclose(gray(X[:, 1]), V[:, :6, 1], atol=1e-12)
    explicit = ImageTangents((4, 12, 3), "rotation", channels="first")(pattern((1, 4, 12, 3)))
    assert explicit.shape == (1, 1, 4, 12, 3)


def test_each_sample_counts_alone():
    # More samples than are worked on at once.
    X = pattern((90, 30, 40))
    tangents = ImageTangents((30, 40), ALL)
    np.testing.assert_allclose(
        tangents(X), np.concatenate([tangents(X[:7]), tangents(X[7:])]), atol=1e-12
    )


def test_input_is_left_alone_and_may_be_strided():
    X = pattern((3, 8, 9))
    kept = X.copy()
    V = ImageTangents((8, 9), ALL, smoothing=1)(X)
    np.testing.assert_array_equal(X, kept)
    np.testing.assert_allclose(
        ImageTangents((8, 9), ALL, smoothing=1)(np.asfortranarray(X)), V, atol=1e-12
    )


@pytest.mark.parametrize(
    ("given", "returned", "tolerance"),
    [("float32", "float32", 1e-5), ("float64", "float64", 0), ("uint8", "float64", 0)],
)
def test_dtype(given, returned, tolerance):
    X = (pattern((2, 64)) * 16).astype(given)
    V = ImageTangents((8, 8), ALL, smoothing=1)(X)
    assert V.dtype == returned
    expected = ImageTangents((8, 8), ALL, smoothing=1)(X.astype("float64"))
    np.testing.assert_allclose(V, expected, rtol=tolerance, atol=tolerance * 16)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2)])
def test_smallest_images(shape):
    V = ImageTangents(shape, ALL, smoothing=3)(pattern((2, *shape)))
    assert np.isfinite(V).all()


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"image_shape": 8}, TypeError, "image_shape must be .* got 8"),
        ({"image_shape": (8.0, 8)}, TypeError, "image_shape must be .*integers"),
        ({"image_shape": (64,)}, ValueError, r"image_shape must be .*got \(64,\)"),
        ({"image_shape": (0, 8)}, ValueError, "at least 1"),
        ({"image_shape": (4, 4, 4)}, ValueError, "channels='auto'.*both ends"),
        ({"image_shape": (8, 8, 9)}, ValueError, "channels='auto'.*neither end"),
        ({"channels": "frist"}, ValueError, "channels must be one of.*'frist'"),
        ({"transforms": ("rotation", "skaling")}, ValueError, "'skaling'.*mean 'scaling'"),
        ({"transforms": "translation"}, ValueError, "Did you mean 'translation_"),
        ({"transforms": "qqq"}, ValueError, r"transforms has 'qqq', which is none of .*'\]\.$"),
        ({"transforms": ()}, ValueError, "transforms must hold at least one"),
        ({"transforms": ("scaling", "scaling")}, ValueError, "transforms must not hold"),
        ({"transforms": (1,)}, TypeError, "transforms must be a sequence of names"),
        ({"transforms": {"scaling"}}, TypeError, "transforms must be a sequence of names"),
        ({"transforms": None}, TypeError, "transforms must be a sequence of names"),
        ({"smoothing": -1}, ValueError, "smoothing must be finite and zero or more, got -1"),
        ({"smoothing": np.nan}, ValueError, "smoothing must be finite"),
        ({"smoothing": "1"}, TypeError, "smoothing must be a number, got '1'"),
    ],
)
def test_wrong_parameters_are_named_on_the_call(parameters, error, message):
    tangents = ImageTangents(**{"image_shape": (8, 8), **parameters})
    with pytest.raises(error, match=message):
        tangents(pattern((2, 64)))


@pytest.mark.parametrize(
    ("samples", "error", "message"),
    [
        (np.ones((2, 63)), ValueError, r"\(n_samples, 64\) or \(n_samples, 8, 8\).*\(2, 63\)"),
        (np.ones((2, 4, 16)), ValueError, r"got \(2, 4, 16\)"),
        (np.ones((2, 1, 8, 8)), ValueError, r"got \(2, 1, 8, 8\)"),
        (np.ones(64), ValueError, "1D array"),
        (np.full((2, 64), np.nan), ValueError, "X contains NaN"),
        (np.full((2, 8, 8), np.inf), ValueError, "X contains infinity"),
        (np.empty((0, 64)), ValueError, "0 sample"),
        (sparse.csr_array(np.eye(64)), TypeError, "[Ss]parse"),
    ],
)
def test_wrong_samples_are_named(samples, error, message):
    with pytest.raises(error, match=message):
        ImageTangents((8, 8))(samples)


def test_it_is_a_scikit_learn_object():
    tangents = ImageTangents((8, 8), transforms=("rotation",), smoothing=0.5)
    assert repr(tangents) == (
        "ImageTangents(image_shape=(8, 8), smoothing=0.5, transforms=('rotation',))"
    )
    assert "ImageTangents" in tangents._repr_html_()
    assert clone(tangents).get_params() == tangents.get_params()
    X = pattern((2, 64))
    again = pickle.loads(pickle.dumps(tangents.set_params(transforms="scaling", smoothing=0)))
    np.testing.assert_array_equal(again(X), tangents(X))
    assert ImageTangents((8, 8)).transforms == AFFINE
