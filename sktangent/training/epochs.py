"""How a net goes over its epochs: losses are read once an epoch, and only listeners are called."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch
from skorch.callbacks import Callback, PrintLog

from sktangent._speed.allocation import keep_freed_memory
from sktangent.training.history import record_losses


class EpochLoop:
    """The part of a skorch net that trains for epochs and calls its callbacks."""

    def run_single_epoch(self, iterator, training: bool, prefix: str, step_fn, **fit_params):
        """Go over the batches once; their losses are read from the device at the end.

        Parameters
        ----------
        iterator : iterable or None
            The batches; None: nothing is done.
        training : bool
            Whether this is a training epoch.
        prefix : {"train", "valid"}
            How the names in the history begin.
        step_fn : callable
            Called with each batch; returns a dict with the losses.
        **fit_params : dict
            Passed to ``step_fn``.
        """
        if iterator is None:
            return
        names = ("loss", "data_loss", "penalty") if training else ("loss",)
        columns = tuple(f"{prefix}_{name}" for name in names)
        read_at_once = bool(self._listeners("on_batch_end"))
        losses, rows = [], []
        for batch in iterator:
            self.notify("on_batch_begin", batch=batch, training=training)
            step = step_fn(batch, **fit_params)
            row = self.history[-1]["batches"][-1]
            row[f"{prefix}_batch_size"] = _n_samples(batch)
            rows.append(row)
            losses += [step[name].detach() for name in names]
            if read_at_once:
                values = torch.stack(losses[-len(names) :]).tolist()
                row.update(zip(columns, values, strict=True))
            self.notify("on_batch_end", batch=batch, training=training, **step)
        self.history.record(f"{prefix}_batch_count", len(rows))
        if rows:
            values = torch.stack(losses).view(len(rows), -1).tolist()
            sizes = [row[f"{prefix}_batch_size"] for row in rows]
            record_losses(self.history, columns, rows, values, sizes)

    def fit_loop(self, X, y=None, *args, **kwargs):
        """Train for some epochs; see :meth:`skorch.NeuralNet.fit_loop`.

        Parameters
        ----------
        X, y : array, dict or torch.utils.data.Dataset
            The samples and targets.
        *args, **kwargs
            As in skorch.

        Returns
        -------
        self : TangentPropNet
            The net.
        """
        keep_freed_memory()
        try:
            return super().fit_loop(X, y, *args, **kwargs)
        except _StopTraining:
            return self
        except KeyboardInterrupt:
            warnings.warn(
                "Training was interrupted; what was learned so far is kept.", stacklevel=2
            )
            raise

    def notify(self, method_name: str, **kwargs) -> None:
        """Call a hook of the net, and of the callbacks that implement it.

        Parameters
        ----------
        method_name : str
            The hook, ``"on_epoch_end"`` for example.
        **kwargs : dict
            Passed to the hook.
        """
        getattr(self, method_name)(self, **kwargs)
        try:
            for callback in self._listeners(method_name):
                getattr(callback, method_name)(self, **kwargs)
        except KeyboardInterrupt as stop:
            raise _StopTraining from stop

    def _listeners(self, method_name: str) -> list:
        silent = getattr(Callback, method_name)
        return [
            callback
            for _, callback in self.callbacks_
            if getattr(type(callback), method_name, None) is not silent
        ]


class _StopTraining(KeyboardInterrupt):
    """A callback ended training: told apart from the user, who does it with Ctrl-C."""


class QuietLog(PrintLog):
    """skorch's table of the losses, printed where the net is verbose."""

    def on_epoch_end(self, net, **kwargs) -> None:
        """Print the epoch's row."""
        if net.verbose:
            super().on_epoch_end(net, **kwargs)


def _n_samples(batch) -> int:
    X = batch[0]
    return len(X["x"] if isinstance(X, Mapping) else X)
