import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import GridSearchCV

from sktangent import TangentPropClassifier
from sktangent.tangents import (
    FeatureTangents,
    ImageTangents,
    NeighborTangents,
    SeriesTangents,
    TangentUnion,
    TransformTangents,
)

X = np.random.default_rng(0).random((12, 64))
IMAGE, SERIES = ImageTangents((8, 8), "rotation"), SeriesTangents()


def ones(X):
    return np.ones_like(X)[:, np.newaxis]


def with_derivatives(X):
    return ones(X), np.full((len(X), 1), 3.0)


class Centred(BaseEstimator):
    """A kind of a user's own, whose fit takes X and y."""

    def fit(self, X, y=None):
        self.mean_ = np.mean(X, axis=0)
        return self

    def __call__(self, X):
        return (X - self.mean_)[:, np.newaxis]


def test_kinds_come_one_after_the_other():
    V = TangentUnion([IMAGE, SERIES, ones])(X)
    assert V.shape == (12, 7, 64)
    np.testing.assert_array_equal(V, np.concatenate([IMAGE(X), SERIES(X), ones(X)], axis=1))


@pytest.mark.parametrize(
    "weights",
    [[4, 0.25, 0], (4.0, 0.25, 0.0), np.array([4, 0.25, 0]), {"image": 4, "b": 0.25, "c": 0}],
)
def test_weights_multiply_the_penalty(weights):
    union = TangentUnion([("image", IMAGE), ("b", SERIES), ("c", ones)], weights)
    expected = np.concatenate([2 * IMAGE(X), 0.5 * SERIES(X), 0 * ones(X)], axis=1)
    np.testing.assert_allclose(union(X), expected)
    gradient = np.random.default_rng(1).normal(size=64)
    penalties = [((kind(X) @ gradient) ** 2).sum() for kind in (IMAGE, SERIES)]
    np.testing.assert_allclose(
        ((union(X) @ gradient) ** 2).sum(), 4 * penalties[0] + 0.25 * penalties[1]
    )


def test_a_dict_may_leave_weights_out():
    union = TangentUnion([("image", IMAGE), ("b", ones)], {"b": 4})
    np.testing.assert_array_equal(union(X), np.concatenate([IMAGE(X), 2 * ones(X)], axis=1))
    np.testing.assert_array_equal(union.set_params(weights={})(X)[:, 1:], ones(X))


def test_names():
    kinds = [IMAGE, ones, ("second", ImageTangents((8, 8))), lambda X: ones(X), SERIES]
    names = [name for name, _ in TangentUnion(kinds).fit(X).tangents_]
    assert names == ["imagetangents", "function-1", "second", "function-2", "seriestangents"]


def test_parameters_are_reached_by_name():
    union = TangentUnion([("image", IMAGE), SERIES], weights=[1, 2])
    params = union.get_params()
    assert params["image"] is IMAGE
    assert params["image__transforms"] == "rotation"
    assert params["seriestangents__n_warps"] == 3
    assert params["weights__seriestangents"] == 2
    union = clone(union).set_params(
        image__transforms=("scaling", "rotation"), seriestangents__n_warps=1, weights__image=9
    )
    assert union.weights == {"image": 9, "seriestangents": 2}
    expected = [3 * ImageTangents((8, 8), ("scaling", "rotation"))(X)]
    expected.append(np.sqrt(2) * SeriesTangents(n_warps=1)(X))
    np.testing.assert_allclose(union(X), np.concatenate(expected, axis=1))
    # The clone's kinds are its own.
    assert IMAGE.transforms == "rotation"


def test_a_kind_is_replaced_by_name():
    kinds = [("image", IMAGE), SERIES]
    union = TangentUnion(kinds)
    union.set_params(image=SeriesTangents("gain"), image__smoothing=1.0)
    assert kinds[0][1] is IMAGE
    assert union(X).shape == (12, 6, 64)
    union.set_params(seriestangents=ones)
    assert [name for name, _ in union.tangents] == ["image", "seriestangents"]
    assert union(X).shape == (12, 2, 64)
    union.set_params(tangents=[("light", ones)], weights=None, weights__light=4.0)
    np.testing.assert_array_equal(union(X), 2 * ones(X))


@pytest.mark.parametrize("name", ["imag", "imag__transforms", "image__transform", "weights__imag"])
def test_unknown_parameters_are_named(name):
    with pytest.raises((ValueError, AttributeError), match=name.rpartition("__")[2]):
        TangentUnion([("image", IMAGE)]).set_params(**{name: 1})


def test_fit_reaches_clones_of_those_that_have_one():
    y = np.arange(12) % 2
    own, neighbors = Centred(), NeighborTangents(2, 4)
    union = TangentUnion([own, ("near", neighbors), ones, SeriesTangents("scatter")]).fit(X, y)
    assert not hasattr(own, "mean_")
    assert not hasattr(neighbors, "classes_")
    expected = [
        clone(own).fit(X)(X),
        clone(neighbors).fit(X, y)(X),
        ones(X),
        SeriesTangents("scatter").fit(X)(X),
    ]
    np.testing.assert_allclose(union(X), np.concatenate(expected, axis=1))
    # Weights are not learned.
    np.testing.assert_allclose(union.set_params(weights__near=4)(X)[:, 1:3], 2 * expected[1])
    assert not hasattr(clone(union), "tangents_")


def test_names_of_columns_reach_the_kinds():
    frame = pd.DataFrame(X[:, :3], columns=["a", "b", "c"])
    union = TangentUnion([FeatureTangents("b"), ("inner", TangentUnion([FeatureTangents("c")]))])
    expected = np.broadcast_to(np.eye(3)[[1, 2]], (12, 2, 3))
    np.testing.assert_array_equal(union(frame), expected)
    np.testing.assert_array_equal(union.fit(frame)(X[:, :3]), expected)


def test_wanted_derivatives_are_joined_and_weighted():
    union = TangentUnion([IMAGE, ("slope", with_derivatives)], weights=[1, 4])
    V, d = union(X)
    np.testing.assert_array_equal(V[:, 1:], 2 * ones(X))
    np.testing.assert_array_equal(d, np.tile([0.0, 6.0], (12, 1)))
    V, d = TangentUnion([IMAGE, lambda X: (ones(X), np.ones((len(X), 1, 5)))])(X)
    assert d.shape == (12, 2, 5)
    assert not d[:, 0].any()
    inner, _ = TangentUnion([union, ones])(X)
    assert inner.shape == (12, 3, 64)
    other = TangentUnion([with_derivatives, lambda X: (ones(X), np.ones((len(X), 1, 5)))])
    with pytest.raises(ValueError, match=r"same outputs.*\(\), \(5,\)"):
        other(X)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype(dtype):
    V, d = TangentUnion([IMAGE, with_derivatives, lambda X: ones(X).astype("float64")])(
        X.astype(dtype)
    )
    assert V.dtype == d.dtype == dtype


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"tangents": []}, ValueError, "tangents must hold at least one"),
        ({"tangents": IMAGE}, TypeError, "tangents must be a list"),
        ({"tangents": {"image": IMAGE}}, TypeError, "tangents must be a list"),
        ({"tangents": ["image"]}, TypeError, "tangents must hold callables.*'image'"),
        ({"tangents": [ImageTangents]}, TypeError, "tangents must hold callables"),
        ({"tangents": [("image", IMAGE, 1)]}, TypeError, "tangents must hold callables"),
        ({"tangents": [("a", IMAGE), ("a", ones)]}, ValueError, "name twice, got 'a'"),
        ({"tangents": [("a__b", IMAGE)]}, ValueError, "has the name 'a__b'"),
        ({"tangents": [("weights", IMAGE)]}, ValueError, "has the name 'weights'"),
        ({"weights": [1]}, ValueError, "weights must have 2 entries.*got 1"),
        ({"weights": [1, -1]}, ValueError, "weights must be finite and zero or more"),
        ({"weights": [1, "2"]}, TypeError, "weights must be a number"),
        ({"weights": 3}, TypeError, "weights must be a list or a dict"),
        ({"weights": {"imaeg": 1}}, ValueError, "weights has 'imaeg'.*mean 'image'"),
        ({"tangents": [lambda X: X]}, ValueError, r"of 'function' must have shape.*V\[:, None\]"),
        ({"tangents": [lambda X: ones(X)[:5]]}, ValueError, "of 'function' must have shape"),
        ({"tangents": [lambda X: ones(X) * 1j]}, TypeError, "'function' must be one array of numb"),
        ({"tangents": [lambda X: (ones(X), np.ones(3))]}, ValueError, "derivatives of 'function'"),
    ],
)
def test_wrong_parameters_are_named_on_the_call(parameters, error, message):
    union = TangentUnion(**{"tangents": [("image", IMAGE), ("light", ones)], **parameters})
    with pytest.raises(error, match=message):
        union(X)
    # Parameters can be looked at and printed all the same.
    assert "tangents" in union.get_params()
    assert "TangentUnion" in repr(union)


@pytest.mark.parametrize(
    ("samples", "message"),
    [(X * np.nan, "X contains NaN"), (np.empty((0, 64)), "0 sample"), (np.ones(64), "1D array")],
)
def test_wrong_samples_are_named(samples, message):
    with pytest.raises(ValueError, match=message):
        TangentUnion([ones])(samples)


def test_it_is_a_scikit_learn_object():
    union = TangentUnion([("image", IMAGE), ones], weights={"image": 2.0}).fit(X)
    assert repr(clone(union)).startswith("TangentUnion(tangents=[('image',")
    assert "TangentUnion" in union._repr_html_()
    assert clone(union).weights == {"image": 2.0}
    again = pickle.loads(pickle.dumps(union))
    np.testing.assert_array_equal(again(X), union(X))


def test_a_search_reaches_kinds_and_weights_of_every_sort():
    y = np.arange(12) % 2
    union = TangentUnion(
        [
            ("image", IMAGE),
            ("near", NeighborTangents(1, 2)),
            ("own", TransformTangents(lambda X, a: X * (1 + a))),
        ]
    )
    model = TangentPropClassifier(
        tangents=union, hidden_layer_sizes=(4,), max_epochs=1, random_state=0
    )
    grid = {
        "tangents__image__transforms": ["rotation", ("scaling", "rotation")],
        "tangents__weights__near": [0.1, 1.0],
        "tangents__near__n_components": [1],
        "penalty_weight": [0.1],
    }
    search = GridSearchCV(model, grid, cv=2, error_score="raise").fit(X, y)
    fitted = search.best_estimator_.tangents_
    assert (
        fitted.get_params()["image__transforms"]
        == search.best_params_["tangents__image__transforms"]
    )
    assert len(search.cv_results_["params"]) == 4
