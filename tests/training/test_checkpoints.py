"""Fits that are killed, or interrupted, and started again."""

import errno
import itertools
import multiprocessing
import os
import pickle
import time
import warnings
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from skorch.callbacks import Callback, EarlyStopping, Freezer, LRScheduler, Unfreezer

from sktangent import TangentPropRegressor, TangentPropRegressorCV
from sktangent.estimators import combined_rows, going_on
from sktangent.tangents import FeatureTangents
from sktangent.training import checkpoints, progress
from tests.training.kept_fits import LABELS, X, noisy, train

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
Y = np.sin(2 * X[:, 0]) + X[:, 1]
SLOPES = np.stack([2 * np.cos(2 * X[:, 0]), np.ones(len(X)), *np.zeros((2, len(X)))], axis=1)


class Accident(Callback):
    """End training by an error in the forward pass of an epoch, if one is set."""

    epoch, error = None, None

    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) == self.epoch:
            type(self).epoch = None
            net.module_[0].register_forward_pre_hook(self.happen)

    def happen(self, *args):
        raise self.error


@pytest.fixture
def at_every_epoch(monkeypatch):
    monkeypatch.setattr(checkpoints, "_SECONDS", 0.0)
    monkeypatch.setattr(checkpoints, "_SHARE", np.inf)


@pytest.fixture
def accident(monkeypatch, at_every_epoch):
    """Let the fit that follows end by an error in an epoch."""

    def in_epoch(epoch, error=None):
        monkeypatch.setattr(Accident, "epoch", epoch)
        monkeypatch.setattr(Accident, "error", error or RuntimeError("an accident"))

    return in_epoch


def regressor(folder=None, callbacks=(), **params):
    defaults = {"hidden_layer_sizes": 8, "tol": 0.0, "random_state": 0, "checkpoint": folder}
    callbacks = [*callbacks, Accident()]
    return TangentPropRegressor(**{**defaults, **params}, callbacks=callbacks)


def flat(value):
    """List the numbers in a state, tensors as their bytes."""
    if isinstance(value, torch.Tensor):
        return [value.numpy().tobytes()]
    if isinstance(value, dict):
        return [x for key, part in value.items() for x in [key, *flat(part)]]
    return [x for part in value for x in flat(part)] if isinstance(value, list) else [value]


def assert_same(fitted, expected):
    """Compare all that was learned, to the last bit."""
    for part in ("module_", "optimizer_"):
        kept, wanted = (flat(getattr(m.net_, part).state_dict()) for m in (fitted, expected))
        assert kept == wanted
    rows = [
        [{k: v for k, v in row.items() if k not in ("batches", "dur")} for row in m.history_]
        for m in (fitted, expected)
    ]
    assert rows[0] == rows[1]


def files_in(folder):
    return sorted(path.name for path in folder.glob("*"))


def kill(folder, seconds):
    """Kill a process that trains, so many seconds after its first epoch."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training.kept_fits"])
    process = context.Process(target=train, args=(folder,))
    process.start()
    while process.is_alive() and not any(folder.glob("*.checkpoint")):
        time.sleep(0.001)
    time.sleep(seconds)
    process.kill()
    process.join()
    return process.exitcode


def test_killed(tmp_path, at_every_epoch):
    expected = noisy(None).fit(X, LABELS)
    seconds = 0.1
    while kill(tmp_path / "kept", seconds) == 0:  # it had come to its end
        seconds /= 2
    (file,) = (tmp_path / "kept").glob("*.checkpoint")
    file.with_suffix(".part").touch()  # as a kill in the middle of writing leaves one
    resumed = noisy(tmp_path / "kept").fit(X, LABELS)
    assert_same(resumed, expected)
    assert not resumed.history_[0]["batches"]
    assert not files_in(tmp_path / "kept")


PLATEAU = {"policy": "ReduceLROnPlateau", "monitor": "train_loss", "patience": 1, "threshold": 0.1}
KINDS = {
    "sgd": {
        "optimizer": "sgd",
        "lr": 0.05,
        "batch_size": 50,
        "callbacks": [LRScheduler(**PLATEAU), EarlyStopping("train_loss", 3, load_best=True)],
    },
    "frozen": {
        "optimizer": "adamw",
        "batch_size": 50,
        "callbacks": [Freezer("0.*"), Unfreezer("0.*", at=8)],
    },
    "lbfgs": {"optimizer": "lbfgs", "derivatives": SLOPES},
    "lm": {"optimizer": "lm", "derivatives": SLOPES, "n_iter_no_change": 50},
    "combined": {"tangents": FeatureTangents(), "n_projections": 1, "batch_size": 50},
}


@pytest.mark.parametrize("epoch", [2, 7])
@pytest.mark.parametrize("name", KINDS)
def test_it_goes_on(name, epoch, tmp_path, accident, monkeypatch):
    monkeypatch.setattr(combined_rows, "_CHEAP_TO_KEEP", 0)
    params = {"max_epochs": 10, **KINDS[name]}
    given = {"derivatives": params.pop("derivatives", None)}
    expected = regressor(**params).fit(X, Y, **given)
    assert expected.n_iter_ > epoch
    accident(epoch)
    with pytest.raises(RuntimeError, match="an accident"):
        regressor(tmp_path, **params).fit(X, Y, **given)
    assert len(files_in(tmp_path)) == 1
    resumed = regressor(tmp_path, **params).fit(X, Y, **given)
    assert_same(resumed, expected)
    assert [bool(row["batches"]) for row in resumed.history_].index(True) == epoch - 1
    assert not files_in(tmp_path)


def test_ctrl_c(tmp_path, accident):
    params = {"max_epochs": 8, "batch_size": 50}
    expected = regressor(**params).fit(X, Y)
    accident(5, KeyboardInterrupt())
    with pytest.warns(UserWarning, match="interrupted"):
        assert regressor(tmp_path, **params).fit(X, Y).n_iter_ == 4
    assert_same(regressor(tmp_path, **params).fit(X, Y), expected)
    assert not files_in(tmp_path)


def test_warm_start(tmp_path, accident):
    params = {"max_epochs": 6, "batch_size": 50, "warm_start": True}
    expected = regressor(**params).fit(X, Y)
    first = pickle.dumps(expected.set_params(checkpoint=tmp_path))
    expected.set_params(checkpoint=None).fit(X, Y)
    accident(9)
    with pytest.raises(RuntimeError, match="an accident"):
        pickle.loads(first).fit(X, Y)
    again = pickle.loads(first)
    assert len(files_in(tmp_path)) == 1
    assert_same(again.fit(X, Y), expected)
    assert again.n_iter_ == 12


def interrupted(folder, accident, epoch=5, **params):
    """Leave the file of a fit that did not come to its end."""
    accident(epoch)
    with pytest.raises(RuntimeError, match="an accident"):
        regressor(folder, max_epochs=8, **params).fit(X, Y)
    (file,) = folder.glob("*.checkpoint")
    return file


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_files_that_cannot_be_written(function, error, tmp_path, accident, monkeypatch):
    file = interrupted(tmp_path, accident, epoch=4)
    before = file.read_bytes()
    with monkeypatch.context() as patched, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")

        def fail(*args):
            raise OSError(error, os.strerror(error))

        patched.setattr(os, function, fail)
        accident(7)
        with pytest.raises(RuntimeError, match="an accident"):
            regressor(tmp_path, max_epochs=8).fit(X, Y)
        (told,) = [str(w.message) for w in caught if w.category is UserWarning]
        assert "could not be kept" in told
        assert os.strerror(error) in told
        assert files_in(tmp_path) == [file.name]
        assert file.read_bytes() == before
        whole = regressor(tmp_path, max_epochs=8).fit(X, Y)
    assert_same(whole, regressor(max_epochs=8).fit(X, Y))


@pytest.mark.parametrize("harm", ["cut", "empty", "garbage", "bit"])
def test_damaged(harm, tmp_path, accident):
    file = interrupted(tmp_path, accident)
    content = bytearray(file.read_bytes())
    content[-2000] ^= 1
    harmed = {"cut": content[:-500], "empty": b"", "garbage": os.urandom(5000), "bit": content}
    file.write_bytes(harmed[harm])
    with pytest.raises(ValueError, match=f"{file.name}.*damaged. Remove it"):
        regressor(tmp_path, max_epochs=8).fit(X, Y)


class Harm:
    def __reduce__(self):
        return os.mkdir, ("harm",)


def test_reading_runs_no_code(tmp_path, accident, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = interrupted(tmp_path / "kept", accident)
    lines = file.read_bytes().splitlines(keepends=True)[1], pickle.dumps(Harm(), protocol=2)
    file.write_bytes(checkpoints._digest(*lines) + b"".join(lines))
    with pytest.raises(pickle.UnpicklingError):
        regressor(tmp_path / "kept", max_epochs=8).fit(X, Y)
    assert files_in(tmp_path) == ["kept"]


OTHERS = {
    "lr": {"lr": 0.01},
    "hidden_layer_sizes": {"hidden_layer_sizes": 9},
    "preprocessor": {"preprocessor": StandardScaler()},
    "tangents": {"tangents": lambda X: X[:, np.newaxis]},
    "random_state": {"random_state": 1},
    "max_epochs": {"max_epochs": 9},
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_parameters(name, tmp_path, accident):
    file = interrupted(tmp_path, accident, tangents=lambda X: X[:, np.newaxis] * 2)
    before = file.read_bytes()
    params = {"max_epochs": 8, "tangents": lambda X: X[:, np.newaxis] * 2, **OTHERS[name]}
    with pytest.warns(UserWarning, match=f"1 unfinished fit.*differs .*{name}.*starts anew"):
        other = regressor(tmp_path, **params).fit(X, Y)
    assert_same(other, regressor(**params).fit(X, Y))
    assert file.read_bytes() == before


def test_other_data(tmp_path, accident):
    interrupted(tmp_path, accident)
    changed = X.copy()
    changed[70, 2] += 1e-9
    for args, kwargs, name in [
        ((changed, Y), {}, "X"),
        ((X, -Y), {}, "y"),
        ((X, Y), {"sample_weight": np.linspace(1, 2, len(X))}, "sample_weight"),
        ((X, Y), {"derivatives": SLOPES}, "derivatives"),
        ((pd.DataFrame(X), Y), {}, "X"),
    ]:
        model = regressor(tmp_path, max_epochs=8, optimizer="adam")
        with pytest.warns(UserWarning, match=rf"differs from the nearest in .*\b{name} in fit"):
            model.fit(*args, **kwargs)


class Callable:
    def __init__(self, value):
        self.value = value

    def __call__(self, X):
        return X[:, np.newaxis] * self.value


def scaled(X, value):
    return X[:, np.newaxis] * value


def linear(value):
    layer = torch.nn.Linear(4, 1)
    torch.nn.init.constant_(layer.weight, value)
    torch.nn.init.zeros_(layer.bias)
    return layer


PARAMETERS = {
    "closure": lambda value: lambda X: X[:, np.newaxis] * value,
    "default": lambda value: lambda X, by=value: X[:, np.newaxis] * by,
    "partial": lambda value: partial(scaled, value=value),
    "method": lambda value: Callable(value).__call__,
    "tensor": lambda value: Callable(torch.full((4,), float(value))),
    "lambda": lambda value: Callable([lambda: value]),
    "builtin": lambda value: Callable((max, min)[value]),
    "module": linear,
    "transformer": lambda value: FunctionTransformer(kw_args={"value": value}),
    "pipeline": lambda value: make_pipeline(StandardScaler(with_mean=bool(value))),
    "callbacks": lambda value: [("stop", EarlyStopping(patience=value + 1))],
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_what_a_parameter_is(name, tmp_path):
    def file_of(value):
        net = regressor(max_epochs=1).fit(X, Y).net_
        model = regressor(tmp_path).set_params(tangents=PARAMETERS[name](value))
        return going_on.open_checkpoint(model, net, None).file

    assert file_of(0) == file_of(0) != file_of(1)


def test_frames_are_their_columns(tmp_path):
    frame = pd.DataFrame({"a": [0.0, 1.0, 2.0], "b": ["x", "y", "z"]})
    net = regressor(max_epochs=1).fit(X, Y).net_

    def file_of(frame):
        return going_on.open_checkpoint(regressor(tmp_path), net, None, X=frame).file

    assert file_of(frame) == file_of(frame.copy())
    for other in (frame.rename(columns={"a": "c"}), frame.replace("z", "x"), frame.astype(str)):
        assert file_of(other) != file_of(frame)


def test_quick_fits_write_nothing(tmp_path):
    regressor(tmp_path / "new", max_epochs=3).fit(X, Y)
    assert not files_in(tmp_path)


def test_writes_take_a_small_part_of_the_time(tmp_path, monkeypatch):
    now = [0.0]
    writes = []

    class Clock(Callback):
        def on_epoch_begin(self, net, **kwargs):
            now[0] += 1.0

    def write(self, net):
        writes.append(now[0])
        now[0] += 0.6

    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(checkpoints.Checkpoint, "_write", write)
    regressor(tmp_path, callbacks=[Clock()], max_epochs=60, n_iter_no_change=60).fit(X, Y)
    assert writes[0] == 3
    assert np.diff(writes).min() >= 0.6 / checkpoints._SHARE


def test_last_fit_of_a_search(tmp_path, accident):
    params = {"hidden_layer_sizes": 4, "max_epochs": 6, "optimizer": "adam", "random_state": 0}
    own = {"penalty_weights": [0.1, 1], "cv": 2, "callbacks": [Accident()], "n_iter_no_change": 9}
    expected = TangentPropRegressorCV(FeatureTangents(), **own, **params).fit(X, Y)
    model = TangentPropRegressorCV(FeatureTangents(), checkpoint=tmp_path, **own, **params)
    written = []
    write = checkpoints.Checkpoint._write
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            checkpoints.Checkpoint, "_write", lambda *args: [written.append(1), write(*args)]
        )
        assert_same(clone(model).fit(X, Y), expected)
    assert len(written) == 6


def test_what_it_needs(tmp_path):
    with pytest.raises(ValueError, match="checkpoint=.* needs a random_state"):
        regressor(tmp_path, random_state=None).fit(X, Y)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="checkpoint must be a folder, got the file .*file"):
        regressor(tmp_path / "file").fit(X, Y)
    with pytest.raises(ValueError, match="'checkpoint' parameter .* must be"):
        regressor(3).fit(X, Y)


def test_processes_that_fit_together(tmp_path, monkeypatch):
    monkeypatch.setattr(going_on, "rank", lambda: 0)
    with pytest.raises(ValueError, match="checkpoint keeps the state of one process"):
        regressor(tmp_path).fit(X, Y)


def test_progress_goes_on_where_it_was(tmp_path, accident, capsys, monkeypatch):
    model = regressor(tmp_path, optimizer="adam", max_epochs=8, verbose=1)
    accident(4)
    with pytest.raises(RuntimeError):
        model.fit(X, Y)
    clock = itertools.count(step=4)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    capsys.readouterr()
    model.fit(X, Y)
    told = [line.split(", ") for line in capsys.readouterr().err.splitlines()]
    # a line after 12 seconds, of which those epochs took nothing that were done before
    assert [(line[0], line[-1]) for line in told] == [
        ("epoch 6/8", "8 s left"),
        ("epoch 8/8", "00:24 in all"),
    ]
