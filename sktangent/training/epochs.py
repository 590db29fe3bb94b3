"""One epoch of a skorch net: its losses are read from the device once, at the end."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Generator

import skorch
import torch
from skorch.callbacks import Callback

from sktangent.training.batches import TensorBatches
from sktangent.training.distributed import current, take_over_buffers
from sktangent.training.inputs import count_samples

_LOSSES = ("loss", "data_loss", "penalty")


def run_epoch(net: skorch.NeuralNet, iterator, training: bool, prefix: str, step_fn, **fit_params):
    """Go over the batches once.

    Of what a step returns, ``loss`` and, where they are there, ``data_loss`` and ``penalty`` are
    recorded in the batch's row of the history: at once if somebody listens to batches, else
    together when the epoch ends.

    Parameters
    ----------
    net : skorch.NeuralNet
        The net.
    iterator : iterable
        The batches.
    training : bool
        Whether this is a training epoch.
    prefix : {"train", "valid"}
        How the names in the history begin.
    step_fn : callable
        Called with each batch; returns a dict with the losses.
    **fit_params : dict
        Passed to ``step_fn``.
    """
    is_followed = _is_followed(net)
    notify = net.notify if is_followed else functools.partial(_notify_net, net)
    columns = [(name, f"{prefix}_{name}") for name in _LOSSES]
    size_name = f"{prefix}_batch_size"
    unread, n_batches = [], 0
    with contextlib.closing(_counted(iterator, training)) as batches:
        for batch, n_samples in batches:
            notify("on_batch_begin", batch=batch, training=training)
            step = step_fn(batch, **fit_params)
            losses = {column: step[name] for name, column in columns if name in step}
            if is_followed:
                for name, loss in losses.items():
                    net.history.record_batch(name, loss.item())
            else:
                row = net.history[-1]["batches"][-1]
                unread += [(row, name, _scalar(loss)) for name, loss in losses.items()]
            net.history.record_batch(size_name, n_samples)
            notify("on_batch_end", batch=batch, training=training, **step)
            n_batches += 1
    net.history.record(f"{prefix}_batch_count", n_batches)
    if unread:
        values = torch.stack([loss for *_, loss in unread]).tolist()
        for (row, name, _), value in zip(unread, values, strict=True):
            row[name] = value
    if training:
        take_over_buffers([getattr(net, f"{name}_") for name in net._modules])


def _counted(iterator, training: bool) -> Generator[tuple]:
    """Go over batches and their numbers of samples.

    Of processes that fit together each trains on its part of a batch. Where they share one, the
    number is that of the whole.
    """
    ranks = current() if training else None
    if ranks is not None and not isinstance(iterator, TensorBatches):
        raise ValueError(
            "accelerator shares out batches of arrays, and the training samples come from "
            f"{type(iterator).__name__}: leave out iterator_train and its parameters but "
            "batch_size and shuffle, and give arrays."
        )
    shared = iterator if ranks is None else iterator.among(ranks)
    batches = iter(shared)
    try:
        for index, batch in enumerate(batches):
            yield batch, count_samples(batch) if ranks is None else shared.sizes[index]
    finally:  # though a step fails: threads may be working for it
        if isinstance(batches, Generator):
            batches.close()


def _scalar(loss: torch.Tensor) -> torch.Tensor:
    loss = loss.detach()
    return loss if loss.ndim == 0 else loss.reshape(())


def _notify_net(net: skorch.NeuralNet, hook: str, **kwargs) -> None:
    getattr(net, hook)(net, **kwargs)


def _is_followed(net: skorch.NeuralNet) -> bool:
    """Tell whether anybody but the net hears of batches, or may ask for a batch's losses."""
    return (
        not isinstance(net.history, list)
        or net._has_own("notify")
        or any(
            _overrides(net, hook, skorch.NeuralNet)
            or any(_overrides(callback, hook, Callback) for _, callback in net.callbacks_)
            for hook in ("on_batch_begin", "on_batch_end")
        )
    )


def _overrides(listener, hook: str, base: type) -> bool:
    own = getattr(listener, hook, None)
    return own is not None and getattr(own, "__func__", own) is not getattr(base, hook)
