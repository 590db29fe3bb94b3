"""Mixed precision: where it applies, and what it costs."""

import numpy as np
import pytest
import torch
from torch import nn

from sktangent import TangentPropClassifier, TangentPropRegressor
from sktangent.net import TangentPropNet
from sktangent.tangents import FeatureTangents

X = np.random.default_rng(0).normal(size=(64, 6)).astype(np.float32)
Y = np.sin(X[:, 0]) + X[:, 1]


def quick(estimator=TangentPropRegressor, **params):
    params = {"max_epochs": 3, "optimizer": "adam", "random_state": 0, **params}
    return estimator(FeatureTangents(), 0.1, **params)


class Spy(nn.Linear):
    def forward(self, x):
        y = super().forward(x)
        self.seen = y.dtype
        return y


def test_products_are_in_low_precision_and_all_else_is_not():
    model = quick(module=Spy, autocast="bfloat16").fit(X, Y)
    assert model.module_.weight.dtype == torch.float32
    assert model.module_.weight.grad.dtype == torch.float32
    model.net_.train_step(({"x": torch.tensor(X)}, torch.zeros(64, 1)))
    assert model.module_.seen == torch.bfloat16
    assert model.predict(X).dtype == np.float32
    assert model.module_.seen == torch.float32
    assert model.jacobian(X).dtype == np.float32


def gradient(autocast):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 50), nn.GELU(), nn.Linear(50, 50), nn.Tanh())
    module.append(nn.Linear(50, 1))
    net = TangentPropNet(module, autocast=autocast, verbose=0).initialize()
    tangents = torch.eye(6).expand(64, 6, 6)
    net.train_step_single(({"x": torch.tensor(X), "tangents": tangents}, torch.tensor(Y[:, None])))
    return torch.cat([p.grad.reshape(-1) for p in net.module_.parameters()])


def test_the_gradient_is_that_of_single_precision_to_two_digits():
    exact, low = gradient(None), gradient("bfloat16")
    error = torch.linalg.norm(low - exact) / torch.linalg.norm(exact)
    assert 1e-5 < error < 0.02


def test_it_learns():
    labels = (Y > 0).astype(int)
    params = {"estimator": TangentPropClassifier, "max_epochs": 100}
    low, single = (quick(autocast=a, **params).fit(X, labels) for a in ("bfloat16", None))
    assert low.loss_curve_[-1] == pytest.approx(single.loss_curve_[-1], rel=0.05)


def test_it_is_for_single_precision():
    with pytest.raises(ValueError, match="autocast='bfloat16' is for float32"):
        quick(autocast="bfloat16").fit(X.astype(np.float64), Y)
    quick(autocast="bfloat16", dtype="float32").fit(X.astype(np.float64), Y)


@pytest.mark.parametrize("wrong", ["float16", True, torch.bfloat16])
def test_wrong_values(wrong):
    with pytest.raises(ValueError, match="autocast"):
        quick(autocast=wrong).fit(X, Y)
    net = TangentPropNet(nn.Linear(6, 1), autocast=wrong, train_split=None, verbose=0)
    with pytest.raises(ValueError, match="autocast must be None or 'bfloat16'"):
        net.fit(X, Y[:, None])


def test_lbfgs_refuses_it():
    with pytest.raises(ValueError, match="autocast='bfloat16'"):
        quick(autocast="bfloat16", optimizer="lbfgs").fit(X, Y)
    model = quick(autocast="bfloat16", optimizer="auto").fit(X[:10], Y[:10])
    assert isinstance(model.net_.optimizer_, torch.optim.Adam)
