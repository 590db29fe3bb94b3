"""Samples and tangents through a module in one pass: f(x) and J τ."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import torch

from sktangent import _torch
from sktangent._speed import chains
from sktangent.propagation.dual import Dual, is_dual


@_torch.outside_compilers
def propagate(
    module: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, tangents: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    r"""Compute a module's output and its derivatives along tangent vectors, in one pass.

    For each sample :math:`x_i` and each of its tangent vectors :math:`\tau_{it}`,

    .. math:: y_i = f(x_i), \qquad \dot y_{it} = J_f(x_i)\,\tau_{it},

    both differentiable with respect to the parameters of the module and to ``x``. The module's
    own ``forward`` runs once, on a value that holds samples and tangents: a linear function maps
    the tangents as it maps the samples, bias left out, and an elementwise one scales them by its
    slope [1]_. Functions without a rule (see :func:`register_rule`) go through automatic
    differentiation, one by one. Linear layers with common activations between them, in a plain
    ``Sequential``, are followed in one piece, which gives the same sooner.

    The module's mode decides, as in a plain pass: in training, batch normalization uses the
    statistics of the batch, which are constants with respect to a sample's tangents, and dropout
    uses one mask for a sample and its tangents. What ``forward`` computes under
    ``torch.no_grad`` is constant. Compiled modules run uncompiled, and so does the pass in a
    compiled function.

    Parameters
    ----------
    module : callable
        A module, or any function written in torch, that maps ``x`` to its output and acts on
        each sample alone.
    x : torch.Tensor of shape (n_samples, *input_shape)
        The samples, floating.
    tangents : torch.Tensor of shape (n_samples, n_tangents, *input_shape)
        The tangent vectors of each sample, of the dtype and on the device of ``x``.

    Returns
    -------
    y : torch.Tensor of shape (n_samples, *output_shape)
        The output, ``module(x)``.
    dy : torch.Tensor of shape (n_samples, n_tangents, *output_shape)
        The directional derivatives :math:`J_f(x_i)\,\tau_{it}`.

    Raises
    ------
    TypeError
        If an argument is no floating tensor, if dtypes differ, if the module does not return one
        tensor, or if it does what tangents cannot follow (a custom ``torch.autograd.Function``,
        a script module, writing into a plain tensor).
    ValueError
        If the shapes or devices of ``x`` and ``tangents`` do not fit.
    RuntimeError
        If the module writes samples with tangents into a tensor that carries none.
    NotImplementedError
        If the module calls a function that has no rule and that torch cannot differentiate twice.

    References
    ----------
    .. [1] P. Simard, B. Victorri, Y. LeCun, J. Denker. "Tangent Prop: a formalism for specifying
       selected invariances in an adaptive network." NIPS 1991.

    Examples
    --------
    >>> import torch
    >>> from sktangent.propagation import propagate
    >>> x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> tangents = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    >>> y, dy = propagate(lambda x: x**2, x, tangents)
    >>> y
    tensor([[ 1.,  4.],
            [ 9., 16.]])
    >>> dy
    tensor([[[2., 0.]],
            [[0., 8.]]])
    """
    _check_samples(x)
    _check_tangents(tangents, x)
    module = _torch.uncompiled(module)
    chain = chains.find_chain(module, x, tangents)
    if chain is not None:
        return chain(x, tangents)
    with torch.inference_mode(False), torch.enable_grad(), _eager():
        out = module(_load(x, tangents))
    y, dy = _parts(out, tangents.shape[1])
    if not torch.is_grad_enabled():
        y, dy = y.detach(), dy.detach()
    return y, dy


def _load(x: torch.Tensor, tangents: torch.Tensor) -> Dual:
    """Copy samples and tangents, out of reach of in-place functions in forward."""
    tangents = tangents.transpose(0, 1).clone(memory_format=torch.contiguous_format)
    return Dual(x.clone(), tangents)


def _parts(out: object, n_tangents: int) -> tuple[torch.Tensor, torch.Tensor]:
    if is_dual(out):
        return out.primal, out.tangents.transpose(0, 1)
    if not isinstance(out, torch.Tensor):
        raise TypeError(f"module must return one tensor, got {type(out).__name__}.")
    if out.ndim == 0:
        raise TypeError(
            "module must return a tensor with one row per sample, got one without axes."
        )
    # the module did not use x, or only steps of it
    return out, out.new_zeros(out.shape[0], n_tangents, *out.shape[1:])


def _check_samples(x: object) -> None:
    if is_dual(x) or not isinstance(x, torch.Tensor):
        raise TypeError(f"x must be a torch.Tensor, got {type(x).__name__}.")
    if not x.is_floating_point():
        raise TypeError(
            f"x must be floating, got {x.dtype}. There are no directions to move in between "
            "integers: pass what an embedding gives, not the indices that it takes."
        )
    if x.ndim == 0:
        raise ValueError("x must have shape (n_samples, ...), got a tensor without axes.")


def _check_tangents(tangents: object, x: torch.Tensor) -> None:
    if is_dual(tangents) or not isinstance(tangents, torch.Tensor):
        raise TypeError(f"tangents must be a torch.Tensor, got {type(tangents).__name__}.")
    if tangents.dtype != x.dtype:
        raise TypeError(f"tangents must have the dtype of x, {x.dtype}, got {tangents.dtype}.")
    if tangents.ndim < 2 or (tangents.shape[0], *tangents.shape[2:]) != tuple(x.shape):
        sizes = ", ".join(map(str, (x.shape[0], "n_tangents", *x.shape[1:])))
        raise ValueError(
            f"tangents must have shape ({sizes}) for x of shape {tuple(x.shape)}, got "
            f"{tuple(tangents.shape)}."
        )
    if tangents.device != x.device:
        raise ValueError(f"tangents must be on the device of x, {x.device}, got {tangents.device}.")


def _eager() -> contextlib.AbstractContextManager:
    """Run compiled parts of a module as they were written; the stance is dear as a layer."""
    if torch.compiler.is_compiling() or not _torch.is_compiler_in_use():
        return contextlib.nullcontext()
    return torch.compiler.set_stance("force_eager")
