import pickle
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import clone

from sktangent.tangents import FeatureTangents

X = np.arange(12.0).reshape(4, 3)
FRAME = pd.DataFrame(X, columns=["height", "weight", "age"])


def test_all_features_are_the_identity_for_every_sample():
    V = FeatureTangents()(X)
    np.testing.assert_array_equal(V, np.tile(np.eye(3), (4, 1, 1)))


@pytest.mark.parametrize(
    ("features", "rows"),
    [
        ([2, 0], [2, 0]),
        ((1,), [1]),
        (1, [1]),
        ([-1], [2]),
        (np.array([0, 2], dtype=np.uint8), [0, 2]),
        ([True, False, True], [0, 2]),
        (np.array([False, True, False]), [1]),
    ],
)
def test_features_choose_directions_in_their_order(features, rows):
    V = FeatureTangents(features)(X)
    np.testing.assert_array_equal(V[3], np.eye(3)[rows])


def test_inputs_with_several_axes_count_the_flattened_input():
    V = FeatureTangents([1, 5])(np.zeros((2, 2, 3)))
    assert V.shape == (2, 2, 2, 3)
    np.testing.assert_array_equal(V.reshape(2, 2, 6)[0], np.eye(6)[[1, 5]])


@pytest.mark.parametrize(
    ("given", "returned"),
    [("float32", "float32"), ("float64", "float64"), ("int64", "float64"), ("uint8", "float64")],
)
def test_dtype(given, returned):
    assert FeatureTangents()(X.astype(given)).dtype == returned


def test_memory_does_not_grow_with_the_samples():
    images = np.zeros((2000, 784), dtype=np.float32)
    tracemalloc.start()
    V = FeatureTangents()(images)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert V.shape == (2000, 784, 784)
    assert not V.flags.writeable
    assert peak < 2 * images.nbytes


@pytest.mark.parametrize(
    ("features", "error", "message"),
    [
        ([3], ValueError, "between -3 and 2"),
        ([-4], ValueError, "between -3 and 2"),
        ([], ValueError, "at least one"),
        ([[0, 1]], ValueError, "list of at least one index"),
        ([0, -3], ValueError, "twice"),
        ([0.5], TypeError, "integer indices or a boolean mask"),
        ("x", ValueError, "name 'x'.*no names.*data frame"),
        ([None], TypeError, "integer indices or a boolean mask"),
        ([[0], [1, 2]], ValueError, "list of at least one index"),
        ([True, False], ValueError, "must have 3 entries.*got 2"),
        ([False] * 3, ValueError, "at least one of them True"),
    ],
)
def test_wrong_features_are_named(features, error, message):
    with pytest.raises(error, match=f"features.*{message}"):
        FeatureTangents(features)(X)


@pytest.mark.parametrize(
    ("samples", "error", "message"),
    [
        (np.array([[np.nan, 1.0]]), ValueError, "X contains NaN"),
        (np.array([[np.inf, 1.0]]), ValueError, "X contains infinity"),
        (np.empty((0, 3)), ValueError, "0 sample"),
        (np.empty((2, 0)), ValueError, "0 feature"),
        (np.empty((2, 0, 3)), ValueError, r"at least one value.*\(2, 0, 3\)"),
        (np.ones(3), ValueError, "1D array"),
        (sparse.csr_array(X), TypeError, "[Ss]parse"),
    ],
)
def test_wrong_samples_are_named(samples, error, message):
    with pytest.raises(error, match=message):
        FeatureTangents()(samples)


def test_it_is_a_scikit_learn_object():
    tangents = FeatureTangents(features=[0, 2])
    assert repr(tangents) == "FeatureTangents(features=[0, 2])"
    assert clone(tangents).get_params() == tangents.get_params()
    assert "FeatureTangents" in tangents._repr_html_()
    again = pickle.loads(pickle.dumps(tangents.set_params(features=[1])))
    np.testing.assert_array_equal(again(X), tangents(X))


def test_parameters_are_not_validated_before_the_call():
    assert FeatureTangents(features="nonsense").features == "nonsense"


def test_groups_move_their_features_together():
    V = FeatureTangents(features=1, groups=[[0, -1], [False, True, True]])(X)
    np.testing.assert_array_equal(V[2], [[0, 1, 0], [1, 0, 1], [0, 1, 1]])
    assert FeatureTangents(groups=[[0, 1]])(X).shape == (4, 1, 3)


@pytest.mark.parametrize(
    ("directions", "rows"),
    [
        ([[1, 2.5, -3]], [[1, 2.5, -3]]),
        ([1, 2.5, -3], [[1, 2.5, -3]]),
        ({0: 2, -1: 0.5}, [[2, 0, 0.5]]),
        ([{0: 2}, {1: -1, 2: 1}], [[2, 0, 0], [0, -1, 1]]),
        (np.eye(3), np.eye(3)),
    ],
)
def test_directions_are_vectors_or_entries(directions, rows):
    np.testing.assert_array_equal(FeatureTangents(directions=directions)(X)[0], rows)


def test_directions_of_inputs_with_several_axes_are_shaped_or_flat():
    pattern = np.arange(6.0).reshape(2, 3)
    samples = np.zeros((5, 2, 3), dtype=np.float32)
    for directions in (pattern, [pattern], pattern.reshape(1, 6), {i: i for i in range(6)}):
        V = FeatureTangents(directions=directions)(samples)
        assert V.dtype == np.float32
        np.testing.assert_array_equal(V, np.tile(pattern, (5, 1, 1, 1)))


BY_NAME = [
    ({"features": "age"}, [[0, 0, 1]]),
    ({"features": ["age", "height"]}, [[0, 0, 1], [1, 0, 0]]),
    ({"features": pd.Index(["age", "height"])}, [[0, 0, 1], [1, 0, 0]]),
    ({"features": np.array(["age"])}, [[0, 0, 1]]),
    ({"groups": [["height", "weight"], ["age"]]}, [[1, 1, 0], [0, 0, 1]]),
    ({"directions": {"height": 1, "weight": -2}}, [[1, -2, 0]]),
]


@pytest.mark.parametrize(("parameters", "rows"), BY_NAME)
def test_names_are_those_of_the_data_frame_or_of_the_one_in_fit(parameters, rows):
    tangents = FeatureTangents(**parameters)
    np.testing.assert_array_equal(tangents(FRAME)[1], rows)
    fitted = clone(tangents).fit(FRAME, np.zeros(4))
    np.testing.assert_array_equal(fitted(X)[1], rows)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted))(X)[1], rows)
    with pytest.raises(ValueError, match="has the name.*data frame"):
        tangents(X)


def test_columns_at_hand_come_before_those_of_fit():
    tangents = FeatureTangents("age").fit(FRAME)
    turned = FRAME[["age", "height", "weight"]]
    np.testing.assert_array_equal(tangents(turned)[0], [[1, 0, 0]])


def test_indices_need_no_names_and_fit_changes_nothing():
    tangents = FeatureTangents([0, 2])
    np.testing.assert_array_equal(tangents(FRAME), tangents(X))
    np.testing.assert_array_equal(clone(tangents).fit(X)(X), tangents(X))
    np.testing.assert_array_equal(clone(tangents).fit(FRAME)(X), tangents(X))


def test_few_features_of_many_take_little_memory():
    wide = np.zeros((1, 200_000))
    tracemalloc.start()
    FeatureTangents([3, 5], groups=[[1, 2]])(wide)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * wide.nbytes


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"features": "hieght"}, ValueError, "features has 'hieght'.*mean 'height'"),
        ({"groups": [["age", "wieght"]]}, ValueError, "groups has 'wieght'.*mean 'weight'"),
        ({"directions": {"aeg": 1}}, ValueError, "directions has 'aeg'.*mean 'age'"),
        ({"features": ["age", "age"]}, ValueError, "features must not hold a name twice"),
        ({"groups": [0, 1]}, TypeError, "groups must be a list of groups"),
        ({"groups": ["age"]}, TypeError, "groups must be a list of groups"),
        ({"groups": 3}, TypeError, "groups must be a list of groups"),
        ({"groups": []}, ValueError, "groups must hold at least one"),
        ({"groups": [[]]}, ValueError, "groups must be a list of at least one"),
        ({"groups": [[0, 0]]}, ValueError, "groups must not hold an index twice"),
        ({"groups": [[5]]}, ValueError, "groups must lie between -3 and 2"),
        ({"directions": [[1, 2]]}, ValueError, r"directions must have shape \(n_directions, 3\)"),
        ({"directions": [[1, 2, np.nan]]}, ValueError, "directions contains NaN"),
        ({"directions": [{0: 1}, [1, 2, 3]]}, TypeError, "not both together"),
        ({"directions": {}}, ValueError, "directions must be a list of at least one"),
    ],
)
def test_wrong_groups_directions_and_names_are_named(parameters, error, message):
    with pytest.raises(error, match=message):
        FeatureTangents(**parameters)(FRAME)


def test_other_columns_than_in_fit_are_named():
    with pytest.raises(ValueError, match="X has 2 features; fit saw 3 columns"):
        FeatureTangents("age").fit(FRAME)(X[:, :2])
