"""The L2 weight that the data speak for."""

import numpy as np
import pytest
import torch

from sktangent.training.evidence import evidence, lower_gram


@pytest.mark.parametrize(("rows", "columns"), [(200, 20), (20, 60)])
def test_it_finds_the_noise_and_the_size_of_the_parameters(rows, columns):
    rng = np.random.default_rng(0)
    size, noise = 2.0, 0.3
    found = []
    for _ in range(20):
        A = rng.normal(size=(rows, columns))
        b = A @ (size * rng.normal(size=columns)) + noise * rng.normal(size=rows)
        decays = [1.0]
        for _ in range(50):
            theta = np.linalg.solve(A.T @ A + decays[0] * np.eye(columns), A.T @ b)
            point, residuals = torch.tensor(theta), torch.tensor(A @ theta - b)
            decays = evidence(decays, [columns], point, residuals, torch.tensor(A)).decays
        found.append(decays[0])
    if rows > columns:
        assert np.median(found) == pytest.approx((noise / size) ** 2, rel=0.4)
    else:
        assert np.median(found) < 0.3


@pytest.mark.parametrize(("rows", "columns"), [(30, 8), (8, 30)])
def test_it_is_what_is_left_when_parameters_and_the_variance_are_integrated_out(rows, columns):
    rng = np.random.default_rng(1)
    A, b = rng.normal(size=(rows, columns)), rng.normal(size=rows)
    sizes = [columns // 2, columns - columns // 2]

    def found_and_expected(decays):
        spread = np.repeat(decays, sizes)
        theta = np.linalg.solve(A.T @ A + np.diag(spread), A.T @ b)
        found = evidence(decays, sizes, *map(torch.tensor, (theta, A @ theta - b, A)))
        # of b alone, as a normal variable of a variance of which nothing is known
        covariance = np.eye(rows) + A / spread @ A.T
        square = b @ np.linalg.solve(covariance, b)
        return found.log, -0.5 * (rows * np.log(square) + np.linalg.slogdet(covariance)[1])

    (log, expected), (other, other_expected) = map(found_and_expected, ([0.3, 2.0], [7.0, 0.1]))
    assert log - other == pytest.approx(expected - other_expected, rel=1e-9)


def test_what_cannot_be_calculated_changes_nothing():
    ones, matrix = torch.ones(2).double(), torch.full((2, 2), 1e9).double()
    assert evidence([1e-300], [2], ones, ones, matrix) == (np.inf, [1e-300])


@pytest.mark.parametrize("n", [1, 63, 64, 65, 500])
def test_the_lower_triangle_of_a_product(n):
    matrix = torch.randn(7, n).double()
    expected = torch.tril(matrix.t() @ matrix)
    torch.testing.assert_close(torch.tril(lower_gram(matrix)), expected)
