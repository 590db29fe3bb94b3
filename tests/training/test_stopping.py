import math

import pytest
import torch
from torch import nn

from sktangent.training.history import EpochHistory
from sktangent.training.stopping import Stopping


class Net:
    """What a callback sees of a net."""

    def __init__(self):
        self.history, self.module_ = EpochHistory(), nn.Linear(1, 1)


def train(stopping, losses, name="train_loss", net=None):
    """Return the net after training, and the number of epochs it took."""
    net = net or Net()
    stopping.on_train_begin(net)
    for epoch, loss in enumerate(losses):
        nn.init.constant_(net.module_.weight, float(epoch))
        net.history.new_epoch()
        net.history.record("train_loss", loss)
        net.history.record(name, loss)
        try:
            stopping.on_epoch_end(net)
        except KeyboardInterrupt:
            break
    stopping.on_train_end(net)
    return net, len(net.history)


@pytest.mark.parametrize("patience", [1, 3])
def test_ends_after_so_many_epochs_without_progress(patience):
    _, n_epochs = train(Stopping(patience=patience), [1.0] + [0.5] * 20)
    assert n_epochs == 2 + patience + 1  # the first to exceed the patience, as in scikit-learn


def test_progress_smaller_than_tol_does_not_count():
    losses = [1 - 0.001 * epoch for epoch in range(50)]
    assert train(Stopping(patience=5, tol=0.01), losses)[1] == 7
    assert train(Stopping(patience=5, tol=0.0001), losses)[1] == 50


def test_the_best_parameters_come_back():
    stopping = Stopping("valid_loss", patience=3, tol=0.0, restore_best=True)
    net, n_epochs = train(stopping, [5.0, 2.0, 1.0, 3.0, 3.0, 3.0, 3.0, 0.0], "valid_loss")
    assert n_epochs == 7
    assert net.module_.weight.item() == 2.0


def test_the_last_parameters_stay_if_not_asked():
    net, _ = train(Stopping(patience=100), [1.0, 2.0, 3.0])
    assert net.module_.weight.item() == 2.0


def test_each_training_counts_anew():
    stopping = Stopping(patience=2)
    assert train(stopping, [1.0] * 10)[1] == train(stopping, [1.0] * 10)[1] == 4


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number(loss):
    with pytest.raises(ValueError, match=rf"diverged: the loss is {loss} in epoch 2.*smaller lr"):
        train(Stopping(), [1.0, loss])


def test_a_loss_that_is_not_recorded():
    with pytest.raises(ValueError, match=r"monitor='valid_loss' is not recorded.*'train_loss'"):
        train(Stopping("valid_loss"), [1.0])


def test_parameters_broken_by_the_last_step():
    class Breaking(Stopping):
        def on_epoch_end(self, net, **kwargs):
            super().on_epoch_end(net)
            with torch.no_grad():
                net.module_.weight.fill_(math.nan)

    with pytest.raises(ValueError, match="parameters are no longer finite in epoch 1"):
        train(Breaking(), [1.0])
