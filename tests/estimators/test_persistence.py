"""What is kept of an estimator in a file, in which formats, and what runs when it is read."""

import copy
import json
import multiprocessing
import os
import pickle
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import cloudpickle
import joblib
import numpy as np
import pytest
import skops.io as sio
import torch
from safetensors.torch import load_file, save_file
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from sktangent import (
    TangentPropClassifier,
    TangentPropRegressor,
    TangentPropRegressorCV,
    __version__,
)
from sktangent.preprocessing import GaussianBlur
from sktangent.tangents import FeatureTangents

FOLDERS = sorted(path for path in (Path(__file__).parents[1] / "data").iterdir() if path.is_dir())
BOTH = pytest.mark.parametrize("estimator", [TangentPropClassifier, TangentPropRegressor])


def quick(estimator, tangents=None, **params):
    return estimator(tangents, **{"max_epochs": 3, "random_state": 0, **params})


def again(model):
    return pickle.loads(pickle.dumps(model))


def outputs(model, X):
    method = getattr(model, "decision_function", model.predict)
    return method(X)


class Wide(nn.Module):
    def __init__(self, in_features, n_outputs):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(in_features, 9), nn.Tanh(), nn.Linear(9, n_outputs))

    def forward(self, x):
        return self.layers(x)


# How much


def test_a_pickle_holds_little_beside_the_parameters():
    X = np.random.default_rng(0).normal(size=(100, 64)).astype(np.float32)
    model = quick(TangentPropClassifier, max_epochs=200, tol=0, n_iter_no_change=200)
    model.fit(X, np.arange(100) % 10)
    n_bytes = sum(parameter.nbytes for parameter in model.module_.parameters())
    assert n_bytes == 4 * (64 * 100 + 100 + 100 * 10 + 10)
    assert model.n_iter_ == 200
    assert len(pickle.dumps(model)) < 1.3 * n_bytes + 4000
    assert len(pickle.dumps(again(model))) < 1.3 * n_bytes + 4000


@BOTH
def test_the_history_is_kept_without_batches(estimator, X, three_labels):
    model = quick(estimator, FeatureTangents(), batch_size=20, early_stopping=True)
    model.fit(X, three_labels).set_params(early_stopping=False).partial_fit(X, three_labels)
    other = again(model)
    rows = [{k: v for k, v in row.items() if k != "batches"} for row in model.history_]
    kept = [{k: v for k, v in row.items() if k != "batches"} for row in other.history_]
    assert kept == rows
    assert [list(map(type, row.values())) for row in kept] == [
        list(map(type, row.values())) for row in rows
    ]
    assert all(row["batches"] == [] for row in other.history_)
    assert other.loss_curve_ == model.loss_curve_
    assert other.n_iter_ == model.n_iter_ == 4


# Going on


@BOTH
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", torch.optim.RMSprop])
def test_partial_fit_goes_on_with_the_state_of_the_optimizer(estimator, optimizer, X, three_labels):
    model = quick(estimator, FeatureTangents(), optimizer=optimizer, batch_size=20)
    first = {"classes": range(3)} if estimator is TangentPropClassifier else {}
    other = again(again(model.partial_fit(X, three_labels, **first)))
    for one in (model, other):
        one.partial_fit(X, three_labels).partial_fit(X, three_labels)
    np.testing.assert_array_equal(outputs(other, X), outputs(model, X))
    assert other.loss_curve_ == model.loss_curve_


@BOTH
def test_a_learning_rate_that_was_changed_is_kept(estimator, X, three_labels):
    model = quick(estimator, warm_start=True, lr=0.01).fit(X, three_labels)
    model.net_.optimizer_.param_groups[0]["lr"] = 0.002  # as schedulers do
    other = again(model)
    for one in (model, other):
        assert one.fit(X, three_labels).net_.optimizer_.param_groups[0]["lr"] == 0.002
    np.testing.assert_array_equal(outputs(other, X), outputs(model, X))


def test_that_an_optimizer_starts_anew_is_said_once(X, target, recwarn):
    model = again(quick(TangentPropRegressor).fit(X, target))
    with pytest.warns(UserWarning, match="without the state of its optimizer.*warm_start=True"):
        model.partial_fit(X, target)
    recwarn.clear()
    model.partial_fit(X, target)
    again(model).partial_fit(X, target)
    copy.deepcopy(quick(TangentPropRegressor).fit(X, target)).partial_fit(X, target)
    again(quick(TangentPropRegressor).fit(X, target)).fit(X, target)
    without = quick(TangentPropRegressor, optimizer="sgd", optimizer__momentum=0.0)
    again(without.set_params(optimizer__nesterov=False).fit(X, target)).partial_fit(X, target)
    assert not [w for w in recwarn if "optimizer" in str(w.message)]


def test_a_criterion_that_learned_is_kept(X, target):
    class Scaled(nn.MSELoss):
        def __init__(self, reduction="none"):
            super().__init__(reduction=reduction)
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, y_pred, y_true):
            return super().forward(y_pred * self.scale, y_true)

    model = quick(TangentPropRegressor, criterion=Scaled).fit(X, target)
    scale = dict(model.net_.criterion_.named_parameters())["loss.scale"]
    other = cloudpickle.loads(cloudpickle.dumps(model))
    assert scale.item() != 1
    assert dict(other.net_.criterion_.named_parameters())["loss.scale"] == scale


# Formats


@BOTH
@pytest.mark.parametrize("compress", [0, 3])
@pytest.mark.parametrize("mmap_mode", [None, "r", "c"])
def test_joblib(estimator, compress, mmap_mode, X, three_labels, tmp_path):
    model = quick(estimator, FeatureTangents(), preprocessor=StandardScaler(), warm_start=True)
    joblib.dump(model.fit(X, three_labels), tmp_path / "model", compress=compress)
    if compress and mmap_mode:
        mmap_mode = None  # joblib maps what is not compressed
    other = joblib.load(tmp_path / "model", mmap_mode=mmap_mode)
    for _ in range(2):
        np.testing.assert_array_equal(outputs(other, X), outputs(model, X))
        for one in (model, other):
            one.fit(X, three_labels)


def _in_process(file, X, results):
    results.put(outputs(cloudpickle.loads(file), X))


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_cloudpickle_brings_what_main_defines_to_other_processes(method, X, three_labels):
    source = (
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, in_features, n_outputs, scale):\n"
        "        super().__init__()\n"
        "        self.layer, self.scale = nn.Linear(in_features, n_outputs), scale\n"
        "    def forward(self, x):\n"
        "        return self.scale(self.layer(x))\n"
    )
    main: dict = {"__name__": "__main__"}
    exec(source, main)
    model = quick(
        TangentPropClassifier,
        lambda X: X[:, None] * 0.1,
        module=main["Net"],
        module__scale=lambda y: y.sin(),
    )
    expected = outputs(model.fit(X, three_labels), X)
    context = multiprocessing.get_context(method)
    results = context.Queue()
    process = context.Process(
        target=_in_process, args=(cloudpickle.dumps(model), X, results), daemon=True
    )
    process.start()
    np.testing.assert_array_equal(results.get(timeout=120), expected)
    process.join()


def test_what_was_saved_on_a_device_that_is_not_there(X, three_labels):
    model = quick(TangentPropClassifier, warm_start=True).fit(X, three_labels)
    model.device = model.net_.device = "cuda:7"  # the file holds arrays, whatever the device
    model._built_with["device"] = "cuda:7"
    with pytest.warns(
        UserWarning, match="saved on device 'cuda:7', which is not there.*on the CPU"
    ):
        other = again(model)
    assert all(parameter.device.type == "cpu" for parameter in other.module_.parameters())
    model.net_.device = "cpu"
    np.testing.assert_array_equal(outputs(other, X), outputs(model, X))
    with pytest.raises(ValueError, match="device='cuda:7' cannot be used"):
        other.fit(X, three_labels)


def test_a_file_of_a_newer_format_says_so(X, target):
    state = quick(TangentPropRegressor).fit(X, target).__getstate__()
    state["_saved_by"] = {"format": 99, "version": "7.5"}
    with pytest.raises(ValueError, match="saved by sktangent 7.5, in a format that"):
        TangentPropRegressor().__setstate__(state)


@pytest.mark.parametrize(
    ("version", "is_newer"), [("0.0.9", False), (__version__, False), ("99.0.dev1", True)]
)
def test_a_file_of_a_newer_version_says_so(version, is_newer, X, target, recwarn):
    model = quick(TangentPropRegressor).fit(X, target)
    state = model.__getstate__()
    state["_saved_by"]["version"] = version
    other = TangentPropRegressor.__new__(TangentPropRegressor)
    recwarn.clear()
    other.__setstate__(state)
    said = [w for w in recwarn if "was saved by sktangent 99.0.dev1, which" in str(w.message)]
    assert len(said) == is_newer
    np.testing.assert_array_equal(other.predict(X), model.predict(X))


@pytest.mark.parametrize(
    "estimator",
    [
        TangentPropRegressor(warm_start=True, max_epochs=3),
        TangentPropRegressorCV(penalty_weights=[0.0, 1.0], cv=2, warm_start=True, max_epochs=3),
    ],
)
def test_parameters_that_a_file_is_older_than(estimator, X, target):
    state = estimator.fit(X, target).__getstate__()
    del state["augment"]
    other = type(estimator).__new__(type(estimator))
    other.__setstate__(state)
    assert other.get_params() == estimator.get_params()
    assert other.fit(X, target).n_iter_ == 6


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
@pytest.mark.parametrize("estimator", ["TangentPropClassifier", "TangentPropRegressor"])
def test_files_of_earlier_versions(folder, estimator):
    file = folder / f"{estimator}.skops"
    model = sio.load(file, trusted=sio.get_untrusted_types(file=file))
    with np.load(folder / "predictions.npz") as kept:
        X, expected = kept["X"], kept[estimator]
    predicted = getattr(model, "predict_proba", model.predict)(X)
    np.testing.assert_allclose(predicted, expected, rtol=1e-5)
    assert predicted.dtype == expected.dtype
    assert model.n_iter_ == 30
    if model.warm_start:
        assert model.fit(X, expected).n_iter_ == 60


def test_there_are_files_of_this_version():
    assert __version__ in [folder.name for folder in FOLDERS]


@BOTH
def test_what_is_not_fitted(estimator):
    model = estimator(module=nn.Sequential(nn.Linear(2, 1)), hidden_layer_sizes=(3,))
    other = again(model)
    torch.testing.assert_close(other.module[0].weight, model.module[0].weight)
    assert not hasattr(other, "net_")


@BOTH
@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_weights_alone(estimator, optimizer, X, three_labels, tmp_path):
    model = quick(estimator, optimizer=optimizer).fit(X, three_labels)
    other = quick(estimator, random_state=1, max_epochs=1).fit(X, three_labels)
    save_file(model.module_.state_dict(), tmp_path / "weights")
    assert (outputs(other, X) != outputs(model, X)).all()
    other.module_.load_state_dict(load_file(tmp_path / "weights"))
    np.testing.assert_array_equal(outputs(other, X), outputs(model, X))


# skops

ours = "sktangent.estimators.{}.TangentProp{}"
CLASSIFIER = ours.format("classifier", "Classifier")
REGRESSOR = ours.format("regressor", "Regressor")
FEATURES = "sktangent.tangents.features.FeatureTangents"


@pytest.mark.parametrize(
    ("params", "trusted"),
    [
        ({}, []),
        ({"preprocessor": StandardScaler()}, []),
        ({"preprocessor": make_pipeline(StandardScaler())}, []),
        ({"optimizer": torch.optim.SGD, "criterion": nn.L1Loss}, []),
        ({"optimizer": "lbfgs", "warm_start": True}, []),
        ({"warm_start": True, "dtype": np.float32, "activation": nn.SiLU}, []),
        ({"module": nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1))}, []),
        ({"module": Wide}, [f"{__name__}.Wide"]),
        ({"early_stopping": True, "tangents": FeatureTangents([1])}, [FEATURES]),
    ],
)
def test_skops_trusts_no_type_of_torchs(params, trusted, X, target):
    model = quick(TangentPropRegressor, **params).fit(X, target)
    file = sio.dumps(model)
    assert sio.get_untrusted_types(data=file) == sorted([REGRESSOR, *trusted])
    other = sio.loads(file, trusted=[REGRESSOR, *trusted])
    np.testing.assert_array_equal(outputs(other, X), outputs(model, X))
    if model.warm_start:
        for one in (model, other):
            one.fit(X, target)
        np.testing.assert_array_equal(outputs(other, X), outputs(model, X))


def test_skops_and_classifiers(X, three_labels):
    images = np.random.default_rng(0).normal(size=(60, 25))
    for data, y, params in [
        (X, np.array(["a", "b", "c"])[three_labels], {"tangents": FeatureTangents()}),
        (X, np.eye(3, dtype=int)[three_labels], {}),
        (images, three_labels, {"preprocessor": GaussianBlur((5, 5))}),
    ]:
        model = quick(TangentPropClassifier, **params).fit(data, y)
        file = sio.dumps(model, compression=zipfile.ZIP_DEFLATED)
        types = sio.get_untrusted_types(data=file)
        assert CLASSIFIER in types
        assert all(name.startswith("sktangent.") for name in types)
        other = sio.loads(file, trusted=types)
        np.testing.assert_array_equal(other.predict(data), model.predict(data))
        np.testing.assert_array_equal(other.predict_proba(data), model.predict_proba(data))


def _with_schema(file: bytes, change) -> bytes:
    """Change the description of the objects in a skops file."""
    written = BytesIO()
    with zipfile.ZipFile(BytesIO(file)) as source, zipfile.ZipFile(written, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "schema.json":
                content = json.dumps(change(json.loads(content))).encode()
            target.writestr(name, content)
    return written.getvalue()


def _replaced(node, old: str, new: str):
    if isinstance(node, dict):
        return {key: _replaced(value, old, new) for key, value in node.items()}
    if isinstance(node, list):
        return [_replaced(value, old, new) for value in node]
    return node.replace(old, new) if isinstance(node, str) else node


class Payload:
    """Runs a command when a pickle of it is read."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


class RunsWhenBuilt(nn.Module):
    def __setstate__(self, state):
        os.mkdir(os.environ["SKTANGENT_TEST_MARK"])
        super().__setstate__(state)

    def __init__(self, in_features, n_outputs):
        super().__init__()
        self.layer = nn.Linear(in_features, n_outputs)

    def forward(self, x):
        return self.layer(x)


def test_a_strangers_skops_file_runs_nothing(X, target, tmp_path, monkeypatch):
    mark = tmp_path / "mark"
    monkeypatch.setenv("SKTANGENT_TEST_MARK", str(mark))
    file = sio.dumps(quick(TangentPropRegressor).fit(X, target))

    # modules by the names of other things; a class that is imported would leave its mark
    (tmp_path / "stranger.py").write_text(f"import os\nos.mkdir({str(mark)!r})\nclass Net: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("stranger.Net", "os.system", "torch.nn.functional.torch"):
        forged = _with_schema(file, lambda x, n=name: _replaced(x, "sktangent.modules.MLP", n))
        assert sio.get_untrusted_types(data=forged) == [REGRESSOR]
        with pytest.raises(ValueError, match=f"names '{name}'"):
            sio.loads(forged, trusted=[REGRESSOR])
    assert "stranger" not in sys.modules

    # a class of its own, which runs code when it is built
    own = sio.dumps(quick(TangentPropRegressor, module=RunsWhenBuilt).fit(X, target))
    with pytest.raises(sio.exceptions.UntrustedTypesFoundException, match="RunsWhenBuilt"):
        sio.loads(own, trusted=[REGRESSOR])

    # a pickle in the place of an array
    written = BytesIO()
    with zipfile.ZipFile(BytesIO(file)) as source, zipfile.ZipFile(written, "w") as changed:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith(".npy"):
                array = np.empty(1, dtype=object)
                array[0] = Payload(mark)
                content = BytesIO()
                np.save(content, array, allow_pickle=True)
                content = content.getvalue()
            changed.writestr(name, content)
    with pytest.raises(ValueError, match="allow_pickle"):
        sio.loads(written.getvalue(), trusted=[REGRESSOR])

    assert not mark.exists()
    with pytest.raises(FileExistsError):  # all of them would have left it
        pickle.loads(pickle.dumps([Payload(mark), Payload(mark)]))
    assert mark.exists()
    assert not Path("mark").exists()
