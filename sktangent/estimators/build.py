"""From the estimators' parameters to the torch objects that they name."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Collection, Mapping

import numpy as np
import torch
from torch import nn, optim

from sktangent._randomness import constructing, drawing_for
from sktangent.criterion import TangentPropLoss
from sktangent.modules import MLP
from sktangent.net import TangentPropNet
from sktangent.training.computed_rows import ComputedRows
from sktangent.training.levenberg_marquardt import LevenbergMarquardt
from sktangent.training.optimizers import LBFGS

_INPUT_SIZE_NAMES = ("n_features", "n_inputs", "in_features", "input_size", "input_dim")
_OUTPUT_SIZE_NAMES = (
    "n_outputs",
    "out_features",
    "output_size",
    "output_dim",
    "n_classes",
    "num_classes",
)

_OPTIMIZERS = {
    "adam": optim.Adam,
    "adamw": optim.AdamW,
    "sgd": optim.SGD,
    "lbfgs": LBFGS,
    "lm": LevenbergMarquardt,
}
# these must see the L2 term in what they minimize, and leave biases out by themselves
_WITH_L2_TERM = (LBFGS, LevenbergMarquardt)
# AdamW shrinks the weights apart from the gradient
_WITH_OWN_DECAY = (optim.AdamW, *_WITH_L2_TERM)


def resolve_device(device: str, accelerator=None) -> torch.device:
    """Turn the ``device`` parameter into a device that is there; an accelerator has its own."""
    if accelerator is not None:
        device = torch.device(accelerator.device)
        return torch.device("cpu") if device.type == "cpu" else device  # it has "cpu:0"
    if device == "auto":
        has_mps = torch.backends.mps.is_available()
        device = "cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu"
    try:
        resolved = torch.device(device)
        torch.zeros(1, device=resolved).item()  # whether numbers can be there, and be read
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"device={device!r} cannot be used: {error}") from error
    return resolved


def resolve_dtype(dtype) -> tuple:
    """Turn the ``dtype`` parameter into the dtypes that X may keep."""
    if dtype is None:
        return (np.float64, np.float32)
    try:
        resolved = np.dtype(dtype)
    except TypeError:
        resolved = None
    if resolved not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise ValueError(f"dtype must be None, 'float32' or 'float64', got {dtype!r}.")
    return (resolved.type,)


def build_module(
    module, kwargs: dict, input_shape: tuple[int, ...], n_outputs: int, mlp_params: dict
) -> nn.Module:
    """Build the network, with the sizes that its constructor asks for."""
    if module is None:
        mlp_params = {**mlp_params, **kwargs}
        with constructing(MLP, mlp_params):
            return MLP(math.prod(input_shape), n_outputs, **mlp_params)
    if isinstance(module, nn.Module):
        if not kwargs:
            return copy.deepcopy(module)
        module = type(module)
    with constructing(module, kwargs):
        built = module(**{**_sizes(module, input_shape, n_outputs), **kwargs})
    if not isinstance(built, nn.Module):
        raise TypeError(f"module must build a torch.nn.Module, got {type(built).__name__}.")
    return built


def _sizes(constructor: Callable, input_shape: tuple[int, ...], n_outputs: int) -> dict:
    offered = {
        **dict.fromkeys(_INPUT_SIZE_NAMES, math.prod(input_shape)),
        **dict.fromkeys(_OUTPUT_SIZE_NAMES, n_outputs),
        "input_shape": tuple(input_shape),
    }
    try:
        asked = inspect.signature(constructor).parameters
    except (TypeError, ValueError):
        return {}
    bound = getattr(constructor, "keywords", {})  # functools.partial
    return {name: size for name, size in offered.items() if name in asked and name not in bound}


def check_module(module: nn.Module, x: torch.Tensor, n_outputs: int) -> torch.Tensor:
    """Pass a few samples through the network, and check what comes out."""
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise ValueError("module has no parameter that can be trained (by requires_grad).")
    module.eval()
    try:
        with torch.no_grad(), drawing_for(module):
            y = module(x)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise ValueError(
            f"module cannot take samples of shape {tuple(x.shape[1:])} (a batch of them has shape "
            f"{tuple(x.shape)}): {error}"
        ) from error
    shape = tuple(y.shape) if isinstance(y, torch.Tensor) else type(y).__name__
    if shape != (len(x), n_outputs):
        given = shape[-1] if isinstance(shape, tuple) and len(shape) == 2 else shape
        raise ValueError(
            f"module gives {given} outputs where the data need {n_outputs}: for {len(x)} samples "
            f"it must return a tensor of shape {(len(x), n_outputs)}, got {shape}."
        )
    if not y.is_floating_point() or y.device != x.device:
        raise ValueError(
            f"module must return floating numbers on the device of the samples, {x.device}, got "
            f"{y.dtype} on {y.device}."
        )
    return y


# numbers in a batch, from which on a thread was measured to pay: below, they wait for each other
_MIN_MOVED = 2**15
# multiplications in a pass, for each feature of a sample, up to which moving takes about as long
_MOST_PER_FEATURE = 1000


def let_helper_move(module: nn.Module, inputs: Mapping[str, object], batch_size: int) -> None:
    """Have a thread move samples where that takes about as long as training, on the CPU."""
    x = inputs["x"]
    if not isinstance(module, MLP) or not isinstance(x, ComputedRows) or x.draw is None:
        return
    n_features = next(module.parameters()).shape[1]
    in_training = sum(parameter.numel() for parameter in module.parameters())
    is_large = min(batch_size, len(x)) * n_features >= _MIN_MOVED
    x.takes_long = is_large and in_training <= _MOST_PER_FEATURE * n_features


def check_criterion(criterion: TangentPropLoss, y_pred: torch.Tensor, y_true: torch.Tensor) -> None:
    """Ask the criterion for the losses of a few samples, before training relies on it."""
    try:
        criterion.sample_losses(y_pred, y_true)
    except (RuntimeError, TypeError, IndexError) as error:
        raise ValueError(
            f"criterion cannot compare outputs of shape {tuple(y_pred.shape)} and dtype "
            f"{y_pred.dtype} with targets of shape {tuple(y_true.shape)} and dtype {y_true.dtype}: "
            f"{error}"
        ) from error


def optimizer_class(optimizer):
    """Translate the name of an optimizer into its class."""
    return _OPTIMIZERS.get(optimizer, optimizer)


def optimizer_params(optimizer, l2: float, module: nn.Module) -> dict:
    """Translate ``optimizer`` and the L2 weight into the parameters of a skorch net."""
    params: dict = {}
    if optimizer in ("adam", "adamw"):
        params["optimizer__fused"] = _can_fuse(module)
    elif optimizer == "sgd":
        params.update(optimizer__momentum=0.9, optimizer__nesterov=True)
    kind = optimizer_class(optimizer)
    params["optimizer"] = kind
    if not issubclass(kind, optim.Optimizer):
        raise ValueError(f"optimizer must be a torch.optim.Optimizer class, got {optimizer!r}.")
    if not issubclass(kind, _WITH_OWN_DECAY):
        if issubclass(kind, optim.LBFGS) and l2 > 0:
            raise ValueError(
                f"optimizer {kind.__name__} has no weight decay; set alpha=0, or optimizer='lbfgs'."
            )
        return {**params, "l2": l2}
    params["optimizer__weight_decay"] = l2
    if kind not in _WITH_L2_TERM:
        params["optimizer__param_groups"] = [("*bias", {"weight_decay": 0.0, "is_bias": True})]
    return params


def set_l2(net: TangentPropNet, l2: float, given: Collection[str]) -> None:
    """Change the L2 weight of a net, that of biases left at zero; what was given has precedence."""
    if not isinstance(net.optimizer_, _WITH_OWN_DECAY):
        net.l2 = l2
    elif not {"optimizer__weight_decay", "optimizer__param_groups"}.intersection(given):
        for group in net.optimizer_.param_groups:
            if not group.get("is_bias"):
                group["weight_decay"] = l2


def mark_own_lr(net: TangentPropNet) -> None:
    """Note in a new net's parameter groups whether their learning rate is the net's."""
    lr = getattr(net, "optimizer__lr", net.lr)
    for group in net.optimizer_.param_groups:
        group["follows_lr"] = group["lr"] == lr


def set_lr(net: TangentPropNet, lr: float, given: Mapping[str, object]) -> None:
    """Change the learning rate of a net; parameter groups with one of their own keep it."""
    lr = given.get("optimizer__lr", lr)
    before = getattr(net, "optimizer__lr", net.lr)
    if lr == before:  # what a scheduler has made of it since stays
        return
    net.lr = lr
    if hasattr(net, "optimizer__lr"):
        net.optimizer__lr = lr
    for group in net.optimizer_.param_groups:
        if group.get("follows_lr"):
            group["lr"] = lr
            if "initial_lr" in group:  # where a scheduler began
                group["initial_lr"] = lr


def _can_fuse(module: nn.Module) -> bool:
    return all(
        parameter.device.type in ("cpu", "cuda") and parameter.is_floating_point()
        for parameter in module.parameters()
    )
