"""Tangents that answer wrongly, at once or on a later call, and networks that do."""

import numpy as np
import pytest
import torch
from sklearn import config_context
from torch import nn

from sktangent import TangentPropClassifier, TangentPropRegressor
from sktangent.estimators import row_storage
from sktangent.tangents import FeatureTangents
from tests.bad_input.data import FRAME, V, X, fit, masked, put

BOTH = [TangentPropClassifier, TangentPropRegressor]


def fails(*args):
    raise KeyError("a fault of the user's")


# what the callable returns of good tangents, the error, what it says
ANSWERS = {
    "None": (lambda V: None, TypeError, "array of numbers, got None"),
    "NaN": (lambda V: V * np.nan, ValueError, "holds NaN"),
    "infinity": (lambda V: V * np.inf, ValueError, "infinity"),
    "fewer rows": (lambda V: V[1:], ValueError, r"must have shape \(\d+, n_tangents, 3\)"),
    "two axes": (lambda V: V[:, 0], ValueError, "add its axis"),
    "no tangent": (lambda V: V[:, :0], ValueError, "holds no tangent"),
    "strings": (lambda V: V.astype("U1"), TypeError, "dtype <U1"),
    "complex": (lambda V: V + 1j, TypeError, "complex128"),
    "dates": (lambda V: V.astype("M8[D]"), TypeError, "got dates"),
    "masked": (masked, ValueError, "is a masked array"),
    "ragged": (lambda V: [[1.0], [1.0, 2.0]], ValueError, "inhomogeneous"),
    "elsewhere": (lambda V: torch.ones(V.shape, device="meta"), ValueError, "meta"),
    "gradient": (lambda V: torch.ones(V.shape, requires_grad=True), ValueError, "detach"),
    "frame": (lambda V: FRAME[: len(V)], ValueError, "add its axis"),
    "three parts": (lambda V: (V, V, V), ValueError, "tuple of length 3"),
    "wrong derivatives": (lambda V: (V, V), ValueError, "derivatives must have shape"),
    "raises": (fails, KeyError, "a fault of the user's"),
}


def all_good(X):
    return V[: len(X)]


class Later:
    """Answer well at first, and otherwise later."""

    def __init__(self, later, n_good=1):
        self.later, self.n_left = later, n_good

    def __call__(self, X):
        self.n_left -= 1
        return all_good(X) if self.n_left >= 0 else self.later(all_good(X))


@pytest.mark.parametrize("estimator", BOTH)
@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_at_once(estimator, name):
    answer, error, message = ANSWERS[name]
    with pytest.raises(error, match=message) as caught:
        fit(estimator, kind=lambda X: answer(all_good(X)))
    assert "tangents" in str(caught.value) or name in ("raises", "wrong derivatives")
    assert any("samples 0 to 11 of X" in note for note in caught.value.__notes__)


LATER = {
    **{name: ANSWERS[name] for name in ("None", "NaN", "fewer rows", "elsewhere", "raises")},
    "more": (lambda V: np.ones((len(V), 3, 3)), ValueError, "2 tangents .* and 3 for another"),
    "fewer": (lambda V: V[:, :1], ValueError, "2 tangents .* and 1 for another"),
    "derivatives": (lambda V: (V, V[:, :, 0]), ValueError, "none for another"),
}


@pytest.mark.parametrize("name", LATER)
def test_an_answer_for_a_later_part(name, monkeypatch):
    monkeypatch.setattr(row_storage, "_CHUNK", 5 * X[0].nbytes)
    answer, error, message = LATER[name]
    with pytest.raises(error, match=message) as caught:
        fit(TangentPropRegressor, kind=Later(answer))
    assert any("samples 5 to 9 of X" in note for note in caught.value.__notes__)


@pytest.mark.parametrize("name", LATER)
def test_an_answer_in_training(name):
    answer, error, message = LATER[name]
    with config_context(working_memory=1e-5), pytest.raises(error, match=message) as caught:
        fit(TangentPropRegressor, kind=Later(answer), batch_size=4, callbacks=None)
    assert any(note.count(",") == 3 for note in caught.value.__notes__)  # four samples, by number


def test_derivatives_for_the_first_part_only(monkeypatch):
    monkeypatch.setattr(row_storage, "_CHUNK", 5 * X[0].nbytes)
    parts = iter([True, False, False])

    def some_derivatives(X):
        return (all_good(X), np.ones((len(X), 2))) if next(parts) else all_good(X)

    with pytest.raises(ValueError, match="derivatives for one part of X and none for another"):
        fit(TangentPropRegressor, kind=some_derivatives)


class Moving(FeatureTangents):
    """Spoil what move returns after so many calls."""

    def spoil(self, moved):
        return moved[:, :2]

    def move(self, X, amounts):
        return self.spoil(super().move(X, amounts))


MOVES = {
    "shape": (lambda moved: moved[:, :2], ValueError, r"move.* must return \(1, 3\)"),
    "NaN": (lambda moved: put(moved, np.nan), ValueError, "NaN or infinity"),
    "None": (lambda moved: None, ValueError, r"got \(\)"),
    "raises": (fails, KeyError, "a fault of the user's"),
}


@pytest.mark.parametrize("name", MOVES)
def test_moves(name, monkeypatch):
    spoil, error, message = MOVES[name]
    monkeypatch.setattr(Moving, "spoil", staticmethod(spoil))
    with pytest.raises(error, match=message):
        fit(TangentPropRegressor, kind=Moving(), augment=0.1)


class Net(nn.Module):
    def __init__(self, spoil, in_training_only=False):
        super().__init__()
        self.linear, self.spoil, self.later = nn.Linear(3, 1), spoil, in_training_only

    def forward(self, x):
        y = self.linear(x)
        return y if self.later and not self.training else self.spoil(y)


OUTPUTS = {
    "one axis": (lambda y: y[:, 0], ValueError, r"module gives .* got \(2,\)"),
    "three axes": (lambda y: y[..., None], ValueError, r"module gives .* got \(2, 1, 1\)"),
    "no axis": (lambda y: y.sum(), ValueError, r"module gives .* got \(\)"),
    "tuple": (lambda y: (y, y), ValueError, "module gives tuple"),
    "dict": (lambda y: {"y": y}, ValueError, "module gives dict"),
    "None": (lambda y: None, ValueError, "module gives NoneType"),
    "array": (lambda y: y.detach().numpy(), ValueError, "module gives ndarray"),
    "too many": (lambda y: torch.cat([y, y], 1), ValueError, "module gives 2 outputs"),
    "fewer rows": (lambda y: y[1:], ValueError, "module gives"),
    "elsewhere": (lambda y: y.to("meta"), ValueError, "module must return .* on meta"),
    "integers": (lambda y: y.long(), ValueError, "module must return floating numbers"),
    "bools": (lambda y: y > 0, ValueError, "module must return floating numbers"),
    "complex": (lambda y: y + 1j, ValueError, "module must return floating numbers"),
}


@pytest.mark.parametrize("kind", [None, FeatureTangents()])
@pytest.mark.parametrize("name", OUTPUTS)
def test_outputs(name, kind):
    spoil, error, message = OUTPUTS[name]
    with pytest.raises(error, match=message):
        fit(TangentPropRegressor, module=Net(spoil), kind=kind)


@pytest.mark.parametrize("kind", [None, FeatureTangents()])
@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda y: y[:, 0], ValueError, r"y_pred has shape \(12,\)"),
        (lambda y: y[..., None], ValueError, r"y_pred has shape \(12, 1, 1\)"),
        (lambda y: (y, y), TypeError, "module must return one tensor, got tuple"),
        (lambda y: None, TypeError, "module must return one tensor, got NoneType"),
        (lambda y: y.detach(), ValueError, "does not depend on a parameter"),
        (lambda y: y * np.nan, ValueError, "Training diverged: the loss is nan"),
        (fails, KeyError, "a fault of the user's"),
    ],
)
def test_outputs_in_training_only(spoil, error, message, kind):
    with pytest.raises(error, match=message):
        fit(TangentPropRegressor, module=Net(spoil, True), kind=kind, callbacks=None)


def test_a_network_that_cannot_be_trained():
    frozen = nn.Linear(3, 1).requires_grad_(False)
    with pytest.raises(ValueError, match="module has no parameter that can be trained"):
        fit(TangentPropRegressor, module=frozen)


# parameters, the error, what it says; others are in tests/estimators/test_parameters.py
PARAMETERS = [
    ({"kind": FeatureTangents}, TypeError, "tangents must be an instance"),
    ({"device": "meta"}, ValueError, "device='meta' cannot be used"),
    ({"device": "cuda:99"}, ValueError, "device='cuda:99' cannot be used"),
    ({"device": ""}, ValueError, "device='' cannot be used"),
    ({"callbacks": [3]}, TypeError, "callbacks must hold callbacks of skorch, got 3"),
    ({"callbacks": [("a", 3)]}, TypeError, r"callbacks must hold .*\('a', 3\)"),
    ({"callbacks__nothing": 3}, ValueError, "callbacks__nothing is for none of the callbacks"),
    ({"criterion": nn.Linear}, TypeError, "loss=Linear cannot be constructed"),
    ({"optimizer__nothing": 3}, TypeError, "'nothing'"),
    ({"module__nothing": 3}, TypeError, "'nothing'"),
    ({"n_projections": 0}, ValueError, "n_projections"),
    ({"n_projections": 1.5}, ValueError, "n_projections"),
    ({"augment": -1}, ValueError, "augment"),
    ({"augment": 0.1}, ValueError, "augment=0.1 needs the parameter tangents"),
    ({"augment": {"x9": 1}, "kind": FeatureTangents()}, ValueError, "augment has 'x9'"),
    ({"augment": {"x0": "a"}, "kind": FeatureTangents()}, TypeError, r"augment\['x0'\]"),
    ({"preprocessor": "scale"}, ValueError, "preprocessor"),
    ({"autocast": "float16"}, ValueError, "autocast"),
    ({"compile": "yes"}, ValueError, "compile"),
    ({"penalty_weight": "1"}, ValueError, "penalty_weight"),
    ({"penalty_weight": 1j}, ValueError, "penalty_weight"),
]


@pytest.mark.parametrize("estimator", BOTH)
@pytest.mark.parametrize(("params", "error", "message"), PARAMETERS)
def test_parameters(estimator, params, error, message):
    with pytest.raises(error, match=message):
        fit(estimator, **params)


@pytest.mark.parametrize(
    "weight", [{"a": -1, "b": 1}, {"a": np.nan, "b": 1}, {"a": "b"}, {"z": 1}, "equal", 3]
)
def test_class_weight(weight):
    with pytest.raises(ValueError, match="class_weight"):
        fit(TangentPropClassifier, class_weight=weight)


def test_a_refused_fit_leaves_the_estimator_unfitted():
    model = TangentPropRegressor(lambda X: None)
    with pytest.raises(TypeError, match="tangents"):
        model.fit(X, X[:, 0])
    assert not hasattr(model, "net_")
