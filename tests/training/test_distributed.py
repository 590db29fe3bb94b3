"""Two processes, started as accelerate's launcher does, run this file and say what they learned."""

import os
import pickle
import socket
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback, Checkpoint, EpochScoring, GradientNormClipping
from torch.utils.data import DataLoader

from sktangent import TangentPropClassifier, TangentPropRegressor
from sktangent.net import TangentPropNet
from sktangent.tangents import FeatureTangents, NeighborTangents, TransformTangents
from sktangent.training.distributed import Ranks, together

N = 61  # batches of 20, and one of 1 that is less than two processes can share
X = np.random.default_rng(0).normal(size=(N, 4))
Y = np.sin(2 * X[:, 0]) + X[:, 1]
LABELS = np.where(X[:, 0] + 0.5 * X[:, 1] > 0, "spam", "ham")
WEIGHT = np.linspace(0.1, 2, N)
COMMON = {"hidden_layer_sizes": 8, "batch_size": 20, "max_epochs": 4, "lr": 0.02}


def gain(X, amount):
    return X * (1 + amount)


def offset(X, amount):
    return X + amount


class StopsOnSecond(Callback):
    def on_epoch_end(self, net, **kwargs):
        if os.environ.get("RANK") == "1" and len(net.history) == 2:
            raise KeyboardInterrupt


class Seen(Callback):
    """The targets of each epoch, as they come."""

    def on_train_begin(self, net, **kwargs):
        self.epochs = []

    def on_epoch_begin(self, net, **kwargs):
        self.epochs.append([])

    def on_batch_begin(self, net, batch, training, **kwargs):
        self.epochs[-1] += batch[1].flatten().tolist()


def projected(accelerator):
    model = TangentPropClassifier(
        NeighborTangents(2), n_projections=1, random_state=0, accelerator=accelerator, **COMMON
    )
    return model.fit(X, LABELS, sample_weight=WEIGHT)


def computed(accelerator):
    from sklearn import config_context

    with config_context(working_memory=1e-6):
        return projected(accelerator)


def moved(accelerator):
    tangents = TransformTangents([gain, offset])
    model = TangentPropClassifier(
        tangents, n_projections=1, augment=0.3, random_state=0, accelerator=accelerator, **COMMON
    )
    return model.fit(X, LABELS)


def preprocessed(accelerator):
    model = TangentPropRegressor(
        FeatureTangents(),
        preprocessor=StandardScaler(),
        callbacks=[GradientNormClipping(0.1)],
        random_state=0,
        accelerator=accelerator,
        **COMMON,
    )
    return model.fit(X, Y, sample_weight=WEIGHT)


def stopped_early(accelerator):
    model = TangentPropRegressor(
        early_stopping=True,
        n_iter_no_change=2,
        validation_fraction=0.3,
        callbacks=[EpochScoring("r2", name="valid_r2")],
        random_state=0,
        accelerator=accelerator,
        **{**COMMON, "max_epochs": 100, "lr": 0.1},
    )
    return model.fit(X, Y)


def by_lbfgs(accelerator):
    model = TangentPropRegressor(
        optimizer="lbfgs",
        hidden_layer_sizes=8,
        max_epochs=2,
        random_state=0,
        accelerator=accelerator,
    )
    return model.fit(X, Y, derivatives=np.stack([2 * np.cos(2 * X[:, 0]), *X.T[:3] * 0], 1))


def in_single_precision(accelerator):
    model = TangentPropRegressor(
        FeatureTangents(), random_state=0, accelerator=accelerator, dtype="float32", **COMMON
    )
    return model.fit(X, Y)


def searched(accelerator):
    model = TangentPropRegressor(
        FeatureTangents(), random_state=0, accelerator=accelerator, **COMMON
    )
    search = GridSearchCV(model, {"penalty_weight": [0, 0.1]}, cv=2, error_score="raise")
    return search.fit(X, Y).best_estimator_


def part_of(accelerator):
    if accelerator is None:
        return slice(None)
    return (slice(0, 25), slice(25, None))[accelerator.process_index]


def own_parts(accelerator):
    """Each process maps its own part of the samples, and all of them make one batch."""
    part = part_of(accelerator)
    path = Path(os.environ.get("RANKS_FOLDER", os.devnull)) / f"part{part.start}.npy"
    mine = X[part]
    if accelerator is not None:
        np.save(path, mine)
        mine = np.load(path, mmap_mode="r")
    model = TangentPropRegressor(
        FeatureTangents(),
        random_state=0,
        accelerator=accelerator,
        **{**COMMON, "batch_size": N},
    )
    return model.fit(mine, Y[part], sample_weight=WEIGHT[part])


def own_parts_in_batches(accelerator):
    model = TangentPropClassifier(
        FeatureTangents(),
        n_projections=1,
        early_stopping=True,
        preprocessor=StandardScaler(),
        accelerator=accelerator,
        random_state=0,
        **COMMON,
    )
    part = part_of(accelerator)
    order = np.argsort(LABELS, kind="stable")[part]  # "spam" is seen by the second only
    return model.fit(X[order], np.where(X[order, 2] > 0.5, LABELS[order], "eggs"))


def unseeded(accelerator):
    module = torch.nn.Sequential(
        torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.2), torch.nn.Linear(8, 1)
    )
    model = TangentPropRegressor(
        FeatureTangents(),
        n_projections=1,
        module=module,
        callbacks=[Seen()],
        normalize_y=False,
        accelerator=accelerator,
        **{**COMMON, "batch_size": 21},  # so that the two draw different numbers for dropout
    )
    return model.fit(X, Y)


def stopped_by_one(accelerator):
    model = TangentPropRegressor(callbacks=[StopsOnSecond()], accelerator=accelerator, **COMMON)
    return model.fit(X, Y)


def written(accelerator):
    folder = Path(os.environ["RANKS_FOLDER"]) / f"checkpoint{os.environ['RANK']}"
    checkpoint = Checkpoint(monitor=None, dirname=str(folder))
    model = TangentPropRegressor(
        callbacks=[checkpoint], verbose=2, random_state=0, accelerator=accelerator, **COMMON
    )
    model.fit(X, Y)
    return model.set_params(warm_start=True, verbose=1, callbacks=model.callbacks).fit(X, Y)


AS_ALONE = [
    projected,
    computed,
    moved,
    preprocessed,
    stopped_early,
    by_lbfgs,
    in_single_precision,
    searched,
    own_parts,
]
ALIKE = [own_parts_in_batches, unseeded, stopped_by_one, written]


def weights_of(model):
    return {name: value.numpy() for name, value in model.module_.state_dict().items()}


def main():
    import accelerate

    accelerator = accelerate.Accelerator(cpu=True)
    learned = {}
    for case in AS_ALONE + ALIKE:
        model = case(accelerator)
        learned[case.__name__] = {
            "weights": weights_of(model),
            "loss_curve": model.loss_curve_,
            "classes": getattr(model, "classes_", None),
            "seen": model.callbacks[0].epochs if case is unseeded else None,
            "pickled": pickle.dumps(model) if case is projected else None,
        }
    path = Path(os.environ["RANKS_FOLDER"]) / f"learned{accelerator.process_index}"
    path.write_bytes(pickle.dumps(learned))
    accelerator.wait_for_everyone()
    accelerator.end_training()
    sys.stdout.flush()
    os._exit(0)  # torch's gloo threads abort now and then while the interpreter shuts down


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What each of two processes learned and told, and the folder that they wrote into."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    together = {
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
        "RANKS_FOLDER": str(folder),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    processes = [
        subprocess.Popen(
            [sys.executable, __file__],
            env={**os.environ, **together, "RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    told = [process.communicate(timeout=240) for process in processes]
    for process, (_, errors) in zip(processes, told, strict=True):
        assert process.returncode == 0, errors
    learned = [pickle.loads((folder / f"learned{rank}").read_bytes()) for rank in "01"]
    return learned, told, folder


@pytest.mark.parametrize("case", AS_ALONE, ids=lambda case: case.__name__)
def test_two_processes_learn_what_one_does(case, ranks):
    lone = case(None)
    for learned in ranks[0]:
        found = learned[case.__name__]
        for name, value in weights_of(lone).items():
            np.testing.assert_allclose(found["weights"][name], value, rtol=0, atol=1e-6)
        np.testing.assert_allclose(found["loss_curve"], lone.loss_curve_, rtol=1e-5)


@pytest.mark.parametrize("case", AS_ALONE + ALIKE, ids=lambda case: case.__name__)
def test_all_processes_learn_the_same(case, ranks):
    first, second = (learned[case.__name__] for learned in ranks[0])
    assert first["loss_curve"] == second["loss_curve"]
    for name, value in first["weights"].items():
        assert np.array_equal(value, second["weights"][name])


def test_each_sample_is_seen_once_an_epoch(ranks):
    epochs = zip(*(learned["unseeded"]["seen"] for learned in ranks[0]), strict=True)
    for first, second in epochs:
        assert sorted(first + second) == sorted(Y.tolist())


def test_labels_of_all_parts_are_known(ranks):
    assert ranks[0][0]["own_parts_in_batches"]["classes"].tolist() == ["eggs", "ham", "spam"]


def test_a_stop_on_one_is_a_stop_on_all(ranks):
    assert [len(learned["stopped_by_one"]["loss_curve"]) for learned in ranks[0]] == [2, 2]


def test_only_the_first_writes(ranks):
    _, told, folder = ranks
    assert list((folder / "checkpoint0").glob("*.pt"))
    assert not list(folder.glob("checkpoint1/*"))
    assert "train_loss" in told[0][0]
    assert told[1][0] == ""
    assert "epoch 4/4" in told[0][1]
    assert "epoch" not in told[1][1]


def test_a_pickled_model_needs_no_accelerator(ranks):
    model = pickle.loads(ranks[0][0]["projected"]["pickled"])
    assert model.accelerator is None
    assert np.array_equal(model.predict(X), projected(None).predict(X))


@pytest.mark.parametrize("n_processes", [1, 2])
def test_a_fit_after_pickling_says_that_it_is_alone(n_processes):
    accelerator = accelerator_like(num_processes=n_processes)
    model = TangentPropRegressor(accelerator=accelerator, random_state=0, **COMMON)
    sent = pickle.loads(pickle.dumps(model))
    for is_told in (n_processes > 1, False):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            sent.fit(X, Y)
        assert any("accelerator stayed behind" in str(w.message) for w in caught) is is_told


def accelerator_like(**told):
    """Return what tells of itself as an accelerator of two processes does."""
    known = {"num_processes": 2, "process_index": 0, "mixed_precision": "no"}
    more = {"gradient_accumulation_steps": 1, "distributed_type": "MULTI_CPU", "reduce": None}
    return SimpleNamespace(**{**known, **more, **told})


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"mixed_precision": "fp16"}, "mixed_precision='fp16'"),
        ({"gradient_accumulation_steps": 2}, "gradient_accumulation_steps=2"),
        ({"distributed_type": "FSDP"}, "FSDP"),
    ],
)
def test_accelerators_that_do_more_are_refused(told, message):
    model = TangentPropRegressor(accelerator=accelerator_like(reduce=print, **told))
    with pytest.raises(ValueError, match=f"accelerator must.*{message}"):
        model.fit(X, Y)


def test_what_is_no_accelerator_is_refused():
    with pytest.raises(ValueError, match="'accelerator' parameter"):
        TangentPropRegressor(accelerator="gpu").fit(X, Y)


def test_levenberg_marquardt_is_refused_and_not_chosen():
    lone = accelerator_like(num_processes=1, device="cpu", reduce=print)
    model = TangentPropRegressor(optimizer="lm", accelerator=lone, **COMMON)
    with pytest.raises(ValueError, match="optimizer='lm' needs .* one process"):
        model.fit(X, Y)
    chosen = TangentPropRegressor(max_epochs="auto", accelerator=lone, tol=1e9, n_iter_no_change=1)
    assert type(chosen.fit(X, Y, derivatives=X).net_.optimizer_) is torch.optim.Adam


def test_batches_of_a_loader_are_refused():
    net = TangentPropNet(torch.nn.Linear(4, 1), iterator_train=DataLoader, verbose=0)
    with (
        together(accelerator_like()),
        pytest.raises(ValueError, match="training samples come from DataLoader"),
    ):
        net.initialize().run_single_epoch(
            DataLoader(X), training=True, prefix="train", step_fn=net.train_step
        )


def test_parts_too_small_for_the_batches_are_refused(monkeypatch):
    ranks = Ranks(accelerator_like())
    monkeypatch.setattr(ranks, "gather", lambda value: [(3, 20), (90, 20)])
    with pytest.raises(ValueError, match=r"5 batches of an epoch, got \[3, 90\] samples"):
        ranks.batch_sizes(3, 20)


@pytest.mark.parametrize(("n_samples", "parts"), [(7, [3, 4]), (2, [1, 1]), (1, [1, 1])])
def test_a_batch_is_divided_among_all(n_samples, parts):
    ranks = [Ranks(accelerator_like(process_index=i)) for i in range(2)]
    slices = [each.part_of_batch(n_samples) for each in ranks]
    assert [len(range(n_samples)[part]) for part in slices] == parts
    assert {i for part in slices for i in range(n_samples)[part]} == set(range(n_samples))


if __name__ == "__main__":
    main()
