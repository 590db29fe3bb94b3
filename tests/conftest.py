import numpy as np
import pytest
import torch

torch.set_num_threads(1)  # nets this small are slower on more


@pytest.fixture
def seeded():
    """Seed torch's global generator for a test, and put its state back."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture
def X():
    return np.random.default_rng(0).normal(size=(60, 4))


@pytest.fixture
def labels(X):
    return np.where(X[:, 0] + 0.5 * X[:, 1] > 0, "spam", "ham")


@pytest.fixture
def three_labels(X):
    return np.digitize(X[:, 0], [-0.5, 0.5])


@pytest.fixture
def target(X):
    return np.sin(2 * X[:, 0]) + X[:, 1]
