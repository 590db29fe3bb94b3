import fcntl
import os
import pickle
import pty
import re
import struct
import subprocess
import sys
import termios
import textwrap
import threading

import pytest
import torch
from skorch.callbacks import Callback

from sktangent.net import TangentPropNet
from sktangent.training import progress
from sktangent.training.progress import Progress

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")
SCRIPT = textwrap.dedent(
    """
    import time
    import torch
    from skorch.callbacks import Callback
    from sktangent.net import TangentPropNet
    from sktangent.training.progress import Progress

    class Slow(Callback):
        def on_epoch_end(self, net, **kwargs):
            time.sleep(0.06)

    x = torch.linspace(0, 1, 20)[:, None]
    net = TangentPropNet(torch.nn.Linear(1, 1), max_epochs=9, verbose=0,
                         callbacks=[("progress", Progress()), ("slow", Slow())])
    net.fit({"x": x, "tangents": torch.ones(20, 1, 1)}, x)
    """
)


def train(epochs=4, callbacks=(), tangents=True, **kwargs):
    x = torch.linspace(0, 1, 20)[:, None]
    net = TangentPropNet(
        torch.nn.Linear(1, 1),
        max_epochs=epochs,
        verbose=0,
        callbacks=[("progress", Progress(**kwargs)), *callbacks],
    )
    return net.fit({"x": x, "tangents": torch.ones(20, 1, 1)} if tangents else x, x)


@pytest.mark.parametrize("columns", [0, 90])
def test_a_bar_in_a_terminal(columns):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen([sys.executable, "-c", SCRIPT], stderr=theirs, stdout=theirs)
    os.close(theirs)
    text = b""
    try:
        while chunk := os.read(ours, 4096):
            text += chunk
    except OSError:  # how the end of a terminal reads on Linux
        pass
    assert process.wait() == 0
    shown = text.decode().replace("\r\n", "\n").rstrip("\n")
    assert "\n" not in shown  # one line, written over and over
    states = shown.split("\r")
    assert len(states) > 3
    assert states[-1].startswith("epoch 9/9, ")
    assert max(map(len, states)) <= (columns or 80)
    assert re.search(r"data term [\d.e-]+, penalty [\d.e-]+, validation [\d.e-]+", states[-1])
    assert all(re.search(r"\d\d:\d\d<[\d?]", state) for state in states if state)  # time left


@pytest.mark.parametrize("kind", ["file", "pipe"])
def test_plain_lines_elsewhere(kind, tmp_path):
    command = [sys.executable, "-c", SCRIPT]
    if kind == "pipe":
        process = subprocess.run(command, capture_output=True, text=True, check=True)
        assert process.stdout == ""
        text = process.stderr
    else:
        with open(tmp_path / "log", "w") as stream:
            subprocess.run(command, stderr=stream, check=True)
        text = (tmp_path / "log").read_text()
    assert not CONTROL.search(text)
    number = r"[\d.e-]+"
    line = f"epoch 9/9, data term {number}, penalty {number}, validation {number}, .* s in all"
    assert re.fullmatch(line, text.strip())


def test_a_line_now_and_then(capsys, monkeypatch):
    clock = iter(range(0, 1000, 4))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    train(epochs=8)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == ["epoch 3/8", "epoch 6/8", "epoch 8/8"]
    assert lines[0].endswith(", 00:20 left")  # 12 seconds for 3 epochs, 5 to come
    assert lines[2].endswith("in all")


def test_terms_that_there_are(capsys):
    train(tangents=False)
    text = capsys.readouterr().err
    assert "data term" in text
    assert "penalty" not in text


def test_silence(capsys):
    train(is_shown=False)
    assert capsys.readouterr().err == ""


def test_epochs_that_are_given(capsys):
    x = torch.linspace(0, 1, 20)[:, None]
    net = TangentPropNet(
        torch.nn.Linear(1, 1), verbose=0, callbacks=[("progress", Progress(epochs=2))]
    )
    net.initialize().partial_fit(x, x, epochs=2)
    assert capsys.readouterr().err.startswith("epoch 2/2, ")


def test_threads_tell_of_the_end_alone(capsys, monkeypatch):
    monkeypatch.setattr(progress, "_INTERVAL", 0.0)
    monkeypatch.setattr(progress, "_is_redrawn", lambda: True)
    threads = [threading.Thread(target=train) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("epoch 4/4, data term ") for line in lines)


def test_training_that_stops_early(capsys):
    class Stop(Callback):
        def on_epoch_end(self, net, **kwargs):
            if len(net.history) == 2:
                raise KeyboardInterrupt

    train(callbacks=[("stop", Stop())])
    assert capsys.readouterr().err.startswith("epoch 2/4, ")


def test_what_failed_training_leaves_can_be_pickled(capsys, monkeypatch):
    class Fail(Callback):
        def on_epoch_end(self, net, **kwargs):
            raise ValueError("no")

    monkeypatch.setattr(progress, "_is_redrawn", lambda: True)
    shown = Progress()
    x = torch.linspace(0, 1, 20)[:, None]
    net = TangentPropNet(
        torch.nn.Linear(1, 1), verbose=0, callbacks=[("progress", shown), ("fail", Fail())]
    )
    with pytest.raises(ValueError, match="no"):
        net.fit(x, x)
    assert vars(pickle.loads(pickle.dumps(shown))) == {"epochs": None, "is_shown": True}
