"""The L2 weight that the data speak for."""

import numpy as np
import pytest
import torch

from sktangent.training.evidence import lower_gram, more_evident


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
            decays = more_evident(decays, [columns], point, residuals, torch.tensor(A))
        found.append(decays[0])
    if rows > columns:
        assert np.median(found) == pytest.approx((noise / size) ** 2, rel=0.4)
    else:
        assert np.median(found) < 0.3


def test_it_changes_tenfold_at_most():
    jacobian = torch.eye(3).double()
    none = more_evident([1.0], [3], torch.ones(3).double(), torch.zeros(3).double(), jacobian)
    assert none == [0.1]
    much = 100 * torch.ones(3).double()
    assert more_evident([1.0], [3], torch.ones(3).double(), much, jacobian) == [10.0]


def test_caution_is_a_factor():
    jacobian, residuals = torch.eye(3).double(), 0.7 * torch.ones(3).double()
    given = [0.5], [3], torch.ones(3).double(), residuals, jacobian
    np.testing.assert_allclose(more_evident(*given, 4.0), 4 * np.array(more_evident(*given)))


@pytest.mark.parametrize("n", [1, 63, 64, 65, 500])
def test_the_lower_triangle_of_a_product(n):
    matrix = torch.randn(7, n).double()
    expected = torch.tril(matrix.t() @ matrix)
    torch.testing.assert_close(torch.tril(lower_gram(matrix)), expected)
