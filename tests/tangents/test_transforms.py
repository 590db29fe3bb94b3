import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from scipy import ndimage, sparse
from sklearn.base import clone
from sklearn.decomposition import PCA

from sktangent.tangents import ImageTangents, SeriesTangents, TransformTangents


def turn(X, angle):
    c, s = np.cos(angle), np.sin(angle)
    return X @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])


def move(X, by):
    return X + by


def tilt_in_torch(X, angles):
    """Turn about the x axis, then about the z axis, by an angle each."""
    (cx, cz), (sx, sz) = angles.cos(), angles.sin()
    x, y, z = X.unbind(-1)
    y, z = cx * y - sx * z, sx * y + cx * z
    return torch.stack([cz * x - sz * y, sz * x + cz * y, z], dim=-1)


def gain_in_torch(X, amount):
    return X * torch.exp(amount)


def gain(X, amount):
    return X * np.exp(amount)


def clouds(seed=0, shape=(6, 10, 3)):
    return np.random.default_rng(seed).normal(size=shape)


def relative_error(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


def test_point_clouds_turn_and_move():
    X = clouds()
    x, y, z = np.moveaxis(X, -1, 0)
    V = TransformTangents([turn, move], n_parameters=[None, 3])(X)
    assert V.shape == (6, 4, 10, 3)
    assert relative_error(V[:, 0], np.stack([-y, x, 0 * z], axis=-1)) <= 1e-8
    np.testing.assert_allclose(V[:, 1:], np.broadcast_to(np.eye(3)[:, None], V[:, 1:].shape))


def test_forward_mode_is_exact():
    X = clouds()
    x, y, z = np.moveaxis(X, -1, 0)
    V = TransformTangents(tilt_in_torch, n_parameters=2, mode="forward")(X)
    expected = np.stack(
        [np.stack([0 * x, -z, y], axis=-1), np.stack([-y, x, 0 * z], axis=-1)], axis=1
    )
    np.testing.assert_allclose(V, expected, rtol=0, atol=1e-15)
    exact = TransformTangents(gain_in_torch, mode="forward")(X)
    np.testing.assert_allclose(exact[:, 0], X, rtol=1e-15)


def test_torch_by_differences_through_a_wrapper():
    def wrapped(X, angles):
        return tilt_in_torch(torch.from_numpy(X), torch.from_numpy(angles)).numpy()

    exact = TransformTangents(tilt_in_torch, n_parameters=2, mode="forward")(clouds())
    V = TransformTangents(wrapped, n_parameters=2)(clouds())
    assert relative_error(V, exact) <= 1e-8


def test_image_tangents_again_from_resampling():
    # Ten pixels along the border are left out, where the border rules differ.
    image = ndimage.gaussian_filter(np.random.default_rng(0).random((40, 40)), 2)[np.newaxis]
    half = 39 / 2

    def rotate(X, amount):
        angle = np.degrees(amount / half)
        return np.stack(
            [ndimage.rotate(x, angle, reshape=False, order=3, mode="nearest") for x in X]
        )

    inside = (..., slice(10, -10), slice(10, -10))
    V = TransformTangents(rotate)(image)
    expected = ImageTangents((40, 40), "rotation")(image)
    assert relative_error(V[inside], expected[inside]) <= 1e-3


def test_series_tangents_again_from_a_formula():
    t = np.linspace(0, 6, 200)
    phases = np.arange(5.0)[:, np.newaxis]

    def shift(X, amount):
        return np.sin(t - amount * (t[1] - t[0]) + phases)

    X = np.sin(t + phases)
    V = TransformTangents(shift)(X)
    # Ten samples at each end are left out: there the spline does not know how it goes on.
    expected = SeriesTangents("shift")(X)
    assert relative_error(V[..., 10:-10], expected[..., 10:-10]) <= 1e-3


def test_a_scikit_learn_transformer_in_the_transform():
    X = clouds(shape=(30, 8))
    pca = PCA(2).fit(X)

    def along_components(X, amounts):
        scores = pca.transform(X)
        return X + pca.inverse_transform(scores + amounts) - pca.inverse_transform(scores)

    V = TransformTangents(along_components, n_parameters=2)(X)
    np.testing.assert_allclose(V, np.broadcast_to(pca.components_, V.shape), atol=1e-9)


def test_the_error_of_differences_falls_with_the_square_of_the_step():
    X = clouds()
    errors = [
        np.abs(TransformTangents(gain, step=step)(X)[:, 0] - X).max() for step in (0.02, 0.01)
    ]
    assert errors[0] / errors[1] == pytest.approx(4, rel=1e-3)


@pytest.mark.parametrize(
    ("given", "returned"),
    [("float32", "float32"), ("float64", "float64"), ("int64", "float64")],
)
@pytest.mark.parametrize(("transform", "mode"), [(gain, "differences"), (gain_in_torch, "forward")])
def test_dtype_and_double_precision_inside(given, returned, transform, mode):
    X = (clouds() * 10).astype(given)

    def checked(X, amount):
        assert X.dtype in (np.float64, torch.float64)
        return transform(X, amount)

    V = TransformTangents(checked, mode=mode)(X)
    assert V.dtype == returned
    np.testing.assert_allclose(V[:, 0], X, rtol=1e-6)


def test_a_transform_may_work_in_place():
    def in_place(X, amount):
        X *= 1 + amount
        return X

    for mode in ("differences", "forward"):
        X = clouds()
        V = TransformTangents([in_place, in_place], mode=mode)(X)
        np.testing.assert_array_equal(X, clouds())
        np.testing.assert_allclose(V, np.stack([X, X], axis=1), rtol=1e-9)


def test_forward_mode_goes_through_vmap():
    def one_by_one(X, amount):
        return torch.func.vmap(lambda x: x * torch.exp(amount))(X)

    V = TransformTangents(one_by_one, mode="forward")(clouds())
    np.testing.assert_allclose(V[:, 0], clouds())


def test_amounts_are_numbers_or_vectors():
    seen = []

    def noted(X, amount):
        seen.append(amount)
        return X * (1 + np.sum(amount))

    TransformTangents(noted, step=0.5)(clouds() * 1e-3)
    assert seen == [0.5, -0.5]
    seen.clear()
    TransformTangents(noted, n_parameters=1, step=0.5)(clouds() * 1e-3)
    np.testing.assert_array_equal(seen, [[0.5], [-0.5]])
    V = TransformTangents([noted, noted], n_parameters=2)(clouds())
    assert V.shape == (6, 4, 10, 3)


def test_doing_something_at_amount_zero_is_warned_of():
    for transform, mode in [(lambda X, a: X * a, "differences"), (lambda X, a: X * a, "forward")]:
        with pytest.warns(UserWarning, match="'<lambda>'.*amount zero.*100.0%.*1 \\+ amount"):
            TransformTangents(transform, mode=mode)(clouds())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TransformTangents(move)(np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"transform": "rotate"}, TypeError, "transform must be a callable.*'rotate'"),
        ({"transform": [gain, 3]}, TypeError, "transform must be a callable"),
        ({"transform": []}, ValueError, "transform must hold at least one"),
        ({"n_parameters": 0}, ValueError, "n_parameters must be at least 1"),
        ({"n_parameters": 1.5}, TypeError, "n_parameters must be an integer"),
        ({"n_parameters": [1, 2]}, ValueError, "n_parameters must have an entry.*1 transforms"),
        ({"step": 0}, ValueError, "step must be above zero"),
        ({"step": -1e-3}, ValueError, "step must be finite and zero or more"),
        ({"mode": "forwards"}, ValueError, "mode must be one of.*'forwards'"),
        ({"transform": lambda X, a: X[:, :1]}, ValueError, r"shape of X, \(6, 10, 3\).*6, 1, 3"),
        ({"transform": lambda X, a: None}, ValueError, "must return .*array|shape of X"),
        ({"transform": lambda X, a: "no"}, TypeError, "must return an array of numbers"),
        ({"transform": lambda X, a: X / 0}, ValueError, "NaN or infinity near amount zero"),
        (
            {"transform": lambda X, a: X.numpy(), "mode": "forward"},
            TypeError,
            "mode='forward' cannot",
        ),
        (
            {"transform": lambda X, a: X * (1 + float(a)), "mode": "forward"},
            ValueError,
            r"'<lambda>' does not depend on the amount.*float\(amount\)",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:divide:RuntimeWarning")
def test_wrong_parameters_are_named_on_the_call(parameters, error, message):
    with pytest.raises(error, match=message):
        TransformTangents(**{"transform": gain, **parameters})(clouds())


def test_functions_without_a_forward_formula_are_refused():
    class Halved(torch.autograd.Function):  # that has none on any version
        @staticmethod
        def forward(ctx, x):
            return x / 2

        @staticmethod
        def backward(ctx, grad):
            return grad / 2

    def sample(X, amount):
        return X + Halved.apply(X * amount)

    with pytest.raises(TypeError, match="(?s)'sample'.*custom autograd.Function.*differences"):
        TransformTangents(sample, mode="forward")(np.ones((2, 1, 4, 4)))


@pytest.mark.parametrize(
    ("samples", "error", "message"),
    [
        (np.array([[np.nan, 1.0]]), ValueError, "X contains NaN"),
        (np.empty((0, 3)), ValueError, "0 sample"),
        (np.ones(3), ValueError, "1D array"),
        (sparse.csr_array(np.eye(3)), TypeError, "[Ss]parse"),
    ],
)
def test_wrong_samples_are_named(samples, error, message):
    with pytest.raises(error, match=message):
        TransformTangents(gain)(samples)


def test_it_is_a_scikit_learn_object():
    tangents = TransformTangents([gain, turn], step=0.01)
    assert repr(tangents).startswith("TransformTangents(step=0.01,")
    assert "TransformTangents" in tangents._repr_html_()
    copy = clone(tangents)
    assert copy.get_params()["transform"] == [gain, turn]
    X = clouds()
    np.testing.assert_array_equal(copy(X), tangents(X))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(tangents))(X), tangents(X))
    tangents.set_params(transform=move, n_parameters=3)
    assert tangents(X).shape == (6, 3, 10, 3)


def test_torch_is_imported_in_forward_mode_only():
    code = (
        "import sys, types; import numpy as np\n"
        # The package imports torch for its estimators; here its tangents stand alone.
        "import importlib.util as util\n"
        "root = util.find_spec('sktangent').submodule_search_locations\n"
        "package = types.ModuleType('sktangent'); package.__path__ = list(root)\n"
        "sys.modules['sktangent'] = package\n"
        "from sktangent.tangents import TransformTangents\n"
        "TransformTangents(lambda X, a: X * (1 + a))(np.ones((2, 3)))\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
