import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch.dataset import Dataset
from skorch.helper import predefined_split
from torch import nn
from torch.utils.data import DataLoader

from sktangent.criterion import TangentPropLoss
from sktangent.net import TangentPropNet
from sktangent.propagation import propagate
from sktangent.training.batches import TensorBatches

rng = np.random.default_rng(0)
X = rng.normal(size=(40, 3)).astype(np.float32)
Y = np.sin(X[:, :1])
TANGENTS = rng.normal(size=(40, 2, 3)).astype(np.float32)
WEIGHT = rng.uniform(0.5, 2, size=40).astype(np.float32)
INPUTS = {"x": X, "tangents": TANGENTS}


class Net(nn.Sequential):
    def __init__(self, n_outputs=1):
        super().__init__(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, n_outputs))


def make_net(cls=TangentPropNet, module=Net, **kwargs):
    torch.manual_seed(0)
    return cls(module, **{"max_epochs": 3, "verbose": 0, "train_split": None, **kwargs})


def parameters_of(net):
    return nn.utils.parameters_to_vector(net.module_.parameters()).detach()


def test_derivatives_of_tensors_are_those_of_arrays():
    net = make_net().fit(INPUTS, Y)
    x, tangents = torch.as_tensor(X), torch.as_tensor(TANGENTS)
    np.testing.assert_array_equal(net.jacobian(x), net.jacobian(X))
    np.testing.assert_array_equal(
        net.directional_derivative(x, tangents), net.directional_derivative(X, TANGENTS)
    )
    np.testing.assert_array_equal(net.jacobian(X[::-1]), net.jacobian(X)[::-1])


def test_a_step_is_that_of_a_plain_torch_loop():
    derivatives = rng.normal(size=(40, 2, 1)).astype(np.float32)
    inputs = {**INPUTS, "derivatives": derivatives, "sample_weight": WEIGHT}
    net = make_net(criterion__penalty_weight=0.3, batch_size=16).fit(inputs, Y)
    torch.manual_seed(0)
    module, loss = Net(), TangentPropLoss(penalty_weight=0.3)
    optimizer = torch.optim.Adam(module.parameters())
    tensors = [torch.as_tensor(a) for a in (X, TANGENTS, Y, derivatives, WEIGHT)]
    for _ in range(3):
        for x, tangents, y, d, s in zip(*(a.split(16) for a in tensors), strict=True):
            optimizer.zero_grad()
            y_pred, dy_pred = propagate(module, x, tangents)
            loss(y_pred, y, dy_pred, d, s).total.backward()
            optimizer.step()
    expected = nn.utils.parameters_to_vector(module.parameters())
    torch.testing.assert_close(parameters_of(net), expected.detach(), rtol=1e-5, atol=1e-6)


def test_the_l2_term_is_torchs_weight_decay_without_the_biases():
    with_l2 = make_net(optimizer=torch.optim.SGD, l2=0.3).fit(INPUTS, Y)
    groups = [("*bias", {"weight_decay": 0.0})]
    decayed = make_net(
        optimizer=torch.optim.SGD, optimizer__weight_decay=0.3, optimizer__param_groups=groups
    ).fit(INPUTS, Y)
    torch.testing.assert_close(parameters_of(with_l2), parameters_of(decayed))
    assert not torch.allclose(parameters_of(with_l2), parameters_of(make_net().fit(INPUTS, Y)))


def test_history():
    valid = predefined_split(Dataset(X[:10], Y[:10]))
    net = make_net(batch_size=16, train_split=valid, criterion__penalty_weight=0.3)
    net.fit(INPUTS, Y)
    for row in net.history:
        assert row["train_loss"] == pytest.approx(
            row["train_data_loss"] + 0.3 * row["train_penalty"]
        )
        assert [batch["train_batch_size"] for batch in row["batches"][:3]] == [16, 16, 8]
        for name in ("train_loss", "train_data_loss", "train_penalty"):
            values = [batch[name] for batch in row["batches"][:3]]
            assert row[name] == pytest.approx(np.average(values, weights=[16, 16, 8]))
        assert (row["train_batch_count"], row["valid_batch_count"]) == (3, 1)
        assert row["train_loss_best"]
        assert "valid_penalty" not in row
    assert net.history[-1, "train_penalty"] > 0
    error = np.mean((net.predict(X[:10]) - Y[:10]) ** 2)
    assert net.history[-1, "valid_loss"] == pytest.approx(error, rel=1e-5)


def test_validation_knows_sample_weight():
    inputs = {"x": X, "sample_weight": WEIGHT}
    net = make_net(train_split=predefined_split(Dataset(inputs, Y))).fit(INPUTS, Y)
    error = np.mean(WEIGHT[:, None] * (net.predict(X) - Y) ** 2)
    assert net.history[-1, "valid_loss"] == pytest.approx(error, rel=1e-5)


def test_without_tangents_there_is_no_penalty():
    plain, empty = make_net().fit(X, Y), make_net().fit({"x": X}, Y)
    assert plain.history[-1, "train_penalty"] == empty.history[-1, "train_penalty"] == 0
    assert torch.equal(parameters_of(plain), parameters_of(empty))


class Pairs(torch.utils.data.Dataset):
    def __len__(self):
        return len(X)

    def __getitem__(self, i):
        return {"x": X[i], "tangents": TANGENTS[i]}, Y[i]


@pytest.mark.parametrize(
    ("samples", "y", "kwargs"),
    [
        (Pairs(), None, {}),
        (INPUTS, Y, {"iterator_train": DataLoader}),
        (Pairs(), None, {"iterator_train": DataLoader}),
        (Dataset(INPUTS, Y), None, {}),
    ],
)
def test_every_kind_of_data_trains_the_same_model(samples, y, kwargs):
    expected = make_net(batch_size=16).fit(INPUTS, Y)
    net = make_net(batch_size=16, **kwargs).fit(samples, y)
    torch.testing.assert_close(parameters_of(net), parameters_of(expected))
    assert net.history[-1, "train_penalty"] > 0


def test_the_default_split_of_skorch_slices_tangents_too():
    net = make_net(train_split=TangentPropNet(Net).train_split).fit(INPUTS, Y)
    assert net.history[-1, "batches", 0, "train_batch_size"] == 32
    assert net.history[-1, "batches", -1, "valid_batch_size"] == 8
    assert isinstance(net.get_iterator(Dataset(INPUTS, Y), training=True), TensorBatches)


def test_warm_start_and_partial_fit_go_on():
    once = make_net(max_epochs=4).fit(INPUTS, Y)
    twice = make_net(max_epochs=2, warm_start=True).fit(INPUTS, Y).fit(INPUTS, Y)
    assert torch.equal(parameters_of(once), parameters_of(twice))
    twice.partial_fit(INPUTS, Y)
    assert len(twice.history) == 6


def test_a_batch_size_of_minus_one_is_everything():
    assert make_net(batch_size=-1).fit(INPUTS, Y).history[-1, "train_batch_count"] == 1


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ("cross_entropy", lambda z: torch.softmax(z, 1)),
        ("binary_cross_entropy", torch.sigmoid),
        ("squared_error", lambda z: z),
        (nn.L1Loss, lambda z: z),
    ],
)
def test_predict_proba(loss, expected):
    net = make_net(module__n_outputs=2, criterion__loss=loss).initialize()
    logits = net.forward(X)
    np.testing.assert_allclose(net.predict_proba(X), expected(logits).numpy(), rtol=1e-6)


def test_predict_nonlinearity_may_be_given():
    net = make_net(predict_nonlinearity=lambda z: z + 1).initialize()
    np.testing.assert_allclose(net.predict_proba(X), net.forward(X).numpy() + 1)


def test_set_params_reaches_the_optimizer_and_the_criterion():
    net = make_net().fit(INPUTS, Y)
    net.set_params(lr=0.5, criterion__penalty_weight=7.0)
    assert net.optimizer_.param_groups[0]["lr"] == 0.5
    assert net.criterion_.penalty_weight == 7.0
    net.partial_fit(INPUTS, Y)


def test_parameter_groups_of_skorch():
    net = make_net(optimizer__param_groups=[("0.*", {"lr": 0.0})])
    before = parameters_of(net.initialize()).clone()
    net.partial_fit(INPUTS, Y)
    moved = parameters_of(net) != before
    assert not moved[:32].any()  # the first layer's 3 * 8 weights and 8 biases
    assert moved[32:].all()


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))], ids=["copy", "pickle"]
)
def test_copies_predict_and_train_alike(copied):
    net = make_net().fit(INPUTS, Y)
    other = copied(net)
    np.testing.assert_array_equal(net.predict(X), other.predict(X))
    assert torch.equal(
        parameters_of(net.partial_fit(INPUTS, Y)), parameters_of(other.partial_fit(INPUTS, Y))
    )


def test_clone_keeps_parameters_and_forgets_training():
    net = clone(make_net(criterion__penalty_weight=0.3, lr=0.5).fit(INPUTS, Y))
    assert not net.initialized_
    assert (net.lr, net.criterion__penalty_weight) == (0.5, 0.3)


def test_save_and_load_params(tmp_path):
    files = {f"f_{name}": tmp_path / name for name in ("params", "optimizer", "history")}
    net = make_net().fit(INPUTS, Y)
    net.save_params(**files)
    other = make_net().initialize()
    other.load_params(**files)
    np.testing.assert_array_equal(net.predict(X), other.predict(X))
    assert other.history[-1, "train_penalty"] == net.history[-1, "train_penalty"]
    other.partial_fit(INPUTS, Y)
    assert torch.equal(parameters_of(net.partial_fit(INPUTS, Y)), parameters_of(other))


def test_a_compiled_module_trains_as_it_was_written():
    net = make_net(compile=True, compile__backend="eager").fit(INPUTS, Y)
    torch.testing.assert_close(parameters_of(net), parameters_of(make_net().fit(INPUTS, Y)))


def test_arguments_of_fit_reach_forward():
    class Scaled(Net):
        def forward(self, x, scale=1.0):
            return scale * super().forward(x)

    plain = make_net(module=Scaled).fit(INPUTS, Y, scale=2.0).history[0]
    assert plain["train_penalty"] == pytest.approx(
        4 * make_net(module=Scaled).fit(INPUTS, Y).history[0, "train_penalty"], rel=1e-5
    )


class Normalized(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(3, 8), nn.LayerNorm(8), nn.Linear(8, 1))
        self.double()  # Adam makes much of what single precision rounds away


def test_a_compiled_fit_is_the_same():
    options = {
        "module": Normalized,
        "compile__backend": "aot_eager",
        "criterion__penalty_weight": 0.3,
    }
    inputs, y = {name: part.astype(float) for name, part in INPUTS.items()}, Y.astype(float)
    nets = [make_net(compile=compile, **options).fit(inputs, y) for compile in (False, True)]
    plain, compiled = map(parameters_of, nets)
    torch.testing.assert_close(compiled, plain)
    assert type(nets[1].module_) is Normalized
    copied = pickle.loads(pickle.dumps(nets[1]))
    np.testing.assert_array_equal(copied.predict(inputs), nets[1].predict(inputs))
    torch.testing.assert_close(
        parameters_of(copied.partial_fit(inputs, y)), parameters_of(nets[1].partial_fit(inputs, y))
    )


class Sum(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(3, 2))

    def forward(self, parts):
        return super().forward(sum(parts.values() if isinstance(parts, dict) else parts))


@pytest.mark.parametrize("given", [(X, X), {"x": {"first": X, "second": X}}], ids=["tuple", "dict"])
def test_samples_of_several_arrays(given):
    net = make_net(module=Sum).initialize()
    expected = net.module_[0](torch.as_tensor(2 * X))
    torch.testing.assert_close(net.infer(given), expected)


def test_gradients_that_a_step_of_ones_own_has_computed():
    class Own(TangentPropNet):
        def train_step(self, batch, **fit_params):
            self._zero_grad_optimizer()
            step = self.train_step_single(batch, **fit_params)
            self._step_optimizer(None)
            return step

    nets = [make_net(cls, optimizer__fused=True).fit(INPUTS, Y) for cls in (TangentPropNet, Own)]
    torch.testing.assert_close(*map(parameters_of, nets), rtol=0, atol=0)
