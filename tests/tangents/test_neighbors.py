import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from sktangent.tangents import NeighborTangents


def circle(n=200, seed=None):
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    if seed is not None:
        angle = np.random.default_rng(seed).uniform(0, 2 * np.pi, n)
    return angle, np.stack([np.cos(angle), np.sin(angle)], axis=1)


def blobs(n=60, n_features=5, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, n_features)), rng.integers(0, 3, n)


def brute_force(x, others, n_components, n_neighbors):
    nearest = others[np.argsort(np.linalg.norm(others - x, axis=1))[:n_neighbors]]
    covariance = np.cov(nearest.T, bias=True)
    variances, directions = np.linalg.eigh(covariance)
    order = np.argsort(variances)[::-1][:n_components]
    return (directions[:, order] * np.sqrt(variances[order])).T


def assert_same_up_to_sign(V, expected, **tolerance):
    signs = np.sign((V * expected).sum(axis=-1, keepdims=True))
    np.testing.assert_allclose(V, signs * expected, **tolerance)


def test_tangent_of_a_circle_is_the_derivative_of_the_rotation():
    angle, X = circle()
    V = NeighborTangents(n_components=1, n_neighbors=6, scale="unit").fit(X)(X)
    ahead, behind = (
        np.stack([np.cos(angle + a), np.sin(angle + a)], axis=1) for a in (1e-3, -1e-3)
    )
    expected = (ahead - behind) / 2e-3
    assert V.shape == (200, 1, 2)
    assert_same_up_to_sign(V[:, 0], expected, atol=1e-3)


def test_tangents_span_the_plane_that_the_data_fills():
    rng = np.random.default_rng(0)
    # A gently curved sheet in ten dimensions; the second-order part is left over.
    base, _ = np.linalg.qr(rng.normal(size=(10, 3)))
    u = rng.uniform(-1, 1, size=(2000, 2))
    X = np.column_stack([u, 0.3 * (u**2).sum(axis=1)]) @ base.T
    V = NeighborTangents(n_components=2, n_neighbors=20, scale="unit").fit(X)(X)
    normal = np.column_stack([-0.6 * u, np.ones(len(u))]) @ base.T
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    # Samples near the rim are left out: their neighbours lie on one side.
    inner = np.abs(u).max(axis=1) < 0.8
    leaning = np.abs(np.einsum("ntd,nd->nt", V, normal))[inner]
    assert np.sqrt((leaning**2).mean()) < 0.03


def test_known_samples_have_their_own_class_and_are_not_their_own_neighbours():
    X, y = blobs()
    V = NeighborTangents(n_components=2, n_neighbors=7).fit(X, y)(X)
    for i in range(len(X)):
        others = X[(y == y[i]) & (np.arange(len(X)) != i)]
        assert_same_up_to_sign(V[i], brute_force(X[i], others, 2, 7), atol=1e-10)


def test_new_samples_look_at_all_classes():
    X, y = blobs()
    new = blobs(n=9, seed=1)[0]
    V = NeighborTangents(n_components=3, n_neighbors=8).fit(X, y)(new)
    for x, found in zip(new, V, strict=True):
        assert_same_up_to_sign(found, brute_force(x, X, 3, 8), atol=1e-10)


def test_each_sample_counts_alone():
    X, y = blobs()
    mixed = np.concatenate([X[5:15], blobs(n=9, seed=1)[0], X[40:42]])
    tangents = NeighborTangents().fit(X, y)
    V = tangents(mixed)
    np.testing.assert_allclose(V[:10], tangents(X)[5:15], atol=1e-12)
    singly = np.concatenate([tangents(x[np.newaxis]) for x in mixed])
    np.testing.assert_allclose(V, singly, atol=1e-12)


def test_samples_are_known_again_after_a_change_of_dtype():
    X, y = blobs()
    tangents = NeighborTangents().fit(pd.DataFrame(X), pd.Series(y))
    V = tangents(X.astype(np.float32))
    assert V.dtype == np.float32
    np.testing.assert_allclose(V, tangents(X), rtol=1e-4, atol=1e-5)
    X[0, 0] = 0.0
    tangents.fit(X, y)
    again = X.copy()
    again[0, 0] = -0.0
    np.testing.assert_array_equal(tangents(again), tangents(X))
    # Too close to tell in single precision, and not the same.
    moved = X + 1e-10
    assert np.abs(tangents(moved)[:, 0] - tangents(X)[:, 0]).max() > 1e-3


def test_without_classes_all_samples_are_neighbours():
    X, y = blobs()
    V = NeighborTangents().fit(X)(X)
    for parameters, target in [
        ({"same_class": False}, y),
        ({"same_class": np.bool_(False)}, y),
        ({}, y.astype(float)),
        ({}, np.stack([y, y], axis=1)),
        ({}, np.random.default_rng(0).normal(size=60)),
    ]:
        tangents = NeighborTangents(**parameters).fit(X, target)
        assert not hasattr(tangents, "classes_")
        np.testing.assert_array_equal(tangents(X), V)
    own = NeighborTangents(same_class=True).fit(X, y.astype(float))
    np.testing.assert_array_equal(own(X), NeighborTangents().fit(X, y)(X))
    names = np.array(["a", "b", "c"])[y]
    np.testing.assert_array_equal(NeighborTangents().fit(X, names)(X), own(X))


def test_repeated_samples_are_each_others_neighbours():
    X = np.repeat(blobs(n=10)[0], 5, axis=0)
    V = NeighborTangents(n_components=2, n_neighbors=4, scale="unit").fit(X)(X)
    np.testing.assert_array_equal(V, 0)


def test_small_classes_use_all_that_they_have():
    X, y = blobs(n=40)
    y[:] = 0
    y[:4], y[4] = 1, 2
    with pytest.warns(UserWarning, match=r"n_components=3: .*1.*2.*same_class=False"):
        tangents = NeighborTangents(n_components=3, n_neighbors=10).fit(X, y)
    V = tangents(X)
    # Three others span two directions, and a single sample none.
    assert_same_up_to_sign(V[0, :2], brute_force(X[0], X[1:4], 2, 10), atol=1e-10)
    np.testing.assert_array_equal(V[:4, 2], 0)
    np.testing.assert_array_equal(V[4], 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        NeighborTangents(n_components=2, n_neighbors=10).fit(X[5:], y[5:])


def test_scales():
    X, _ = blobs()
    deviation = NeighborTangents(n_components=4, n_neighbors=9).fit(X)(X)
    unit = NeighborTangents(n_components=4, n_neighbors=9, scale="unit").fit(X)(X)
    np.testing.assert_allclose(
        unit @ unit.transpose(0, 2, 1), np.tile(np.eye(4), (60, 1, 1)), atol=1e-12
    )
    lengths = np.linalg.norm(deviation, axis=2)
    assert (np.diff(lengths) <= 0).all()
    np.testing.assert_allclose(deviation, unit * lengths[..., np.newaxis], atol=1e-12)


def test_one_pair_is_its_difference():
    rng = np.random.default_rng(0)
    first, change = rng.normal(size=(30, 4)), rng.normal(size=(30, 4))
    pairs = np.stack([first, first + change], axis=1)
    tangents = NeighborTangents(n_components=1, n_neighbors=1, pairs=pairs).fit(first)
    middle = pairs.mean(axis=1)
    assert_same_up_to_sign(tangents(middle)[:, 0], change, atol=1e-12)


def test_the_penalty_of_pairs_is_the_mean_over_their_differences():
    rng = np.random.default_rng(0)
    pairs = rng.normal(size=(8, 2, 12))
    X, gradient = rng.normal(size=(5, 12)), rng.normal(size=12)
    # Ten neighbours are asked for, and eight pairs are there.
    V = NeighborTangents(n_components=8, n_neighbors=10, pairs=pairs).fit(X)(X)
    differences = pairs[:, 1] - pairs[:, 0]
    expected = ((differences @ gradient) ** 2).mean()
    np.testing.assert_allclose(((V @ gradient) ** 2).sum(axis=1), expected, rtol=1e-10)


def test_images_keep_their_shape():
    X = np.random.default_rng(0).random((30, 4, 6))
    y = np.arange(30) % 2
    V = NeighborTangents(n_components=3, n_neighbors=6).fit(X, y)(X)
    flat = NeighborTangents(n_components=3, n_neighbors=6).fit(X.reshape(30, -1), y)
    np.testing.assert_array_equal(V.reshape(30, 3, 24), flat(X.reshape(30, -1)))
    pairs = np.stack([X, X + 0.1], axis=1)
    assert NeighborTangents(1, 3, pairs=pairs).fit(X)(X).shape == (30, 1, 4, 6)


@pytest.mark.parametrize(
    ("given", "returned"),
    [("float32", "float32"), ("float64", "float64"), ("int64", "float64")],
)
def test_dtype(given, returned):
    X = (blobs()[0] * 10).astype(given)
    V = NeighborTangents().fit(X)(X)
    assert V.dtype == returned
    expected = NeighborTangents().fit(X.astype(float))(X.astype(float))
    np.testing.assert_allclose(V, expected, rtol=1e-3, atol=1e-4)


PAIRS = np.zeros((4, 2, 5))


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"n_components": 0}, ValueError, "n_components must be at least 1"),
        ({"n_components": 2.5}, TypeError, "n_components must be an integer"),
        ({"n_neighbors": 0}, ValueError, "n_neighbors must be at least 1"),
        ({"n_components": 6}, ValueError, "n_components must be at most 5, with 5 features"),
        ({"n_components": 4, "n_neighbors": 4}, ValueError, "at most 3.*n_neighbors=4"),
        ({"scale": "std"}, ValueError, "scale must be one of.*'std'"),
        ({"same_class": 1}, ValueError, "same_class must be one of.*got 1"),
        ({"same_class": "yes"}, ValueError, "same_class must be one of.*'yes'"),
        ({"same_class": True}, ValueError, "same_class=True needs y"),
        ({"pairs": np.zeros((4, 5))}, ValueError, r"pairs must have shape \(n_pairs, 2, 5\)"),
        ({"pairs": np.zeros((4, 2, 6))}, ValueError, r"pairs must have shape .*\(4, 2, 6\)"),
        ({"pairs": PAIRS + np.nan}, ValueError, "pairs contains NaN"),
        ({"pairs": PAIRS, "n_components": 5}, ValueError, "needs at least 5 pairs, got 4"),
        ({"pairs": PAIRS[:0]}, ValueError, "0 sample"),
    ],
)
def test_wrong_parameters_are_named_in_fit(parameters, error, message):
    with pytest.raises(error, match=message):
        NeighborTangents(**parameters).fit(blobs()[0])


@pytest.mark.parametrize(
    ("samples", "y", "error", "message"),
    [
        (np.array([[np.nan, 1.0]]), None, ValueError, "X contains NaN"),
        (np.empty((0, 3)), None, ValueError, "0 sample"),
        (np.ones(3), None, ValueError, "1D array"),
        (sparse.csr_array(np.eye(3)), None, TypeError, "[Ss]parse"),
        (np.eye(3), None, ValueError, "needs at least 3 other samples, got 2"),
        (np.eye(9), np.zeros(8, int), ValueError, "inconsistent numbers of samples"),
    ],
)
def test_wrong_samples_are_named_in_fit(samples, y, error, message):
    with pytest.raises(error, match=message):
        NeighborTangents().fit(samples, y)


def test_the_call_needs_fit_and_samples_like_its():
    X, y = blobs()
    with pytest.raises(NotFittedError):
        NeighborTangents()(X)
    with pytest.raises(ValueError, match=r"shape \(4,\); fit saw shape \(5,\)"):
        NeighborTangents().fit(X, y)(X[:, :4])
    with pytest.raises(ValueError, match="X contains NaN"):
        NeighborTangents().fit(X, y)(X * np.nan)


def test_it_is_a_scikit_learn_object():
    X, y = blobs()
    tangents = NeighborTangents(n_components=3, scale="unit")
    assert repr(tangents) == "NeighborTangents(n_components=3, scale='unit')"
    assert "NeighborTangents" in tangents._repr_html_()
    assert clone(tangents).get_params() == tangents.get_params()
    assert list(tangents.fit(X, y).classes_) == [0, 1, 2]
    assert not hasattr(clone(tangents), "classes_")
    again = pickle.loads(pickle.dumps(tangents))
    np.testing.assert_array_equal(again(X), tangents(X))
    # Fitted anew, it forgets.
    V = tangents.set_params(n_components=1).fit(X)(X)
    assert not hasattr(tangents, "classes_")
    np.testing.assert_array_equal(V, NeighborTangents(1, scale="unit").fit(X)(X))
