"""The L-BFGS optimizer, alone and in the estimators, and when which optimizer is chosen."""

import copy
import pickle
import re

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback
from torch import nn

from sktangent import TangentPropClassifier, TangentPropRegressor
from sktangent.tangents import FeatureTangents
from sktangent.training.levenberg_marquardt import LevenbergMarquardt
from sktangent.training.optimizers import LBFGS

BOTH = pytest.mark.parametrize("estimator", [TangentPropClassifier, TangentPropRegressor])


def quick(estimator=TangentPropRegressor, tangents=None, **params):
    defaults = {
        "optimizer": "lbfgs",
        "max_epochs": 5,
        "hidden_layer_sizes": (10,),
        "random_state": 0,
    }
    return estimator(tangents, **{**defaults, **params})


def predictions(model, X):
    return model.decision_function(X) if hasattr(model, "classes_") else model.predict(X)


def least_squares(n_steps=1, **params):
    """Fit a linear layer to data with a bias, and return its parameters and the data."""
    rng = np.random.default_rng(0)
    x, y = torch.tensor(rng.normal(size=(30, 3))), torch.tensor(rng.normal(size=(30, 1)) + 5)
    torch.manual_seed(0)
    layer = nn.Linear(3, 1).double()
    optimizer = LBFGS(layer.parameters(), **params)

    def closure():
        optimizer.zero_grad()
        loss = (layer(x) - y).square().mean() / 2
        loss.backward()
        return loss

    losses = [optimizer.step(closure).item() for _ in range(n_steps)]
    weight, bias = (p.detach().numpy() for p in layer.parameters())
    return weight.ravel(), bias, x.numpy(), y.numpy().ravel(), losses


@pytest.mark.parametrize("weight_decay", [0.0, 0.7])
def test_ridge_regression(weight_decay):
    weight, bias, x, y, losses = least_squares(n_steps=3, weight_decay=weight_decay)
    centered = x - x.mean(axis=0)
    expected = np.linalg.solve(
        centered.T @ centered / 30 + weight_decay * np.eye(3), centered.T @ (y - y.mean()) / 30
    )
    np.testing.assert_allclose(weight, expected, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(bias, y.mean() - x.mean(axis=0) @ expected, rtol=1e-6)
    error = np.mean((x @ expected + bias - y) ** 2) / 2
    assert losses[-1] == pytest.approx(error + weight_decay * (expected**2).sum() / 2, rel=1e-6)


def test_the_first_step_is_along_the_gradient_of_both_terms():
    torch.manual_seed(0)
    layer = nn.Linear(3, 2).double()
    x = torch.tensor(np.random.default_rng(0).normal(size=(30, 3)))
    before = [p.detach().clone() for p in layer.parameters()]
    optimizer = LBFGS(layer.parameters(), max_iter=1, weight_decay=0.5)

    def closure():
        optimizer.zero_grad()
        loss = layer(x).tanh().square().sum()
        loss.backward()
        return loss

    total = layer(x).tanh().square().sum() + 0.25 * layer.weight.square().sum()
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(total, layer.parameters())])
    optimizer.step(closure)
    moved = [p.detach() - b for p, b in zip(layer.parameters(), before, strict=True)]
    step = -torch.cat([m.flatten() for m in moved])
    assert torch.dot(step, gradient) / step.norm() / gradient.norm() == pytest.approx(1, abs=1e-12)


def minimize(function, start, n_steps=1, **params):
    point = nn.Parameter(start.clone())
    optimizer = LBFGS([point], **params)

    def closure():
        optimizer.zero_grad()
        loss = function(point)
        loss.backward()
        return loss

    for _ in range(n_steps):
        optimizer.step(closure)
    return point.detach()


def rosenbrock(p):
    return (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-7), (torch.float32, 1e-2)])
def test_a_curved_valley(dtype, tolerance):
    start = torch.tensor([-1.2, 1.0], dtype=dtype)
    # in single precision the line search fails near the minimum, and starts over
    found = minimize(rosenbrock, start, n_steps=10)
    assert found.dtype == dtype
    torch.testing.assert_close(found, torch.ones(2, dtype=dtype), rtol=0, atol=tolerance)


def test_wrong_weight_decay():
    with pytest.raises(ValueError, match="weight_decay must be >= 0, got -1"):
        least_squares(weight_decay=-1)


@BOTH
def test_the_same_seed_the_same_model(estimator, X, three_labels):
    fits = [
        predictions(quick(estimator, FeatureTangents(), random_state=seed).fit(X, three_labels), X)
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(fits[0], fits[1])
    assert not np.array_equal(fits[0], fits[2])


def test_five_points_become_a_staircase_by_default():
    X = np.linspace(0, 1, 5)[:, None]
    model = TangentPropRegressor(FeatureTangents(), random_state=0).fit(X, X.ravel())
    assert type(model.net_.optimizer_) is LevenbergMarquardt
    assert np.abs(model.directional_derivative(X)).max() <= 0.05
    assert np.abs(model.predict(X) - X.ravel()).max() <= 0.02


@BOTH
def test_weights_are_repetitions(estimator, X, three_labels):
    weight = np.random.default_rng(0).integers(0, 4, size=60)
    model = quick(estimator, FeatureTangents(), max_epochs=2)
    weighted = predictions(model.fit(X, three_labels, sample_weight=weight), X)
    again = model.fit(X.repeat(weight, axis=0), three_labels.repeat(weight))
    np.testing.assert_allclose(weighted, predictions(again, X), rtol=1e-5, atol=1e-5)


def test_early_stopping_restores_the_best(X, target):
    y = target + np.random.default_rng(0).normal(size=60)
    held = []

    class Keep(Callback):
        def on_train_begin(self, net, **kwargs):
            data = net.train_split(None)[1]
            held.append((np.asarray(data.X["x"]), np.asarray(data.y)))

    model = quick(early_stopping=True, validation_fraction=0.3, callbacks=[Keep()])
    model.set_params(max_epochs=30, n_iter_no_change=3, alpha=0.0).fit(X, y)
    losses = model.history_[:, "valid_loss"]
    assert len(losses) < 30
    assert losses[-1] > min(losses)
    X_valid, y_valid = held[0]
    error = np.mean((model.net_.predict(X_valid) - y_valid) ** 2)
    assert error == pytest.approx(min(losses), rel=1e-9)


@pytest.mark.parametrize("optimizer", ["lbfgs", "lm"])
@BOTH
def test_they_do_not_go_with_partial_fit(estimator, optimizer):
    message = f"optimizer='{optimizer}' needs all samples at once; for partial_fit.*'adam'"
    model = quick(estimator, optimizer=optimizer)
    assert not hasattr(model, "partial_fit")
    with pytest.raises(AttributeError, match="partial_fit") as caught:
        model.partial_fit  # noqa: B018
    assert re.search(message, str(caught.value.__cause__))


def test_partial_fit_after_one_was_chosen(X, target):
    free = {"optimizer": "auto", "max_epochs": "auto"}
    model = quick(tangents=FeatureTangents(), **free).fit(X[:9], target[:9])
    assert not hasattr(model, "partial_fit")
    first = quick(tangents=FeatureTangents(), **free).partial_fit(X[:9], target[:9])
    assert first.partial_fit(X, target).n_iter_ == 2


def test_it_needs_all_samples_in_a_batch(X, target):
    with pytest.raises(ValueError, match="all 60 samples in one batch, got batch_size=59"):
        quick(batch_size=59).fit(X, target)
    many = np.tile(X, (5, 1))
    for batch_size in ("auto", 300, 1000):
        model = quick(batch_size=batch_size, max_epochs=1).fit(many, np.tile(target, 5))
        assert model.history_[-1, "train_batch_count"] == 1


def test_alpha_is_the_l2_weight_of_the_other_optimizers(X, target):
    def stationarity(alpha):
        """Return the gradient of the whole loss by the weights, where training ended."""
        model = quick(alpha=alpha, max_epochs=60, tol=0, hidden_layer_sizes=(3,)).fit(X, target)
        y = torch.tensor((target - target.mean()) / target.std())[:, None]
        module = model.module_
        loss = (module(torch.tensor(X)) - y).square().mean()
        decay = sum((p**2).sum() for p in module.parameters() if p.ndim > 1)
        total = loss + alpha / 2 / 60 * decay
        gradients = torch.autograd.grad(total, list(module.parameters()))
        norms = [p.norm().item() for p in module.parameters() if p.ndim > 1]
        return max(g.abs().max().item() for g in gradients), sum(norms)

    residual, small = stationarity(6.0)
    assert residual < 1e-6
    _, large = stationarity(0.6)
    assert small < 0.9 * large


class StopAtOnce(Callback):
    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) > 1:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("n_samples", "params", "fit_params", "chosen"),
    [
        (20, {}, {}, LevenbergMarquardt),
        (21, {}, {}, torch.optim.Adam),
        (20, {"tangents": None}, {}, torch.optim.Adam),
        (20, {"penalty_weight": 0}, {}, torch.optim.Adam),
        (21, {}, {"derivatives": True}, LevenbergMarquardt),
        (21, {"penalty_weight": 0.0}, {"derivatives": True}, torch.optim.Adam),
        (21, {"tangents": lambda X: (X[:, None], X[:, :1])}, {}, LevenbergMarquardt),
        (21, {"tangents": FeatureTangents()}, {}, torch.optim.Adam),
        (20, {"hidden_layer_sizes": (1000,)}, {"derivatives": True}, LevenbergMarquardt),
        (2000, {"hidden_layer_sizes": (2000,)}, {"derivatives": True}, torch.optim.Adam),
        (21, {"max_epochs": 1}, {"derivatives": True}, torch.optim.Adam),
        (21, {"criterion": nn.SmoothL1Loss}, {"derivatives": True}, torch.optim.Adam),
        (20, {"batch_size": 20}, {}, torch.optim.Adam),
        (20, {"module": nn.Linear}, {}, torch.optim.Adam),
        (20, {"optimizer__betas": (0.5, 0.9)}, {}, torch.optim.Adam),
        (20, {"iterator_train__batch_size": 5}, {}, torch.optim.Adam),
        (20, {"optimizer": "adam"}, {}, torch.optim.Adam),
    ],
)
def test_when_which_is_chosen(n_samples, params, fit_params, chosen):
    X = np.random.default_rng(0).normal(size=(n_samples, 2))
    given = {"derivatives": np.ones((n_samples, 2))} if fit_params else {}
    settings = {"tangents": FeatureTangents(), "optimizer": "auto", "max_epochs": "auto"}
    model = quick(**{**settings, "callbacks": [StopAtOnce()], **params})
    model.fit(X, X[:, 0], **given)
    assert type(model.net_.optimizer_) is chosen


@pytest.mark.parametrize(
    ("shape", "n_outputs", "known", "sizes"),
    [
        ((30, 2), 1, True, [100]),
        ((30, 3), 1, True, [12, 12, 12]),
        ((30, 12), 1, True, [12, 12, 12]),
        ((1251, 3), 1, True, [20, 20]),
        ((30, 13), 1, True, [30]),
        ((30, 31), 1, True, [100]),
        ((30, 5), 2, True, [100]),
        ((30, 5), 1, False, [100]),
    ],
)
def test_which_network_is_chosen(shape, n_outputs, known, sizes):
    X = np.random.default_rng(0).normal(size=shape)
    Y = np.tile(X[:, :1], n_outputs)
    model = TangentPropRegressor(random_state=0, callbacks=[StopAtOnce()])
    model.fit(X, Y.squeeze(), derivatives=np.ones((*shape, n_outputs)) if known else None)
    assert [layer.out_features for layer in list(model.module_)[:-1:2]] == sizes


def test_the_network_of_the_first_fit_stays():
    X = np.random.default_rng(0).normal(size=(30, 5))
    model = TangentPropRegressor(random_state=0, warm_start=True, optimizer="lm", max_epochs=1)
    model.fit(X, X[:, 0])
    model.fit(X, X[:, 0], derivatives=np.ones((30, 5)))
    assert model.module_[0].out_features == 100


def test_none_is_chosen_for_classifiers_nor_with_early_stopping(X, labels):
    free = {"optimizer": "auto", "max_epochs": "auto", "callbacks": [StopAtOnce()]}
    model = quick(TangentPropClassifier, FeatureTangents(), **free).fit(X[:10], labels[:10])
    assert type(model.net_.optimizer_) is torch.optim.Adam
    model = quick(tangents=FeatureTangents(), early_stopping=True, **free)
    assert type(model.fit(X[:20], X[:20, 0]).net_.optimizer_) is torch.optim.Adam


def test_a_rate_is_the_first_step_of_the_line_search(X, target):
    model = quick(max_epochs=2).fit(X, target)
    assert model.net_.optimizer_.param_groups[0]["lr"] == 1.0
    model = quick(max_epochs=2, lr=0.5).fit(X, target)
    assert model.net_.optimizer_.param_groups[0]["lr"] == 0.5
    assert model.loss_curve_[-1] < model.loss_curve_[0]


def test_tol_is_a_part_of_the_loss(X, target):
    plain = quick(max_epochs=100, tol=0.1, n_iter_no_change=1, normalize_y=False, alpha=0.0)
    losses = np.array(plain.fit(X, target).loss_curve_)
    assert len(losses) < 100
    progress = 1 - losses[1:] / losses[:-1]
    assert (progress[-2:] < 0.1).all()
    assert (np.maximum(progress[:-2], progress[1:-1]) >= 0.1).all()
    longer = plain.set_params(max_epochs=30, tol=1e-3).fit(X, target)
    assert longer.n_iter_ > len(losses)


def test_history_and_callbacks(X, target):
    calls = []

    class Count(Callback):
        def on_epoch_end(self, net, **kwargs):
            calls.append(net.history[-1]["train_loss"])

    model = quick(tangents=FeatureTangents(), max_epochs=8, callbacks=[Count()], tol=0)
    model.fit(X, target)
    assert calls == model.loss_curve_
    assert model.n_iter_ == 8
    assert (np.diff(model.loss_curve_) < 1e-4).all()
    assert model.loss_curve_[-1] < 0.5 * model.loss_curve_[0]
    row = model.history_[-1]
    assert row["train_loss"] == pytest.approx(row["train_data_loss"] + row["train_penalty"])


def test_settings_of_the_optimizer(X, target):
    model = quick(optimizer__max_iter=3, optimizer__history_size=2, max_epochs=1).fit(X, target)
    optimizer = model.net_.optimizer_
    assert optimizer.param_groups[0]["history_size"] == 2
    assert next(iter(optimizer.state.values()))["n_iter"] <= 3


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_go_on_alike(copied, X, target):
    model = quick(warm_start=True).fit(X, target)
    other = copied(model)
    for one in (model, other):
        one.fit(X, target)
    np.testing.assert_array_equal(model.predict(X), other.predict(X))
    assert model.n_iter_ == other.n_iter_ == 10


def test_the_batch_size_of_the_iterator_is_seen(X, target):
    with pytest.raises(ValueError, match="lbfgs' needs all 60 samples in one batch.*batch_size=10"):
        quick(iterator_train__batch_size=10).fit(X, target)
    quick(iterator_train__batch_size=-1).fit(X, target)
    adam = quick(optimizer="adam", iterator_train__batch_size=10, alpha=0.5).fit(X, target)
    assert adam.net_.l2 == pytest.approx(0.5 / 10)


def test_a_warm_start_keeps_the_optimizer_and_follows_parameters(X, target):
    model = quick(tangents=FeatureTangents(), warm_start=True).fit(X[:10], target[:10])
    model.set_params(alpha=30.0).fit(X, target)
    optimizer = model.net_.optimizer_
    assert type(optimizer) is LBFGS
    (group,) = optimizer.param_groups
    assert (group["lr"], group["weight_decay"]) == (1.0, 0.5)
    assert model.net_.batch_size == 60
    adam = quick(tangents=FeatureTangents(), optimizer="auto", warm_start=True).fit(X, target)
    adam.fit(X[:10], target[:10])
    assert type(adam.net_.optimizer_) is torch.optim.Adam
    assert adam.net_.optimizer_.param_groups[0]["lr"] == 1e-3


def test_a_warm_start_goes_on(X, target):
    once = quick(tangents=FeatureTangents(), max_epochs=6, tol=0).fit(X, target)
    twice = quick(tangents=FeatureTangents(), max_epochs=3, tol=0, warm_start=True)
    twice.fit(X, target).fit(X, target)
    np.testing.assert_allclose(once.predict(X), twice.predict(X), rtol=1e-9)


def test_digits():
    X, y = load_digits(return_X_y=True)
    X = X / 16
    model = quick(TangentPropClassifier, FeatureTangents([20, 21]), hidden_layer_sizes=(20,))
    model.set_params(penalty_weight=0.01, max_epochs=10).fit(X[:300], y[:300])
    assert model.score(X[:300], y[:300]) > 0.99
    assert model.score(X[300:600], y[300:600]) > 0.75
    plain = quick(TangentPropClassifier, hidden_layer_sizes=(20,), max_epochs=10)
    slopes = [
        np.mean(m.directional_derivative(X[:300], FeatureTangents([20, 21])) ** 2)
        for m in (model, plain.fit(X[:300], y[:300]))
    ]
    assert slopes[0] < 0.1 * slopes[1]


def test_a_search_over_optimizers(X, target):
    grid = {"optimizer": ["adam", "lbfgs"]}
    search = GridSearchCV(quick(max_epochs=10), grid, cv=2, error_score="raise").fit(X, target)
    assert search.best_params_ == {"optimizer": "lbfgs"}  # ten steps of the other


def test_diverging_says_so(X, target):
    with pytest.raises(ValueError, match="Training diverged"):
        quick(normalize_y=False, max_epochs=20).fit(X, np.where(target > 0, 1e200, target))
