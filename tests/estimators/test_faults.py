"""Interrupted in the middle, or short of memory."""

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback

from sktangent import TangentPropClassifier, TangentPropRegressor
from sktangent.tangents import FeatureTangents

CTRL_C = {
    "adam": {"optimizer": "adam", "batch_size": 20},
    "lbfgs": {"optimizer": "lbfgs"},
    "lm": {"optimizer": "lm"},
    "moves": {"optimizer": "adam", "batch_size": 20, "augment": 0.1},
}


class PressIn(Callback):
    """Press Ctrl-C in the forward pass of an epoch, after so many passes in it."""

    def __init__(self, epoch, n_passes):
        self.epoch, self.n_passes = epoch, n_passes

    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) == self.epoch:
            self.left = self.n_passes
            net.module_[0].register_forward_pre_hook(self.press)

    def press(self, module, args):
        self.left -= 1
        if self.left < 0 and torch.is_grad_enabled():
            raise KeyboardInterrupt


def objective(model, X, y):
    return np.square(model.predict(X) - y).mean()


@pytest.mark.parametrize("n_passes", [0, 1, 2])
@pytest.mark.parametrize("name", CTRL_C)
def test_ctrl_c_keeps_what_was_learned(name, n_passes, X, target):
    params = {"tangents": FeatureTangents([3]), "random_state": 0, **CTRL_C[name]}
    short = TangentPropRegressor(max_epochs=3, **params).fit(X, target)
    pressed = TangentPropRegressor(max_epochs=50, callbacks=[PressIn(4, n_passes)], **params)
    with pytest.warns(UserWarning, match="interrupted; what was learned so far is kept"):
        pressed.fit(X, target)
    assert pressed.n_iter_ == 3
    pressed.module_[0]._forward_pre_hooks.clear()
    assert objective(pressed, X, target) <= 1.05 * objective(short, X, target)
    assert pressed.set_params(warm_start=True, max_epochs=2, callbacks=pressed.callbacks)
    again = pressed.fit(X, target)
    assert np.isfinite(again.predict(X)).all()


def test_ctrl_c_in_the_last_epoch(X, three_labels):
    model = TangentPropClassifier(max_epochs=1, callbacks=[PressIn(1, 0)], batch_size=20)
    with pytest.warns(UserWarning, match="interrupted"):
        model.fit(X, three_labels)
    assert model.n_iter_ == 0
    model.module_[0]._forward_pre_hooks.clear()
    assert model.predict(X).shape == (60,)


def too_large(X):
    return np.empty((len(X), 10**12, *X.shape[1:]))


def test_tangents_too_large(X, target):
    with pytest.raises(
        MemoryError, match=r"(?s)for tangents .*shape.*10{12}.*np.broadcast_to"
    ) as caught:
        TangentPropRegressor(too_large).fit(X, target)
    assert any("samples 0 to 59 of X" in note for note in caught.value.__notes__)


class NoMemory(torch.nn.Linear):
    """Fail as torch does for want of memory, in training or when asked to predict."""

    when = True

    def forward(self, x):
        if self.training is self.when:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 8 bytes.")
        return super().forward(x)


def test_a_step_too_large(X, target):
    with pytest.raises(MemoryError, match=r"'adam' on x shape \(20, 4\), 0.0 MB.*batch_size"):
        TangentPropRegressor(module=NoMemory, optimizer="adam", batch_size=20).fit(X, target)


def test_an_answer_too_large(X, target, monkeypatch):
    model = TangentPropRegressor(max_epochs=2).fit(X, target)

    def forward(*args, **kwargs):
        raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB.")

    monkeypatch.setattr(model.net_, "forward", forward)
    with pytest.raises(MemoryError, match=r"samples of shape \(60, 4\).*fewer samples at a time"):
        model.predict(X)


def test_other_errors_stay_as_they_are(X, target):
    def fails(X):
        raise RuntimeError("a fault of the user's")

    with pytest.raises(RuntimeError, match="a fault of the user's"):
        TangentPropRegressor(fails).fit(X, target)
