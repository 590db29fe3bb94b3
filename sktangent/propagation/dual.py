"""The value that travels through a module: samples, and the tangents that ride on them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NoReturn

import torch

from sktangent import _torch
from sktangent.propagation.aliases import Aliases, share_memory
from sktangent.propagation.custom_functions import refuse_custom_function

Rule = Callable[..., object]

_RULES: dict[object, Rule] = {}


def register_rule(*functions: Callable) -> Callable[[Rule], Rule]:
    """Say what a torch function does to samples and their tangents.

    A rule for ``torch.name`` also answers for the tensor method of that name, and for its in-place
    form ``name_``.

    Parameters
    ----------
    *functions : callable
        The torch functions that the decorated rule answers for.

    Returns
    -------
    decorator : callable
        Takes the rule, registers it and returns it unchanged. The rule is called with the
        arguments of the torch function, in which a :class:`Dual` stands for each tensor that
        carries tangents. It returns a :class:`Dual`, or ``NotImplemented`` to leave this call
        to automatic differentiation.

    Raises
    ------
    TypeError
        If one of the functions is not callable.

    Examples
    --------
    >>> import torch
    >>> from sktangent.propagation import propagate, register_rule
    >>> from sktangent.propagation.dual import Dual
    >>> @register_rule(torch.erfinv)
    ... def erfinv(x):
    ...     y = torch.erfinv(x.primal)
    ...     return Dual(y, x.tangents * (0.5 * torch.pi**0.5 * torch.exp(y * y)))
    >>> y, dy = propagate(torch.erfinv, torch.zeros(1, 2), torch.ones(1, 1, 2))
    >>> dy
    tensor([[[0.8862, 0.8862]]])
    """
    for function in functions:
        if not callable(function):
            raise TypeError(f"register_rule expects torch functions, got {function!r}.")

    def register(rule: Rule) -> Rule:
        _RULES.update(dict.fromkeys(functions, rule))
        return rule

    return register


class Dual(torch.Tensor):
    """Samples together with the tangents that ride on them.

    It answers to torch's ``__torch_function__`` protocol: torch asks it what each function does to
    it. It is a tensor without memory of its own, so that whatever does not know the protocol
    (compiled code) takes it for a tensor of the right shape and is then refused, and a tangent
    cannot be lost unseen.

    Parameters
    ----------
    primal : torch.Tensor of shape (...)
        What the samples have become.
    tangents : torch.Tensor of shape (n_tangents, ...)
        What each tangent has become; the axes after the first are those of ``primal``.
    """

    __slots__ = ("_aliases", "primal", "tangents")

    def __new__(cls, primal: torch.Tensor, tangents: torch.Tensor) -> Dual:
        """Make the tensor without memory that stands for both."""
        self = _torch.new_wrapper(cls, primal)
        self.primal = primal
        self.tangents = tangents
        self._aliases = None
        return self

    def __init__(self, primal: torch.Tensor, tangents: torch.Tensor) -> None:
        pass

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        """Answer torch, which asks what a function does to samples and tangents."""
        return call(func, args, kwargs or {})

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        """Refuse what did not ask."""
        raise TypeError(
            f"The module passes samples with tangents to compiled code ({func}), which cannot "
            "propagate them. Run it uncompiled, or write it in torch functions."
        )

    # torch would ask __torch_function__ for these too, at ten times the cost
    shape = property(lambda self: self.primal.shape)
    ndim = property(lambda self: self.primal.ndim)
    dtype = property(lambda self: self.primal.dtype)
    device = property(lambda self: self.primal.device)

    def __repr__(self, *, tensor_contents: object = None) -> str:
        return f"Dual(primal={tuple(self.primal.shape)}, tangents={tuple(self.tangents.shape)})"

    def __format__(self, spec: str) -> str:
        return format(self.primal.detach(), spec) if self.primal.ndim == 0 else repr(self)

    def __len__(self) -> int:
        return len(self.primal)

    def __iter__(self):
        return iter(call(torch.unbind, (self,), {}))

    def __hash__(self) -> int:
        return id(self)

    def __reduce_ex__(self, protocol):
        raise TypeError("Samples with tangents exist only during a pass and cannot be copied.")

    __deepcopy__ = __reduce_ex__

    def view_of(self, source: Dual) -> Dual:
        """Note that this value may share its memory with ``source``, and return it."""
        if source._aliases is None:
            source._aliases = Aliases(source)
        source._aliases.add(source, self)
        return self

    def note_memory_of(self, source: Dual) -> None:
        """Note that this value's samples share the memory of those of ``source``, if they do.

        Tangents alone must not: what is written into the one value would reach the other.
        """
        if share_memory(self.primal, source.primal):
            self.view_of(source)
        elif share_memory(self.tangents, source.tangents):
            self.tangents = self.tangents.clone()

    def assign(self, value: Dual) -> Dual:
        """Become ``value``, and let every view of this value see it, as in-place functions do."""
        if value.primal.shape != self.primal.shape:
            raise RuntimeError(
                f"An in-place function gave shape {tuple(value.primal.shape)} for a tensor of "
                f"shape {tuple(self.primal.shape)}."
            )
        dtype = self.primal.dtype
        if not self.is_shared(value):
            self.primal, self.tangents = value.primal.to(dtype), value.tangents.to(dtype)
            return self
        self._aliases.check()
        self.primal.copy_(value.primal)
        if self._aliases.others(self, value):
            self.tangents.copy_(value.tangents)
        else:
            self.tangents = value.tangents.to(dtype)
        return self

    def expose(self) -> torch.Tensor:
        """Give away the samples as a constant, which sees what becomes of them in place."""
        if self._aliases is None:
            self._aliases = Aliases(self)
        self._aliases.exposed = True
        return self.primal

    def is_shared(self, *but: Dual) -> bool:
        """Tell whether a value other than some, or a constant, may share this one's memory."""
        return self._aliases is not None and (
            self._aliases.exposed or self._aliases.others(self, *but)
        )


def is_dual(value: object) -> bool:
    """Tell whether a value carries tangents (``isinstance`` with ``torch.Tensor`` cannot)."""
    return type(value) is Dual


def any_dual(values: object) -> bool:
    """Tell whether tuples, lists and dictionaries hold, at any depth, a value with tangents."""
    if isinstance(values, (tuple, list)):
        return any(any_dual(value) for value in values)
    if isinstance(values, dict):
        return any(any_dual(value) for value in values.values())
    return type(values) is Dual


def constant(values: object) -> object:
    """Take the tangents off all values in tuples, lists and dictionaries, at any depth."""
    if type(values) is Dual:
        return values.primal
    if isinstance(values, dict):
        return {key: constant(value) for key, value in values.items()}
    if type(values) in (tuple, list):
        return type(values)(constant(value) for value in values)
    return values


def lift(tangents: torch.Tensor, ndim: int) -> torch.Tensor:
    """Give tangents the axes that their samples get when they are broadcast to ``ndim`` axes."""
    missing = ndim + 1 - tangents.ndim
    if missing <= 0:
        return tangents
    return tangents.reshape(tangents.shape[0], *(1,) * missing, *tangents.shape[1:])


def call(func: Callable, args: tuple, kwargs: dict) -> object:
    """Do to samples and tangents what ``func`` does to samples."""
    if not _torch.is_forward_mode_on() and not torch.is_inference_mode_enabled():
        refuse_custom_function()
    if not torch.is_grad_enabled():
        return _without_gradients(func, args, kwargs)
    if kwargs and kwargs.get("out") is not None:
        refuse_plain_target(f"{func.__name__}(out=...)", kwargs["out"])
    rule = _RULES.get(func)
    if rule is None:
        rule = _RULES[func] = _find_rule(func)
    result = rule(*args, **kwargs)
    if result is NotImplemented:
        return _differentiate(func, *args, **kwargs)
    return result


def _call_method(method: Callable, *args, **kwargs) -> object:
    return call(method, args, kwargs)


def _without_gradients(func: Callable, args: tuple, kwargs: dict) -> object:
    """Compute a constant, as torch does while gradients are disabled."""
    result = func(*constant(args), **constant(kwargs))
    if not args or not is_dual(args[0]):
        return result
    if result is args[0].primal:
        return args[0]
    for part in result if isinstance(result, (tuple, list)) else (result,):
        if isinstance(part, torch.Tensor) and share_memory(part, args[0].primal):
            args[0].expose()
    return result


_NAMESPACES = (torch.Tensor, torch, torch.nn.functional, torch.special)


def _find_rule(func: Callable) -> Rule:
    """Find the rule under another spelling of the function, or fall back on differentiation."""
    name = getattr(func, "__name__", "")
    if name in ("__get__", "__set__"):
        return _find_attribute_rule(name, func.__self__.__name__)
    home = next((space for space in _NAMESPACES if getattr(space, name, None) is func), None)
    plain = _out_of_place(name)
    if plain is not None:
        if not callable(getattr(home, plain, None)):
            return functools.partial(_refuse_in_place, func)
        return functools.partial(_in_place, name, getattr(home, plain))
    # elsewhere, equal names may take their arguments in another order
    twin = _RULES.get(getattr(torch, name, None)) if home is torch.Tensor else None
    if twin is None or isinstance(twin, functools.partial):  # found, not registered
        return functools.partial(_differentiate, func)
    return twin


def _find_attribute_rule(access: str, attribute: str) -> Rule:
    """Find what reading or setting a tensor's attribute means; rules know the transposes."""
    if access == "__set__":
        return functools.partial(_refuse_setting, attribute)
    if attribute in ("real", "imag"):
        return getattr(torch, attribute)
    return lambda value: getattr(value.primal, attribute)


def _refuse_setting(attribute: str, *args) -> NoReturn:
    raise TypeError(f"The attribute {attribute} of samples with tangents cannot be set.")


def _refuse_in_place(func: Callable, *args, **kwargs) -> NoReturn:
    raise RuntimeError(
        f"{func.__name__} changes samples with tangents in place, and torch has no out-of-place "
        "form of it that could tell what becomes of the tangents. Use other functions, or give it "
        "a rule with sktangent.propagation.register_rule."
    )


def _out_of_place(name: str) -> str | None:
    if name.startswith("__i") and name.endswith("__"):
        return f"__{name[3:]}"
    if name.endswith("_") and not name.endswith("__"):
        return name[:-1]
    return None


_RESHAPES = {"squeeze_", "unsqueeze_", "t_", "transpose_", "swapaxes_", "swapdims_"}


def _in_place(name: str, plain: Callable, target: object, *args, **kwargs) -> Dual:
    if not is_dual(target):
        refuse_plain_target(name, target)
    if name in _RESHAPES:  # the memory stays as it is, and with it all other views
        value = call(plain, (target, *args), kwargs)
        target.primal, target.tangents = value.primal, value.tangents
        return target
    return in_place(functools.partial(_call_method, plain), target, *args, **kwargs)


def in_place(function: Callable, target: Dual, *args, **kwargs) -> Dual:
    """Give a value what a function makes of it."""
    # where another shares the memory that is about to be overwritten, what the function saves
    # for its backward must lie elsewhere
    source = Dual(target.primal.clone(), target.tangents.clone()) if target.is_shared() else target
    result = function(source, *args, **kwargs)
    if not is_dual(result):
        result = Dual(result, torch.zeros_like(target.tangents))
    return target.assign(result)


def refuse_plain_target(name: str, target: torch.Tensor) -> NoReturn:
    """Explain why values with tangents cannot be written into a tensor without."""
    # operators turn a TypeError into NotImplemented, and then build a new tensor unseen
    raise RuntimeError(
        f"{name} writes samples with tangents into a tensor of shape {tuple(target.shape)} that "
        "carries none. Build the result with an out-of-place function (torch.cat, torch.stack, "
        "torch.where, +) instead."
    )


def _differentiate(func: Callable, *args, **kwargs) -> object:
    # fallback.py needs Dual, so it can only be imported once this module is whole
    from sktangent.propagation import fallback

    return fallback.differentiate(func, args, kwargs)


_OPERATORS = """
    add sub mul truediv floordiv mod pow matmul radd rsub rmul rtruediv rfloordiv rpow rmatmul rmod
    and or xor invert neg pos abs lt le gt ge eq ne getitem setitem
"""
_IN_PLACE_OPERATORS = "add sub mul truediv floordiv mod pow"


def _operator(method: Callable) -> Callable:
    def operator(*args):
        return call(method, args, {})

    return operator


# Torch's own operators would turn a TypeError raised by a rule into one about operand types.
for _name in _OPERATORS.split():
    if hasattr(torch.Tensor, f"__{_name}__"):
        setattr(Dual, f"__{_name}__", _operator(getattr(torch.Tensor, f"__{_name}__")))

# Some in-place operators are known to torch by another name, or by none.
for _name in _IN_PLACE_OPERATORS.split():
    _method = getattr(torch.Tensor, f"__i{_name}__")
    setattr(Dual, f"__i{_name}__", _operator(_method))
    _RULES[_method] = functools.partial(
        _in_place, f"__i{_name}__", getattr(torch.Tensor, f"__{_name}__")
    )
