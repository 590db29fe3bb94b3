"""What a skorch user brings to the net: steps, criteria, data and callbacks of other nets."""

import numpy as np
import pytest
import skorch
import torch
from skorch.callbacks import (
    BatchScoring,
    Callback,
    EpochScoring,
    InputShapeSetter,
    LoadInitState,
    ParamMapper,
    TrainEndCheckpoint,
)
from skorch.callbacks.training import Checkpoint
from skorch.dataset import Dataset, ValidSplit
from torch import nn
from torch.utils.data import DataLoader

from sktangent.criterion import TangentPropLoss
from sktangent.net import TangentPropNet

rng = np.random.default_rng(0)
X = rng.normal(size=(40, 3)).astype(np.float32)
Y = np.sin(X[:, :1])
LABELS = (X[:, 0] > 0).astype(np.int64)
TANGENTS = np.ones((40, 1, 3), np.float32)
INPUTS = {"x": X, "tangents": TANGENTS}


class Linear(nn.Linear):
    def __init__(self, in_features=3, out_features=1):
        super().__init__(in_features, out_features)


def make_net(cls=TangentPropNet, module=Linear, **kwargs):
    torch.manual_seed(0)
    return cls(module, **{"max_epochs": 3, "verbose": 0, "train_split": None, **kwargs})


def skorchs_net(**kwargs):
    return make_net(skorch.NeuralNet, optimizer=torch.optim.Adam, lr=1e-3, **kwargs)


def weights_of(net):
    return nn.utils.parameters_to_vector(net.module_.parameters()).detach()


# Steps --------------------------------------------------------------------------------------------


class OwnStep(TangentPropNet):
    def train_step_single(self, batch, **fit_params):
        self._set_training(True)
        x, y = batch
        y_pred = self.infer(x, **fit_params)
        loss = self.get_loss(y_pred, y, X=x, training=True)
        loss.backward()
        return {"loss": loss, "y_pred": y_pred}


@pytest.mark.parametrize("kwargs", [{}, {"l2": 0.5}, {"callbacks": [BatchScoring("r2")]}])
def test_a_training_step_of_ones_own(kwargs):
    own, plain = (make_net(cls, **kwargs).fit(X, Y) for cls in (OwnStep, TangentPropNet))
    assert torch.equal(weights_of(own), weights_of(plain))
    assert own.history[:, "train_loss"] == plain.history[:, "train_loss"]
    assert "train_penalty" not in own.history[-1]


class LossOfOneElement(TangentPropNet):
    def get_loss(self, *args, **kwargs):
        return super().get_loss(*args, **kwargs).reshape(1)


@pytest.mark.parametrize("callbacks", [None, [BatchScoring("r2", lower_is_better=False)]])
def test_a_loss_with_one_element(callbacks):
    nets = [
        make_net(cls, callbacks=callbacks, train_split=ValidSplit(4)).fit(INPUTS, Y)
        for cls in (LossOfOneElement, TangentPropNet)
    ]
    for name in ("train_loss", "train_penalty", "valid_loss"):
        assert nets[0].history[:, name] == nets[1].history[:, name]
    assert torch.equal(*map(weights_of, nets))


# Targets ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [X, {"x": X}, INPUTS])
@pytest.mark.parametrize("iterator", [DataLoader, None])
def test_missing_targets_are_said_to_be_missing(samples, iterator):
    kwargs = {} if iterator is None else {"iterator_train": iterator}
    net = make_net(**kwargs).initialize()
    before = weights_of(net).clone()
    with pytest.raises(ValueError, match="y is None, and must hold the targets"):
        net.partial_fit(samples)
    assert torch.equal(weights_of(net), before)


def test_a_loss_that_needs_no_targets():
    class Shrinking(TangentPropNet):
        def get_loss(self, y_pred, y_true, X=None, training=False):
            return y_pred.square().mean()

    weight = rng.uniform(0.5, 2, size=40).astype(np.float32)
    net = make_net(Shrinking, lr=0.1, max_epochs=50, train_split=ValidSplit(4))
    net.fit({**INPUTS, "sample_weight": weight})
    assert net.history[-1, "valid_loss"] < 0.1 * net.history[0, "valid_loss"]
    assert net.history[0, "train_penalty"] > 0


def test_a_dataset_that_brings_the_targets():
    class Pairs(Dataset):
        def __init__(self, X, y=None):
            super().__init__(X, Y)

    net = make_net(dataset=Pairs).fit(X)
    assert torch.equal(weights_of(net), weights_of(make_net().fit(X, Y)))


# Samples ------------------------------------------------------------------------------------------


class TwoInputs(Linear):
    def forward(self, first, second):
        return super().forward(first + 2 * second)


@pytest.mark.parametrize("iterator", [None, DataLoader])
def test_a_dict_of_arguments_of_forward(iterator):
    kwargs = {"module": TwoInputs, "criterion": nn.MSELoss}
    ours = {} if iterator is None else {"iterator_train": iterator, "iterator_valid": iterator}
    inputs = {"first": X, "second": X[::-1].copy()}
    net, other = make_net(**kwargs, **ours).fit(inputs, Y), skorchs_net(**kwargs).fit(inputs, Y)
    torch.testing.assert_close(weights_of(net), weights_of(other))
    np.testing.assert_allclose(net.predict(inputs), other.predict(inputs), rtol=1e-5)
    assert net.history[-1, "batches", 0, "train_batch_size"] == 40


def test_targets_of_different_lengths():
    y = np.array([np.ones(1 + i % 3, np.float32) for i in range(40)], dtype=object)
    net = make_net(batch_size=1, lr=0.1)
    net.get_loss = lambda y_pred, y_true, **kwargs: (y_pred[0, 0] - y_true.sum()).square()
    net.fit(X, y)
    assert net.history[-1, "train_loss"] < net.history[0, "train_loss"]


@pytest.mark.parametrize(
    ("inputs", "missing"),
    [
        ({"samples": X, "tangents": TANGENTS}, "'x'"),
        ({"x": X, "derivatives": np.ones((40, 1, 1), np.float32)}, "'tangents'"),
    ],
)
def test_parts_without_those_that_they_go_with(inputs, missing):
    with pytest.raises(ValueError, match=f"must hold {missing} too"):
        make_net().fit(inputs, Y)


# Criteria -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("criterion", "y", "n_outputs"),
    [(nn.MSELoss, Y, 1), (nn.CrossEntropyLoss, LABELS, 2), (nn.L1Loss, Y, 1)],
)
def test_a_criterion_of_torch_trains_as_with_skorch(criterion, y, n_outputs):
    kwargs = {"criterion": criterion, "module__out_features": n_outputs}
    net = make_net(**kwargs, train_split=ValidSplit(4)).fit(X, y)
    other = skorchs_net(**kwargs, train_split=ValidSplit(4)).fit(X, y)
    torch.testing.assert_close(weights_of(net), weights_of(other))
    for name in ("train_loss", "valid_loss"):
        np.testing.assert_allclose(net.history[:, name], other.history[:, name], rtol=1e-5)
    np.testing.assert_allclose(net.predict_proba(X), other.predict_proba(X), rtol=1e-5)


class Pairs(torch.utils.data.Dataset):
    def __len__(self):
        return len(X)

    def __getitem__(self, i):
        return {"x": X[i], "tangents": TANGENTS[i]}, Y[i]


@pytest.mark.parametrize(
    ("samples", "y", "what"),
    [
        (INPUTS, Y, "no penalty_term"),
        (Pairs(), None, "no penalty_term"),
        ({"x": X, "sample_weight": np.ones(40, np.float32)}, Y, "'sample_weight', which"),
    ],
)
def test_a_criterion_of_torch_that_lacks_something_says_so(samples, y, what):
    net = make_net(criterion=nn.MSELoss).initialize()
    before = weights_of(net).clone()
    with pytest.raises(TypeError, match=f"{what}.*TangentPropLoss, criterion__loss=MSELoss"):
        net.partial_fit(samples, y)
    assert torch.equal(weights_of(net), before)


def test_a_criterion_under_another_name():
    class Renamed(TangentPropNet):
        def initialize_criterion(self):
            self.distance_ = nn.MSELoss()
            return self

        def get_loss(self, y_pred, y_true, X=None, training=False):
            return self.distance_(y_pred, y_true)

    net = make_net(Renamed).fit(X, Y)
    assert torch.equal(weights_of(net), weights_of(make_net(criterion=nn.MSELoss).fit(X, Y)))
    assert net.predict(X).shape == (40, 1)


def test_a_criterion_with_a_penalty_of_its_own():
    class Criterion(nn.Module):
        penalty_weight = 0.5

        def data_term(self, y_pred, y_true, sample_weight=None):
            return (y_pred - y_true).square().mean()

        def penalty_term(self, y_pred, y_true, dy_pred, derivatives=None, sample_weight=None):
            return dy_pred.square().sum((1, 2)).mean()

    net = make_net(criterion=Criterion).fit(INPUTS, Y)
    expected = make_net(criterion=TangentPropLoss, criterion__penalty_weight=0.5).fit(INPUTS, Y)
    torch.testing.assert_close(weights_of(net), weights_of(expected))


# Callbacks ----------------------------------------------------------------------------------------


def test_the_default_callbacks_have_skorchs_names():
    names = [name for name, _ in make_net().initialize().callbacks_]
    skorchs = [name for name, _ in skorchs_net(criterion=nn.MSELoss).initialize().callbacks_]
    assert [name for name in names if name in skorchs] == skorchs
    assert make_net().initialize().get_params()["callbacks__valid_loss__name"] == "valid_loss"


@pytest.mark.parametrize("when", ["constructor", "set_params", "while training"])
@pytest.mark.parametrize("name", ["train_loss", "valid_loss", "train_penalty"])
def test_a_default_callback_taken_out(name, when):
    kwargs = {f"callbacks__{name}": None}
    net = make_net(train_split=ValidSplit(4), **(kwargs if when == "constructor" else {}))
    if when == "set_params":
        net.set_params(**kwargs)
    if when == "while training":
        net.initialize().set_params(**kwargs).partial_fit(INPUTS, Y)
    else:
        net.fit(INPUTS, Y)
    assert name not in net.history[-1]
    assert {"train_loss", "valid_loss", "train_penalty"} - {name} <= set(net.history[-1])
    assert name in net.history[-1, "batches", -1 if name == "valid_loss" else 0]


def test_the_log_goes_where_it_is_sent(capsys):
    lines = []
    make_net(callbacks__print_log__sink=lines.append).fit(X, Y)
    assert len(lines) == 2 + 3  # the header, a rule and the epochs
    make_net(verbose=1, callbacks__print_log=None).fit(X, Y)
    make_net(verbose=1, callbacks__print_log__keys_ignored=["train_penalty"]).fit(X, Y)
    printed = capsys.readouterr().out
    assert "train_loss" in printed
    assert "train_penalty" not in printed


def test_no_callbacks_at_all():
    net = make_net(callbacks="disable", train_split=ValidSplit(4)).fit(INPUTS, Y)
    assert "train_loss" not in net.history[-1]
    assert "train_loss" in net.history[-1, "batches", 0]


def test_the_table_is_that_of_skorch(capsys):
    def printed(net):
        net.fit(X, Y)
        lines = capsys.readouterr().out.splitlines()
        return [column for column in zip(*map(str.split, lines), strict=True) if column[0] != "dur"]

    kwargs = {"verbose": 1, "train_split": ValidSplit(4), "criterion": nn.MSELoss}
    assert printed(make_net(**kwargs)) == printed(skorchs_net(**kwargs))


def test_a_hook_of_the_net_reads_the_losses_of_a_batch():
    class Watching(TangentPropNet):
        seen = ()

        def on_batch_end(self, net, **kwargs):
            super().on_batch_end(net, **kwargs)
            self.seen += (self.history[-1, "batches", -1, "train_loss"],)

    net = make_net(Watching, batch_size=10).fit(X, Y)
    assert list(net.seen) == [
        loss for epoch in net.history[:, "batches", :, "train_loss"] for loss in epoch
    ]


def test_a_hook_that_is_put_on_a_callback():
    losses = []
    callback = Callback()
    callback.on_batch_end = lambda net, **kwargs: losses.append(
        net.history[-1, "batches", -1, "train_loss"]
    )
    make_net(callbacks=[callback], max_epochs=1, batch_size=10).fit(X, Y)
    assert len(losses) == 4


def test_a_hook_of_the_net_ends_training_quietly(recwarn):
    class Short(TangentPropNet):
        def on_epoch_end(self, net, **kwargs):
            if len(self.history) == 2:
                raise KeyboardInterrupt

    assert len(make_net(Short, max_epochs=9).fit(X, Y).history) == 2
    assert not recwarn.list


def test_scores_of_the_loss():
    callbacks = [
        EpochScoring("neg_mean_squared_error", on_train=on_train, name=name, lower_is_better=False)
        for on_train, name in ((True, "train_mse"), (False, "valid_mse"))
    ]
    net = make_net(callbacks=callbacks, train_split=ValidSplit(4), batch_size=10).fit(X, Y)
    for name in ("train", "valid"):
        np.testing.assert_allclose(
            net.history[:, f"{name}_loss"], [-s for s in net.history[:, f"{name}_mse"]], rtol=1e-5
        )


def test_training_goes_on_from_the_files_of_an_earlier_one(tmp_path):
    callbacks = [
        Checkpoint(dirname=tmp_path, monitor=None),
        TrainEndCheckpoint(dirname=tmp_path),
    ]
    first = make_net(callbacks=callbacks).fit(INPUTS, Y)
    again = make_net(callbacks=[LoadInitState(callbacks[1])]).fit(INPUTS, Y)
    assert len(again.history) == 6
    assert again.history[:3, "train_loss"] == first.history[:, "train_loss"]
    assert again.history[-1, "train_loss_best"]
    longer = make_net(max_epochs=6).fit(INPUTS, Y)
    torch.testing.assert_close(weights_of(again), weights_of(longer))


def test_parameters_that_change_with_the_epochs():
    mapper = ParamMapper("weight", fn=lambda p: p.data.zero_(), at=2)
    net = make_net(callbacks=[mapper], lr=1e-6).fit(INPUTS, Y)
    assert net.module_.weight.abs().max() < 1e-4


def test_the_number_of_features_is_set_from_the_samples():
    class Shaped(InputShapeSetter):
        pass

    net = make_net(callbacks=[Shaped(param_name="in_features")], module__in_features=7)
    assert net.fit(X, Y).module_.in_features == 3


def test_several_modules_and_their_modes():
    class Both(TangentPropNet):
        modes = ()

        def initialize_module(self):
            super().initialize_module()
            self.head_ = nn.Sequential(nn.Linear(1, 1), nn.Dropout())
            return self

        def infer(self, x, **fit_params):
            self.modes += (self.head_.training,)
            return self.head_(super().infer(x, **fit_params))

    net = make_net(Both, train_split=ValidSplit(4), max_epochs=2)
    net.initialize()
    net.head_.eval()
    net.partial_fit(X, Y)
    assert net.modes == (True, False) * 2
