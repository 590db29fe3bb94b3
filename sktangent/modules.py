"""The default network."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from numbers import Integral

import torch
from torch import Tensor, nn

from sktangent._randomness import generator_for
from sktangent._speed.chains import is_chain_of_flat_samples
from sktangent.propagation.rules import activations as _activations

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = dict(
    sorted((name, known.module) for known in _activations.ACTIVATIONS for name in known.names)
)


class MLP(nn.Sequential):
    """Multilayer perceptron: linear layers with an activation between them.

    Inputs of more than two dimensions are flattened.

    Parameters
    ----------
    n_features : int
        Number of inputs of one sample.
    n_outputs : int
        Number of outputs.
    hidden_layer_sizes : int or sequence of int, default=(100,)
        Number of units of each hidden layer; empty for a linear model, a number for one layer.
    activation : str, nn.Module class or callable that returns a module, default="gelu"
        A name: "elu", "gelu", "identity", "logistic", "mish", "relu", "sigmoid", "silu",
        "softplus", "tanh". Piecewise linear ones (ReLU and its kin) fit derivatives badly: the
        penalty has no gradient with respect to where their kinks sit.

    Raises
    ------
    ValueError
        If a size is not a positive integer, or the activation is unknown.

    Examples
    --------
    >>> import torch
    >>> from sktangent.modules import MLP
    >>> MLP(2, 1, hidden_layer_sizes=(8, 8), activation="tanh")(torch.zeros(5, 2)).shape
    torch.Size([5, 1])
    """

    def __init__(
        self,
        n_features: int,
        n_outputs: int,
        hidden_layer_sizes: Sequence[int] | int = (100,),
        activation: str | Callable[[], nn.Module] = "gelu",
    ) -> None:
        super().__init__()
        build = get_activation(activation)
        sizes = [n_features, *as_sizes(hidden_layer_sizes)]
        for n_in, n_out in zip(sizes, sizes[1:], strict=False):
            self.append(_linear(n_in, n_out))
            self.append(build())
        self.append(_linear(sizes[-1], n_outputs))

    def expect(self, mean: Tensor, scale: Tensor) -> None:
        """Change the first layer so that samples of this mean and scale are to it as standard ones.

        Parameters
        ----------
        mean, scale : torch.Tensor of shape (n_features,)
            Of the features.
        """
        first = self[0]
        with torch.no_grad():
            first.weight /= scale
            first.bias -= first.weight @ mean

    @is_chain_of_flat_samples
    def forward(self, x: Tensor) -> Tensor:
        """Compute the outputs.

        Parameters
        ----------
        x : torch.Tensor of shape (n_samples, *input_shape)
            The samples, with n_features values each.

        Returns
        -------
        y : torch.Tensor of shape (n_samples, n_outputs)
            The outputs, without an activation.
        """
        return super().forward(x.flatten(1) if x.ndim > 2 else x)


def get_activation(activation: str | Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """Look up the constructor of an activation.

    Parameters
    ----------
    activation : str, nn.Module class or callable that returns a module
        A name of :data:`ACTIVATIONS`, or the constructor itself.

    Returns
    -------
    build : callable
        Takes no argument and returns a new module.

    Raises
    ------
    ValueError
        If it is neither a known name nor callable.

    Examples
    --------
    >>> from sktangent.modules import get_activation
    >>> get_activation("tanh")()
    Tanh()
    """
    if isinstance(activation, str):
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {list(ACTIVATIONS)}, got {activation!r}.")
        return ACTIVATIONS[activation]
    if isinstance(activation, nn.Module) or not callable(activation):
        raise ValueError(f"activation must be a name or a module class, got {activation!r}.")
    return activation


def _linear(n_in: int, n_out: int) -> nn.Linear:
    """Build a layer; in a fit, with the numbers that torch would draw, from the fit's generator."""
    generator = generator_for("cpu")
    if generator is None:
        return nn.Linear(n_in, n_out)
    layer = nn.utils.skip_init(nn.Linear, n_in, n_out)
    nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=generator)
    bound = 1 / math.sqrt(n_in)
    nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
    return layer


def as_sizes(hidden_layer_sizes: Sequence[int] | int) -> list[int]:
    """Write the sizes of the hidden layers as a list, and check them."""
    is_one = isinstance(hidden_layer_sizes, Integral)
    sizes = [hidden_layer_sizes] if is_one else list(hidden_layer_sizes)
    if any(not isinstance(size, Integral) or size <= 0 for size in sizes):
        raise ValueError(
            f"hidden_layer_sizes must hold positive integers, got {hidden_layer_sizes!r}."
        )
    return [int(size) for size in sizes]
