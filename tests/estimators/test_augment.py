import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import BaseEstimator
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state

from sktangent import TangentPropClassifier, TangentPropRegressor
from sktangent.estimators.input_map import InputMap
from sktangent.estimators.moved_rows import MovedRows, largest_amounts
from sktangent.estimators.tangent_rows import NetworkUnits
from sktangent.preprocessing import GaussianBlur
from sktangent.tangents import FeatureTangents, ImageTangents, TangentUnion
from sktangent.training.batches import TensorBatches


class Recording(BaseEstimator):
    """Tangents along the first two features, that remember what they were asked."""

    asked: dict = {}

    def __init__(self, name="recording"):
        self.name = name

    def __call__(self, X):
        self._note("tangents", X)
        return np.broadcast_to(np.eye(2, X.shape[1]), (len(X), 2, X.shape[1])).astype(X.dtype)

    def move(self, X, amounts):
        self._note("samples", X)
        self._note("amounts", amounts)
        return X + np.pad(amounts, [(0, 0), (0, X.shape[1] - 2)]).astype(X.dtype)

    def combine(self, X, coefficients):
        self._note("coefficients", coefficients)
        return np.einsum("nkt,nt...->nk...", coefficients, self(X)).astype(X.dtype)

    def _note(self, what, array):
        self.asked.setdefault(self.name, {}).setdefault(what, []).append(np.array(array))


@pytest.fixture
def record():
    Recording.asked.clear()
    return lambda what: np.concatenate(Recording.asked["recording"][what])


def classifier(tangents=None, augment=0.5, **params):
    tangents = Recording() if tangents is None else tangents
    params = {"hidden_layer_sizes": 4, "max_epochs": 3, "batch_size": 20, **params}
    return TangentPropClassifier(tangents, augment=augment, random_state=0, **params)


def weights(model):
    return [parameter.detach().numpy() for parameter in model.module_.parameters()]


def assert_same(one, other, equal=True):
    same = all(np.array_equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))
    assert same == equal


def test_every_sample_is_moved_anew_in_every_epoch(X, labels, record):
    classifier().fit(X, labels)
    # The first two of each are the tries before training.
    amounts, samples = record("amounts")[2:], record("samples")[2:]
    assert amounts.shape == (3 * 60, 2)
    assert len(np.unique(amounts)) == amounts.size
    assert np.abs(amounts).max() <= 0.5
    assert amounts.max() > 0.4 and amounts.min() < -0.4
    for epoch in np.split(samples, 3):
        np.testing.assert_array_equal(epoch[np.lexsort(epoch.T)], X[np.lexsort(X.T)])


def test_tangents_are_taken_where_the_samples_have_moved_to(X, labels, record):
    classifier(max_epochs=1).fit(X, labels)
    moved = record("samples")[2:] + np.pad(record("amounts")[2:], [(0, 0), (0, 2)])
    np.testing.assert_array_equal(record("tangents")[-60:], moved)


def test_the_network_sees_the_moved_samples(X, labels, record):
    seen = []

    class Watching(torch.nn.Linear):
        def forward(self, x):
            if self.training:
                seen.append(x.numpy(force=True))
            return super().forward(x)

    model = classifier(
        module=lambda n_features, n_outputs: Watching(n_features, n_outputs),
        penalty_weight=0,
        max_epochs=1,
    ).fit(X, labels)
    moved = record("samples")[2:] + np.pad(record("amounts")[2:], [(0, 0), (0, 2)])
    np.testing.assert_allclose(np.concatenate(seen), moved)
    assert model.penalty_curve_ == [0.0]


def test_validation_and_prediction_never_move(X, labels, record):
    model = classifier(early_stopping=True, validation_fraction=0.25, max_epochs=5).fit(X, labels)
    distinct = np.unique(record("samples"), axis=0)
    assert len(distinct) == 45
    n_calls = len(Recording.asked["recording"]["samples"])
    model.predict(X)
    model.score(X, labels)
    model.directional_derivative(X)
    model.jacobian(X)
    assert len(Recording.asked["recording"]["samples"]) == n_calls


@pytest.mark.usefixtures("record")
def test_folds_of_a_search_move_training_samples_alone(X, labels):
    folds = [(np.arange(40), np.arange(40, 60)), (np.arange(20, 60), np.arange(20))]
    grid = {"tangentpropclassifier__augment": [0, 0.3]}
    model = make_pipeline(StandardScaler(), classifier())
    search = GridSearchCV(model, grid, cv=folds, refit=False, error_score="raise")
    search.fit(X, labels)
    # Two tries and three epochs of two batches in each fold, with the second amount alone.
    samples = Recording.asked["recording"]["samples"]
    assert len(samples) == len(folds) * (2 + 3 * 2)
    for fold, (train, _) in enumerate(folds):
        calls = np.concatenate(samples[fold * 8 : fold * 8 + 8])
        expected = StandardScaler().fit_transform(X[train])
        np.testing.assert_allclose(np.unique(calls, axis=0), np.unique(expected, axis=0))


def test_random_labels_stay_at_chance():
    random = np.random.default_rng(0)
    X, y = random.normal(size=(200, 4)), random.permutation(np.repeat([0, 1], 100))
    scores = cross_val_score(
        classifier(FeatureTangents(), augment=0.3, max_epochs=30, penalty_weight=0), X, y, cv=5
    )
    assert abs(scores.mean() - 0.5) < 0.1


def test_the_same_random_state_gives_the_same_model(X, labels):
    one, other = (classifier(FeatureTangents()).fit(X, labels) for _ in range(2))
    assert_same(one, other)
    assert_same(one, classifier(FeatureTangents()).set_params(random_state=1).fit(X, labels), False)


def test_global_random_states_are_left_alone(X, labels):
    numpy_state = check_random_state(None)
    torch_before, numpy_before = torch.get_rng_state(), numpy_state.get_state()[1].copy()
    classifier(FeatureTangents(), n_projections=1).fit(X, labels)
    assert torch.equal(torch.get_rng_state(), torch_before)
    np.testing.assert_array_equal(numpy_state.get_state()[1], numpy_before)


@pytest.mark.parametrize("augment", [None, 0, 0.0, {}, {"x0": 0}])
def test_no_amount_changes_nothing(augment, X, labels):
    tangents = FeatureTangents()
    plain = TangentPropClassifier(
        tangents, hidden_layer_sizes=4, max_epochs=3, batch_size=20, random_state=0
    ).fit(X, labels)
    assert_same(plain, classifier(tangents, augment=augment).fit(X, labels))


def test_a_dict_moves_along_the_transformations_that_it_names(X, labels):
    union = TangentUnion([("some", FeatureTangents([0, 1])), ("rest", FeatureTangents([2, 3]))])
    for augment, amounts in [
        ({"some__x1": 2}, [0, 2, 0, 0]),
        ({"rest": 0.5}, [0, 0, 0.5, 0.5]),
        ({"x3": 1, "some": 3}, [3, 3, 0, 1]),
    ]:
        model = classifier(union, augment, max_epochs=1).fit(X, labels)
        np.testing.assert_array_equal(largest_amounts(augment, model.tangents_, X), amounts)


def test_combinations_are_asked_for_before_tangents_are_computed(X, labels, record):
    classifier(n_projections=1, max_epochs=1).fit(X, labels)
    coefficients = record("coefficients")
    assert coefficients.shape == (60, 1, 2)
    np.testing.assert_array_equal(np.abs(coefficients), 1)
    assert len(np.unique(coefficients, axis=0)) == 4
    assert np.abs(coefficients.mean(axis=0)).max() < 0.5


def test_combinations_estimate_the_penalty_of_all_tangents(X, labels):
    tangents = FeatureTangents(directions=np.random.default_rng(0).normal(size=(6, 4)))
    params = {"augment": 1e-9, "optimizer": "sgd", "lr": 1e-12, "alpha": 0}
    exact = classifier(tangents, max_epochs=1, **params).fit(X, labels).penalty_curve_
    for k in (1, 2):
        model = classifier(tangents, max_epochs=400, n_projections=k, **params)
        estimates = model.set_params(n_iter_no_change=np.inf).fit(X, labels).penalty_curve_
        assert np.std(estimates) > 0
        np.testing.assert_allclose(np.mean(estimates), exact, rtol=0.05)


def test_moves_in_regression(X, target):
    model = _regressor(augment=0.2, max_epochs=2).fit(X, target)
    assert np.isfinite(model.predict(X)).all()
    with pytest.raises(ValueError, match="cannot go with derivatives or their weights"):
        model.fit(X, target, derivative_weight=np.ones(4))


def test_a_regressor_leaves_newton_methods_to_samples_that_stay(X, target):
    few, y = X[:15], target[:15]
    assert type(_regressor().fit(few, y).net_.optimizer_).__name__ == "LevenbergMarquardt"
    assert type(_regressor(augment=0.1).fit(few, y).net_.optimizer_).__name__ == "Adam"
    with pytest.raises(ValueError, match="without noise; with augment=0.1"):
        _regressor(augment=0.1, optimizer="lbfgs").fit(few, y)


def _regressor(**params):
    return TangentPropRegressor(FeatureTangents(), hidden_layer_sizes=4, random_state=0, **params)


def test_moves_come_before_the_preprocessor(X, labels):
    model = classifier(FeatureTangents(), preprocessor=StandardScaler()).fit(10 * X, labels)
    frame = pd.DataFrame(10 * X, columns=list("abcd"))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*feature names")
        framed = classifier(FeatureTangents(), preprocessor=StandardScaler()).fit(frame, labels)
    for one, other in zip(weights(model), weights(framed), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9)
    scaler = model.preprocessor_
    rows = MovedRows(
        10 * X,
        10 * X,
        FeatureTangents(),
        np.array([1.0, 0, 0, 0]),
        _units(model),
        with_tangents=True,
        n_projections=None,
        seed=0,
    ).computed(slice(None))[np.arange(60)]
    moved = scaler.inverse_transform(rows["x"])
    np.testing.assert_allclose(moved[:, 1:], 10 * X[:, 1:])
    assert 0.5 < np.abs(moved[:, 0] - 10 * X[:, 0]).max() <= 1
    np.testing.assert_allclose(rows["tangents"][5], np.diag(1 / scaler.scale_))


def _units(model):
    return NetworkUnits(model._input_map(), model._target_scale)


def test_images_move_in_float32_behind_a_blur(labels):
    images = np.random.default_rng(0).random((60, 36), dtype=np.float32)
    model = classifier(
        ImageTangents((6, 6)), augment={"rotation": 1}, preprocessor=GaussianBlur((6, 6), 0.5)
    ).fit(images, labels)
    assert model.predict_proba(images).dtype == np.float32


def test_sample_weights_stay_with_their_samples(X, labels, record):
    weight = np.repeat([0.0, 1.0, 2.0], 20)
    classifier(max_epochs=1).fit(X, labels, sample_weight=weight)
    samples = record("samples")[2:]
    np.testing.assert_array_equal(np.sort(samples[:, 0]), np.sort(X[20:, 0]))


def test_partial_fit_moves_too(X, labels, record):
    model = classifier()
    for _ in range(2):
        model.partial_fit(X, labels, classes=["ham", "spam"])
    amounts = record("amounts")
    assert amounts.shape == (2 * 62, 2)
    assert not np.array_equal(amounts[2:62], amounts[64:])


def test_memory_mapped_samples_are_read_batch_by_batch(X, labels, tmp_path):
    mapped = np.memmap(tmp_path / "X", dtype=np.float64, mode="w+", shape=X.shape)
    mapped[...] = X
    read_only = np.memmap(tmp_path / "X", dtype=np.float64, mode="r", shape=X.shape)
    assert_same(
        classifier(FeatureTangents()).fit(X, labels),
        classifier(FeatureTangents()).fit(read_only, labels),
    )


def test_a_kind_of_a_users_own_without_combine(X, labels):
    class Own:
        def __call__(self, X):
            return np.ones((len(X), 3, X.shape[1]))

        def move(self, X, amounts):
            return X + amounts.sum(axis=1, keepdims=True)

    model = classifier(Own(), n_projections=1).fit(X, labels)
    assert np.isfinite(model.penalty_curve_).all()
    with pytest.raises(ValueError, match="must be a number where tangents have no names"):
        classifier(Own(), augment={"own": 1}).fit(X, labels)


def with_slopes(X):
    return np.ones((len(X), 1, X.shape[1])), np.ones((len(X), 1))


def with_zeros(X):
    return np.ones((len(X), 1, X.shape[1])), np.zeros((len(X), 1))


class Movable:
    def __init__(self, tangents, moved=lambda X: X):
        self.tangents, self.moved = tangents, moved

    def __call__(self, X):
        return self.tangents(X)

    def move(self, X, amounts):
        return self.moved(X)


@pytest.mark.parametrize(
    ("tangents", "augment", "error", "message"),
    [
        (FeatureTangents(), -1, ValueError, "'augment' parameter"),
        (FeatureTangents(), np.nan, ValueError, "'augment' parameter|augment must"),
        (FeatureTangents(), np.inf, ValueError, "'augment' parameter"),
        (FeatureTangents(), "much", ValueError, "'augment' parameter"),
        (FeatureTangents(), {"x0": -1}, ValueError, r"augment\['x0'\] must be finite and zero or"),
        (FeatureTangents(), {"x0": np.nan}, ValueError, r"augment\['x0'\]"),
        (FeatureTangents(), {"x0": "much"}, TypeError, r"augment\['x0'\] must be a number"),
        (FeatureTangents(), {"x0": None}, TypeError, r"augment\['x0'\] must be a number"),
        (
            FeatureTangents(),
            {"y": 1},
            ValueError,
            r"augment has 'y', which is none of .*'x0', 'x1'",
        ),
        (FeatureTangents(), {"y": 0}, ValueError, "augment has 'y'"),
        (FeatureTangents(), {3: 1}, ValueError, "augment has 3"),
        (
            TangentUnion([("a", FeatureTangents())]),
            {"a": 1, "x0": 1},
            ValueError,
            "must not name a transformation twice",
        ),
        (lambda X: np.ones((len(X), 1, 4)), 1, TypeError, "that can move.*TransformTangents"),
        (ImageTangents((2, 2)), {"rotatoin": 1}, ValueError, "Did you mean 'rotation'"),
        (TangentUnion([lambda X: np.ones((len(X), 1, 4))]), 1, TypeError, "cannot move samples"),
        (ImageTangents((2, 2)), 2, ValueError, "augment=2 .*'translation_x' must be below 2"),
        (None, 1, ValueError, "augment=1 needs the parameter tangents"),
        (Movable(with_slopes), 1, ValueError, "augment cannot go with wanted derivatives"),
        (Movable(with_zeros, lambda X: X[:, :2]), 1, ValueError, "must return .*4.*, got .*2"),
        (Movable(with_zeros, lambda X: X * np.nan), 1, ValueError, "NaN or infinity"),
    ],
)
def test_wrong_values_are_named_before_training(tangents, augment, error, message, X, labels):
    model = TangentPropClassifier(tangents, augment=augment, max_epochs=1)
    with pytest.raises(error, match=message):
        model.fit(X, labels)
    assert not hasattr(model, "net_")


def test_derivatives_of_zero_go_with_moves(X, labels):
    classifier(Movable(with_zeros)).fit(X, labels)


def test_what_does_not_go_with_moves_is_named(X, labels, target):
    with pytest.raises(ValueError, match="augment=0.5 cannot go with derivatives"):
        classifier(FeatureTangents()).fit(X, labels, derivatives=np.zeros((60, 4, 2)))
    with pytest.raises(ValueError, match="none in fit, which belong to samples that stay"):
        classifier(FeatureTangents()).fit(X, labels, tangents=np.ones((60, 1, 4)))
    with pytest.raises(ValueError, match="leave out .*iterator_train__num_workers"):
        classifier(FeatureTangents(), iterator_train__num_workers=0).fit(X, labels)
    classifier(FeatureTangents(), iterator_train__batch_size=10).fit(X, labels)


def test_a_helper_changes_nothing_but_the_time():
    images = np.random.default_rng(0).random((90, 36), dtype=np.float32)

    def epochs(takes_long):
        rows = MovedRows(
            images,
            images,
            ImageTangents((6, 6)),
            np.ones(6),
            NetworkUnits(InputMap(None, images.dtype), np.ones(1)),
            with_tangents=True,
            n_projections=2,
            seed=0,
        ).computed(np.arange(80))
        rows.takes_long = takes_long
        batches = TensorBatches({"x": rows}, batch_size=7)
        return [
            {name: torch.cat([X[name] for X, _ in batches]) for name in ("x", "tangents")}
            for _ in range(2)
        ]

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        in_turn, helped, again = epochs(False), epochs(True), epochs(True)
    finally:
        torch.set_num_threads(before)
    for one, other, same in zip(in_turn, helped, again, strict=True):
        for name, part in one.items():
            np.testing.assert_allclose(other[name], part, rtol=1e-5, atol=1e-6)
            np.testing.assert_array_equal(other[name], same[name])
    assert not np.allclose(helped[0]["x"], helped[1]["x"])
