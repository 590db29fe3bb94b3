"""Levenberg-Marquardt, alone and in the estimators."""

import copy
import pickle

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback
from torch import nn

from sktangent import TangentPropClassifier, TangentPropRegressor
from sktangent.estimators import schedule
from sktangent.modules import MLP
from sktangent.net import TangentPropNet
from sktangent.tangents import FeatureTangents
from sktangent.training import levenberg_marquardt
from sktangent.training.evidence import Evidence, evidence
from sktangent.training.least_squares import LeastSquares
from sktangent.training.levenberg_marquardt import LevenbergMarquardt


class Curve:
    """Residuals of a function of a few numbers, differentiated by torch."""

    def __init__(self, function, start):
        self.function = function
        self.point = nn.Parameter(torch.tensor(start).double()[None])  # of two axes: it decays

    def start(self):
        return self.point.detach().flatten()

    def move_to(self, point):
        self.point.data.copy_(point[None])

    def residuals(self, point):
        return self.function(point)

    def linearize(self, point):
        return self.function(point), torch.func.jacrev(self.function)(point)


def minimize(function, start, n_steps=1, **params):
    problem = Curve(function, start)
    optimizer = LevenbergMarquardt([problem.point], **params)
    for _ in range(n_steps):
        residuals = optimizer.step(problem)
    return problem.start(), residuals


def rosenbrock(p):
    return torch.stack([1 - p[0], 10 * (p[1] - p[0] ** 2)])


def test_a_curved_valley():
    found, residuals = minimize(rosenbrock, [-1.2, 1.0], max_iter=40)
    torch.testing.assert_close(found, torch.ones(2).double(), rtol=0, atol=1e-3)
    torch.testing.assert_close(residuals, rosenbrock(found))


@pytest.mark.parametrize(("rows", "columns"), [(30, 4), (4, 30)])
@pytest.mark.parametrize("weight_decay", [0.0, 0.7])
def test_a_linear_problem_both_ways(rows, columns, weight_decay):
    rng = np.random.default_rng(0)
    A, b = rng.normal(size=(rows, columns)), rng.normal(size=rows)
    start = rng.normal(size=columns)
    matrix, wanted = torch.tensor(A), torch.tensor(b)
    found, _ = minimize(
        lambda p: matrix @ p - wanted, start, weight_decay=weight_decay, max_iter=30, lr=1e-8
    )
    if weight_decay:
        ridge = A.T @ A + weight_decay / 2 * np.eye(columns)
        expected = np.linalg.solve(ridge, A.T @ b)
    else:  # the nearest of the best points
        expected = start + np.linalg.lstsq(A, b - A @ start)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_every_iteration_lowers_the_loss():
    losses = [(rosenbrock(torch.tensor([-1.2, 1.0])) ** 2).sum().item()]
    problem = Curve(rosenbrock, [-1.2, 1.0])
    optimizer = LevenbergMarquardt([problem.point], max_iter=1)
    losses += [(optimizer.step(problem) ** 2).sum().item() for _ in range(10)]
    assert (np.diff(losses) < 0).all()


def test_what_is_tried_in_vain_is_left():
    found, residuals = minimize(lambda p: torch.stack([p[0] * 0 + 3, p[1]]), [1.0, 0.0])
    np.testing.assert_array_equal(found, [1.0, 0.0])
    np.testing.assert_array_equal(residuals, [3.0, 0.0])


@pytest.fixture
def chosen_weights():
    """Fit ten numbers, nine of which say little, and return the L2 weight after each step."""

    def run(noise, size, lr):
        rng = np.random.default_rng(0)
        A = torch.tensor(rng.normal(size=(400, 10)) * [10.0, *[size] * 9])
        b = A.sum(1) + noise * torch.tensor(rng.normal(size=400))
        problem = Curve(lambda p: A @ p - b, [0.0] * 10)
        optimizer = LevenbergMarquardt([problem.point], lr, max_iter=1, weight_decay=None)
        found = []
        for _ in range(20):
            residuals = optimizer.step(problem)
            found.append(optimizer.state[problem.point]["decays"][0])
        best = evidence([found[-2]], [10], problem.start(), residuals, A).decays[0]
        return np.array(found), best

    return run


def test_what_is_found_slowly_is_not_taken_for_noise(chosen_weights):
    found, _ = chosen_weights(noise=0.0, size=0.03, lr=0.01)
    assert (np.diff(found) <= 0).all()
    assert found[-1] < 1e-6


def test_against_noise_the_weight_is_larger_than_the_evidence_says(chosen_weights):
    found, best = chosen_weights(noise=0.1, size=0.1, lr=1e-3)
    assert found[-1] == pytest.approx(levenberg_marquardt._CAUTION * best, rel=1e-3)


def test_weights_stay_where_the_evidence_cannot_be_calculated(chosen_weights, monkeypatch):
    unknown = lambda decays, *args: Evidence(np.inf, decays)  # noqa: E731
    monkeypatch.setattr(levenberg_marquardt, "evidence", unknown)
    found, _ = chosen_weights(noise=0.1, size=0.1, lr=1e-3)
    assert (np.diff(found) <= 0).all()
    assert found[-1] == found[-10]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"weight_decay": -1.0}, "weight_decay must be >= 0, got -1"),
        ({"lr": 0.0}, "lr must be > 0"),
        ({"max_iter": 0}, "max_iter must be >= 1"),
    ],
)
def test_wrong_parameters(params, message):
    with pytest.raises(ValueError, match=message):
        LevenbergMarquardt([nn.Parameter(torch.zeros(2))], **params)


# In the estimators --------------------------------------------------------------------------------


def waves(X):
    return np.sin(2 * X[:, 0]) * X[:, 1]


def slopes(X):
    return np.stack([2 * np.cos(2 * X[:, 0]) * X[:, 1], np.sin(2 * X[:, 0])], axis=1)


@pytest.fixture
def data():
    X = np.random.default_rng(0).uniform(-1, 1, size=(40, 2))
    return {"X": X, "y": waves(X), "derivatives": slopes(X)}


def quick(**params):
    defaults = {"optimizer": "lm", "max_epochs": 4, "hidden_layer_sizes": (10,), "random_state": 0}
    return TangentPropRegressor(**{**defaults, **params})


def unexplained(model, X):
    return np.square(model.predict(X) - waves(X)).sum() / np.square(waves(X)).sum()


def test_known_gradients_by_default(data):
    model = TangentPropRegressor(random_state=0).fit(**data)
    assert type(model.net_.optimizer_) is LevenbergMarquardt
    other = np.random.default_rng(1).uniform(-0.9, 0.9, size=(300, 2))
    assert unexplained(model, other) < 1e-6


def test_units_do_not_matter(data):
    scale, shift = np.array([1000.0, 0.01]), np.array([5000.0, -3.0])
    plain = TangentPropRegressor(random_state=0).fit(**data)
    moved = TangentPropRegressor(random_state=0).fit(
        data["X"] * scale + shift, data["y"], derivatives=data["derivatives"] / scale
    )
    other = np.random.default_rng(1).uniform(-0.9, 0.9, size=(300, 2))
    np.testing.assert_allclose(
        moved.predict(other * scale + shift), plain.predict(other), atol=1e-3
    )


def test_noise_is_not_fitted(data):
    rng = np.random.default_rng(2)
    noisy = {
        "y": data["y"] + 0.05 * rng.normal(size=40),
        "derivatives": data["derivatives"] + 0.05 * rng.normal(size=(40, 2)),
    }
    other = np.random.default_rng(1).uniform(-0.9, 0.9, size=(300, 2))
    chosen = TangentPropRegressor(random_state=0).fit(data["X"], **noisy)
    tiny = TangentPropRegressor(random_state=0, alpha=1e-9).fit(data["X"], **noisy)
    assert unexplained(chosen, other) < 0.02
    assert unexplained(chosen, other) < 0.5 * unexplained(tiny, other)


@pytest.mark.parametrize("sizes", [(100,), (100, 100)])
@pytest.mark.parametrize("random_state", range(3))
def test_five_points_become_a_staircase(sizes, random_state):
    X = np.linspace(0, 1, 5)[:, None]
    model = TangentPropRegressor(
        FeatureTangents(), hidden_layer_sizes=sizes, random_state=random_state
    ).fit(X, X.ravel())
    assert np.median(np.abs(model.directional_derivative(X))) <= 0.002
    curve = model.predict(np.linspace(0, 1, 201)[:, None])
    assert np.abs(curve[::50] - X.ravel()).max() < 0.01
    assert np.diff(curve).min() > -0.001
    assert curve.min() > -0.01 and curve.max() < 1.01


def test_single_precision_is_followed_in_double(data):
    narrow = {name: part.astype(np.float32) for name, part in data.items()}
    model = quick(max_epochs=30, hidden_layer_sizes=(30,)).fit(**narrow)
    assert model.module_[0].weight.dtype == torch.float32
    assert model.loss_curve_[-1] < 1e-4


def test_a_module_of_another_kind(data):
    class Residual(nn.Module):
        def __init__(self, in_features, out_features):
            super().__init__()
            self.inner, self.outer = nn.Linear(in_features, 12), nn.Linear(12, out_features)

        def forward(self, x):
            h = torch.tanh(self.inner(x))
            return self.outer(h * h + h)

    model = quick(module=Residual, max_epochs=10).fit(**data)
    assert model.loss_curve_[-1] < 1e-2 * model.loss_curve_[0]


def test_history_and_callbacks(data):
    calls = []

    class Count(Callback):
        def on_epoch_end(self, net, **kwargs):
            calls.append(net.history[-1]["train_loss"])

    model = quick(callbacks=[Count()]).fit(**data)
    assert calls == model.loss_curve_
    assert (np.diff(model.loss_curve_) < 0).all()
    row = model.history_[-1]
    assert row["train_loss"] == pytest.approx(row["train_data_loss"] + row["train_penalty"])
    error = np.mean((model.predict(data["X"]) - data["y"]) ** 2) / data["y"].var()
    assert row["train_data_loss"] == pytest.approx(error, rel=1e-9)


def test_an_interruption_keeps_what_was_learned(data):
    class Interrupt(Callback):
        def on_epoch_end(self, net, **kwargs):
            if len(net.history) == 2:
                raise KeyboardInterrupt

    stopped = quick(max_epochs=9, callbacks=[Interrupt()]).fit(**data)
    expected = quick(max_epochs=2).fit(**data)
    np.testing.assert_array_equal(stopped.predict(data["X"]), expected.predict(data["X"]))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_go_on_alike(copied, data):
    model = quick(warm_start=True).fit(**data)
    other = copied(model)
    for one in (model, other):
        one.fit(**data)
    np.testing.assert_array_equal(model.predict(data["X"]), other.predict(data["X"]))
    assert model.n_iter_ == other.n_iter_ == 8


def test_many_samples_go_in_batches(monkeypatch):
    monkeypatch.setattr(schedule, "_LM_WORK_AT_ONCE", 1e7)
    X = np.random.default_rng(0).uniform(-1, 1, size=(1000, 2))
    model = TangentPropRegressor(random_state=0, hidden_layer_sizes=(20,))
    model.fit(X, waves(X), derivatives=slopes(X))
    assert type(model.net_.optimizer_) is LevenbergMarquardt
    assert model.history_[-1, "train_batch_count"] == 10
    assert unexplained(model, X) < 1e-4


def test_losses_other_than_squares_are_refused(data):
    with pytest.raises(ValueError, match="'lm' needs the squared error"):
        quick(criterion=nn.SmoothL1Loss).fit(**data)
    with pytest.raises(ValueError, match="'lm' needs the squared error"):
        TangentPropClassifier(FeatureTangents(), optimizer="lm").fit(data["X"], data["y"] > 0)


def test_hooks_that_would_not_be_called_are_refused(data):
    class Own(TangentPropNet):
        def get_loss(self, *args, **kwargs):
            return 2 * super().get_loss(*args, **kwargs)

    net = Own(MLP(2, 1).double(), optimizer=LevenbergMarquardt, train_split=None, verbose=0)
    with pytest.raises(ValueError, match="another optimizer with get_loss"):
        net.fit(data["X"], data["y"][:, None])


def test_noise_in_the_loss_is_refused(data):
    with pytest.raises(ValueError, match="'lm' needs a loss without noise.*n_projections=1"):
        quick(n_projections=1).fit(**data)


def test_diverging_says_so(data):
    with pytest.raises(ValueError, match="Training diverged"):
        quick(normalize_y=False).fit(data["X"], np.where(data["y"] > 0, 1e200, 0.0))


def test_the_start_is_the_module():
    module = MLP(2, 1, (3,)).double()
    x = torch.randn(5, 2).double() * 3 + 7
    problem = LeastSquares(module, x, torch.zeros(5, 1).double())
    before = [p.detach().clone() for p in module.parameters()]
    torch.testing.assert_close(problem.residuals(problem.start()), module(x)[:, 0] / 5**0.5)
    problem.move_to(problem.start())
    torch.testing.assert_close([p.detach() for p in module.parameters()], before)


@pytest.mark.parametrize(("end", "n_samples"), [(5, 5), (6, 8), (10, 12), (15, 24)])
def test_a_curve_with_many_turns_is_not_taken_for_noise(end, n_samples):
    X, between = (np.linspace(-end, end, n)[:, None] for n in (n_samples, 300))
    model = TangentPropRegressor(random_state=1)
    model.fit(X, (X * np.sin(X)).ravel(), derivatives=np.sin(X) + X * np.cos(X))
    wanted = (between * np.sin(between)).ravel()
    assert np.mean((model.predict(between) - wanted) ** 2) < 1e-2 * wanted.var()
