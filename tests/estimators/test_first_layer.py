"""How a new network's first layer is made for samples and known derivatives."""

import numpy as np
import pytest
import torch

from sktangent import TangentPropRegressor
from sktangent.estimators.first_layer import make_first_layer_for, stretch
from sktangent.modules import MLP

N, F = 200, 4


@pytest.fixture
def gradients():
    return np.random.default_rng(0).normal(size=(N, F)) @ np.diag([3.0, 1.0, 1.0, 0.5])


def of_jacobian(gradients, weight=None):
    weight = np.ones(len(gradients)) if weight is None else weight
    return stretch(np.eye(F), gradients[:, :, None], weight[:, None, None])


def test_its_square_is_the_second_moment_of_the_gradients(gradients):
    moment = gradients.T @ gradients
    found = of_jacobian(gradients)
    np.testing.assert_allclose(found @ found, moment * F / np.trace(moment))
    np.testing.assert_allclose(found, found.T)


def test_what_does_not_change_keeps_a_tenth_of_the_mean(gradients):
    found = of_jacobian(gradients * [1, 0, 0, 0])
    np.testing.assert_allclose(found[1:, 1:], found[0, 0] * 0.05 * np.eye(3))
    np.testing.assert_array_equal(of_jacobian(np.zeros((N, F))), np.eye(F))


def test_directions_need_not_be_the_coordinates(gradients):
    directions = np.random.default_rng(1).normal(size=(F, F))
    found = stretch(directions, (gradients @ directions.T)[:, :, None], np.ones(1))
    np.testing.assert_allclose(found, of_jacobian(gradients))


def test_across_the_directions_it_is_the_mean(gradients):
    directions = np.eye(F)[1:3]
    found = stretch(directions, gradients[:, 1:3, None], np.ones(1))
    np.testing.assert_allclose(found[[0, 3]], np.eye(F)[[0, 3]], atol=1e-12)
    inner = gradients[:, 1:3].T @ gradients[:, 1:3]
    np.testing.assert_allclose((found @ found)[1:3, 1:3], inner * 2 / np.trace(inner))


def test_what_is_not_known_drops_out(gradients):
    is_known = np.random.default_rng(2).random((N, F)) > [0.9, 0, 0, 0]
    found = of_jacobian(np.where(is_known, gradients, np.nan))
    np.testing.assert_allclose(np.diag(found), np.diag(of_jacobian(gradients)), rtol=0.2)
    never = gradients.copy()
    never[:, 0] = np.nan
    expected = stretch(np.eye(F)[1:], gradients[:, 1:, None], np.ones(1))
    np.testing.assert_allclose(of_jacobian(never), expected)
    weightless = stretch(np.diag([0.0, 1, 1, 1]), (gradients * [0, 1, 1, 1])[..., None], np.ones(1))
    np.testing.assert_allclose(weightless, expected)


def test_outputs_count_alike_and_weights_as_copies(gradients):
    both = stretch(np.eye(F), gradients.reshape(-1, 2, F).swapaxes(1, 2), np.ones(1))
    np.testing.assert_allclose(both, of_jacobian(gradients))
    weight = np.arange(N) % 3
    copies = of_jacobian(gradients.repeat(weight, axis=0))
    np.testing.assert_allclose(of_jacobian(gradients, weight), copies)
    junk = np.where(weight[:, None] > 0, gradients, 1e200)
    np.testing.assert_allclose(of_jacobian(junk, weight), copies)


def test_no_unit_is_too_large_or_too_small(gradients):
    for unit in (1e-200, 1e200):
        np.testing.assert_allclose(of_jacobian(gradients * unit), of_jacobian(gradients))


def test_a_layer_sees_standard_samples_stretched(gradients):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(N, F)) * [1, 10, 0.1, 1] + 5
    torch.manual_seed(0)
    module = MLP(F, 1, (7,)).double()
    before = [p.detach().clone().numpy() for p in module[0].parameters()]
    tangents = np.broadcast_to(np.eye(F), (N, F, F))
    make_first_layer_for(module, x, {"tangents": tangents, "derivatives": gradients[:, :, None]})
    standard = (x - x.mean(0)) / x.std(0)
    seen = standard @ of_jacobian(gradients * x.std(0))
    np.testing.assert_allclose(
        module[0](torch.tensor(x)).detach(), seen @ before[0].T + before[1], atol=1e-12
    )


def test_one_direction_of_many_inputs_is_found():
    direction = np.arange(1, 11) / 5
    X = np.random.default_rng(0).uniform(-1, 1, size=(400, 10))
    derivatives = np.cos(X @ direction)[:, None] * direction
    wanted, errors = np.sin(X[100:] @ direction), []
    for random_state in range(4):
        model = TangentPropRegressor(random_state=random_state, max_epochs=1, optimizer="lm")
        model.fit(X[:100], np.sin(X[:100] @ direction), derivatives=derivatives[:100])
        errors.append(np.mean((model.predict(X[100:]) - wanted) ** 2) / wanted.var())
    assert np.median(errors) < 0.01  # 0.024 where all directions begin alike


def test_derivatives_of_weight_zero_are_as_unknown():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 2))
    y, derivatives = X @ [[1, 2], [3, 4]], np.broadcast_to([[1.0, 2], [3, 4]], (30, 2, 2)).copy()
    weight = np.ones((30, 2, 2))
    weight[:, 1, 0] = 0
    derivatives[:, 1, 0] = 1e6
    model = TangentPropRegressor(random_state=0, max_epochs=1, optimizer="lm")
    weightless = model.fit(X, y, derivatives=derivatives, derivative_weight=weight).predict(X)
    derivatives[:, 1, 0] = np.nan
    unknown = model.fit(X, y, derivatives=derivatives).predict(X)
    np.testing.assert_allclose(weightless, unknown)


def first_layer(x, tangents, derivatives):
    torch.manual_seed(0)
    module = MLP(n_features=F, n_outputs=1, hidden_layer_sizes=(5,)).double()
    make_first_layer_for(module, x, {"tangents": tangents, "derivatives": derivatives})
    return module[0].weight.detach().numpy()


def test_directions_may_be_repeated_or_weighted_or_differ(gradients, seeded):
    x = np.random.default_rng(2).normal(size=(N, F))
    view = np.broadcast_to(np.eye(F), (N, F, F))
    wanted = first_layer(x, view, gradients[:, :, None])
    np.testing.assert_array_equal(first_layer(x, view.copy(), gradients[:, :, None]), wanted)
    factors = np.random.default_rng(3).uniform(0, 2, size=(N, F, 1))
    factors[:3] = 0
    weighted = first_layer(x, factors * view, factors * gradients[:, :, None])
    moment = np.einsum("nt,nu,nt,nu->tu", *[factors[:, :, 0]] * 2, gradients, gradients)
    pairs = factors[:, :, 0].T @ factors[:, :, 0]
    moment = moment / pairs / np.outer(x.std(0), x.std(0)) ** -1
    values, vectors = np.linalg.eigh(moment)
    root = vectors * np.sqrt(values / values.mean()) @ vectors.T
    plain = first_layer(x, view, np.zeros((N, F, 1)))
    np.testing.assert_allclose(weighted * x.std(0), plain * x.std(0) @ root)
    # of directions that are each sample's own nothing is concluded
    own = np.random.default_rng(4).normal(size=(N, F, F))
    np.testing.assert_array_equal(first_layer(x, own, gradients[:, :, None]), plain)
