"""Random combinations of tangents: mean and variance of the estimate, and training on it."""

import numpy as np
import pytest
import torch
from sklearn.base import clone

from sktangent import TangentPropClassifier, TangentPropRegressor
from sktangent.net import TangentPropNet
from sktangent.projections import project
from sktangent.tangents import FeatureTangents

pytestmark = pytest.mark.usefixtures("seeded")

N_DRAWS = 200_000


@pytest.fixture
def problem():
    """Return a Jacobian (2 outputs, 4 inputs), 5 tangents, and derivatives wanted along them."""
    rng = np.random.default_rng(0)
    shapes = (2, 4), (5, 4), (5, 2)
    return tuple(torch.from_numpy(rng.normal(size=shape)) for shape in shapes)


def estimates(J, tangents, d, n_projections):
    """Return the penalty of many independent draws."""
    tau = tangents.expand(N_DRAWS, *tangents.shape)
    v, delta = project(tau, None if d is None else d.expand(N_DRAWS, *d.shape), n_projections)
    difference = v @ J.T if delta is None else torch.nan_to_num(v @ J.T - delta, nan=0.0)
    return difference.square().sum((1, 2))


def residuals(J, tangents, d):
    return torch.nan_to_num(tangents @ J.T - (0 if d is None else d), nan=0.0)


def assert_unbiased(drawn, exact):
    standard_error = drawn.std() / N_DRAWS**0.5
    assert abs(drawn.mean() - exact) < 4 * standard_error
    assert standard_error < 0.01 * exact


@pytest.mark.parametrize("n_projections", [1, 2, 4])
@pytest.mark.parametrize("wanted", ["zero", "given", "unknown along one"])
def test_mean_and_variance_are_those_of_the_formula(problem, n_projections, wanted):
    J, tangents, d = problem
    d = None if wanted == "zero" else d
    if wanted == "unknown along one":
        d[2] = torch.nan
    r = residuals(J, tangents, d)
    drawn = estimates(J, tangents, d, n_projections)
    assert_unbiased(drawn, r.square().sum())
    gram = r @ r.T
    off_diagonal = (gram - torch.diag(gram.diagonal())).square().sum()
    assert drawn.var().item() == pytest.approx(2 / n_projections * off_diagonal.item(), rel=0.03)


def test_unbiased_where_each_output_knows_other_derivatives(problem):
    J, tangents, d = problem
    d[0, 0] = d[3, 1] = d[4, 1] = torch.nan
    for n_projections in (1, 3):
        drawn = estimates(J, tangents, d, n_projections)
        assert_unbiased(drawn, residuals(J, tangents, d).square().sum())


def test_an_output_of_which_nothing_is_known_adds_nothing(problem):
    J, tangents, d = problem
    d[:, 1] = torch.nan
    assert_unbiased(estimates(J, tangents, d, 1), residuals(J, tangents, d).square().sum())
    _, delta = project(tangents[None], torch.full((1, 5, 2), torch.nan).double(), 1)
    assert torch.nan_to_num(delta, nan=0.0).abs().sum() == 0


@pytest.mark.parametrize("wrong", [0, -2])
def test_at_least_one_combination(wrong):
    with pytest.raises(ValueError, match=f"n_projections must be positive, got {wrong}"):
        project(torch.ones(1, 3, 2), None, wrong)


def test_few_tangents_are_left_alone(problem):
    _, tangents, d = problem
    v, delta = project(tangents[None], d[None], 5)
    assert torch.equal(v[0], tangents)
    assert torch.equal(delta[0], d)


def test_combinations_keep_the_shape_of_the_input():
    v, _ = project(torch.randn(3, 6, 1, 4, 4), None, 2)
    assert v.shape == (3, 2, 1, 4, 4)


def test_signs_differ_between_samples_steps_and_projections():
    tangents = torch.eye(64).expand(3, 64, 64)
    first, second = (project(tangents, None, 2)[0] for _ in range(2))
    rows = torch.cat([first, second]).flatten(0, 1).sign()
    assert len(rows.unique(dim=0)) == len(rows) == 12


def test_the_step_averages_to_the_exact_gradient(problem):
    _, tangents, d = problem
    module = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 2))
    X = {
        "x": torch.randn(4).double().expand(20_000, 4),
        "tangents": tangents.expand(20_000, 5, 4),
        "derivatives": d.expand(20_000, 5, 2),
        "sample_weight": torch.full((20_000,), 0.5).double(),
    }
    gradients = []
    for n_projections in (None, 1):
        net = TangentPropNet(module.double(), n_projections=n_projections, verbose=0).initialize()
        net.module_.zero_grad()
        net.train_step_single((X, torch.zeros(20_000, 2).double()))
        gradients.append(torch.cat([p.grad.reshape(-1) for p in net.module_.parameters()]))
    exact, estimated = gradients
    assert torch.linalg.norm(estimated - exact) < 0.03 * torch.linalg.norm(exact)
    assert not torch.equal(estimated, exact)


def test_a_fit_is_reproducible_and_leaves_global_state_alone():
    X = np.random.default_rng(0).normal(size=(60, 8))
    y = X[:, 0]
    before = torch.get_rng_state()
    model = TangentPropRegressor(
        FeatureTangents(), 0.1, n_projections=2, max_epochs=5, random_state=0
    )
    predictions = [clone(model).fit(X, y).predict(X) for _ in range(2)]
    assert np.array_equal(*predictions)
    assert torch.equal(torch.get_rng_state(), before)
    exact = clone(model).set_params(n_projections=None).fit(X, y).predict(X)
    assert not np.allclose(predictions[0], exact)


def test_projected_training_learns_the_invariance():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 12))
    y = (X[:, 0] + 0.5 * X[:, 1] > 0).astype(int)
    nuisance = FeatureTangents(features=list(range(2, 12)))
    slopes = []
    for tangents, n_projections in ((None, None), (nuisance, 1), (nuisance, None)):
        model = TangentPropClassifier(
            tangents, 1.0, n_projections=n_projections, max_epochs=300, random_state=0
        ).fit(X, y)
        slopes.append(np.abs(model.jacobian(X)[:, :, 2:]).mean())
    without, projected, exact = slopes
    assert projected < 0.2 * without
    assert projected < 3 * exact


def test_it_changes_between_calls_with_the_net():
    X = np.random.default_rng(0).normal(size=(30, 6))
    model = TangentPropRegressor(FeatureTangents(), optimizer="adam", max_epochs=2, warm_start=True)
    model.fit(X, X[:, 0])
    model.set_params(n_projections=1).fit(X, X[:, 0])
    assert model.net_.n_projections == 1


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "one"])
def test_it_must_be_a_positive_integer(wrong):
    X = np.zeros((4, 2))
    with pytest.raises(ValueError, match="n_projections"):
        TangentPropRegressor(n_projections=wrong).fit(X, X[:, 0])


def test_lbfgs_refuses_a_random_loss():
    X = np.random.default_rng(0).normal(size=(10, 3))
    model = TangentPropRegressor(FeatureTangents(), n_projections=1, optimizer="lbfgs")
    with pytest.raises(ValueError, match="n_projections=1"):
        model.fit(X, X[:, 0])
    model.set_params(optimizer="auto", max_epochs=2).fit(X, X[:, 0])
    assert isinstance(model.net_.optimizer_, torch.optim.Adam)
