r"""Functions without a rule: automatic differentiation of that one function.

Four attempts, each exact:

1. A function that torch itself wrote in Python is entered: its body runs on samples with tangents,
   and the functions that it calls find their rules.
2. Any other is differentiated in reverse twice: the vector-Jacobian product :math:`J^T v` is linear
   in :math:`v`, and its own vector-Jacobian product with the tangents is :math:`J \tau`. Torch
   tests its formulas in this order; those of forward mode, differentiated again as a penalty must,
   give wrong numbers without a warning for some functions (``torch.det``, ``torch.linalg.solve``).
3. The same with the fused kernels for attention and recurrence off, which have no second
   derivative.
4. The same for one tangent after another, where torch cannot take a function's derivative for all
   at once.
"""

from __future__ import annotations

import contextlib
import functools
import types
from collections.abc import Callable, Iterator

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from sktangent import _torch
from sktangent.propagation.dual import Dual, is_dual

_WRITTEN_IN_PYTHON = {
    "torch.functional",
    "torch.nn.functional",
    _torch.TENSOR_METHODS,
}

_BATCH_STATISTICS = (
    "its batch statistics are no constants there; use torch.nn.functional.batch_norm"
)

# what torch differentiates twice, but not to what is wanted, and how to do without
_MISLEADING = {
    "as_strided_scatter": "torch adds up there what the function overwrites; assign to an index",
    "native_batch_norm": _BATCH_STATISTICS,
    "_native_batch_norm_legit": _BATCH_STATISTICS,
    "_batch_norm_with_update": _BATCH_STATISTICS,
}


def differentiate(func: Callable, args: tuple, kwargs: dict) -> object:
    """Propagate through one function by automatic differentiation, over all tangents at once."""
    _refuse_misleading(func)
    duals = list(_duals((args, kwargs)))
    state = _random_state(duals[0].primal)
    failures = []
    for attempt in _attempts(func):
        try:
            return attempt(func, args, kwargs, duals)
        except Exception as error:  # torch raises many kinds where a formula is missing
            failures.append(error)
            _restore_random_state(*state)
    _raise_plain_error(func, args, kwargs)
    raise NotImplementedError(
        f"Tangents cannot be propagated through {_name(func)}: it has no rule, and torch cannot "
        f"differentiate it twice ({failures[-1]}). Give it a rule with "
        "sktangent.propagation.register_rule."
    ) from failures[-1]


def _refuse_misleading(func: Callable) -> None:
    reason = _MISLEADING.get(getattr(func, "__name__", "").partition(".")[0])
    if reason is not None:
        raise NotImplementedError(
            f"Tangents cannot be propagated through {_name(func)} by automatic differentiation: "
            f"{reason}."
        )


def _attempts(func: Callable) -> Iterator[Callable]:
    if is_written_in_python(func):
        yield _enter
    yield _reverse_twice
    yield _reverse_twice_unfused
    yield _reverse_twice_one_by_one


def _raise_plain_error(func: Callable, args: tuple, kwargs: dict) -> None:
    """Let a call that is wrong in itself fail with torch's own message."""
    plain_args, plain_kwargs = _replace(
        (args, kwargs), iter(d.primal for d in _duals((args, kwargs)))
    )
    func(*plain_args, **plain_kwargs)


# First attempt: inside ----------------------------------------------------------------------------


def is_written_in_python(func: Callable) -> bool:
    """Tell whether torch wrote a function in Python, so that it can be entered."""
    return (
        isinstance(func, types.FunctionType) and func.__globals__["__name__"] in _WRITTEN_IN_PYTHON
    )


def _enter(func: Callable, args: tuple, kwargs: dict, duals: list[Dual]) -> object:
    return opened(func)(*args, **kwargs)


@functools.cache
def opened(func: Callable) -> Callable:
    """Copy a Python function of torch so that it runs its body in place of asking its arguments."""
    never = dict.fromkeys(
        ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic"),
        lambda *args: False,
    )
    names = {**func.__globals__, **never}
    copy = types.FunctionType(
        func.__code__, names, func.__name__, func.__defaults__, func.__closure__
    )
    copy.__kwdefaults__ = func.__kwdefaults__
    return copy


# The others: reverse over reverse -----------------------------------------------------------------


def _reverse_twice(
    func: Callable, args: tuple, kwargs: dict, duals: list[Dual], pull: Callable | None = None
) -> object:
    # a view keeps the graph to what came before, and gives the function inputs of its own
    inputs = [
        dual.primal.view_as(dual.primal)
        if dual.primal.requires_grad
        else dual.primal.detach().requires_grad_()
        for dual in duals
    ]
    new_args, new_kwargs = _replace((args, kwargs), iter(inputs))
    result = func(*new_args, **new_kwargs)
    outputs = [value for value in _tensors(result) if value.requires_grad]
    if not outputs:
        return result
    tangents = [dual.tangents for dual in duals]
    directions = _directional_derivatives(outputs, inputs, tangents, pull or _at_once)
    found = {id(y): Dual(y, dy) for y, dy in zip(outputs, directions, strict=True)}
    for value in found.values():
        for source in duals:
            value.note_memory_of(source)
    return _pair(result, found)


def _directional_derivatives(outputs, inputs, tangents, pull):
    n_tangents = len(tangents[0])
    if n_tangents == 0:
        return [y.new_zeros(0, *y.shape) for y in outputs]
    cotangents = [torch.zeros_like(y, requires_grad=True) for y in outputs]
    products = torch.autograd.grad(
        outputs, inputs, cotangents, create_graph=True, allow_unused=True, materialize_grads=True
    )
    live = [i for i, product in enumerate(products) if product.requires_grad]
    if not live:
        return [y.new_zeros(n_tangents, *y.shape) for y in outputs]
    directions = pull(
        [products[i] for i in live], cotangents, [tangents[i].contiguous() for i in live]
    )
    return [
        y.new_zeros(n_tangents, *y.shape) if dy is None else dy
        for y, dy in zip(outputs, directions, strict=True)
    ]


def _at_once(products, cotangents, tangents):
    return torch.autograd.grad(
        products,
        cotangents,
        tangents,
        create_graph=True,
        is_grads_batched=True,
        allow_unused=True,
    )


def _one_by_one(products, cotangents, tangents):
    each = [
        torch.autograd.grad(products, cotangents, row, create_graph=True, allow_unused=True)
        for row in zip(*tangents, strict=True)
    ]
    return [None if rows[0] is None else torch.stack(rows) for rows in zip(*each, strict=True)]


def _reverse_twice_unfused(func: Callable, args: tuple, kwargs: dict, duals: list[Dual]) -> object:
    with contextlib.ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.enter_context(torch.backends.mkldnn.flags(enabled=False))
        stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        return _reverse_twice(func, args, kwargs, duals)


def _reverse_twice_one_by_one(
    func: Callable, args: tuple, kwargs: dict, duals: list[Dual]
) -> object:
    return _reverse_twice(func, args, kwargs, duals, _one_by_one)


# Arguments and results of any structure -----------------------------------------------------------


def _duals(values: object) -> Iterator[Dual]:
    if is_dual(values):
        yield values
    elif isinstance(values, dict):
        for value in values.values():
            yield from _duals(value)
    elif isinstance(values, (tuple, list)):
        for value in values:
            yield from _duals(value)


def _replace(values: object, primals: Iterator[torch.Tensor]) -> object:
    if is_dual(values):
        return next(primals)
    if isinstance(values, dict):
        return {key: _replace(value, primals) for key, value in values.items()}
    if type(values) in (tuple, list):
        return type(values)([_replace(value, primals) for value in values])
    return values


def _tensors(values: object) -> Iterator[torch.Tensor]:
    if isinstance(values, torch.Tensor):
        yield values
    elif isinstance(values, (tuple, list)):
        for value in values:
            yield from _tensors(value)


def _pair(values: object, found: dict[int, Dual]) -> object:
    """Put the results that carry tangents where their plain tensors are."""
    if isinstance(values, torch.Tensor):
        return found.get(id(values), values)
    if not isinstance(values, (tuple, list)):
        return values
    paired = [_pair(value, found) for value in values]
    if type(values) in (tuple, list):
        return type(values)(paired)
    if hasattr(values, "_fields"):
        return type(values)(*paired)
    return type(values)(paired)  # torch's own named results


def _random_state(like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None, torch.device]:
    cuda = torch.cuda.get_rng_state(like.device) if like.is_cuda else None
    return torch.get_rng_state(), cuda, like.device


def _restore_random_state(
    cpu: torch.Tensor, cuda: torch.Tensor | None, device: torch.device
) -> None:
    torch.set_rng_state(cpu)
    if cuda is not None:
        torch.cuda.set_rng_state(cuda, device)


def _name(func: Callable) -> str:
    module = getattr(func, "__module__", None) or getattr(func, "__objclass__", None)
    module = module.__name__ if isinstance(module, type) else module
    name = getattr(func, "__qualname__", None) or getattr(func, "__name__", repr(func))
    return f"{module}.{name}" if module and "." not in name else name
