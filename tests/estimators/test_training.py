"""How the estimators train: stopping, warm starts, weights, the optimizer."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from sklearn.model_selection import train_test_split
from skorch import NeuralNet
from skorch.callbacks import Callback, LRScheduler
from torch import nn

from sktangent import TangentPropClassifier, TangentPropRegressor
from sktangent.tangents import FeatureTangents

BOTH = pytest.mark.parametrize("estimator", [TangentPropClassifier, TangentPropRegressor])


def quick(estimator, tangents=None, **params):
    return estimator(tangents, **{"max_epochs": 5, "random_state": 0, **params})


def predictions(model, X):
    return model.decision_function(X) if hasattr(model, "classes_") else model.predict(X)


def test_early_stopping_restores_the_best_parameters(X, target):
    y = target + np.random.default_rng(0).normal(size=60)
    valid = []

    class Keep(Callback):
        def on_train_begin(self, net, **kwargs):
            data = net.train_split(None)[1]
            valid.append((np.asarray(data.X["x"]), np.asarray(data.y)))

    model = quick(TangentPropRegressor, early_stopping=True, validation_fraction=0.3, lr=0.05)
    model.set_params(max_epochs=200, callbacks=[Keep()], n_iter_no_change=5).fit(X, y)
    losses = model.history_[:, "valid_loss"]
    assert len(losses) < 200
    assert losses[-1] > min(losses)
    ((X_valid, y_valid),) = valid
    assert len(X_valid) == 18
    error = np.mean((model.net_.predict(X_valid) - y_valid) ** 2)
    assert error == pytest.approx(min(losses), rel=1e-9)


def test_early_stopping_weighs_validation_samples(X, target):
    weight = np.random.default_rng(0).uniform(0, 3, size=60)
    weight[:20] = 0
    model = quick(TangentPropRegressor, early_stopping=True, max_epochs=1, lr=1e-12, alpha=0)
    model.fit(X, target, sample_weight=weight)
    train, valid = train_test_split(
        np.arange(20, 60), test_size=0.1, random_state=np.random.RandomState(0)
    )
    mean = np.average(target, weights=weight)
    variance = np.average((target - mean) ** 2, weights=weight)
    errors = (model.predict(X) - target)[valid] ** 2 / variance
    expected = np.mean(errors * weight[valid]) / weight[train].mean()
    assert model.history_[-1, "valid_loss"] == pytest.approx(expected, rel=1e-6)


def test_early_stopping_of_a_classifier_keeps_the_classes_balanced(X):
    y = np.repeat(["a", "b"], [40, 20])
    model = quick(TangentPropClassifier, early_stopping=True, validation_fraction=0.1)
    seen = []

    class Keep(Callback):
        def on_train_begin(self, net, **kwargs):
            seen.extend(net.train_split(None)[1].y.tolist())

    model.set_params(callbacks=[Keep()]).fit(X, y)
    assert sorted(seen) == [0, 0, 0, 0, 1, 1]


@BOTH
def test_training_ends_without_progress(estimator, X, three_labels):
    model = quick(estimator, tol=1e9, n_iter_no_change=7, max_epochs=50).fit(X, three_labels)
    assert model.n_iter_ == 9  # the first always counts, then more than seven


def test_automatic_epochs_and_patience(X, target):
    short = TangentPropRegressor(tol=1e9).fit(X, target)
    assert short.n_iter_ == 302  # 300 optimizer steps without progress
    model = TangentPropRegressor(lr=1e-12, tol=0, batch_size=1).fit(X[:20], target[:20])
    assert model.n_iter_ == 200  # 4,000 steps; fewer epochs for 3,000 would not do


@pytest.mark.parametrize(
    ("batch_size", "n_batches"), [("auto", 1), (25, 3), (60, 1), (1000, 1), (1, 60)]
)
def test_batch_size(batch_size, n_batches, X, target):
    model = quick(TangentPropRegressor, batch_size=batch_size, max_epochs=1).fit(X, target)
    assert model.history_[-1, "train_batch_count"] == n_batches


def test_shuffle(X, target):
    fits = [
        quick(TangentPropRegressor, batch_size=20, shuffle=shuffle).fit(X, target).predict(X)
        for shuffle in (True, True, False)
    ]
    np.testing.assert_array_equal(fits[0], fits[1])
    assert not np.array_equal(fits[0], fits[2])


@BOTH
def test_warm_start_goes_on(estimator, X, three_labels):
    once = quick(estimator, FeatureTangents(), max_epochs=6, batch_size=20, shuffle=False)
    once.fit(X, three_labels)
    twice = quick(
        estimator, FeatureTangents(), max_epochs=3, batch_size=20, shuffle=False, warm_start=True
    )
    twice.fit(X, three_labels).fit(X, three_labels)
    np.testing.assert_array_equal(predictions(once, X), predictions(twice, X))
    assert twice.n_iter_ == 6
    cold = twice.set_params(warm_start=False).fit(X, three_labels)
    assert cold.n_iter_ == 3


@BOTH
def test_partial_fit_is_an_epoch_of_fit(estimator, X, three_labels):
    fitted = quick(estimator, FeatureTangents(), max_epochs=4, tol=0).fit(X, three_labels)
    model = quick(estimator, FeatureTangents())
    kwargs = {"classes": [0, 1, 2]} if estimator is TangentPropClassifier else {}
    for _ in range(4):
        model.partial_fit(X, three_labels, **kwargs)
    np.testing.assert_allclose(predictions(fitted, X), predictions(model, X), rtol=1e-12)
    assert model.n_iter_ == 4


def test_partial_fit_takes_weights_and_tangents(X, target):
    weight, V = np.linspace(0, 2, 60), FeatureTangents()(X)
    fitted = quick(TangentPropRegressor, max_epochs=1).fit(X, target, weight, V)
    model = quick(TangentPropRegressor).partial_fit(X, target, weight, V)
    np.testing.assert_array_equal(fitted.predict(X), model.predict(X))


def test_weights_count_across_calls_of_partial_fit(X, target):
    weight = np.repeat([1.0, 4.0], 30)
    inputs, y, mean = X.astype(float), target[:, None], 2.5
    model = quick(TangentPropRegressor, normalize_y=False, alpha=0.3)
    model.partial_fit(X, target, weight)
    steps = copy.deepcopy(model)
    for rows in (slice(0, 30), slice(30, 60)):
        model.partial_fit(X[rows], target[rows], weight[rows])
        batch = {"x": inputs[rows], "sample_weight": weight[rows] / mean}
        steps.net_.l2 = 0.3 / 30 / mean
        steps.net_.partial_fit(batch, y[rows], epochs=1)
    np.testing.assert_allclose(model.predict(X), steps.predict(X), rtol=1e-12)


def test_class_weights_count_across_calls_of_partial_fit(X, target):
    labels = (target > 0).astype(int)

    def fit(class_weight):
        model = quick(TangentPropClassifier, class_weight=class_weight, lr=0.01)
        for _ in range(30):
            for label in (0, 1):
                rows = labels == label
                model.partial_fit(X[rows], labels[rows], classes=[0, 1])
        return model.predict_proba(X)[:, 1].mean()

    assert fit({1: 10.0}) > fit(None) + 0.1 > fit({0: 10.0}) + 0.2


def test_partial_fit_does_not_take_balanced_classes(X, labels):
    with pytest.raises(AttributeError) as caught:
        quick(TangentPropClassifier, class_weight="balanced").partial_fit(X, labels, classes=[0, 1])
    assert "class_weight='balanced' does not go with partial_fit" in str(caught.value.__cause__)


def test_partial_fit_keeps_what_tangents_learned(X, target):
    model = quick(TangentPropRegressor, FeatureTangents()).partial_fit(X, target)
    first = model.tangents_
    assert model.partial_fit(100 * X, target).tangents_ is first
    model = pickle.loads(pickle.dumps(model))
    first = model.tangents_
    assert model.partial_fit(100 * X, target).tangents_ is first
    other = model.set_params(tangents=FeatureTangents([0])).partial_fit(X, target).tangents_
    assert other(X).shape == (60, 1, 4)


class FailsOnce(FeatureTangents):
    failures = 1

    def fit(self, X, y=None):
        FailsOnce.failures -= 1
        if FailsOnce.failures >= 0:
            raise RuntimeError("not now")
        return super().fit(X, y)


def test_tangents_whose_fit_failed_are_fitted_again(X, target):
    model = quick(TangentPropRegressor).partial_fit(X, target).set_params(tangents=FailsOnce())
    with pytest.raises(RuntimeError, match="not now"):
        model.partial_fit(X, target)
    assert model.partial_fit(X, target).tangents_ is not model.tangents


def test_a_first_call_of_partial_fit_that_fails_does_not_count(X, labels):
    model = quick(TangentPropClassifier)
    with pytest.raises(ValueError, match="NaN"):
        model.partial_fit(np.nan * X, labels, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        model.partial_fit(X, labels)


@BOTH
def test_a_warm_start_that_diverges_leaves_the_model(estimator, X, three_labels):
    model = quick(estimator, optimizer="sgd", warm_start=True).fit(X, three_labels)
    before = predictions(model, X)
    with pytest.raises(ValueError, match="Training diverged"):
        model.set_params(lr=1e200).fit(X * 1e3, three_labels)
    np.testing.assert_array_equal(predictions(model, X), before)
    assert model.n_iter_ == 5


def test_an_epoch_without_batches(X, target):
    model = quick(
        TangentPropRegressor, iterator_train__batch_size=100, iterator_train__drop_last=True
    )
    with pytest.raises(ValueError, match="over the training samples yielded no batch"):
        model.fit(X, target)


def test_partial_fit_after_a_small_first_chunk_takes_full_batches(X, target):
    model = quick(TangentPropRegressor).partial_fit(X[:3], target[:3]).partial_fit(X, target)
    assert model.history_[-1, "train_batch_count"] == 1


def test_partial_fit_does_not_stop_early(X, target):
    with pytest.raises(AttributeError) as caught:
        quick(TangentPropRegressor, early_stopping=True).partial_fit(X, target)
    assert "partial_fit does not support early_stopping=True" in str(caught.value.__cause__)


def test_a_warm_start_follows_changed_parameters(X, target):
    model = quick(TangentPropRegressor, FeatureTangents(), warm_start=True).fit(X, target)
    model.set_params(
        lr=0.5, alpha=0.6, batch_size=20, penalty_weight=3.0, shuffle=False, max_epochs=2
    )
    model.set_params(n_iter_no_change=3, tol=0.5).fit(X, target)
    (group,) = model.net_.optimizer_.param_groups
    assert group["lr"] == 0.5
    assert model.net_.l2 == pytest.approx(0.6 / 20)
    row = model.history_[-1]
    assert row["train_batch_count"] == 3
    assert row["train_loss"] == pytest.approx(row["train_data_loss"] + 3 * row["train_penalty"])
    stopping = dict(model.net_.callbacks_)["stopping"]
    assert (stopping.patience, stopping.tol) == (3, 0.5)
    assert model.n_iter_ == 7


def rates(model):
    return [group["lr"] for group in model.net_.optimizer_.param_groups]


def test_a_warm_start_keeps_rates_that_were_given(X, target):
    groups = [("0.weight", {"lr": 0.3})]
    model = quick(
        TangentPropRegressor, warm_start=True, optimizer__lr=0.02, optimizer__param_groups=groups
    )
    assert rates(model.fit(X, target).set_params(lr=0.5).fit(X, target)) == [0.3, 0.02]
    assert rates(model.set_params(optimizer__lr=0.1).fit(X, target)) == [0.3, 0.1]
    partial = quick(TangentPropRegressor, lr=0.02, optimizer__param_groups=groups)
    for _ in range(2):
        assert rates(partial.partial_fit(X, target)) == [0.3, 0.02]
    assert rates(partial.set_params(lr=0.1).partial_fit(X, target)) == [0.3, 0.1]


def test_a_schedule_goes_on_in_partial_fit(X, target):
    model = quick(TangentPropRegressor, lr=0.1, callbacks=[LRScheduler("ExponentialLR", gamma=0.5)])
    plain = NeuralNet(
        nn.Linear(4, 1),
        nn.MSELoss,
        lr=0.1,
        max_epochs=1,
        train_split=None,
        verbose=0,
        callbacks=[LRScheduler("ExponentialLR", gamma=0.5)],
    )
    x, y = X.astype(np.float32), target.astype(np.float32)[:, None]
    for _ in range(3):  # older torch steps once more whenever training goes on
        plain.partial_fit(x, y)
        assert rates(model.partial_fit(X, target))[0] == plain.optimizer_.param_groups[0]["lr"]
    plain.set_params(lr=0.2).partial_fit(x, y)
    assert rates(model.set_params(lr=0.2).partial_fit(X, target))[0] == pytest.approx(
        plain.optimizer_.param_groups[0]["lr"]
    )


def test_a_rate_that_a_scheduler_has_lowered_can_be_set_anew(X, target):
    schedule = LRScheduler(
        torch.optim.lr_scheduler.ReduceLROnPlateau,
        monitor="train_loss",
        patience=0,
        threshold=10.0,
    )
    model = quick(TangentPropRegressor, warm_start=True, lr=0.01, callbacks=[schedule])
    assert rates(model.fit(X, target))[0] < 0.001
    model.set_params(lr=0.05, max_epochs=1).fit(X, target)
    assert model.history_[-1]["event_lr"] == 0.05


@pytest.mark.parametrize("size", [0, -5, None, 2.5])
def test_wrong_batch_sizes_of_the_iterator(size, X, target):
    with pytest.raises(ValueError, match="iterator_train__batch_size must be a positive integer"):
        quick(TangentPropRegressor, iterator_train__batch_size=size).fit(X, target)


@pytest.mark.parametrize("early", [True, False])
def test_early_stopping_may_change_before_a_warm_start(early, X, target):
    model = quick(TangentPropRegressor, early_stopping=early, warm_start=True).fit(X, target)
    model.set_params(early_stopping=not early, max_epochs=30, n_iter_no_change=3, lr=0.05)
    model.fit(X, target)
    assert ("valid_loss" in model.history_[-1]) is not early
    assert dict(model.net_.callbacks_)["stopping"].restore_best is not early


def test_weight_equivalence_with_tangents(X, three_labels):
    weight = np.random.default_rng(0).integers(0, 4, size=60)
    for estimator in (TangentPropClassifier, TangentPropRegressor):
        model = quick(estimator, FeatureTangents(), max_epochs=100)
        weighted = predictions(model.fit(X, three_labels, sample_weight=weight), X)
        X_repeated, y_repeated = X.repeat(weight, axis=0), three_labels.repeat(weight)
        repeated = predictions(model.fit(X_repeated, y_repeated), X)
        np.testing.assert_allclose(weighted, repeated, rtol=1e-10, atol=1e-10)


@BOTH
def test_samples_of_weight_zero_are_as_if_not_there(estimator, X, three_labels):
    weight = np.r_[np.ones(50), np.zeros(10)]
    model = quick(estimator, FeatureTangents(), batch_size=20)
    weighted = predictions(model.fit(X, three_labels, sample_weight=weight), X)
    without = predictions(model.fit(X[:50], three_labels[:50]), X)
    np.testing.assert_allclose(weighted, without, rtol=1e-12)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.zeros(60), "non-zero|zero for every sample"),
        (-np.ones(60), "[Nn]egative"),
        (np.ones(9), "60"),
    ],
)
def test_wrong_weights(weight, message, X, target):
    with pytest.raises(ValueError, match=message):
        quick(TangentPropRegressor).fit(X, target, sample_weight=weight)


def test_alpha_decays_weights_only(X, target):
    def norms(alpha):
        model = quick(TangentPropRegressor, alpha=alpha, max_epochs=200, lr=0.01).fit(X, target)
        return [p.norm().item() for p in model.module_.parameters()]

    decayed, free = norms(1000.0), norms(0.0)
    assert max(decayed[0], decayed[2]) < 0.05 < min(free[0], free[2])
    assert decayed[1] > 0.05


class Shifted(nn.Module):
    """A parameter of one axis, and a layer that is kept as it is."""

    def __init__(self, n_features, n_outputs):
        super().__init__()
        self.fixed = nn.Linear(n_features, n_outputs).requires_grad_(False)
        self.shift = nn.Parameter(torch.ones(n_outputs))

    def forward(self, x):
        return torch.tanh(self.fixed(x)) + self.shift


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_layers_that_are_not_trained_do_not_decay(optimizer, X, target):
    model = quick(TangentPropRegressor, module=Shifted, optimizer=optimizer, alpha=10.0)
    model.fit(X, target)
    before = model.module_.fixed.weight.clone()
    model.set_params(warm_start=True, lr=0.1).fit(X, target)
    torch.testing.assert_close(model.module_.fixed.weight, before)
    assert model.loss_curve_[-1] < model.loss_curve_[0]


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        ("adam", torch.optim.Adam),
        ("adamw", torch.optim.AdamW),
        ("sgd", torch.optim.SGD),
        (torch.optim.RMSprop, torch.optim.RMSprop),
    ],
)
def test_optimizers(optimizer, expected, X, target):
    model = quick(TangentPropRegressor, optimizer=optimizer, lr=0.02, max_epochs=20).fit(X, target)
    assert type(model.net_.optimizer_) is expected
    assert model.net_.optimizer_.param_groups[0]["lr"] == 0.02
    assert model.loss_curve_[-1] < 0.8 * model.loss_curve_[0]


def test_adamw_decays_the_weights_by_itself(X, target):
    model = quick(TangentPropRegressor, optimizer="adamw", warm_start=True).fit(X, target)
    model.set_params(alpha=0.6, batch_size=20).fit(X, target)
    biases, weights = model.net_.optimizer_.param_groups
    assert (biases["weight_decay"], weights["weight_decay"]) == (0.0, pytest.approx(0.6 / 20))
    assert model.net_.l2 == 0


def test_an_optimizer_without_weight_decay(X, target):
    with pytest.raises(ValueError, match="LBFGS has no weight decay; set alpha=0"):
        quick(TangentPropRegressor, optimizer=torch.optim.LBFGS).fit(X, target)
    model = quick(TangentPropRegressor, optimizer=torch.optim.LBFGS, alpha=0, lr=1.0)
    assert model.fit(X, target).loss_curve_[-1] < 0.1


def test_the_step_that_breaks_the_parameters_is_noticed_even_if_it_is_the_last(X, target):
    class Broken(nn.Linear):
        def forward(self, x):
            return super().forward(x) + (0 * self.weight.sum()).sqrt()  # slope: 0 * infinity

    with pytest.raises(ValueError, match="parameters are no longer finite in epoch 1"):
        quick(TangentPropRegressor, module=Broken, max_epochs=1).fit(X, target)
    assert math.isfinite(quick(TangentPropRegressor).fit(X, target).loss_curve_[-1])


@pytest.mark.filterwarnings("error::UserWarning", "ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_compiled_fit_predicts_the_same(X, target):
    params = {"optimizer": "adam", "activation": "elu"}
    fits = [
        quick(TangentPropRegressor, FeatureTangents(), compile=compile, **params)
        for compile in (False, True)
    ]
    plain, compiled = (model.fit(X, target) for model in fits)
    np.testing.assert_allclose(compiled.predict(X), plain.predict(X), rtol=1e-6, atol=1e-8)
    compiled.set_params(warm_start=True, compile=False).fit(X, target)
    assert not compiled.net_.compile


@BOTH
def test_patience_may_be_infinite(estimator, X, three_labels):
    model = quick(estimator, tol=1e9, n_iter_no_change=np.inf, max_epochs=400)
    assert model.fit(X, three_labels).n_iter_ == 400


@pytest.mark.parametrize(
    "params",
    [
        {"lr": 0.01},
        {"max_epochs": 4},
        {"batch_size": 9},
        {"n_iter_no_change": 5},
        {"early_stopping": True, "max_epochs": 4},
        {"optimizer__eps": 1e-7},
        {"iterator_train__shuffle": False},
    ],
)
def test_what_is_said_of_adam_keeps_adam(params, X, target):
    def optimizer(**params):
        limits = {"tol": 1e9, "random_state": 0}
        model = TangentPropRegressor(FeatureTangents(), **limits, **params)
        return type(model.fit(X[:12], target[:12]).net_.optimizer_)

    assert optimizer(**params) is torch.optim.Adam
    assert optimizer() is not torch.optim.Adam
