"""Known derivatives: as a Jacobian, along tangents, with gaps, in any units, with weights."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import config_context
from sklearn.base import clone
from sklearn.model_selection import cross_validate, train_test_split
from sklearn.preprocessing import StandardScaler

from sktangent import TangentPropClassifier, TangentPropRegressor
from sktangent.modules import MLP
from sktangent.tangents import FeatureTangents


def quick(tangents=None, **params):
    return TangentPropRegressor(
        tangents, **{"max_epochs": 20, "lr": 0.01, "optimizer": "adam", "random_state": 0, **params}
    )


def function(X):
    """Return two outputs of very different scale."""
    return np.column_stack([np.sin(X[:, 0]) * X[:, 1], 1000 * X[:, 0] * X[:, 1] ** 2])


def slopes(X):
    """Return the Jacobian of ``function``, (n_samples, n_features, n_outputs)."""
    a, b = X.T
    by_a = np.stack([np.cos(a) * b, 1000 * b**2], axis=1)
    by_b = np.stack([np.sin(a), 2000 * a * b], axis=1)
    return np.stack([by_a, by_b], axis=1)


@pytest.fixture
def X():
    return np.random.default_rng(0).uniform(-1, 1, size=(40, 2))


@pytest.fixture
def y(X):
    return function(X)[:, 0]


@pytest.fixture
def D(X):
    return slopes(X)[:, :, 0]


def with_gaps(D, fraction=0.5):
    D = D.copy()
    D[np.random.default_rng(1).random(D.shape) < fraction] = np.nan
    return D


def test_the_jacobian_is_learned(X, y, D):
    params = {"lr": "auto", "max_epochs": 60, "hidden_layer_sizes": (20,)}
    told = quick(optimizer="lbfgs", **params).fit(X, y, derivatives=D)
    other = np.random.default_rng(2).uniform(-0.9, 0.9, size=(100, 2))
    error = told.jacobian(other)[:, 0] - slopes(other)[:, :, 0]
    assert np.abs(error).max() < 0.1
    plain = quick(optimizer="lbfgs", **params).fit(X, y)
    errors = plain.jacobian(other)[:, 0] - slopes(other)[:, :, 0]
    assert np.mean(error**2) < 0.1 * np.mean(errors**2)


def test_outputs_of_different_scale_learn_their_jacobians(X):
    model = quick(optimizer="lbfgs", lr="auto", hidden_layer_sizes=(30,))
    model.fit(X, function(X), derivatives=slopes(X))
    J = model.jacobian(X).swapaxes(1, 2)
    assert (np.abs(J - slopes(X)).max(axis=(0, 1)) < [0.05, 50.0]).all()


def test_the_shapes_of_a_jacobian(X, y, D):
    flat, deep = (quick().fit(X, y, derivatives=d).predict(X) for d in (D, D[:, :, None]))
    np.testing.assert_array_equal(flat, deep)
    listed = quick().fit(X, y, derivatives=pd.DataFrame(D)).predict(X)
    np.testing.assert_array_equal(flat, listed)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((40,), r"shape \(40, 2, 1\) or \(40, 2\).*Got \(40,\)"),
        ((40, 3), r"Got \(40, 3\)"),
        ((39, 2), r"Got \(39, 2\)"),
        ((40, 1, 2), r"Got \(40, 1, 2\)"),
        ((40, 2, 2), r"Got \(40, 2, 2\)"),
    ],
)
def test_wrong_shapes(shape, message, X, y):
    with pytest.raises(ValueError, match=message):
        quick().fit(X, y, derivatives=np.zeros(shape))


def test_several_outputs_need_the_axis_of_the_outputs(X):
    with pytest.raises(ValueError, match=r"shape \(40, 2, 2\): .*Got \(40, 2\)"):
        quick().fit(X, function(X), derivatives=np.zeros((40, 2)))


def test_wrong_values(X, y, D):
    D[3, 1] = np.inf
    with pytest.raises(ValueError, match="derivatives holds infinity"):
        quick().fit(X, y, derivatives=D)
    with pytest.raises(ValueError, match="derivatives must be one array of numbers"):
        quick().fit(X, y, derivatives=[[1.0], [1.0, 2.0]])
    with pytest.raises(TypeError, match="derivatives must be one array of numbers"):
        quick().fit(X, y, derivatives=np.full((40, 2), "steep"))
    with pytest.raises(ValueError, match=r"shape \(40, 3, 1\)"):
        quick().fit(X, y, tangents=np.ones((40, 3, 2)), derivatives=np.ones((40, 2)))


def test_along_an_array_along_a_callable_and_from_a_callable(X, y, D):
    directions = FeatureTangents(directions=[[0.6, 0.8], [1.0, -1.0], [2.0, 0.0]])
    V = directions(X)
    d = np.einsum("ntf,nf->nt", V, D)
    fits = [
        quick().fit(X, y, tangents=V, derivatives=d),
        quick(directions).fit(X, y, derivatives=d),
        quick(lambda X: (directions(X), np.einsum("ntf,nf->nt", V, D))).fit(X, y),
        quick(lambda X: (directions(X), np.zeros((40, 3)))).fit(X, y, derivatives=d),
        quick().fit(X, y, tangents=lambda X: (directions(X), d)),
    ]
    for model in fits[1:]:
        np.testing.assert_array_equal(model.predict(X), fits[0].predict(X))
    flat = quick(directions).fit(X, y)
    assert not np.allclose(flat.predict(X), fits[0].predict(X))
    assert fits[0].penalty_curve_[-1] < 0.7 * fits[0].penalty_curve_[0]


def test_zero_is_invariance(X, y):
    zero = quick(FeatureTangents()).fit(X, y, derivatives=np.zeros((40, 2)))
    np.testing.assert_allclose(zero.predict(X), quick(FeatureTangents()).fit(X, y).predict(X))


def test_gaps_drop_out_exactly(X):
    Y, V = function(X), FeatureTangents()(X)
    d = slopes(X)
    unknown = np.random.default_rng(1).random((40, 2)) < 0.5
    gaps = np.where(unknown[:, :, None], np.nan, d)
    with_nan = quick().fit(X, Y, tangents=V, derivatives=gaps)
    by_hand = quick().fit(
        X,
        Y,
        tangents=np.where(unknown[:, :, None], 0.0, V),
        derivatives=np.where(unknown[:, :, None], 0.0, d),
    )
    np.testing.assert_allclose(with_nan.predict(X), by_hand.predict(X), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(with_nan.penalty_curve_, by_hand.penalty_curve_, rtol=1e-10)
    full = quick().fit(X, Y, tangents=V, derivatives=d)
    assert not np.allclose(full.predict(X), with_nan.predict(X))


@pytest.mark.parametrize("gaps", [False, True])
def test_a_loop_written_by_hand_gives_the_same(gaps, X):
    Y, D = function(X), slopes(X)
    D = with_gaps(D) if gaps else D
    torch.manual_seed(0)
    start = MLP(2, 2, (10,)).double()
    model = quick(module=start, optimizer="sgd", alpha=0.0, lr=0.05, penalty_weight=0.3)
    model.fit(X, Y, derivatives=D)

    scaled = torch.tensor((Y - Y.mean(axis=0)) / Y.std(axis=0))
    wanted = torch.tensor(D * X.std(axis=0)[:, None] / Y.std(axis=0))
    optimizer = torch.optim.SGD(start.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    for _ in range(20):
        x = torch.tensor(X, requires_grad=True)
        out = start(x)
        loss = (out - scaled).square().sum() / 40
        for output in range(2):
            (gradient,) = torch.autograd.grad(out[:, output].sum(), x, create_graph=True)
            term = gradient * torch.tensor(X.std(axis=0)) - wanted[:, :, output]
            loss = loss + 0.3 * term[~wanted[:, :, output].isnan()].square().sum() / 40
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    expected = start(torch.tensor(X)).detach().numpy() * Y.std(axis=0) + Y.mean(axis=0)
    np.testing.assert_allclose(model.predict(X), expected, rtol=1e-10, atol=1e-9)


def test_nothing_known_is_no_penalty(X, y, D):
    nothing = quick().fit(X, y, derivatives=np.full((40, 2), np.nan))
    np.testing.assert_allclose(nothing.predict(X), quick().fit(X, y).predict(X), rtol=1e-10)
    assert set(nothing.penalty_curve_) == {0.0}


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_units_of_samples_and_targets_do_not_matter(optimizer, X):
    model = quick(preprocessor=StandardScaler(), optimizer=optimizer, lr="auto")
    model.fit(X, function(X), derivatives=with_gaps(slopes(X)))
    x_unit, y_unit = np.array([1024.0, 2.0**-7]), np.array([2.0**-10, 4096.0])
    d = with_gaps(slopes(X)) / x_unit[:, None] * y_unit  # powers of two, which round nothing
    other = clone(model).fit(X * x_unit, function(X) * y_unit, derivatives=d)
    np.testing.assert_allclose(other.predict(X * x_unit), model.predict(X) * y_unit, rtol=1e-9)
    np.testing.assert_allclose(other.penalty_curve_, model.penalty_curve_, rtol=1e-9)
    np.testing.assert_allclose(
        other.jacobian(X * x_unit), model.jacobian(X) * y_unit[:, None] / x_unit, rtol=1e-7
    )


def test_a_thousandfold_change_of_units(X, y, D):
    model = quick(preprocessor=StandardScaler()).fit(X, y, derivatives=D)
    other = quick(preprocessor=StandardScaler()).fit(X / 1000, y * 1000, derivatives=D * 1e6)
    np.testing.assert_allclose(other.predict(X / 1000), model.predict(X) * 1000, rtol=1e-6)


def test_a_feature_that_never_changes(X, y, D):
    X = np.column_stack([X, np.full(40, 7.0)])
    D = np.column_stack([D, np.full(40, np.nan)])
    assert np.isfinite(quick().fit(X, y, derivatives=D).predict(X)).all()


def test_without_normalization_derivatives_are_in_units_of_the_target(X, y, D):
    by_hand = quick(normalize_y=False).fit(X, (y - y.mean()) / y.std(), derivatives=D / y.std())
    inside = quick().fit(X, y, derivatives=D)
    expected = by_hand.predict(X) * y.std() + y.mean()
    np.testing.assert_allclose(inside.predict(X), expected, rtol=1e-9)


def test_samples_of_weight_zero(X, y, D):
    X[30:], y[30:], D[30:] = 50 * X[30:], 1e6, -1e6
    weight = np.r_[np.ones(30), np.zeros(10)]
    weighted = quick().fit(X, y, sample_weight=weight, derivatives=D)
    without = quick().fit(X[:30], y[:30], derivatives=D[:30])
    np.testing.assert_allclose(weighted.predict(X), without.predict(X), rtol=1e-10)


def test_weights_are_repetitions(X, y, D):
    weight = np.random.default_rng(0).integers(0, 4, size=40)
    weighted = quick().fit(X, y, sample_weight=weight, derivatives=D).predict(X)
    X_again, y_again, D_again = (part.repeat(weight, axis=0) for part in (X, y, D))
    repeated = quick().fit(X_again, y_again, derivatives=D_again).predict(X)
    np.testing.assert_allclose(weighted, repeated, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("source", ["jacobian", "callable", "callable in fit"])
def test_early_stopping_takes_the_training_samples_derivatives(source, X, y, D):
    train, valid = train_test_split(
        np.arange(40), test_size=0.25, random_state=np.random.RandomState(0)
    )
    wrong = D.copy()
    wrong[valid] = 1e9

    def tangents(X_seen):  # of some of the samples, or of all
        index = [np.flatnonzero((x == X).all(axis=1))[0] for x in X_seen]
        return FeatureTangents()(X_seen), wrong[index]

    model = quick(tangents if source == "callable" else None, early_stopping=True)
    model.set_params(validation_fraction=0.25, max_epochs=3)
    fit_params = {
        "jacobian": {"derivatives": wrong},
        "callable": {},
        "callable in fit": {"tangents": tangents},
    }[source]
    model.fit(X, y, **fit_params)
    assert 0 < model.penalty_curve_[0] < 100
    assert "valid_loss" in model.history_[-1]


def test_partial_fit_is_an_epoch_of_fit(X, y, D):
    fitted = quick(max_epochs=3).fit(X, y, derivatives=D)
    model = quick()
    for _ in range(3):
        model.partial_fit(X, y, derivatives=D)
    np.testing.assert_allclose(model.predict(X), fitted.predict(X), rtol=1e-10)


def test_partial_fit_keeps_the_units_of_the_first_part(X, y, D):
    model = quick().partial_fit(X, y, derivatives=D)
    other = clone(model).partial_fit(X, y, derivatives=D)
    model.partial_fit(X[:7], y[:7], derivatives=D[:7])
    tangents = FeatureTangents()(X[:7]) * X.std(axis=0)[:, None]
    other.partial_fit(X[:7], y[:7], tangents=tangents, derivatives=D[:7] * X.std(axis=0))
    np.testing.assert_allclose(model.predict(X), other.predict(X), rtol=1e-10)


def test_partial_fit_without_derivatives_at_first(X, y, D):
    model = quick().partial_fit(X, y).partial_fit(X, y, derivatives=D)
    assert model.penalty_curve_[0] == 0 < model.penalty_curve_[1]


def test_single_precision(X, y, D):
    model = quick().fit(X.astype(np.float32), y, derivatives=D)
    assert model.jacobian(X.astype(np.float32)).dtype == np.float32
    double = quick().fit(X, y, derivatives=D)
    np.testing.assert_allclose(model.predict(X), double.predict(X), atol=1e-3)
    inputs = quick(max_epochs=1, dtype="float32").fit(X, y, derivatives=with_gaps(D))
    assert np.isfinite(inputs.penalty_curve_).all()


def test_classifiers_take_derivatives_too(X):
    labels = np.digitize(X[:, 0], [-0.3, 0.3])
    wanted = np.zeros((40, 2, 3))
    wanted[:, 0] = [-3.0, 0.0, 3.0]
    wanted[:, 1] = np.nan
    model = TangentPropClassifier(max_epochs=400, lr=0.02, random_state=0)
    model.fit(X, labels, derivatives=wanted)
    J = model.jacobian(X)[:, :, 0]
    assert np.abs(J - wanted[:, 0]).mean() < 0.5
    with pytest.raises(ValueError, match=r"shape \(40, 2, 3\)"):
        model.fit(X, labels, derivatives=np.zeros((40, 2)))


def test_classifiers_take_derivatives_of_the_output_that_is_penalized(X):
    labels = (X[:, 0] > 0).astype(int)
    wanted = np.full((40, 2, 2), np.nan)
    wanted[:, 0] = [-0.5, 0.5]
    model = TangentPropClassifier(penalty_on="proba", penalty_weight=30.0, random_state=0)
    model.set_params(max_epochs=400, lr=0.02).fit(X, labels, derivatives=wanted)
    J = model.jacobian(X, output="proba")[:, :, 0]
    assert np.abs(J - wanted[:, 0]).mean() < 0.1


def test_weights_multiply_the_terms(X):
    Y, D = function(X), slopes(X)
    weighted = quick().fit(X, Y, derivatives=D, derivative_weight=[4.0, 0.25])
    root = np.array([2.0, 0.5]) * X.std(axis=0)
    V = FeatureTangents()(X) * root[:, None]
    by_hand = quick().fit(X, Y, tangents=V, derivatives=D * root[:, None])
    np.testing.assert_allclose(weighted.predict(X), by_hand.predict(X), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(weighted.penalty_curve_, by_hand.penalty_curve_, rtol=1e-9)


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs", "lm"])
def test_a_weight_of_zero_is_a_derivative_that_is_not_known(optimizer, X):
    rng = np.random.default_rng(0)
    Y, D = function(X), slopes(X)
    weight = (rng.random(D.shape) > 0.3).astype(float)
    noisy = np.where(weight == 0, rng.normal(size=D.shape), D)
    model = quick(optimizer=optimizer, lr="auto", max_epochs=3)
    weighted = model.fit(X, Y, derivatives=noisy, derivative_weight=weight).predict(X)
    unknown = np.where(weight == 0, np.nan, D)
    np.testing.assert_allclose(weighted, model.fit(X, Y, derivatives=unknown).predict(X), rtol=1e-6)


@pytest.mark.parametrize("optimizer", ["adam", "lm"])
@pytest.mark.parametrize(
    "shape", [(2,), (1, 2), (40, 1), (40, 2), (40, 2, 1), (1, 2, 1), (1, 1, 2), (40, 2, 2)]
)
def test_weights_are_broadcast(shape, optimizer, X):
    weight = np.random.default_rng(0).uniform(0.1, 2, size=shape)
    whole = weight[None] if weight.ndim == 1 else weight
    whole = whole[:, :, None] if whole.ndim == 2 else whole
    model = quick(optimizer=optimizer, lr="auto", max_epochs=3)
    data = {"X": X, "y": function(X), "derivatives": slopes(X)}
    narrow = model.fit(**data, derivative_weight=weight).predict(X)
    wide = model.fit(**data, derivative_weight=np.broadcast_to(whole, (40, 2, 2))).predict(X)
    np.testing.assert_allclose(narrow, wide, rtol=1e-6, atol=1e-9)
    assert not np.allclose(narrow, model.fit(**data).predict(X), rtol=1e-4)


def test_weights_of_invariances_and_through_a_preprocessor(X, y):
    params = {"preprocessor": StandardScaler()}
    weighted = quick(FeatureTangents(), **params).fit(X, y, derivative_weight=[9.0, 1.0])
    by_hand = quick(lambda X: FeatureTangents()(X) * [[3.0], [1.0]], **params).fit(X, y)
    np.testing.assert_allclose(weighted.predict(X), by_hand.predict(X), rtol=1e-9)
    np.testing.assert_allclose(
        weighted.directional_derivative(X), weighted.jacobian(X).swapaxes(1, 2), rtol=1e-9
    )  # which it leaves alone


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.ones(3), r"shape \(2,\), \(40, 2\) or \(40, 2, 1\).*Got \(3,\)"),
        (np.ones((3, 2)), r"Got \(3, 2\)"),
        (np.ones((40, 2, 2)), r"Got \(40, 2, 2\)"),
        (np.ones((40, 2, 1, 1)), r"Got \(40, 2, 1, 1\)"),
        ([1.0, -1.0], r"must not be negative, got -1\.0"),
        ([1.0, np.nan], "derivative_weight contains NaN"),
        ([1.0, np.inf], "derivative_weight contains infinity"),
        ("heavy", "could not convert string to float"),
    ],
)
def test_wrong_weights(weight, message, X, y, D):
    with pytest.raises(ValueError, match=message):
        quick().fit(X, y, derivatives=D, derivative_weight=weight)


def test_weights_of_outputs_do_not_go_with_projections(X):
    with pytest.raises(ValueError, match="same for all outputs with n_projections=1"):
        quick(n_projections=1).fit(
            X, function(X), derivatives=slopes(X), derivative_weight=np.ones((1, 2, 2))
        )


def test_weights_of_samples_are_sliced_in_cross_validation(X, y, D):
    worst = np.full((40, 2), 1e-9)
    worst[:20] = 1.0
    D = np.where(worst < 1, 10 * np.random.default_rng(0).normal(size=D.shape), D)
    model = quick(optimizer="lm", max_epochs=5, lr="auto")
    with config_context(enable_metadata_routing=True):
        model.set_fit_request(derivatives=True, derivative_weight=True)
        params = {"derivatives": D, "derivative_weight": worst}
        scores = cross_validate(
            model, X, y, cv=2, params=params, return_estimator=True, error_score="raise"
        )
    by_hand = quick(optimizer="lm", max_epochs=5, lr="auto")
    by_hand.fit(X[20:], y[20:], derivatives=D[20:], derivative_weight=worst[20:])
    np.testing.assert_array_equal(scores["estimator"][0].predict(X), by_hand.predict(X))


# Values that are not known ------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs", "lm"])
def test_a_value_that_is_not_known_drops_out(optimizer, X):
    Y, D = function(X), slopes(X)
    gaps = Y.copy()
    gaps[::2, 0] = gaps[1::4, 1] = np.nan
    model = quick(optimizer=optimizer, lr="auto", max_epochs=3, normalize_y=False)
    model.fit(X, gaps, derivatives=D)
    assert np.isfinite(model.predict(X)).all()
    loss = np.nansum((model.predict(X) - gaps) ** 2) / 40
    if optimizer == "lm":  # whose losses are those where it ended
        assert model.history_[-1, "train_data_loss"] == pytest.approx(loss, rel=1e-9)


def test_one_value_and_all_gradients_make_the_function(X, y, D):
    gaps = np.full(40, np.nan)
    gaps[3] = y[3]
    model = TangentPropRegressor(random_state=0).fit(X, gaps, derivatives=D)
    assert np.abs(model.predict(X) - y).max() < 0.01 * np.ptp(y)


@pytest.mark.parametrize("in_fit", [False, True])
def test_a_callable_brings_derivatives_where_values_are_unknown(in_fit, X, y, D):
    gaps = np.where(X[:, 0] > 0, np.nan, y)
    expected = quick().fit(X, gaps, tangents=FeatureTangents()(X), derivatives=D)

    def tangents(X):
        return FeatureTangents()(X), slopes(X)[:, :, 0]

    found = quick(None if in_fit else tangents)
    found.fit(X, gaps, tangents=tangents if in_fit else None)
    np.testing.assert_array_equal(found.predict(X), expected.predict(X))


def test_a_callable_without_derivatives_leaves_no_value_unknown(X, y):
    gaps = np.where(X[:, 0] > 0, np.nan, y)
    with pytest.raises(ValueError, match="y contains NaN.*there are no derivatives"):
        quick(FeatureTangents()).fit(X, gaps)
    with pytest.raises(ValueError, match="y contains NaN"):
        quick().fit(X, gaps, tangents=FeatureTangents()(X))


def test_unknown_values_do_not_move_the_scale(X, y, D):
    gaps = y.copy()
    gaps[30:] = np.nan
    model = quick(max_epochs=1).fit(X, gaps, derivatives=D)
    assert model._y_mean == pytest.approx(y[:30].mean())
    assert model._y_scale == pytest.approx(y[:30].std())


def test_values_that_must_be_known(X, y, D):
    with pytest.raises(ValueError, match="y contains NaN"):
        quick().fit(X, np.where(X[:, 0] > 0, np.nan, y))
    with pytest.raises(ValueError, match="y is NaN for every sample"):
        quick().fit(X, np.full(40, np.nan), derivatives=D)
    gaps, unknown = y.copy(), D.copy()
    gaps[7], unknown[7] = np.nan, np.nan
    with pytest.raises(ValueError, match="NaN for sample 7"):
        quick().fit(X, gaps, derivatives=unknown)
    with pytest.raises(ValueError, match="infinity"):
        quick().fit(X, np.where(X[:, 0] > 0, np.inf, y), derivatives=D)


# Both in one pass ---------------------------------------------------------------------------------


@pytest.mark.parametrize("preprocessor", [None, StandardScaler()])
@pytest.mark.parametrize("sizes", [(8,), (8, 6), ()])
def test_values_and_jacobian_in_one_pass(sizes, preprocessor, X):
    for Y, D in ((function(X), slopes(X)), (function(X)[:, 0], slopes(X)[:, :, 0])):
        model = quick(hidden_layer_sizes=sizes, preprocessor=preprocessor, max_epochs=3)
        model.fit(X, Y, derivatives=D)
        y, J = model.predict(X[:7], return_jacobian=True)
        np.testing.assert_allclose(y, model.predict(X[:7]), rtol=1e-12)
        V = FeatureTangents()
        expected = model.directional_derivative(X[:7], V).swapaxes(1, 2)
        np.testing.assert_allclose(J, expected, rtol=1e-9, atol=1e-12)
        np.testing.assert_array_equal(J, model.jacobian(X[:7]))


def test_samples_are_checked_whatever_their_form(X, y, D):
    model = quick(max_epochs=1).fit(X, y, derivatives=D)
    expected = model.predict(X)
    for same in (X.tolist(), np.asfortranarray(X), X[::-1][::-1]):
        np.testing.assert_array_equal(model.predict(same), expected)
    with pytest.raises(ValueError, match="NaN"):
        model.predict(np.where(X > 0.9, np.nan, X), return_jacobian=True)
    with pytest.raises(ValueError, match="2 features"):
        model.predict(X[:, :1], return_jacobian=True)


@pytest.mark.parametrize(("shape", "is_jacobian"), [((40, 1, 2), True), ((40, 2, 2), False)])
def test_a_jacobian_with_the_outputs_first_is_told(shape, is_jacobian, X):
    with pytest.raises(ValueError, match=r"derivatives must have shape \(40, 2, 1\)") as raised:
        TangentPropRegressor().fit(X, X[:, 0], derivatives=np.ones(shape))
    assert ("J.transpose(0, 2, 1)" in str(raised.value)) is is_jacobian


def test_one_derivative_a_sample_needs_its_axis(X):
    with pytest.raises(ValueError, match=r"add its axis: d\[:, None\]"):
        TangentPropRegressor().fit(X[:, :1], X[:, 0], derivatives=np.ones(40))
