"""Torch's objects as arrays and plain values, so that files that hold them need not run code.

A tensor becomes an array, a module the name of its class and its state. Classes are only looked up
by name in rooms of which it is known that a class does nothing by being looked up; any other class
stays a class, which the format of the file must allow or refuse.
"""

from __future__ import annotations

import importlib

import numpy as np
import torch
from torch import Tensor, nn

# under this name a dict tells what it stands for
_KIND = "sktangent"
_KNOWN_ROOMS = ("torch.nn.", "torch.optim.", "scipy.sparse.", "sklearn.", "sktangent.")


def to_plain(value, memo: dict | None = None):
    """Replace tensors, modules and known classes, also inside dicts, lists and tuples.

    Parameters
    ----------
    value : object
        Anything.
    memo : dict, default=None
        What has been replaced already, by ``id``: what is the same object stays so.

    Returns
    -------
    plain : object
        The same without them. What has a ``__reduce__`` of its own stays as it is.

    Examples
    --------
    >>> import torch
    >>> from sktangent._plain import from_plain, to_plain
    >>> plain = to_plain({"weight": torch.ones(2)})
    >>> plain["weight"]["array"]
    array([1., 1.], dtype=float32)
    >>> from_plain(plain)
    {'weight': tensor([1., 1.])}
    """
    memo = {} if memo is None else memo
    kind = type(value)
    if id(value) in memo:
        return memo[id(value)][0]
    if kind is dict:
        return {key: to_plain(part, memo) for key, part in value.items()}
    if kind in (list, tuple):
        return kind(to_plain(part, memo) for part in value)
    if isinstance(value, type):
        return _class_to_plain(value)
    if isinstance(value, np.dtype):
        return {_KIND: "dtype", "name": value.str}
    if isinstance(value, nn.Module) and kind.__reduce_ex__ is object.__reduce_ex__:
        return _module_to_plain(value, memo)
    if kind in (Tensor, nn.Parameter) and value.layout is torch.strided and not value.is_quantized:
        memo[id(value)] = _tensor_to_plain(value), value
        return memo[id(value)][0]
    return value


def from_plain(plain, memo: dict | None = None):
    """Put back what :func:`to_plain` has replaced, tensors on the CPU.

    Parameters
    ----------
    plain : object
        What :func:`to_plain` returned.
    memo : dict, default=None
        What has been put back already.

    Returns
    -------
    value : object
        What it was made of.

    Raises
    ------
    ValueError
        If it names a class that is not to be found in this way.
    """
    memo = {} if memo is None else memo
    kind = type(plain)
    if kind in (list, tuple):
        return kind(from_plain(part, memo) for part in plain)
    if kind is not dict:
        return plain
    if id(plain) in memo:
        return memo[id(plain)]
    if _KIND not in plain:
        return {key: from_plain(part, memo) for key, part in plain.items()}
    if plain[_KIND] == "class":
        return _known_class(plain["name"])
    if plain[_KIND] == "dtype":
        return np.dtype(plain["name"])
    if plain[_KIND] == "tensor":
        memo[id(plain)] = _tensor_from_plain(**{k: v for k, v in plain.items() if k != _KIND})
        return memo[id(plain)]
    return _module_from_plain(plain, memo)


def _class_to_plain(kind: type):
    path = f"{kind.__module__}.{kind.__qualname__}"
    is_known = path.startswith(_KNOWN_ROOMS) and "." not in kind.__qualname__
    return {_KIND: "class", "name": path} if is_known else kind


def _known_class(path: str) -> type:
    room, _, name = path.rpartition(".")
    found = None
    if path.startswith(_KNOWN_ROOMS):
        found = vars(importlib.import_module(room)).get(name)
    if not isinstance(found, type) or not f"{found.__module__}.".startswith(_KNOWN_ROOMS):
        raise ValueError(
            f"The file names {path!r}, which is no class that is looked up by its name."
        )
    return found


def _module_to_plain(module: nn.Module, memo: dict) -> dict:
    plain = {_KIND: "module", "class": to_plain(type(module))}
    memo[id(module)] = plain, module
    state = module.__getstate__()
    if isinstance(state, dict):
        blank = vars(nn.Module())
        state = {k: v for k, v in state.items() if k not in blank or v != blank[k]}
    plain["state"] = to_plain(state, memo)
    return plain


def _module_from_plain(plain: dict, memo: dict) -> nn.Module:
    kind = from_plain(plain["class"])
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise ValueError(f"The file names {kind!r} as a module, which is none.")
    memo[id(plain)] = module = kind.__new__(kind)
    state = from_plain(plain["state"], memo)
    module.__setstate__({**vars(nn.Module()), **state} if isinstance(state, dict) else state)
    return module


def _tensor_to_plain(tensor: Tensor) -> dict:
    held = tensor.detach().cpu()
    plain: dict = {_KIND: "tensor"}
    try:
        plain["array"] = held.numpy()
    except TypeError:  # numpy has no such numbers
        plain["array"] = held.contiguous().reshape(-1).view(torch.uint8).numpy()
        plain["dtype"], plain["shape"] = str(held.dtype).removeprefix("torch."), tuple(held.shape)
    if tensor.requires_grad:
        plain["requires_grad"] = True
    if isinstance(tensor, nn.Parameter):
        plain["is_parameter"] = True
    return plain


def _tensor_from_plain(
    array: np.ndarray,
    dtype: str | None = None,
    shape: tuple = (),
    requires_grad: bool = False,
    is_parameter: bool = False,
) -> Tensor:
    tensor = torch.from_numpy(np.array(array))  # a copy, since files may be mapped, or read only
    if dtype is not None:
        tensor = tensor.view(getattr(torch, dtype)).reshape(shape)
    if is_parameter:
        return nn.Parameter(tensor, requires_grad=requires_grad)
    return tensor.requires_grad_(requires_grad)
