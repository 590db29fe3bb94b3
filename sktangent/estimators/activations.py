"""Which piecewise linear activations a network uses, wherever in its forward they are called."""

from __future__ import annotations

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from sktangent._randomness import drawing_for
from sktangent.propagation.rules.activations import ACTIVATIONS

_PIECEWISE_LINEAR = {
    function.__name__
    for activation in ACTIVATIONS
    if activation.is_piecewise_linear
    for function in activation.functions
}


class _Listener(TorchFunctionMode):
    """Note the names of the torch functions that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.names.add(getattr(func, "__name__", "").rstrip("_"))
        return func(*args, **(kwargs or {}))


def piecewise_linear_functions(module: nn.Module, x: torch.Tensor) -> list[str]:
    """List the piecewise linear activations in a module's forward pass, by name.

    Parameters
    ----------
    module : nn.Module
        The network, in evaluation mode.
    x : torch.Tensor of shape (n_samples, *input_shape)
        A few samples.

    Returns
    -------
    names : list of str
        ``["relu"]`` for example.

    Examples
    --------
    >>> import torch
    >>> from sktangent.estimators.activations import piecewise_linear_functions
    >>> piecewise_linear_functions(torch.nn.LeakyReLU(), torch.ones(1, 1))
    ['leaky_relu']
    """
    with drawing_for(module), torch.no_grad(), _Listener() as listener:
        module(x)
    return sorted(listener.names & _PIECEWISE_LINEAR)
