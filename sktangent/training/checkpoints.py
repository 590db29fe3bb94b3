"""Training that goes on where it was killed: its state, written now and then, and read again.

A file holds all on which the rest of training depends: parameters and buffers, the optimizer's
state, random numbers, the rows of the history without their batches, and of each callback what has
a ``state_dict`` and those attributes that are numbers, strings, arrays or tensors, or lists and
dicts of them. It is written aside and then renamed, so that it is whole whenever training is
killed. Reading it runs no code.
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import io
import json
import os
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import joblib
import numpy as np
import skorch
import torch
from torch import Tensor, nn

from sktangent._randomness import generator_states, set_generator_states

# seconds between two writes, at least, and the largest part of the time that they may take
_SECONDS, _SHARE = 3.0, 0.03
_ATOMS = (bool, int, float, str, Tensor, type(None))
_DICTS = (dict, collections.OrderedDict, collections.Counter)


class Checkpoint:
    """The file in which one fit keeps its state while it trains.

    Parameters
    ----------
    folder : path
        Where files are kept, each of a fit of its own.
    fit : mapping of str to str
        What identifies the fit: what its result depends on, by name, each as a few letters.
    random : sequence of numpy.random.Generator, default=()
        Random numbers that training draws beside those of :func:`~sktangent._randomness.seeded`.

    Raises
    ------
    ValueError
        If there is a file of the folder's name.
    """

    def __init__(self, folder: os.PathLike | str, fit: Mapping[str, str], random=()) -> None:
        self.folder = Path(folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"checkpoint must be a folder, got the file {str(folder)!r}.")
        self.fit, self.random = dict(fit), random
        self.file = self.folder / f"{joblib.hash(self.fit)}.checkpoint"
        self.is_done = self._has_failed = False

    def resume(self, net: skorch.NeuralNet) -> int:
        """Put a net that is about to train into the state that was kept, if there is one.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net, as it was before the first epoch; its callbacks have begun.

        Returns
        -------
        n_epochs : int
            How many epochs of this training are done.

        Raises
        ------
        ValueError
            If the file is damaged.

        Warns
        -----
        UserWarning
            If there is none, but there are those of other fits.
        """
        self._n_before, self._next_write = len(net.history), time.monotonic() + _SECONDS
        if not self.file.exists():
            self._warn_of_others()
            return 0
        content = io.BytesIO(_read(self.file))
        state = torch.load(content, weights_only=True, map_location=net.device)
        _put_back(net, state["net"])
        set_generator_states(state["generators"])
        for generator, its_state in zip(self.random, state["random"], strict=True):
            generator.bit_generator.state = its_state
        return len(state["net"]["history"])

    def write_if_due(self, net: skorch.NeuralNet) -> None:
        """Write the state of a net between two epochs, unless that was done a moment ago.

        Where it fails, a warning says so once, and what was written last is left as it is.
        """
        start = time.monotonic()
        if start < self._next_write:
            return
        try:
            self._write(net)
        except OSError as error:
            self._warn_of_failure(error)
        end = time.monotonic()
        self._next_write = end + max(_SECONDS, (end - start) / _SHARE)

    def remove(self) -> None:
        """Remove the file."""
        with contextlib.suppress(OSError):
            self.file.unlink(missing_ok=True)

    def _write(self, net: skorch.NeuralNet) -> None:
        state = {
            "net": _state_of(net, self._n_before),
            "generators": generator_states(),
            "random": [generator.bit_generator.state for generator in self.random],
        }
        content = io.BytesIO()
        torch.save(state, content)
        lines = json.dumps(self.fit).encode() + b"\n", content.getbuffer()
        self.folder.mkdir(parents=True, exist_ok=True)
        _write_aside(self.file, _digest(*lines), *lines)

    def _warn_of_failure(self, error: OSError) -> None:
        if self._has_failed:
            return
        self._has_failed = True
        warnings.warn(
            f"The state of training could not be kept in {str(self.folder)!r}: {error}. Training "
            "goes on; if it is killed, it can be taken up from what was kept before, if anything.",
            UserWarning,
            stacklevel=2,
        )

    def _warn_of_others(self) -> None:
        """Tell of unfinished fits that this one may have been meant to take up."""
        fits = filter(None, map(_fit_of, self.folder.glob(f"*{self.file.suffix}")))
        differing = [
            sorted(name for name in {*fit, *self.fit} if fit.get(name) != self.fit.get(name))
            for fit in fits
        ]
        if differing:
            warnings.warn(
                f"{str(self.folder)!r} keeps {len(differing)} unfinished fit(s), none of which is "
                f"this one: it differs from the nearest in {', '.join(min(differing, key=len))}. "
                "Training starts anew; the others are left as they are.",
                UserWarning,
                stacklevel=2,
            )


@contextlib.contextmanager
def keeping(net: skorch.NeuralNet, checkpoint: Checkpoint | None) -> Iterator[None]:
    """Let a net that trains take up what a checkpoint keeps, and keep its state there.

    Parameters
    ----------
    net : TangentPropNet
        The net.
    checkpoint : Checkpoint or None
        Where; its file is removed when training has come to its end, and stays if it was
        interrupted. None: nowhere.
    """
    if checkpoint is None:
        yield
        return
    net._checkpoint = checkpoint
    try:
        yield
    finally:
        del net._checkpoint
    if checkpoint.is_done:
        checkpoint.remove()


def _state_of(net: skorch.NeuralNet, n_before: int) -> dict:
    return {
        "parts": {name: part.state_dict() for name, part in _parts(net)},
        "buffers": {name: dict(part.named_buffers()) for name, part in _modules(net)},
        "trained": {
            name: [p.requires_grad for p in part.parameters()] for name, part in _modules(net)
        },
        "history": [_plain_row(row) for row in net.history[n_before:]],
        "callbacks": {name: _attributes(callback) for name, callback in net.callbacks_},
    }


def _put_back(net: skorch.NeuralNet, state: dict) -> None:
    for name, part in _parts(net):
        part.load_state_dict(state["parts"][name])
    for name, part in _modules(net):
        for own, kept in zip(part.parameters(), state["trained"][name], strict=True):
            own.requires_grad_(kept)
        for key, buffer in part.named_buffers():  # those too that a state_dict leaves out
            buffer.copy_(state["buffers"][name][key])
    net.history.extend({**row, "batches": []} for row in state["history"])
    for name, callback in net.callbacks_:
        _set_attributes(callback, state["callbacks"][name])


def _parts(net: skorch.NeuralNet) -> list[tuple]:
    names = (*net._modules, *net._criteria, *net._optimizers)
    return [(name, getattr(net, f"{name}_")) for name in names]


def _modules(net: skorch.NeuralNet) -> list[tuple]:
    return [(name, part) for name, part in _parts(net) if isinstance(part, nn.Module)]


def _plain_row(row: dict) -> dict:
    values = {name: x.item() if isinstance(x, np.generic) else x for name, x in row.items()}
    return {name: x for name, x in values.items() if name != "batches" and _is_plain(x)}


def _is_plain(value) -> bool:
    if type(value) in _DICTS:
        return all(map(_is_plain, value)) and all(map(_is_plain, value.values()))
    if type(value) in (list, tuple):
        return all(map(_is_plain, value))
    return type(value) in _ATOMS


def _attributes(callback) -> dict:
    """Collect what a callback has come to know; what it was constructed with it has anyway."""
    found: dict = {}
    if callback is None:
        return found
    given = callback.get_params(deep=False)
    for name, value in vars(callback).items():
        value = value.item() if isinstance(value, np.generic) else value
        if name in given:
            continue
        if _is_plain(value):
            found[name] = {"value": value}
        elif isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
            found[name] = {"array": torch.from_numpy(value)}
        elif not isinstance(value, type) and hasattr(value, "state_dict"):  # as schedulers
            found[name] = {"state": value.state_dict()}
    return found


def _set_attributes(callback, attributes: dict) -> None:
    for name, kept in attributes.items():
        if "state" in kept:
            getattr(callback, name).load_state_dict(kept["state"])
        else:
            setattr(callback, name, kept["value"] if "value" in kept else kept["array"].numpy())


def _write_aside(path: Path, *contents) -> None:
    aside = path.with_suffix(".part")
    try:
        with open(aside, "wb") as file:
            file.writelines(contents)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except OSError:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
        raise


def _digest(*contents) -> bytes:
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content)
    return digest.hexdigest().encode() + b"\n"


def _read(path: Path) -> bytes:
    """Read what was kept, as it was written."""
    with open(path, "rb") as file:
        digest, line, content = file.readline(), file.readline(), file.read()
    if _digest(line, content) != digest:
        raise ValueError(f"The file {str(path)!r} is damaged. Remove it to train from the start.")
    return content


def _fit_of(path: Path) -> dict[str, str]:
    """Read which fit a file is of; nothing of a file that is damaged."""
    try:
        with open(path, "rb") as file:
            file.readline()
            return dict(json.loads(file.readline()))
    except (OSError, ValueError, TypeError):
        return {}
