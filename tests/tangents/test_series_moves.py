import numpy as np
import pytest

from sktangent.tangents import SeriesTangents

ALL = ("shift", "stretch", "warp", "offset", "slope", "curvature", "gain", "scatter")
LENGTH = 120
T = np.arange(float(LENGTH))
UNEQUAL = T + 0.3 * np.sin(T / 5)


def bumps(t):
    """Return signals of two channels, wide and gone before the ends, at places t."""
    centres = np.array([[50.0, 66.0], [60.0, 57.0]])[..., np.newaxis]
    heights = np.array([[1.0, 0.6], [0.8, -1.0]])[..., np.newaxis]
    return heights * np.exp(-0.5 * ((t - centres) / 7) ** 2)


def derivative(tangents, X, direction, h=1e-4):
    amounts = np.tile(direction, (len(X), 1))
    return (tangents.move(X, h * amounts) - tangents.move(X, -h * amounts)) / (2 * h)


@pytest.mark.parametrize("smoothing", [0, 1.0])
@pytest.mark.parametrize("positions", [None, UNEQUAL, -UNEQUAL])
@pytest.mark.parametrize("name", ALL)
def test_the_derivative_of_a_move_is_the_tangent(name, positions, smoothing):
    X = bumps(T if positions is None else UNEQUAL)
    tangents = SeriesTangents(name, positions=positions, smoothing=smoothing).fit(X)
    for direction in np.eye(len(tangents.tangent_names(X))):
        expected = np.einsum("t,nt...->n...", direction, tangents(X))
        np.testing.assert_allclose(derivative(tangents, X, direction), expected, atol=1e-6)


def test_the_derivative_of_a_move_is_the_combination_of_tangents():
    X = np.random.default_rng(0).normal(size=(3, 40))
    tangents = SeriesTangents(ALL).fit(X)
    direction = np.random.default_rng(1).normal(size=10)
    expected = np.einsum("t,nt...->n...", direction, tangents(X))
    np.testing.assert_allclose(derivative(tangents, X, direction, 1e-5), expected, atol=1e-6)


@pytest.mark.parametrize("smoothing", [0, 1.0])
@pytest.mark.parametrize("positions", [None, UNEQUAL])
def test_no_amount_leaves_signals_as_they_are(positions, smoothing):
    X = np.random.default_rng(0).normal(size=(3, LENGTH))
    tangents = SeriesTangents(ALL, positions=positions, smoothing=smoothing).fit(X)
    np.testing.assert_allclose(tangents.move(X, np.zeros((3, 10))), X, atol=1e-12)
    of_one = np.zeros((3, 10))
    of_one[0] = 0.5
    np.testing.assert_allclose(tangents.move(X, of_one)[1:], X[1:], atol=1e-12)


def test_whole_shifts_are_exact_and_bring_the_ends_in():
    X = np.random.default_rng(0).normal(size=(2, 3, 30))
    moved = SeriesTangents("shift").move(X, [[4.0], [-2.0]])
    np.testing.assert_allclose(moved[0, :, 4:], X[0, :, :-4], atol=1e-12)
    np.testing.assert_allclose(moved[0, :, :4], np.tile(X[0, :, :1], 4), atol=1e-12)
    np.testing.assert_allclose(moved[1, :, :-2], X[1, :, 2:], atol=1e-12)


@pytest.mark.parametrize("positions", [T, UNEQUAL])
def test_moves_are_those_of_the_true_signal(positions):
    # In mean sample steps, as positions count.
    t = positions / positions[-1] * (LENGTH - 1)
    tangents = SeriesTangents(("shift", "stretch", "gain", "offset"), positions=positions)
    moved = tangents.move(bumps(t), [[0, 6.0, 0, 0], [3.3, 0, np.log(3), 0.5]])
    middle = (LENGTH - 1) / 2
    stretched = bumps(middle + (t - middle) * np.exp(-6 / middle))[0]
    np.testing.assert_allclose(moved[0], stretched, atol=2e-4)
    np.testing.assert_allclose(moved[1], 3 * bumps(t - 3.3)[1] + 0.5, atol=1e-3)


@pytest.mark.parametrize("name", ["shift", "stretch", "warp", "gain", "scatter", "slope"])
def test_moves_are_a_group(name):
    X = bumps(T)
    tangents = SeriesTangents(name).fit(X)
    amounts = np.array([[2.5, -1.0, 1.5], [-3.0, 0.4, 1.0]])[:, : 3 if name == "warp" else 1]
    there = tangents.move(X, amounts)
    assert np.abs(there - X).max() > 0.05
    np.testing.assert_allclose(tangents.move(there, -amounts), X, atol=2e-4)
    np.testing.assert_allclose(
        tangents.move(there, amounts), tangents.move(X, 2 * amounts), rtol=1e-6, atol=2e-4
    )


def test_warps_leave_the_ends_and_move_where_they_say():
    X = np.random.default_rng(0).normal(size=(1, 41))
    moved = SeriesTangents("warp", n_warps=4).move(X, [[1.0, -1.0, 0.5, 2.0]])
    np.testing.assert_allclose(moved[:, [0, -1]], X[:, [0, -1]], atol=1e-12)
    bump = np.exp(-0.5 * ((np.arange(201) - 100) / 10) ** 2)[np.newaxis]
    warped = SeriesTangents("warp", n_warps=1).move(bump, [[5.0]])
    assert abs(warped[0].argmax() - 105) <= 1


def test_channels_move_together_in_any_layout_and_dtype():
    X, amounts = bumps(T), np.random.default_rng(0).normal(size=(2, 10))
    moved = SeriesTangents(ALL).fit(X).move(X, amounts)
    flat = SeriesTangents(ALL, n_channels=2).fit(X.reshape(2, -1)).move(X.reshape(2, -1), amounts)
    np.testing.assert_allclose(flat, moved.reshape(2, -1), atol=1e-12)
    one = SeriesTangents("warp").move(X[:, 0], amounts[:, :3])
    np.testing.assert_array_equal(SeriesTangents("warp").move(X, amounts[:, :3])[:, 0], one)
    single = SeriesTangents(ALL).fit(X).move(X.astype(np.float32), amounts)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, moved, atol=2e-4)


@pytest.mark.parametrize("smoothing", [0, 1.0])
@pytest.mark.parametrize("names", [ALL, ("gain", "offset"), "warp"])
def test_combinations_are_those_of_the_tangents(names, smoothing):
    X = np.random.default_rng(0).normal(size=(7, 3, 50))
    tangents = SeriesTangents(names, smoothing=smoothing).fit(X)
    V = tangents(X)
    coefficients = np.random.default_rng(1).normal(size=(7, 2, V.shape[1]))
    expected = np.einsum("nkt,nt...->nk...", coefficients, V)
    np.testing.assert_allclose(tangents.combine(X, coefficients), expected, atol=1e-12)


def test_names_are_those_of_the_tangents():
    names = SeriesTangents(("warp", "gain"), n_warps=2).tangent_names(T)
    assert names == ["warp", "warp", "gain"]


@pytest.mark.parametrize(
    ("amounts", "message"),
    [
        (np.zeros((2, 4)), r"here \(2, 5\), got \(2, 4\)"),
        (np.full((2, 5), np.inf), "NaN or infinity"),
        ([[30.0, 0, 0, 0, 0]] * 2, "'shift' must be below 30"),
        ([[0, 0, 0, 0, -40.0]] * 2, "'warp' must be below 30.*got 40"),
    ],
)
def test_wrong_amounts_are_named(amounts, message):
    with pytest.raises(ValueError, match=message):
        SeriesTangents().move(np.zeros((2, 30)), amounts)
