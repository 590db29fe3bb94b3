"""Moves and combinations of the kinds that go along straight lines, of transforms and unions."""

import numpy as np
import pandas as pd
import pytest
import torch

from sktangent.tangents import (
    FeatureTangents,
    ImageTangents,
    NeighborTangents,
    TangentUnion,
    TransformTangents,
)

X = np.random.default_rng(0).random((12, 16))
IMAGE = ImageTangents((4, 4), ("rotation", "scaling"))
AMOUNTS = np.random.default_rng(1).normal(size=(12, 3))


def ones(X):
    return np.ones_like(X)[:, np.newaxis]


def gain(X, amount):
    return X * (1 + amount)


def shift(X, by):
    return X + np.concatenate([by, np.zeros(X.shape[1] - len(by))])


def bend(X, amount):
    return X + amount * X**2


def neighbors():
    return NeighborTangents(n_components=3).fit(X)


def combination(tangents, X, coefficients):
    return np.einsum("nkt,nt...->nk...", coefficients, np.asarray(tangents(X)))


@pytest.mark.parametrize(
    "tangents",
    [
        FeatureTangents([3, 0, 5]),
        FeatureTangents(1, groups=[[2, 4]], directions=np.arange(16.0)),
        NeighborTangents(n_components=3).fit(X),
    ],
)
def test_directions_are_straight_lines(tangents):
    expected = X + np.einsum("nt,nt...->n...", AMOUNTS, tangents(X))
    np.testing.assert_allclose(tangents.move(X, AMOUNTS), expected)


@pytest.mark.parametrize(
    "tangents",
    [
        FeatureTangents(),
        FeatureTangents([3, 0]),
        NeighborTangents(n_components=3).fit(X),
        TransformTangents([gain, bend]),
        TangentUnion([IMAGE, FeatureTangents([1]), ones], [2, 0.5, 4]),
    ],
)
def test_combinations_are_those_of_the_tangents(tangents):
    n_tangents = np.shape(tangents(X))[1]
    coefficients = np.random.default_rng(2).normal(size=(12, 2, n_tangents))
    expected = combination(tangents, X, coefficients)
    np.testing.assert_allclose(tangents.combine(X, coefficients), expected, atol=1e-12)
    single = tangents.combine(X.astype(np.float32), coefficients)
    assert single.dtype == np.float32
    assert len(tangents.tangent_names(X)) == n_tangents


@pytest.mark.parametrize(
    "tangents",
    [
        FeatureTangents([0]),
        NeighborTangents(1).fit(X),
        TransformTangents(gain),
        TangentUnion([IMAGE]),
    ],
)
def test_dtype_and_shape_are_those_of_the_samples(tangents):
    n_tangents = len(tangents.tangent_names(X))
    moved = tangents.move(X.astype(np.float32), np.ones((12, n_tangents)))
    assert moved.dtype == np.float32
    assert moved.shape == X.shape


def test_features_of_several_axes_and_by_name():
    images = X.reshape(12, 4, 4)
    moved = FeatureTangents([0, 5]).move(images, AMOUNTS[:, :2])
    np.testing.assert_array_equal(moved[:, 1, 1], images[:, 1, 1] + AMOUNTS[:, 1])
    frame = pd.DataFrame(X[:, :3], columns=["a", "b", "c"])
    tangents = FeatureTangents(["c"], groups=[["a", "b"]])
    moved = tangents.move(frame, AMOUNTS[:, :2])
    np.testing.assert_allclose(moved, X[:, :3] + AMOUNTS[:, [1, 1, 0]])
    assert tangents.tangent_names(frame) == ["c", "group0"]
    assert FeatureTangents([2], directions=np.ones(16)).tangent_names(X) == ["x2", "direction0"]


def test_transforms_are_called_in_order_with_each_samples_own_amounts():
    tangents = TransformTangents([shift, bend], n_parameters=[2, None])
    moved = tangents.move(X, AMOUNTS)
    shifted = X.copy()
    shifted[:, :2] += AMOUNTS[:, :2]
    np.testing.assert_allclose(moved, shifted + AMOUNTS[:, 2:] * shifted**2)
    assert tangents.tangent_names(X) == ["shift", "shift", "bend"]


def test_transforms_in_torch():
    def scale(X, amount):
        return X * torch.exp(amount)

    moved = TransformTangents(scale, mode="forward").move(X, AMOUNTS[:, :1])
    np.testing.assert_allclose(moved, X * np.exp(AMOUNTS[:, :1]))


def test_the_derivative_of_a_move_by_transforms_is_the_tangent():
    tangents, h = TransformTangents([bend, gain]), 1e-5
    amounts = AMOUNTS[:, :2]
    found = (tangents.move(X, h * amounts) - tangents.move(X, -h * amounts)) / (2 * h)
    expected = np.einsum("nt,nt...->n...", amounts, tangents(X))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_transform_that_fails_far_from_zero_is_named():
    def root(X, amount):
        return X + np.sqrt(1 - amount) - 1

    with np.errstate(invalid="ignore"), pytest.raises(ValueError, match="'root' .* amount 2.0"):
        TransformTangents(root).move(X, np.full((12, 1), 2.0))


def test_a_union_moves_by_each_kind_in_its_order_and_weight():
    union = TangentUnion([("image", IMAGE), ("first", FeatureTangents([0]))], {"image": 0.25})
    turned = IMAGE.move(X, 0.5 * AMOUNTS[:, :2])
    turned[:, 0] += AMOUNTS[:, 2]
    np.testing.assert_allclose(union.move(X, AMOUNTS), turned)
    assert union.tangent_names(X) == ["image__rotation", "image__scaling", "first__x0"]
    h = 1e-5
    found = (union.move(X, h * AMOUNTS) - union.move(X, -h * AMOUNTS)) / (2 * h)
    expected = np.einsum("nt,nt...->n...", AMOUNTS, union(X))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_union_of_kinds_that_need_names_moves_data_frames():
    frame = pd.DataFrame(X[:, :3], columns=["a", "b", "c"])
    union = TangentUnion([FeatureTangents(["a"]), FeatureTangents(["c"])])
    moved = union.move(frame, AMOUNTS[:, :2])
    np.testing.assert_allclose(moved[:, [0, 2]], X[:, [0, 2]] + AMOUNTS[:, :2])


def test_a_union_within_a_union_and_a_fitted_one():
    inner = TangentUnion([("first", FeatureTangents([0]))])
    outer = TangentUnion([("inner", inner), ("near", NeighborTangents(2))]).fit(X)
    assert outer.tangent_names(X) == ["inner__first__x0", "near__component0", "near__component1"]
    assert outer.move(X, AMOUNTS).shape == X.shape


def test_a_kind_that_cannot_move_is_named():
    union = TangentUnion([IMAGE, ("light", ones)])
    with pytest.raises(TypeError, match="'light', which cannot move samples"):
        union.move(X, AMOUNTS)
    assert union.tangent_names(X)[-1] == "light"


def test_derivatives_wanted_are_not_lost_in_combinations():
    def sloped(X):
        return ones(X), np.ones((len(X), 1))

    with pytest.raises(ValueError, match="'function' come with derivatives other than zero"):
        TangentUnion([sloped]).combine(X, np.ones((12, 1, 1)))


def test_a_kind_of_a_users_own_that_returns_another_shape_is_named():
    class Wrong:
        def __call__(self, X):
            return ones(X)

        def move(self, X, amounts):
            return X[:, :2]

    with pytest.raises(ValueError, match="move of 'wrong' must return the shape"):
        TangentUnion([Wrong()]).move(X, np.ones((12, 1)))


@pytest.mark.parametrize(
    "tangents",
    [
        FeatureTangents([0, 1, 2]),
        NeighborTangents(3).fit(X),
        TransformTangents([gain, bend, gain]),
        TangentUnion([IMAGE, FeatureTangents([0])]),
    ],
)
@pytest.mark.parametrize(
    ("amounts", "error", "message"),
    [
        (AMOUNTS[:, :2], ValueError, r"amounts must .* \(12, 3\), got \(12, 2\)"),
        (AMOUNTS[:4], ValueError, r"got \(4, 3\)"),
        (np.full((12, 3), np.nan), ValueError, "amounts holds NaN"),
        (np.full((12, 3), "a"), TypeError, "amounts must be numbers"),
    ],
)
def test_wrong_amounts_are_named(tangents, amounts, error, message):
    with pytest.raises(error, match=message):
        tangents.move(X, amounts)
