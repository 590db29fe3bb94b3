"""A module's propagation, traced once for each shape of the input and compiled."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.fx import GraphModule
from torch.overrides import TorchFunctionMode

from sktangent import _torch
from sktangent._speed.chains import find_chain
from sktangent._speed.products import multiply_by_onednn
from sktangent.propagation.dual import any_dual, call, is_dual
from sktangent.propagation.engine import propagate
from sktangent.propagation.fallback import is_written_in_python, opened

# full batches and the last one of an epoch, of this fit and of the next
_MAX_SHAPES = 4
_CONVOLUTIONS = (
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)


class CompiledPropagation:
    """Do what :func:`~sktangent.propagation.propagate` does, by compiled code.

    The torch functions that ``propagate`` comes down to are recorded on tensors without data, and
    given to :func:`torch.compile`. What ``forward`` does beside them (counters, draws from Python's
    own generators) happens once, while they are recorded. If recording or compiling fails, a
    warning says why, and the module runs uncompiled from then on; so does it for more than a few
    shapes. On the CPU chains of linear layers and activations run uncompiled, and so do networks
    without convolutions whose products are those of :mod:`sktangent._speed.products`: compiled
    code takes longer.

    Parameters
    ----------
    module : torch.nn.Module
        The network.
    **kwargs : dict
        Arguments of :func:`torch.compile`.

    Examples
    --------
    >>> import torch
    >>> from sktangent.propagation.compiling import CompiledPropagation
    >>> compiled = CompiledPropagation(torch.nn.LayerNorm(2), backend="eager")
    >>> y, dy = compiled(torch.zeros(3, 2), torch.ones(3, 1, 2))
    >>> dy.shape
    torch.Size([3, 1, 2])
    """

    def __init__(self, module: nn.Module, **kwargs) -> None:
        self.module = module
        self._kwargs = kwargs
        self._functions: dict[tuple, Callable] = {}

    def __call__(self, x: Tensor, tangents: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the output and its derivatives, as ``propagate`` does."""
        chain = find_chain(self.module, x, tangents) if x.device.type == "cpu" else None
        if chain is not None:
            return chain(x, tangents)
        is_mixed = torch.is_autocast_enabled(x.device.type)
        key = (x.shape, tangents.shape, x.dtype, x.device, is_mixed, self.module.training)
        if key not in self._functions and len(self._functions) < _MAX_SHAPES:
            return self._compile(key, x, tangents)
        return self._functions.get(key, self._plainly)(self._state(), x, tangents)

    def _compile(self, key: tuple, x: Tensor, tangents: Tensor) -> tuple[Tensor, Tensor]:
        state = self._state()
        if self._is_faster_uncompiled(x, tangents):
            self._functions[key] = self._plainly
            return self._plainly(state, x, tangents)
        try:
            function = self._compiled(state, x, tangents)
            result = function(state, x, tangents)
        except Exception as error:  # whatever goes wrong in a compiler, the module itself may work
            warnings.warn(
                f"The training step is not compiled: {type(error).__name__}: "
                f"{' '.join(str(error).split())[:200]} ... It runs uncompiled; set "
                "compile=False to leave out the attempt.",
                stacklevel=2,
            )
            self._functions[key] = self._plainly
            return self._plainly(state, x, tangents)
        self._functions[key] = function
        return result

    def _is_faster_uncompiled(self, x: Tensor, tangents: Tensor) -> bool:
        layers = list(self.module.modules())
        if any(isinstance(layer, _CONVOLUTIONS) for layer in layers):
            return False
        return multiply_by_onednn(layers, x, len(x) * tangents.shape[1])

    def _state(self) -> dict[str, Tensor]:
        return {**dict(self.module.named_parameters()), **dict(self.module.named_buffers())}

    def _compiled(self, state: dict[str, Tensor], x: Tensor, tangents: Tensor) -> Callable:
        function = torch.compile(self._record(state, x, tangents), **self._kwargs)

        def propagation(*args) -> tuple[Tensor, Tensor]:
            y, dy = function(*args)
            return y, dy.transpose(0, 1)

        return propagation

    def _record(self, state: dict[str, Tensor], x: Tensor, tangents: Tensor) -> nn.Module:
        def propagation(state, x, tangents):
            with _Marking():
                y, dy = propagate(lambda x: functional_call(self.module, state, (x,)), x, tangents)
            # gradients come in the order of results, which old compilers take to be memory's own
            return y, dy.transpose(0, 1).contiguous()

        return _unmarked(_torch.record(propagation, state, x, tangents))

    def _plainly(self, state: dict[str, Tensor], x: Tensor, tangents: Tensor) -> tuple:
        return propagate(self.module, x, tangents)


class _Marking(TorchFunctionMode):
    """Mark what is constant, of which a recording tells nothing.

    It sees the functions within rules, and within functions that torch wrote in Python, too.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        _refuse_what_leaves_no_trace(func)
        if any_dual((args, kwargs)):
            with self:
                result = call(func, args, kwargs)
        elif is_written_in_python(func) and func.__name__ not in vars(Tensor):
            with self:
                result = opened(func)(*args, **kwargs)
        else:
            result = func(*args, **kwargs)
        if torch.is_grad_enabled() and func not in _DETACHING:
            return result
        if any(result is value for value in (*args, *kwargs.values())):
            return _refuse_change_of_gradient(func, result)
        return _marked(result)


_DETACHING = {torch.detach, Tensor.detach, Tensor.data.__get__}


def _refuse_what_leaves_no_trace(func: Callable) -> None:
    is_custom = not _torch.is_forward_mode_on() and not torch.is_inference_mode_enabled()
    if is_custom or func in (torch.detach_, Tensor.detach_):
        what = "calls a custom torch.autograd.Function" if is_custom else "detaches in place"
        raise NotImplementedError(f"the module {what}, which a recording cannot follow")


def _refuse_change_of_gradient(func: Callable, result: object) -> object:
    if isinstance(result, Tensor) and result.requires_grad:
        raise NotImplementedError(
            f"the module changes by {func.__name__}, while gradients are disabled, a tensor that "
            "has some, which a recording cannot follow"
        )
    return result


_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def _marked(result: object) -> object:
    """Let all tensors of a result pass through integers of the same bits, which end gradients."""
    if isinstance(result, (tuple, list)):
        parts = [_marked(part) for part in result]
        return type(result)(*parts) if hasattr(result, "_fields") else type(result)(parts)
    if not isinstance(result, Tensor) or is_dual(result):
        return result
    if result.is_complex():
        return torch.view_as_complex(_marked(torch.view_as_real(result)))
    if not result.is_floating_point():
        return result
    return result.detach().view(_BITS[result.element_size()]).view(result.dtype)


def _unmarked(recording: GraphModule) -> GraphModule:
    """Leave out what the recording detaches, also where a function saves its result."""
    aten = torch.ops.aten
    for node in recording.graph.nodes:
        if node.target in (aten.detach.default, aten.alias.default):
            node.replace_all_uses_with(node.args[0])
            recording.graph.erase_node(node)
    recording.recompile()
    return recording
