import pickle
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA, KernelPCA, TruncatedSVD
from sklearn.exceptions import NotFittedError
from sklearn.kernel_approximation import Nystroem
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    SplineTransformer,
    StandardScaler,
)

from sktangent.preprocessing import GaussianBlur, push_forward
from sktangent.tangents import FeatureTangents

N, T, D = 60, 3, 6
SCALES = np.logspace(-3, 3, D)


def samples(scales=1.0, offset=0.0, n=N, seed=0):
    return (np.random.default_rng(seed).normal(size=(n, D)) + offset) * scales


def directions(scales=1.0, n=N, seed=1):
    return np.random.default_rng(seed).normal(size=(n, T, D)) * scales


def matrix_of(transformer):
    """Return the linear part, from the attributes that scikit-learn documents."""
    if isinstance(transformer, Pipeline):
        return np.linalg.multi_dot([matrix_of(step) for _, step in transformer.steps[::-1]])
    if isinstance(transformer, PCA):
        scale = np.sqrt(transformer.explained_variance_) if transformer.whiten else 1.0
        return transformer.components_ / np.reshape(scale, (-1, 1))
    if isinstance(transformer, TruncatedSVD):
        return transformer.components_
    scale = transformer.scale_
    return np.diag(scale if isinstance(transformer, MinMaxScaler) else 1 / scale)


def assert_close(result, expected, tolerance):
    """Compare each output within its own size."""
    size = np.abs(expected).max(axis=(0, 1))
    assert (np.abs(result - expected).max(axis=(0, 1)) <= tolerance * size).all()


def by_autograd(function, X, V):
    def along(x, v):
        return torch.func.jvp(function, (x,), (v,))[1]

    over_tangents = torch.func.vmap(along, in_dims=(None, 0))
    return torch.func.vmap(over_tangents)(torch.tensor(X), torch.tensor(V)).numpy()


AFFINE = [
    StandardScaler(),
    MinMaxScaler(),
    RobustScaler(),
    MaxAbsScaler(),
    PCA(3),
    PCA(4, whiten=True),
    TruncatedSVD(3),
    make_pipeline(StandardScaler(), PCA(4, whiten=True), MinMaxScaler()),
    make_pipeline(RobustScaler(), TruncatedSVD(5), StandardScaler()),
]


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6])
@pytest.mark.parametrize("length", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize("transformer", AFFINE, ids=str)
def test_affine_is_exact(transformer, offset, length):
    X, V = samples(SCALES, offset), length * directions(SCALES)
    transformer.fit(X)
    pushed = push_forward(transformer, X, V)
    assert_close(pushed, V @ matrix_of(transformer).T, 1e-12)


def test_affine_keeps_the_digits_of_each_entry():
    X, V = samples(SCALES, 1e6), directions(np.logspace(3, -3, D))
    scaler = StandardScaler().fit(X)
    np.testing.assert_allclose(push_forward(scaler, X, V), V / scaler.scale_, rtol=1e-14)


def test_affine_is_found_not_named():
    A, c = samples(n=4), 1e4

    class Mine(TransformerMixin, BaseEstimator):
        def transform(self, X):
            return X @ A.T + c

    X, V = samples(), directions()
    assert_close(push_forward(Mine(), X, V), V @ A.T, 1e-13)
    assert_close(push_forward(FunctionTransformer(Mine().transform), X, V), V @ A.T, 1e-13)


@pytest.mark.parametrize(
    ("function", "slope"),
    [
        (lambda x: x + 1e-6 * np.sin(x), lambda x: 1 + 1e-6 * np.cos(x)),
        (lambda x: np.clip(x, -1e4, 1e4) + x, lambda x: 2 + 0 * x),
        (lambda x: np.where(x > 100, 2 * x, x), lambda x: 1 + 0 * x),
    ],
)
def test_nearly_affine_is_not_affine(function, slope):
    X, V = samples(), directions()
    pushed = push_forward(FunctionTransformer(function), X, V)
    np.testing.assert_allclose(pushed, slope(X)[:, None] * V, rtol=1e-10)


def test_blur():
    X = np.random.default_rng(0).random((5, 8, 8))
    V = np.random.default_rng(1).random((5, 2, 8, 8))
    blur = GaussianBlur((8, 8))
    expected = np.stack([blur.transform(v) for v in V])
    np.testing.assert_allclose(push_forward(blur, X, V), expected, atol=1e-14)
    flat = push_forward(blur.fit(X.reshape(5, 64)), X.reshape(5, 64), V.reshape(5, 2, 64))
    np.testing.assert_allclose(flat, expected.reshape(5, 2, 64), atol=1e-14)
    flatten = FunctionTransformer(lambda x: x.reshape(len(x), -1))
    pipeline = make_pipeline(blur, flatten, PCA(3)).fit(X)
    assert_close(
        push_forward(pipeline, X, V),
        expected.reshape(5, 2, 64) @ pipeline[-1].components_.T,
        1e-12,
    )


def power_slope(transformer, X):
    powers = transformer.lambdas_
    if transformer.method == "box-cox":
        slope = X ** (powers - 1)
    else:
        slope = np.where(X >= 0, (1 + np.abs(X)) ** (powers - 1), (1 + np.abs(X)) ** (1 - powers))
    return slope / (transformer._scaler.scale_ if transformer.standardize else 1)


@pytest.mark.parametrize("length", [1e-9, 1.0, 1e9])
@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize(
    ("method", "X"),
    [
        ("yeo-johnson", samples()),
        ("yeo-johnson", samples(SCALES, 5)),
        ("yeo-johnson", np.exp(3 * samples())),
        # The smallest is a thousandth of the spread away from zero, where box-cox ends.
        ("box-cox", np.exp(2 * samples()) * SCALES),
    ],
)
def test_power_transformer(method, X, standardize, length):
    transformer = PowerTransformer(method, standardize=standardize).fit(X)
    # Isotropic tangents on features whose scales differ.
    V = length * directions()
    expected = power_slope(transformer, X)[:, None] * V
    np.testing.assert_allclose(push_forward(transformer, X, V), expected, rtol=1e-6)


def test_power_transformer_of_one_sample():
    X = np.exp(samples())
    transformer = PowerTransformer("box-cox").fit(X)
    one, V = X[:1], directions()[:1]
    expected = power_slope(transformer, one)[:, None] * V
    np.testing.assert_allclose(push_forward(transformer, one, V), expected, rtol=1e-8)


SMOOTH = [
    (Normalizer(), lambda x: x / torch.linalg.norm(x)),
    (FunctionTransformer(np.tanh), torch.tanh),
    (
        FunctionTransformer(lambda X: np.exp(X).cumsum(axis=1)),
        lambda x: torch.cumsum(torch.exp(x), 0),
    ),
]


@pytest.mark.parametrize("length", [1e-9, 1.0, 1e9])
@pytest.mark.parametrize(("transformer", "function"), SMOOTH, ids=["normalize", "tanh", "cumsum"])
def test_smooth_against_autograd(transformer, function, length):
    X, V = samples(), length * directions()
    assert_close(push_forward(transformer, X, V), by_autograd(function, X, V), 1e-9)


def test_polynomial_features_against_autograd():
    X, V = samples(), directions()
    transformer = PolynomialFeatures(3).fit(X)
    powers = torch.tensor(transformer.powers_)
    expected = by_autograd(lambda x: torch.prod(x**powers, dim=1), X, V)
    assert_close(push_forward(transformer, X, V), expected, 1e-9)
    # Zero is a stationary point of a square, and no kink.
    X[:] = 0
    expected = by_autograd(lambda x: torch.prod(x**powers, dim=1), X, V)
    np.testing.assert_allclose(push_forward(transformer, X, V), expected, atol=1e-9)


def test_kernels_against_autograd():
    X, V = samples(), directions()
    nystroem = Nystroem(gamma=0.1, n_components=10, random_state=0).fit(X)
    centers, normalization = map(torch.tensor, (nystroem.components_, nystroem.normalization_))

    def kernel(x):
        return torch.exp(-0.1 * ((x - centers) ** 2).sum(1)) @ normalization.T

    assert_close(push_forward(nystroem, X, V), by_autograd(kernel, X, V), 1e-8)

    kpca = KernelPCA(3, kernel="rbf", gamma=0.1).fit(X)
    fitted = torch.tensor(X)
    vectors = torch.tensor(kpca.eigenvectors_ / np.sqrt(kpca.eigenvalues_))
    mean = torch.exp(-0.1 * torch.cdist(fitted, fitted) ** 2).mean(0)

    def centered_kernel(x):
        row = torch.exp(-0.1 * ((x - fitted) ** 2).sum(1))
        return (row - row.mean() - mean + mean.mean()) @ vectors

    assert_close(push_forward(kpca, X, V), by_autograd(centered_kernel, X, V), 1e-8)


def test_spline_against_its_derivative():
    X, V = samples(), directions()
    spline = SplineTransformer(n_knots=4, degree=3, extrapolation="constant").fit(X)
    inside = np.linspace(-0.5, 0.5, 30)[:, None] * np.ones(D)
    slopes = [b.derivative()(inside[:, j]) for j, b in enumerate(spline.bsplines_)]
    n_splines = slopes[0].shape[1]
    expected = np.concatenate([s[:, None] * V[:30, :, [j]] for j, s in enumerate(slopes)], axis=2)
    assert expected.shape[2] == n_splines * D
    assert_close(push_forward(spline, inside, V[:30]), expected, 1e-8)


def test_near_the_border_of_the_domain():
    X = samples() ** 2
    X[:, 0] = np.logspace(-9, 2, N)
    V = directions()
    for function, slope in [(np.sqrt, 0.5 / np.sqrt(X)), (np.log, 1 / X)]:
        pushed = push_forward(FunctionTransformer(function), X, V)
        np.testing.assert_allclose(pushed, slope[:, None] * V, rtol=1e-6)
    pushed = push_forward(FunctionTransformer(np.log1p), X - 1 + 1e-6, V)
    np.testing.assert_allclose(pushed, (1 / (X + 1e-6))[:, None] * V, rtol=1e-6)


@pytest.mark.parametrize("function", [np.sqrt, np.log])
def test_on_the_border_of_the_domain(function):
    X = samples() ** 2
    X[3, 2] = 0
    with pytest.raises(ValueError, match="FunctionTransformer .*NaN or infinity"):
        push_forward(FunctionTransformer(function), X, directions())
    V = directions()
    V[3, :, 2] = 0
    if function is np.sqrt:
        assert (push_forward(FunctionTransformer(function), X, V)[3, :, 2] == 0).all()


@pytest.mark.parametrize(
    "transformer",
    [
        KBinsDiscretizer(strategy="uniform"),
        KBinsDiscretizer(encode="ordinal", strategy="uniform"),
        OneHotEncoder(),
        OneHotEncoder(handle_unknown="ignore"),
        OrdinalEncoder(),
        Binarizer(threshold=0.3),
        FunctionTransformer(np.floor),
        QuantileTransformer(n_quantiles=N),
    ],
    ids=str,
)
@pytest.mark.parametrize("n", [N, 1])
def test_no_derivative(transformer, n):
    X = samples()
    transformer.fit(X)
    with pytest.raises(ValueError, match=f"transformer {type(transformer).__name__}"):
        push_forward(transformer, X[:n], directions()[:n])


def test_a_kink_at_every_sample():
    with pytest.raises(ValueError, match="kink or a jump at 100%"):
        push_forward(FunctionTransformer(np.abs), np.zeros((4, D)), directions()[:4])


def test_one_output_without_a_derivative_among_many():
    X = samples()
    X[:, 0] = 0
    many = FunctionTransformer(lambda X: np.hstack([np.abs(X[:, :1]), *[np.sin(X)] * 10]))
    with pytest.raises(ValueError, match="kink or a jump at 100%"):
        push_forward(many, X, directions())


def test_between_kinks():
    X = np.random.default_rng(0).random((N, 1))
    V = np.ones((N, 1, 1))
    transformer = QuantileTransformer(n_quantiles=4).fit(X)
    knots, levels = transformer.quantiles_[:, 0], transformer.references_
    inside = np.random.default_rng(1).uniform(knots[0], knots[-1], size=(N, 1))
    slope = (np.diff(levels) / np.diff(knots))[np.searchsorted(knots, inside[:, 0]) - 1]
    np.testing.assert_allclose(push_forward(transformer, inside, V).ravel(), slope, rtol=1e-8)


def test_few_kinks_get_the_mean_of_both_sides():
    X, V = samples(), directions()
    clipped = MinMaxScaler(clip=True).fit(X)
    pushed = push_forward(clipped, X, V)
    factor = np.where((X.min(axis=0) == X) | (X.max(axis=0) == X), 0.5, 1.0) * clipped.scale_
    np.testing.assert_allclose(pushed, factor[:, None] * V, rtol=1e-9)


def test_continuous_but_locally_constant_is_no_jump():
    X, V = samples() - 10, directions()
    relu = FunctionTransformer(lambda X: np.maximum(X, -8.0))
    assert push_forward(relu, X[:1], V[:1]).shape == (1, T, D)


def frame(n=N):
    X = pd.DataFrame(samples(SCALES, n=n), columns=list("abcdef"))
    X["kind"] = np.arange(n) % 3
    return X


def columns():
    return ColumnTransformer(
        [
            ("scaled", make_pipeline(StandardScaler(), PCA(2)), ["c", "a"]),
            ("power", PowerTransformer(), ["d"]),
            ("left", "drop", ["e"]),
            ("kept", "passthrough", ["b"]),
            ("kind", OneHotEncoder(), ["kind"]),
        ],
        remainder=StandardScaler(),
        transformer_weights={"scaled": 2.0},
    )


@pytest.mark.parametrize("output", ["default", "pandas"])
def test_column_transformer(output):
    X = frame()
    transformer = columns()
    if output == "pandas":
        transformer.set_params(kind__sparse_output=False).set_output(transform="pandas")
    transformer.fit(X)
    V = np.concatenate([directions(SCALES), np.zeros((N, T, 1))], axis=2)
    pushed = push_forward(transformer, X, V)
    fitted = transformer.named_transformers_
    expected = [
        2 * V[..., [2, 0]] @ matrix_of(fitted["scaled"]).T,
        V[..., [3]] * power_slope(fitted["power"], X[["d"]].to_numpy())[:, None],
        V[..., [1]],
        np.zeros((N, T, 3)),
        V[..., [5]] / fitted["remainder"].scale_,
    ]
    np.testing.assert_allclose(pushed, np.concatenate(expected, axis=2), rtol=1e-8, atol=1e-12)
    assert pushed.shape[2] == transformer.transform(X).shape[1]
    V[..., -1] = 1
    with pytest.raises(ValueError, match="transformer OneHotEncoder"):
        push_forward(transformer, X, V)


def test_column_transformer_by_position():
    X, V = samples(SCALES), directions(SCALES)
    mask = np.array([True, False, False, True, False, False])
    transformer = ColumnTransformer(
        [
            ("slice", StandardScaler(), slice(1, 3)),
            ("mask", MaxAbsScaler(), mask),
            ("none", StandardScaler(), []),
        ],
        remainder="passthrough",
    ).fit(X)
    fitted = transformer.named_transformers_
    expected = [V[..., 1:3] / fitted["slice"].scale_, V[..., mask] / fitted["mask"].scale_]
    expected = np.concatenate([*expected, V[..., 4:]], axis=2)
    np.testing.assert_allclose(push_forward(transformer, X, V), expected, rtol=1e-12)


def test_column_transformer_that_cannot_be_taken_apart():
    X, V = frame()[list("abcdef")], directions(SCALES)
    one = FunctionTransformer(lambda column: np.asarray(column)[:, None] ** 2)
    transformer = ColumnTransformer([("one", one, "b"), ("rest", "passthrough", ["f"])]).fit(X)
    expected = np.stack([2 * X["b"].to_numpy()[:, None] * V[..., 1], V[..., 5]], axis=2)
    assert_close(push_forward(transformer, X, V), expected, 1e-8)
    # The same columns in another order are the same columns.
    order = [5, 4, 3, 2, 1, 0]
    turned = push_forward(transformer, X.iloc[:, order], V[..., order])
    assert_close(turned, expected, 1e-8)


def test_feature_union():
    X, V = samples(), directions()
    union = FeatureUnion(
        [
            ("pca", PCA(2)),
            ("square", FunctionTransformer(np.square)),
            ("gone", "drop"),
            ("same", "passthrough"),
        ],
        transformer_weights={"pca": 3.0},
    ).fit(X)
    expected = [3 * V @ union["pca"].components_.T, 2 * X[:, None] * V, V]
    assert_close(push_forward(union, X, V), np.concatenate(expected, axis=2), 1e-9)


def test_chain_rule():
    X, V = samples(SCALES, 3), directions(SCALES)
    pipeline = make_pipeline(StandardScaler(), "passthrough", PowerTransformer(), PCA(3)).fit(X)
    scaled = pipeline[0].transform(X)
    expected = V / pipeline[0].scale_ * power_slope(pipeline[2], scaled)[:, None]
    expected = expected @ pipeline[3].components_.T
    assert_close(push_forward(pipeline, X, V), expected, 1e-10)


def test_a_subclass_is_a_function_like_any_other():
    class Doubled(Pipeline):
        def transform(self, X):
            return 2 * super().transform(X)

    X, V = samples(), directions()
    pipeline = Doubled([("scale", StandardScaler())]).fit(X)
    assert_close(push_forward(pipeline, X, V), 2 * V / pipeline[0].scale_, 1e-12)


@pytest.mark.parametrize("output", ["default", "pandas"])
@pytest.mark.parametrize("transformer", [StandardScaler(), PowerTransformer()], ids=str)
def test_frames_go_in_and_arrays_come_out(transformer, output, recwarn):
    X, V = frame()[list("abcdef")], directions(SCALES)
    pipeline = make_pipeline(transformer, PCA(2)).set_output(transform=output).fit(X)
    pushed = push_forward(pipeline, X, V)
    assert type(pushed) is np.ndarray
    assert pushed.shape == (N, T, 2)
    assert not [w for w in recwarn if "feature names" in str(w.message)]


@pytest.mark.parametrize("transformer", [StandardScaler(), PowerTransformer()], ids=str)
def test_dtypes(transformer):
    X, V = samples(), directions()
    transformer.fit(X)
    single = push_forward(transformer, X.astype("float32"), V.astype("float32"))
    double = push_forward(
        transformer, X.astype("float32").astype(float), V.astype("float32").astype(float)
    )
    assert single.dtype == "float32"
    assert double.dtype == "float64"
    np.testing.assert_array_equal(single, double.astype("float32"))
    assert push_forward(transformer, [[1] * D], np.ones((1, 1, D), dtype=int)).dtype == "float64"


def test_a_transformer_in_single_precision():
    X, V = samples(), directions()
    rounding = FunctionTransformer(lambda X: X.astype("float32") ** 2)
    assert_close(push_forward(rounding, X, V), 2 * X[:, None] * V, 1e-5)


def test_nothing_is_changed():
    X, V = samples(), directions()
    copies = X.copy(), V.copy()
    pipeline = make_pipeline(
        StandardScaler(copy=False), PowerTransformer(copy=False), Normalizer(copy=False)
    ).fit(X.copy())
    before = pickle.dumps(pipeline)
    result = push_forward(pipeline, X, V)
    assert pickle.dumps(pipeline) == before
    np.testing.assert_array_equal(X, copies[0])
    np.testing.assert_array_equal(V, copies[1])
    np.testing.assert_array_equal(push_forward(pipeline, X, V), result)


def test_read_only_and_broadcast_tangents():
    X = samples()
    scaler = StandardScaler().fit(X)
    pushed = push_forward(scaler, X, FeatureTangents()(X))
    np.testing.assert_allclose(pushed, np.tile(np.diag(1 / scaler.scale_), (N, 1, 1)), rtol=1e-14)
    assert (push_forward(PowerTransformer().fit(X), X, np.zeros((N, 1, D))) == 0).all()


@pytest.mark.parametrize("transformer", [StandardScaler(), Normalizer()], ids=str)
def test_memory_is_bounded(transformer):
    X = np.random.default_rng(0).random((2000, 400), dtype="float32")
    V = np.broadcast_to(X[:, None], (2000, 20, 400))
    transformer.fit(X)
    tracemalloc.start()
    pushed = push_forward(transformer, X, V)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak - pushed.nbytes < 250e6


def test_unfitted():
    class Mine(TransformerMixin, BaseEstimator):
        def fit(self, X, y=None):
            self.mean_ = X.mean(axis=0)
            return self

        def transform(self, X):
            return X - self.mean_

    for transformer in (StandardScaler(), make_pipeline(PCA(2)), columns(), Mine()):
        with pytest.raises(NotFittedError):
            push_forward(transformer, frame(), np.ones((N, 1, 7)))
    Mine().fit(samples())


@pytest.mark.parametrize(
    ("transformer", "error", "message"),
    [
        (StandardScaler, TypeError, "transformer must be a fitted transformer"),
        (None, TypeError, "transformer must be a fitted transformer"),
        (FunctionTransformer(lambda X: X * 1j), TypeError, "must return real numbers"),
        (FunctionTransformer(lambda X: X[:1]), ValueError, "must return a row for each sample"),
        (FunctionTransformer(lambda X: X * np.nan), ValueError, "turns X into NaN or infinity"),
    ],
)
def test_strange_transformers(transformer, error, message):
    with pytest.raises(error, match=message):
        push_forward(transformer, samples(), directions())


def test_a_derivative_that_is_zero():
    X = samples()
    # A longer vector has the same direction.
    pushed = push_forward(Normalizer(), X, X[:, None])
    np.testing.assert_allclose(pushed, np.zeros((N, 1, D)), atol=1e-12)


def test_noise_is_no_function():
    noise = FunctionTransformer(lambda X: X + np.random.default_rng().normal(size=X.shape))
    with pytest.raises(ValueError, match="kink or a jump"):
        push_forward(noise, samples(), directions())


@pytest.mark.parametrize(
    ("X", "V", "error", "message"),
    [
        (samples(), samples(), ValueError, r"\(60, n_tangents, 6\).*add its axis"),
        (samples(), directions()[:5], ValueError, r"\(60, n_tangents, 6\), got \(5, 3, 6\)"),
        (samples(), directions()[:, :0], ValueError, "no tangent"),
        (samples(), directions() * np.nan, ValueError, "tangents holds NaN"),
        (samples(), directions().astype(str), TypeError, "tangents must be one array of numbers"),
        (samples(), directions() * 1j, TypeError, "tangents must be one array of numbers"),
        (samples() * np.nan, directions(), ValueError, "X contains NaN"),
        (sparse.csr_array(np.eye(D)), directions()[:D], TypeError, "[Ss]parse"),
        (samples()[:, :3], directions()[:, :, :3], ValueError, "expecting 6 features"),
        (pd.DataFrame({"a": ["x"]}), np.ones((1, 1, 1)), TypeError, r"numeric.*\['a'\]"),
    ],
)
def test_wrong_input(X, V, error, message):
    with pytest.raises(error, match=message):
        push_forward(StandardScaler().fit(samples()), X, V)


def test_too_large_for_single_precision():
    X = samples().astype("float32")
    with pytest.raises(ValueError, match="StandardScaler .* too large for float32"):
        push_forward(StandardScaler().fit(X * 1e-30), X, 1e30 * directions())
