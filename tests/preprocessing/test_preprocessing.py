import pickle

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage, sparse
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

from sktangent.preprocessing import GaussianBlur
from sktangent.tangents import ImageTangents


def images(*shape, seed=0):
    return np.random.default_rng(seed).random(shape)


@pytest.mark.parametrize("sigma", [0.3, 0.9, 2.0, 20.0])
def test_weights_are_those_of_scipy(sigma):
    X = images(2, 13, 9)
    expected = ndimage.gaussian_filter(X, (0, sigma, sigma), mode="nearest")
    blurred = GaussianBlur((13, 9), sigma).fit_transform(X)
    np.testing.assert_allclose(blurred, expected, atol=1e-13)


def test_layouts_agree():
    X = images(2, 3, 8, 10)
    first = GaussianBlur((3, 8, 10)).transform(X)
    last = GaussianBlur((8, 10, 3)).transform(np.moveaxis(X, 1, -1))
    np.testing.assert_allclose(np.moveaxis(last, -1, 1), first, atol=1e-13)
    np.testing.assert_array_equal(
        GaussianBlur((3, 8, 10)).transform(X.reshape(2, -1)), first.reshape(2, -1)
    )
    np.testing.assert_allclose(GaussianBlur((8, 10)).transform(X[:, 2]), first[:, 2], atol=1e-13)
    square = GaussianBlur((4, 9, 4), channels="last").transform(images(1, 4, 9, 4))
    assert square.shape == (1, 4, 9, 4)


def test_sigma_zero_is_a_copy():
    X = images(2, 64)
    blurred = GaussianBlur((8, 8), sigma=0).fit_transform(X)
    np.testing.assert_array_equal(blurred, X)
    assert not np.shares_memory(blurred, X)


def test_a_constant_image_stays():
    np.testing.assert_allclose(GaussianBlur((8, 8), 3).transform(np.full((1, 64), 7.0)), 7)


@pytest.mark.parametrize("smoothed_before", [0.0, 1.0])
def test_shifts_and_turns_commute_with_the_blur(smoothed_before):
    # B τ(I) = τ(B I): a Gaussian is the same everywhere and in every direction. Seven pixels
    # along the border are left out; 1e-3 because the blur is sampled.
    shape, inside = (40, 40), (..., slice(7, -7), slice(7, -7))
    X = GaussianBlur(shape, 2.0).transform(images(2, *shape))
    tangents = ImageTangents(
        shape, ("translation_x", "translation_y", "rotation"), smoothing=smoothed_before
    )
    blur = GaussianBlur(shape, 1.0)
    pushed = np.stack([blur.transform(V) for V in tangents(X)])
    expected = tangents(blur.transform(X))
    error = np.abs(pushed - expected)[inside].max()
    assert error <= 1e-3 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("given", "returned"), [("float32", "float32"), ("float64", "float64"), ("uint8", "float64")]
)
def test_dtype(given, returned):
    X = (16 * images(2, 64)).astype(given)
    blurred = GaussianBlur((8, 8)).transform(X)
    assert blurred.dtype == returned
    np.testing.assert_allclose(
        blurred, GaussianBlur((8, 8)).transform(X.astype("float64")), rtol=1e-5
    )


def test_columns_keep_their_names():
    names = [f"pixel{i}" for i in range(16)]
    X = pd.DataFrame(images(3, 16), columns=names, index=["a", "b", "c"])
    blur = GaussianBlur((4, 4)).set_output(transform="pandas").fit(X)
    assert list(blur.get_feature_names_out()) == names
    blurred = blur.transform(X)
    assert list(blurred.columns) == names
    assert list(blurred.index) == ["a", "b", "c"]
    assert blur.n_features_in_ == 16
    np.testing.assert_array_equal(blur.feature_names_in_, names)


def test_it_is_a_scikit_learn_object():
    blur = GaussianBlur((8, 8), sigma=0.7)
    assert repr(blur) == "GaussianBlur(image_shape=(8, 8), sigma=0.7)"
    assert "GaussianBlur" in blur._repr_html_()
    assert clone(blur).get_params() == blur.get_params()
    X = images(2, 64)
    again = pickle.loads(pickle.dumps(blur.fit(X)))
    np.testing.assert_array_equal(again.transform(X), blur.transform(X))


def test_it_works_in_a_searched_pipeline():
    X, y = images(40, 64), np.arange(40) % 2
    pipeline = make_pipeline(GaussianBlur((8, 8)), KNeighborsClassifier(1))
    search = GridSearchCV(pipeline, {"gaussianblur__sigma": [0, 0.5]}, cv=2, error_score="raise")
    assert search.fit(X, y).predict(X).shape == (40,)


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"image_shape": "64"}, TypeError, "image_shape must be"),
        ({"image_shape": (8, 8, 8, 8)}, ValueError, "image_shape must be"),
        ({"sigma": -0.5}, ValueError, "sigma must be finite and zero or more, got -0.5"),
        ({"sigma": np.inf}, ValueError, "sigma must be finite and zero or more, got inf"),
        ({"sigma": None}, TypeError, "sigma must be a number, got None"),
        ({"sigma": True}, TypeError, "sigma must be a number, got True"),
        ({"channels": None}, ValueError, "channels must be one of"),
    ],
)
@pytest.mark.parametrize("method", ["fit", "transform"])
def test_wrong_parameters_are_named_on_use(parameters, error, message, method):
    blur = GaussianBlur(**{"image_shape": (8, 8), **parameters})
    with pytest.raises(error, match=message):
        getattr(blur, method)(images(2, 64))


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (np.ones((2, 63)), ValueError, r"\(n_samples, 64\) or \(n_samples, 8, 8\).*\(2, 63\)"),
        (np.ones((2, 16, 4)), ValueError, r"got \(2, 16, 4\)"),
        (np.full((2, 64), np.nan), ValueError, "contains NaN"),
        (np.empty((0, 64)), ValueError, "0 sample"),
        (sparse.csr_array(np.eye(64)), TypeError, "[Ss]parse"),
    ],
)
def test_wrong_images_are_named(X, error, message):
    with pytest.raises(error, match=message):
        GaussianBlur((8, 8)).fit(X)


def test_other_size_than_fitted():
    blur = GaussianBlur((8, 8)).fit(images(2, 64))
    with pytest.raises(ValueError, match="expecting 64 features"):
        blur.transform(images(2, 49))
