"""Every name of torch that is private, or newer than the oldest torch allowed, resolved once.

No other file knows such a name. Each is looked up when this module is imported, and what stands for
it says what happens where it is missing: a shortcut turns itself off, a check finds another way.
Nothing breaks at import, and results stay the same.

A name that a module, an optimizer or a tensor carries as its attribute is looked up where it is
asked for.
"""

from __future__ import annotations

import functools
import io
import pkgutil
import sys
import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad


def _find(name: str) -> object | None:
    """Look a name up, as ``package.module:name``; None where this torch lacks it."""
    try:
        return pkgutil.resolve_name(name)
    except (AttributeError, ImportError):
        return None


# The value with tangents --------------------------------------------------------------------------

_make_wrapper_subclass = _find("torch:Tensor._make_wrapper_subclass")


def _with_one_element(cls: type, shape: Sequence[int], **kwargs) -> Tensor:
    return torch.empty((), **kwargs).expand(shape).as_subclass(cls)


def new_wrapper(cls: type, like: Tensor) -> Tensor:
    """Make a tensor of a subclass that looks like another one and has no memory of its own.

    Else one that has the memory of a single element: ``__torch_dispatch__`` guards it as well.
    """
    make = _make_wrapper_subclass or _with_one_element
    return make(cls, like.shape, dtype=like.dtype, device=like.device)


def _forward_mode_keeps_tangents() -> bool:
    one = torch.ones(())
    try:
        return forward_ad.unpack_dual(forward_ad.make_dual(one, one)).tangent is not None
    except RuntimeError:  # no level is open
        with forward_ad.dual_level():
            return forward_ad.unpack_dual(forward_ad.make_dual(one, one)).tangent is not None


# Only in a custom autograd function's forward, and in inference mode, is forward mode off. Else: by
# trying it.
is_forward_mode_on: Callable[[], bool] = (
    _find("torch._C:_is_fwd_grad_enabled") or _forward_mode_keeps_tangents
)

# The file whose functions are the tensor methods that torch wrote in Python. Elsewhere they are
# differentiated like functions that it did not.
TENSOR_METHODS = "torch._tensor"

_pack_padded_sequence = _find("torch:_pack_padded_sequence")

# What packs sequences for recurrent layers, where there is such a function to refuse.
PACKING: tuple[Callable, ...] = () if _pack_padded_sequence is None else (_pack_padded_sequence,)


# Compilers ----------------------------------------------------------------------------------------

_SET_EVAL_FRAME = "torch._C._dynamo.eval_frame:set_eval_frame"


def outside_compilers(function: Callable) -> Callable:
    """Let a compiled caller call a function as it is, and leave all that it calls uncompiled.

    What :func:`torch.compiler.disable` does, without its import, which takes a second. Else by it.
    """
    set_eval_frame = _find(_SET_EVAL_FRAME)
    if set_eval_frame is None:
        return torch.compiler.disable(function)

    @functools.wraps(function)
    def call(*args, **kwargs):
        callback = set_eval_frame(None)
        try:
            return function(*args, **kwargs)
        finally:
            set_eval_frame(callback)

    call._torchdynamo_disable = True
    return call


_BACKENDS = "cached_backends"


def is_compiler_in_use() -> bool:
    """Tell whether anything was ever compiled here. Else: whether the compiler was loaded."""
    frames = sys.modules.get("torch._dynamo.eval_frame")
    backends = getattr(frames, _BACKENDS, {None: frames or sys.modules.get("torch._dynamo")})
    return any(backend is not None for backend in backends.values())


_ORIGINAL = "_orig_mod"


def uncompiled(module: Callable) -> Callable:
    """Find the module that a compiled one was made of. Else itself, which runs uncompiled too."""
    return getattr(module, _ORIGINAL, module)


_MAKE_FX = "torch.fx.experimental.proxy_tensor:make_fx"


def record(function: Callable, *args) -> nn.Module:
    """Record, on tensors without data, the torch functions that a function comes down to.

    Else nothing can be compiled. What records is slow to import, and seldom needed.
    """
    make_fx = _find(_MAKE_FX)
    if make_fx is None:
        raise NotImplementedError(f"torch {torch.__version__} has no {_MAKE_FX}")
    return make_fx(function, tracing_mode="fake", _allow_non_fake_inputs=True)(*args)


# Who looks at single functions --------------------------------------------------------------------

_is_function_mode_on = _find("torch._C:_is_torch_function_mode_enabled")
_count_dispatch_modes = _find("torch._C:_len_torch_dispatch_stack")
_is_transforming = _find("torch._C:_are_functorch_transforms_active")
_is_legacy_batched = _find("torch._C._functorch:is_legacy_batchedtensor")
_LEVEL = "_current_level"


def is_any_mode_on() -> bool:
    """Tell whether a mode sees every function that is called, or forward mode is in use.

    Else that it does.
    """
    return (
        getattr(forward_ad, _LEVEL, 0) >= 0
        or _is_function_mode_on is None
        or _is_function_mode_on()
        or _count_dispatch_modes is None
        or _count_dispatch_modes() > 0
    )


def are_batched(*tensors: Tensor) -> bool:
    """Tell whether tensors stand for many of their kind, as gradients do that are taken at once.

    Else that they do.
    """
    return (
        _is_transforming is None
        or _is_transforming()
        or _is_legacy_batched is None
        or any(_is_legacy_batched(tensor) for tensor in tensors)
    )


# Modules ------------------------------------------------------------------------------------------

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_hooks_of_all = [_find(f"torch.nn.modules.module:_global{name}") for name in _HOOKS]
_COMPILED_CALL = "_compiled_call_impl"
_PARAMETERS = "_parameters"


def has_hooks(module: nn.Module) -> bool:
    """Tell whether hooks are registered with a module. Else that there are."""
    return any(getattr(module, name, True) for name in _HOOKS)


def have_all_hooks() -> bool:
    """Tell whether hooks are registered with all modules. Else that there are."""
    return any(hooks is None or hooks for hooks in _hooks_of_all)


def is_call_compiled(module: nn.Module) -> bool:
    """Tell whether calling a module runs compiled code. Else that it does."""
    return getattr(module, _COMPILED_CALL, True) is not None


def weight_and_bias(layer: nn.Linear) -> tuple[Tensor | None, Tensor | None]:
    """Look both up, sooner than as attributes. Else as attributes."""
    own = vars(layer).get(_PARAMETERS, ())
    if "weight" in own and "bias" in own:
        return own["weight"], own["bias"]
    return layer.weight, layer.bias


# Products by oneDNN -------------------------------------------------------------------------------

_linear_pointwise = _find("torch:ops.mkldnn._linear_pointwise")
_get_capabilities = _find("torch:cpu.get_capabilities")  # since 2.11


def linear_by_onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Compute what :func:`torch.nn.functional.linear` does, by oneDNN. Else by that function."""
    if _linear_pointwise is None:
        return nn.functional.linear(x, weight, bias)
    return _linear_pointwise(x, weight, bias, "none", [], "")


def processor() -> dict[str, object]:
    """Describe the processor. Else as an unknown one."""
    return {} if _get_capabilities is None else dict(_get_capabilities())


# Optimizers ---------------------------------------------------------------------------------------

_fused_adam = _find("torch:_fused_adam_")
_foreach_add = _find("torch:_foreach_add_")
_foreach_copy = _find("torch:_foreach_copy_")
_foreach_norm = _find("torch:_foreach_norm")
_is_profiling = _find("torch.autograd:_profiler_enabled")
_STEP_HOOKS = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")
_steps_hooks = [
    _find(f"torch.optim.optimizer:_global_optimizer_{when}_hooks") for when in ("pre", "post")
]


def is_step_watched(optimizer: torch.optim.Optimizer) -> bool:
    """Tell whether hooks or a profiler see an optimizer's steps. Else that they do."""
    return (
        _is_profiling is None
        or _is_profiling()
        or any(getattr(optimizer, name, True) for name in _STEP_HOOKS)
        or any(hooks is None or hooks for hooks in _steps_hooks)
    )


def has_fused_adam() -> bool:
    """Tell whether torch's kernel for a whole step of Adam can be called."""
    return _fused_adam is not None


def fused_adam_(*args, **kwargs) -> None:
    """Take a step of Adam for many parameters at once, where :func:`has_fused_adam`."""
    _fused_adam(*args, **kwargs)


def increment_(counts: Sequence[Tensor]) -> None:
    """Add one to many tensors in place. Else one by one."""
    if _foreach_add is not None:
        _foreach_add(counts, 1)
        return
    for count in counts:
        count.add_(1)


def add_(tensors: Sequence[Tensor], others: Sequence[Tensor], alpha: float = 1) -> None:
    """Add ``alpha`` times others to many tensors in place. Else one by one."""
    if _foreach_add is not None:
        _foreach_add(tensors, others, alpha=alpha)
        return
    for tensor, other in zip(tensors, others, strict=True):
        tensor.add_(other, alpha=alpha)


def copy_(tensors: Sequence[Tensor], others: Sequence[Tensor]) -> None:
    """Copy many tensors into others. Else one by one."""
    if _foreach_copy is not None:
        _foreach_copy(tensors, others)
        return
    for tensor, other in zip(tensors, others, strict=True):
        tensor.copy_(other)


def norms(tensors: Sequence[Tensor]) -> Tensor:
    """Compute the Euclidean norm of each of many tensors. Else one by one."""
    if _foreach_norm is not None:
        return torch.stack(_foreach_norm(tensors))
    return torch.stack([torch.linalg.vector_norm(tensor) for tensor in tensors])


# Running without Python ---------------------------------------------------------------------------

_script = _find("torch:jit.script")


def scripted(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Turn a function of tensors into one that torch runs without Python. Else itself."""
    if _script is None:
        return function
    with warnings.catch_warnings():
        # that it goes out of use; no more, because other threads lose what is ignored here
        warnings.filterwarnings("ignore", ".*torch.jit.script")
        try:
            return _script(function)
        except Exception:  # of many kinds: its source is hidden, or beyond this torch
            return function


# Exporting ----------------------------------------------------------------------------------------

_trace = _find("torch:jit.trace")
_OPSET = 17


def recorded(module: nn.Module, x: Tensor) -> Callable[[Tensor], Tensor]:
    """Record what a module does with a tensor, constants and all. Else itself."""
    if _trace is None:
        return module
    with warnings.catch_warnings():
        # that recording goes out of use, and what may have become a constant
        warnings.simplefilter("ignore")
        return _trace(module, (x,), check_trace=False)


def as_onnx(module: nn.Module, x: Tensor, names: Sequence[str]) -> bytes:
    """Write what a module does with a tensor, "X", as a model of ONNX with outputs so named.

    By recording it, which all versions of torch can, in a tenth of a second, without further
    packages; the way that newer ones prefer needs some, and takes seconds.
    """
    written = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as above
        torch.onnx.export(
            module,
            (x,),
            written,
            input_names=["X"],
            output_names=list(names),
            dynamic_axes={name: {0: "n_samples"} for name in ("X", *names)},
            opset_version=_OPSET,
            dynamo=False,
        )
    return written.getvalue()
