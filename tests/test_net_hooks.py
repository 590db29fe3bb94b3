"""The net as a skorch user bends it: callbacks, hooks of subclasses, interruption, printing."""

import numpy as np
import pytest
import torch
from sklearn.metrics import r2_score
from skorch.callbacks import (
    BatchScoring,
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    Freezer,
    GradientNormClipping,
    LRScheduler,
    ProgressBar,
)
from skorch.dataset import Dataset
from skorch.helper import predefined_split
from torch import nn

from sktangent.net import TangentPropNet

rng = np.random.default_rng(0)
X = rng.normal(size=(40, 3)).astype(np.float32)
Y = np.sin(X[:, :1])
INPUTS = {"x": X, "tangents": np.ones((40, 1, 3), np.float32)}


def make_net(cls=TangentPropNet, **kwargs):
    torch.manual_seed(0)
    defaults = {
        "module__in_features": 3,
        "module__out_features": 1,
        "max_epochs": 4,
        "batch_size": 10,
        "verbose": 0,
        "train_split": predefined_split(Dataset(X, Y)),
    }
    return cls(nn.Linear, **{**defaults, **kwargs})


def weight_of(net):
    return net.module_.weight.detach().clone()


def test_scoring():
    callbacks = [
        EpochScoring("r2", lower_is_better=False),
        EpochScoring("r2", lower_is_better=False, on_train=True, name="train_r2"),
        BatchScoring(lambda net, X, y: 3.0, name="three", lower_is_better=False),
    ]
    net = make_net(callbacks=callbacks).fit(INPUTS, Y)
    assert net.history[-1, "r2"] == pytest.approx(r2_score(Y, net.predict(X)), abs=1e-6)
    assert net.history[-1, "three"] == 3.0
    train = make_net(callbacks=callbacks, lr=1e-9, batch_size=40).fit(INPUTS, Y)
    assert train.history[-1, "train_r2"] == pytest.approx(r2_score(Y, train.predict(X)), abs=1e-5)


def test_losses_of_a_batch_are_there_for_callbacks():
    class Watch(Callback):
        seen = ()

        def on_batch_end(self, net, loss, training, **kwargs):
            name = "train_loss" if training else "valid_loss"
            self.seen += ((net.history[-1, "batches", -1, name], loss.item()),)

    watch = Watch()
    make_net(callbacks=[watch]).fit(INPUTS, Y)
    assert len(watch.seen) == 4 * (4 + 4)
    np.testing.assert_allclose(*np.transpose(watch.seen))


def test_early_stopping_ends_quietly_and_loads_the_best(recwarn):
    stop = EarlyStopping(patience=2, threshold=10.0, threshold_mode="abs", load_best=True)
    net = make_net(callbacks=[stop], max_epochs=50).fit(INPUTS, Y)
    assert len(net.history) == 3
    assert not recwarn.list


@pytest.mark.parametrize("monitor", ["valid_loss_best", "train_loss_best"])
def test_checkpoint_keeps_the_best_epoch(tmp_path, monitor):
    checkpoint = Checkpoint(monitor=monitor, dirname=tmp_path, f_history=None, load_best=True)
    schedule = LRScheduler("LambdaLR", lr_lambda=lambda epoch: 1.0 if epoch < 3 else 100.0)
    net = make_net(callbacks=[checkpoint, schedule], lr=0.02, max_epochs=6).fit(INPUTS, Y)
    name = monitor.removesuffix("_best")
    losses = net.history[:, name]
    assert losses[-1] > min(losses)
    flags = [loss < min(losses[:i], default=np.inf) for i, loss in enumerate(losses)]
    assert net.history[:, monitor] == flags
    if name == "valid_loss":
        assert np.mean((net.predict(X) - Y) ** 2) == pytest.approx(min(losses), rel=1e-5)


@pytest.mark.parametrize(("step_every", "n_steps"), [("epoch", 4), ("batch", 16)])
def test_learning_rate_schedules(step_every, n_steps):
    schedule = LRScheduler("ExponentialLR", gamma=0.9, step_every=step_every)
    net = make_net(callbacks=[schedule], lr=0.1).fit(INPUTS, Y)
    assert net.optimizer_.param_groups[0]["lr"] == pytest.approx(0.1 * 0.9**n_steps)


def test_a_schedule_that_watches_a_loss():
    schedule = LRScheduler("ReduceLROnPlateau", monitor="train_penalty", patience=0, threshold=1e9)
    net = make_net(callbacks=[schedule], lr=0.1).fit(INPUTS, Y)
    assert net.optimizer_.param_groups[0]["lr"] < 0.1


def test_gradient_clipping():
    net = make_net(callbacks=[GradientNormClipping(1e-3)], optimizer=torch.optim.SGD, lr=1.0)
    before = weight_of(net.initialize())
    net.set_params(max_epochs=1).partial_fit(INPUTS, Y)
    assert 0 < (weight_of(net) - before).norm() <= 4 * 1e-3 + 1e-6


def test_frozen_parameters():
    net = make_net(callbacks=[Freezer("weight")])
    before = weight_of(net.initialize())
    assert torch.equal(weight_of(net.partial_fit(INPUTS, Y)), before)
    assert net.history[-1, "train_loss"] < net.history[0, "train_loss"]


def test_progress_bar_shows_the_losses(capsys):
    make_net(callbacks=[ProgressBar(detect_notebook=False)]).fit(INPUTS, Y)
    assert "/8" in capsys.readouterr().err  # batches to train on, and to validate on


def test_printing(capsys):
    make_net(verbose=1).fit(INPUTS, Y)
    header = capsys.readouterr().out.splitlines()[0].split()
    assert {"epoch", "train_data_loss", "train_loss", "train_penalty", "valid_loss"} <= set(header)
    assert not any("best" in name or "count" in name for name in header)
    make_net(verbose=0).fit(INPUTS, Y)
    assert capsys.readouterr().out == ""


def test_get_loss_of_a_subclass_is_minimized():
    class Heavy(TangentPropNet):
        def get_loss(self, *args, **kwargs):
            return super().get_loss(*args, **kwargs) + 100 * self.module_.weight.abs().sum()

    net = make_net(Heavy, lr=0.05, max_epochs=30).fit(INPUTS, Y)
    plain = make_net(lr=0.05).fit(INPUTS, Y)
    assert weight_of(net).abs().max() < 0.1 < weight_of(plain).abs().max()
    row = net.history[0]
    assert row["train_loss"] == pytest.approx(row["train_data_loss"] + row["train_penalty"])
    assert row["train_data_loss"] > 10


def test_infer_of_a_subclass_sees_samples_with_tangents():
    class Tripled(TangentPropNet):
        def infer(self, x, **fit_params):
            return 3 * super().infer(x, **fit_params)

    net = make_net(Tripled, lr=1e-9, batch_size=40).fit(INPUTS, Y)
    assert net.history[0, "train_penalty"] == pytest.approx(9 * weight_of(net).sum().item() ** 2)
    assert net.history[0, "train_data_loss"] == pytest.approx(
        np.mean((net.predict(X) - Y) ** 2), rel=1e-5
    )


def test_infer_of_a_subclass_may_use_more_of_the_batch():
    class Gated(TangentPropNet):
        def infer(self, x, **fit_params):
            return super().infer(x, **fit_params) * x["gate"]

    inputs = {**INPUTS, "gate": np.zeros((40, 1), np.float32)}
    net = make_net(Gated, train_split=None).fit(inputs, Y)
    assert net.history[-1, "train_penalty"] == 0
    assert net.history[-1, "train_data_loss"] == pytest.approx(np.mean(Y**2), rel=1e-5)


class Interrupt(Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_begin(self, net, **kwargs):
        net.interrupt_after = 2 if len(net.history) == self.epoch else 99


class Interrupted(TangentPropNet):
    def train_step(self, batch, **fit_params):
        self.interrupt_after -= 1
        if self.interrupt_after < 0:
            raise KeyboardInterrupt  # what Ctrl-C does, in the middle of an epoch
        return super().train_step(batch, **fit_params)


def test_interrupting_keeps_what_was_learned_and_says_so():
    net = make_net(Interrupted, callbacks=[Interrupt(2)])
    with pytest.warns(UserWarning, match="interrupted; what was learned so far is kept"):
        net.fit(INPUTS, Y)
    assert [("train_loss" in row) for row in net.history] == [True, False]
    expected = make_net(max_epochs=1).fit(INPUTS, Y)
    assert not torch.equal(weight_of(net), weight_of(expected))
    net.interrupt_after = 99
    net.set_params(callbacks__Interrupt__epoch=99).partial_fit(INPUTS, Y)
    assert "train_loss" in net.history[-1]


def test_a_history_that_is_read_from_a_file_in_between(tmp_path):
    class Reload(Callback):
        def on_batch_begin(self, net, **kwargs):
            if len(net.history[-1]["batches"]) == 3:
                net.save_params(f_history=tmp_path / "history.json")
                net.load_params(f_history=tmp_path / "history.json")

    net = make_net(callbacks=[("reload", Reload())], max_epochs=1, train_split=None)
    net.fit(INPUTS, Y)
    assert all("train_batch_size" in row for row in net.history[-1]["batches"])
