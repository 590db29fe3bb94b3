import builtins

import pytest
import torch
from skorch.history import History

from sktangent.net import TangentPropNet
from sktangent.training.history import EpochHistory


def filled(history):
    for epoch in range(3):
        history.new_epoch()
        history.record("train_loss", 1.0 / (epoch + 1))
        for batch in range(2):
            history.new_batch()
            history.record_batch("train_loss", epoch + batch / 10)
    history.record("valid_loss", 0.5)
    return history


@pytest.mark.parametrize(
    "index",
    [
        0,
        -1,
        (-1, "train_loss"),
        (2, "train_loss"),
        (-3, ["train_loss"]),
        (-1, ("train_loss", "valid_loss")),
        (-1, "batches"),
        (-1, "batches", -1),
        (-1, "batches", 0, "train_loss"),
        (-1, "batches", slice(None), "train_loss"),
        slice(None),
        slice(1, 3),
        (slice(None), "train_loss"),
        (slice(None, 2), ("train_loss",)),
        (slice(None), "batches", slice(None), "train_loss"),
    ],
)
def test_every_index_answers_as_in_skorch(index):
    assert filled(EpochHistory())[index] == filled(History())[index]


@pytest.mark.parametrize("index", [(-1, "speed"), (0, "valid_loss"), (-1, "batches", 0, "speed")])
def test_what_is_not_there_is_a_key_error(index):
    with pytest.raises(KeyError):
        filled(EpochHistory())[index]


@pytest.mark.parametrize("index", [3, -4, (3, "train_loss")])
def test_an_epoch_that_is_not_there_is_an_index_error(index):
    with pytest.raises(IndexError):
        filled(EpochHistory())[index]


def test_the_last_row_is_the_row_itself():
    history = filled(EpochHistory())
    history[-1]["new"] = 1
    assert history[2, "new"] == 1


def test_to_file_and_back(tmp_path):
    history = filled(EpochHistory())
    history.to_file(tmp_path / "history.json")
    loaded = EpochHistory.from_file(tmp_path / "history.json")
    assert loaded == history


def test_nothing_is_printed_where_another_print_has_taken_the_place(monkeypatch, capsys):
    monkeypatch.setattr(builtins, "print", lambda *args: None)
    net = TangentPropNet(torch.nn.Linear(1, 1), max_epochs=1, train_split=None, verbose=0)
    net.fit(torch.zeros(2, 1), torch.zeros(2, 1))
    assert capsys.readouterr().out == ""
