"""Torch's objects as plain values, and back."""

import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from sktangent._plain import from_plain, to_plain
from sktangent.modules import MLP


class Tied(nn.Module):
    """A module of a user's, with what modules may have."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.second = nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.parts = [self.first, {"norm": nn.BatchNorm1d(3)}]
        self.norm = self.parts[1]["norm"]
        self.register_buffer("shift", torch.ones(3, dtype=torch.bfloat16), persistent=False)
        self.register_parameter("none", None)
        self.first.bias.requires_grad_(False)

    def forward(self, x):
        return self.norm(self.second(torch.tanh(self.first(x)))) + self.shift


def kinds_in(value):
    if isinstance(value, dict):
        return {dict}.union(*map(kinds_in, value.values()))
    if isinstance(value, (list, tuple)):
        return {type(value)}.union(*map(kinds_in, value))
    return {type(value)}


@pytest.mark.parametrize(
    "build",
    [
        lambda: MLP(3, 3, activation="silu"),
        lambda: nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(), nn.PReLU()),
        lambda: nn.LSTM(3, 3, num_layers=2),
        lambda: nn.TransformerEncoderLayer(3, 1, 5, batch_first=True),
        lambda: nn.Linear(3, 3).double(),
        Tied,
    ],
)
def test_modules_are_what_they_were(build, seeded):
    module = build()
    module(torch.rand(5, 3, dtype=next(module.parameters()).dtype))  # batch statistics
    again = from_plain(pickle.loads(pickle.dumps(to_plain(module.eval()))))
    assert str(again) == str(module)
    state = module.state_dict()
    assert list(again.state_dict()) == list(state)
    for name, value in again.state_dict().items():
        torch.testing.assert_close(value, state[name], rtol=0, atol=0)
    trained = [p.requires_grad for p in module.parameters()]
    assert [p.requires_grad for p in again.parameters()] == trained
    x = torch.rand(2, 3, dtype=next(module.parameters()).dtype)
    for one, other in zip(again(x), module(x), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_known_modules_come_down_to_arrays_and_values():
    plain = to_plain(nn.Sequential(nn.Linear(2, 2), nn.Tanh()))
    assert kinds_in(plain) <= {dict, list, tuple, str, bool, int, float, set, np.ndarray}


def test_what_is_one_object_stays_one():
    module = Tied()
    again, other = from_plain(pickle.loads(pickle.dumps(to_plain([module, module]))))
    assert again is other
    assert again.first.weight is again.second.weight
    assert again.parts[0] is again.first
    assert again.parts[1]["norm"] is again.norm


def test_arrays_are_copied():
    weight = torch.ones(2)
    plain = to_plain(weight)
    plain["array"].flags.writeable = False
    from_plain(plain).zero_()
    assert weight.tolist() == [1, 1]


def test_other_values_are_left_alone():
    values = [None, 1.5, "a", np.arange(3), len, SimpleNamespace(), Tied, torch.Generator]
    assert from_plain(to_plain(values)) == values
    kept = [np.dtype("float32"), nn.GELU, torch.optim.SGD, torch.optim.Adam, MLP]
    assert from_plain(to_plain({"a": (kept,)})) == {"a": (kept,)}


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "builtins.eval",
        "subprocess.Popen",
        "sktangent._plain.importlib",
        "torch.nn.functional.torch",
        "torch.nn.functional.Callable",
        "torch.optim.optimizer.OrderedDict",
        "torch.nn.modules.module.warnings.warn",
        "torch.nn.init.constant_",
        "torch.nn.Absent",
    ],
)
def test_only_classes_of_known_rooms_are_looked_up(name):
    for plain in (
        {"sktangent": "class", "name": name},
        {
            "sktangent": "module",
            "class": {"sktangent": "class", "name": name},
            "state": {"training": False},
        },
    ):
        with pytest.raises((ValueError, ImportError), match="names|No module"):
            from_plain(plain)


def test_only_modules_are_built():
    plain = {"sktangent": "module", "class": dict, "state": {}}
    with pytest.raises(ValueError, match="names <class 'dict'> as a module"):
        from_plain(plain)
