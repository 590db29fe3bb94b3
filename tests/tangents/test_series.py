import pickle

import numpy as np
import pytest
from scipy import ndimage, sparse
from scipy.interpolate import CubicSpline
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from sktangent._frames import derivative_matrix, gaussian_matrix
from sktangent.preprocessing import GaussianBlur
from sktangent.tangents import SeriesTangents
from sktangent.tangents._signals import differentiate, gaussian

ALL = ("shift", "stretch", "warp", "offset", "slope", "curvature", "gain", "scatter")
MOVES = ("shift", "stretch", "warp-1", "warp-2", "warp-3")
LENGTH = 120
EQUAL = np.arange(float(LENGTH))
# From dense to sparse: the steps grow fourfold.
UNEQUAL = np.cumsum(np.geomspace(0.5, 2, LENGTH))
# The true signal goes on behind its ends, where its tangent does not know it.
INSIDE = slice(10, -10)


def signal(t, sigma=0.0):
    """Waves and bumps, blurred by a Gaussian, over places from 0 to about LENGTH."""
    value = 0.3 * np.sin(0.05 * t + 1) * np.exp(-0.5 * (0.05 * sigma) ** 2)
    for centre, width, height in [(20, 5, 1), (55, 6, -0.7), (95, 7, 1.2)]:
        wide = np.hypot(width, sigma)
        value = value + height * width / wide * np.exp(-0.5 * ((t - centre) / wide) ** 2)
    return value


def places(positions):
    """Return the positions in mean steps from 0, and u."""
    p = (positions - positions[0]) / (positions[-1] - positions[0]) * (len(positions) - 1)
    return p, 2 * p / p[-1] - 1


def transformed(name, amount, positions, reference, sigma=0.0):
    p, u = places(positions)
    if name in MOVES:
        mode = np.sin(np.pi * int(name[-1]) * (u + 1) / 2) if name.startswith("warp") else None
        if name == "shift":
            return signal(p - amount, sigma)
        if name == "stretch":
            middle = p[-1] / 2
            return signal(middle + (p - middle) / (1 + amount / middle), sigma)
        # The content that comes to lie at p lay, for a small amount, at p - amount * mode(p).
        return signal(p - amount * mode, sigma)
    x = signal(p, sigma)
    if name == "scatter":
        beta, alpha = np.polyfit(reference, x, 1)
        return alpha + (1 + amount) * (x - alpha)
    changes = {"offset": 1, "slope": u, "curvature": (3 * u**2 - 1) / 2, "gain": x}
    return x + amount * changes[name]


def central_difference(name, positions, reference=None, sigma=0.0, amount=1e-3):
    ahead, behind = (transformed(name, a, positions, reference, sigma) for a in (amount, -amount))
    return (ahead - behind) / (2 * amount)


def tangent_of(name, x, **parameters):
    """Return the tangents of a name, "warp-2" being the second warp."""
    name, _, mode = name.partition("-")
    return SeriesTangents(name, **parameters)(x[np.newaxis])[0, int(mode or 1) - 1]


def relative_error(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


def pattern(shape, seed=0):
    return np.random.default_rng(seed).random(shape)


@pytest.mark.parametrize("positions", [EQUAL, UNEQUAL, -3 * UNEQUAL + 700])
@pytest.mark.parametrize("name", [*MOVES, "offset", "slope", "curvature", "gain", "scatter"])
def test_tangent_is_the_derivative_of_the_true_transformation(name, positions):
    # Ten samples at each end are left out: there the signal behind the frame is unknown.
    x, reference = signal(places(positions)[0]), np.cos(0.04 * EQUAL)
    tangent = tangent_of(name, x, positions=positions, reference=reference)
    expected = central_difference(name, positions, reference)
    assert relative_error(tangent[INSIDE], expected[INSIDE]) <= 1e-3


@pytest.mark.parametrize("sigma", [0.8, 2.0])
@pytest.mark.parametrize("name", [*MOVES, "gain"])
def test_smoothed_tangent_is_the_derivative_of_the_true_blurred_signal(name, sigma):
    # As above, and as far again as the Gaussian reaches.
    inside = slice(10 + int(4 * sigma), -10 - int(4 * sigma))
    tangent = tangent_of(name, signal(EQUAL), smoothing=sigma)
    expected = central_difference(name, EQUAL, sigma=sigma)
    assert relative_error(tangent[inside], expected[inside]) <= 1e-3


@pytest.mark.parametrize("sigma", [0.8, 2.0])
def test_smoothing_over_unequal_positions(sigma):
    x, inside = signal(places(UNEQUAL)[0]), slice(20, -20)
    tangent = tangent_of("shift", x, positions=UNEQUAL, smoothing=sigma)
    expected = central_difference("shift", UNEQUAL, sigma=sigma)
    assert relative_error(tangent[inside], expected[inside]) <= 1e-3


@pytest.mark.parametrize("positions", [EQUAL, UNEQUAL])
def test_tangent_is_the_derivative_of_resampling_any_series_by_a_cubic_spline(positions):
    # Noise: there is no smoothness here. Twenty samples at each end are left out, where the
    # spline's own border rule differs.
    x, p = pattern(LENGTH), places(positions)[0]
    spline = CubicSpline(p, x)
    expected = (spline(p - 1e-4) - spline(p + 1e-4)) / 2e-4
    tangent = tangent_of("shift", x, positions=positions)
    assert relative_error(tangent[20:-20], expected[20:-20]) <= 1e-3


def test_slopes_and_blur_are_those_of_images_on_equal_steps():
    x = pattern((5, 70))
    np.testing.assert_allclose(
        differentiate(x, np.arange(70.0)), x @ derivative_matrix(70).T, atol=1e-13
    )
    for sigma in (0, 0.05, 0.4, 1, 3.3, 30):
        matrix = gaussian(np.arange(70.0), sigma).toarray()
        np.testing.assert_allclose(matrix, gaussian_matrix(70, sigma), atol=1e-14)


def test_blur_over_unequal_positions_keeps_constants():
    rows = gaussian(places(UNEQUAL)[0], 1.5).sum(axis=1)
    np.testing.assert_allclose(rows, 1, atol=1e-14)


def test_unit_is_one_sample_step_at_the_edge():
    # On a ramp that rises by one a step a tangent is minus the displacement of the content.
    # Ten samples at each end are left out: the ramp ends there.
    moved = -SeriesTangents()(np.arange(61.0)[np.newaxis])[0]
    s = np.linspace(0, 1, 61)
    expected = np.stack([np.ones(61), 2 * s - 1, *np.sin(np.pi * np.outer([1, 2, 3], s))])
    np.testing.assert_allclose(moved[:, INSIDE], expected[:, INSIDE], atol=2e-5)


@pytest.mark.parametrize("positions", [EQUAL, UNEQUAL, UNEQUAL[::-1]])
def test_warps_leave_the_ends(positions):
    V = SeriesTangents("warp", n_warps=5, positions=positions)(pattern((3, LENGTH)))
    assert V.shape == (3, 5, LENGTH)
    np.testing.assert_allclose(V[..., [0, -1]], 0, atol=1e-14)


def test_positions_count_in_their_mean_step():
    X = pattern((2, LENGTH))
    V = SeriesTangents()(X)
    scaled = SeriesTangents(positions=5 + 0.25 * EQUAL)(X)
    falling = SeriesTangents(positions=9 - 2 * EQUAL)(X)
    np.testing.assert_allclose(scaled, V, atol=1e-11)
    np.testing.assert_allclose(falling, V, atol=1e-11)


def scatter_corrected(X, reference):
    """Return each spectrum with the offset and the gain of its fit to the reference removed."""
    design = np.stack([np.ones_like(reference), reference], axis=1)
    alpha, beta = np.linalg.lstsq(design, X.T, rcond=None)[0]
    return (X - alpha[:, np.newaxis]) / beta[:, np.newaxis]


def test_offset_and_scatter_are_what_scatter_correction_removes():
    X = signal(EQUAL) + 0.1 * pattern((6, LENGTH)) + 2
    tangents = SeriesTangents(("offset", "scatter")).fit(X)
    corrected = scatter_corrected(X, X.mean(axis=0))
    for tangent in np.moveaxis(tangents(X), 1, 0):
        changed = scatter_corrected(X + 0.7 * tangent, X.mean(axis=0))
        np.testing.assert_allclose(changed, corrected, atol=1e-12)
    shifted = scatter_corrected(X + 0.7 * SeriesTangents("shift")(X)[:, 0], X.mean(axis=0))
    assert np.abs(shifted - corrected).max() > 1e-3


def test_reference_is_learned_or_given():
    X = pattern((8, 40))
    tangents = SeriesTangents("scatter", smoothing=1.0)
    with pytest.raises(NotFittedError, match="'scatter'.*call fit"):
        tangents(X)
    fitted = clone(tangents).fit(X[:5], y=np.zeros(5))
    np.testing.assert_allclose(fitted.reference_, X[:5].mean(axis=0))
    given = SeriesTangents("scatter", smoothing=1.0, reference=X[:5].mean(axis=0))
    np.testing.assert_allclose(fitted(X), given(X), atol=1e-12)
    np.testing.assert_allclose(given.fit(X)(X), given(X), atol=1e-12)
    # A reference counts up to an offset and a gain.
    other = SeriesTangents("gain")(X) - SeriesTangents("scatter", reference=np.arange(40))(X)
    again = SeriesTangents("gain")(X) - SeriesTangents("scatter", reference=3 * np.arange(40))(X)
    np.testing.assert_allclose(other, again, atol=1e-12)


def test_smoothing_is_the_blur_of_the_signals_to_the_last_sample():
    X = pattern((4, 50))
    blurred = GaussianBlur((1, 50), sigma=1.2).transform(X)
    reference = GaussianBlur((1, 50), sigma=1.2).transform(X[:1])[0]
    np.testing.assert_allclose(
        SeriesTangents(ALL, smoothing=1.2, reference=X[0])(X),
        SeriesTangents(ALL, reference=reference)(blurred),
        atol=1e-12,
    )


def test_smoothing_is_close_to_the_derivative_of_gaussian_filter():
    x = pattern(200)
    tangent = tangent_of("shift", x, smoothing=2)
    filtered = -ndimage.gaussian_filter1d(x, 2, order=1)
    assert relative_error(tangent[INSIDE], filtered[INSIDE]) <= 0.01


def test_channels_move_together_and_may_lie_in_a_row():
    X = pattern((4, 3, 30))
    parameters = {"transforms": ALL, "smoothing": 0.7, "reference": pattern((3, 30), seed=1)}
    V = SeriesTangents(**parameters)(X)
    assert V.shape == (4, 10, 3, 30)
    flat = SeriesTangents(**parameters, n_channels=3)(X.reshape(4, -1))
    np.testing.assert_array_equal(flat, V.reshape(4, 10, -1))
    for c in range(3):
        single = {**parameters, "reference": parameters["reference"][c]}
        np.testing.assert_allclose(SeriesTangents(**single)(X[:, c]), V[:, :, c], atol=1e-12)
    fitted = SeriesTangents("scatter", n_channels=3).fit(X.reshape(4, -1))
    shaped = SeriesTangents("scatter").fit(X)
    np.testing.assert_array_equal(fitted(X.reshape(4, -1)), shaped(X).reshape(4, 1, -1))


def test_each_sample_counts_alone():
    # More samples than are worked on at once.
    X = pattern((900, 100))
    tangents = SeriesTangents(ALL, smoothing=1, reference=X[0])
    np.testing.assert_allclose(
        tangents(X), np.concatenate([tangents(X[:7]), tangents(X[7:])]), atol=1e-12
    )


def test_long_series_take_memory_by_their_length():
    assert SeriesTangents(smoothing=2)(pattern((1, 200_000))).shape == (1, 5, 200_000)


def test_input_is_left_alone_and_may_be_strided():
    X = pattern((3, 20))
    kept = X.copy()
    tangents = SeriesTangents(ALL, reference=X[0], smoothing=0.5)
    V = tangents(X)
    np.testing.assert_array_equal(X, kept)
    np.testing.assert_allclose(tangents(np.asfortranarray(X)), V, atol=1e-12)


@pytest.mark.parametrize(
    ("given", "returned", "tolerance"),
    [("float32", "float32", 2e-5), ("float64", "float64", 0), ("int64", "float64", 0)],
)
@pytest.mark.parametrize("positions", [None, UNEQUAL[:64]])
def test_dtype(given, returned, tolerance, positions):
    X = (pattern((2, 64)) * 16).astype(given)
    tangents = SeriesTangents(ALL, smoothing=1, positions=positions, reference=np.arange(64) ** 2)
    V = tangents(X)
    assert V.dtype == returned
    expected = tangents(X.astype("float64"))
    np.testing.assert_allclose(V, expected, rtol=tolerance, atol=tolerance * 16)


@pytest.mark.parametrize("length", [2, 3, 4])
def test_shortest_signals(length):
    tangents = SeriesTangents(ALL, smoothing=3, reference=np.arange(length))
    assert np.isfinite(tangents(pattern((2, length)))).all()


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"transforms": ("shift", "strech")}, ValueError, "'strech'.*mean 'stretch'"),
        ({"transforms": ()}, ValueError, "transforms must hold at least one"),
        ({"transforms": None}, TypeError, "transforms must be a sequence of names"),
        ({"smoothing": -1}, ValueError, "smoothing must be finite and zero or more"),
        ({"n_warps": 0}, ValueError, "n_warps must be at least 1"),
        ({"n_warps": 2.0}, TypeError, "n_warps must be an integer"),
        ({"n_channels": 3}, ValueError, "8 values.*n_channels=3"),
        ({"n_channels": 8}, ValueError, "at least 2 samples, got 1"),
        ({"positions": [1, 2]}, ValueError, r"positions must have shape \(8,\).*\(2,\)"),
        ({"positions": [1, 2, 3, 4, 5, 5, 6, 7]}, ValueError, "strictly increasing or strictly"),
        ({"positions": [1, 2, 3, 4, 3, 5, 6, 7]}, ValueError, "strictly increasing or strictly"),
        ({"positions": [1, 2, 3, 4, 5, 6, 7, np.nan]}, ValueError, "positions contains NaN"),
        ({"transforms": "scatter", "reference": [1, 2]}, ValueError, r"reference.*\(8,\)"),
        ({"transforms": "scatter", "reference": np.ones(8)}, ValueError, "must not be constant"),
        (
            {"transforms": "scatter", "reference": [np.nan] * 8},
            ValueError,
            "reference contains NaN",
        ),
    ],
)
def test_wrong_parameters_are_named_on_the_call(parameters, error, message):
    with pytest.raises(error, match=message):
        SeriesTangents(**parameters)(pattern((2, 8)))


@pytest.mark.parametrize(
    ("samples", "error", "message"),
    [
        (np.ones((2, 1)), ValueError, "at least 2 samples, got 1"),
        (np.ones((2, 1, 1, 8)), ValueError, r"got \(2, 1, 1, 8\)"),
        (np.ones(8), ValueError, "1D array"),
        (np.full((2, 8), np.nan), ValueError, "X contains NaN"),
        (np.full((2, 1, 8), np.inf), ValueError, "X contains infinity"),
        (np.empty((0, 8)), ValueError, "0 sample"),
        (sparse.csr_array(np.eye(8)), TypeError, "[Ss]parse"),
    ],
)
def test_wrong_samples_are_named(samples, error, message):
    for action in (SeriesTangents(), SeriesTangents().fit):
        with pytest.raises(error, match=message):
            action(samples)


def test_it_is_a_scikit_learn_object():
    tangents = SeriesTangents(transforms=("shift", "gain"), smoothing=0.5)
    assert repr(tangents) == "SeriesTangents(smoothing=0.5, transforms=('shift', 'gain'))"
    assert "SeriesTangents" in tangents._repr_html_()
    assert clone(tangents).get_params() == tangents.get_params()
    X = pattern((3, 64))
    tangents.set_params(transforms=("scatter", "warp"), n_warps=2).fit(X)
    again = pickle.loads(pickle.dumps(tangents))
    assert again(X).shape == (3, 3, 64)
    np.testing.assert_array_equal(again(X), tangents(X))
