r"""Normalization by a sample's own statistics.

With the standardized value :math:`\hat x = (x - \bar x) / \sigma` over some axes, and
:math:`\langle\cdot\rangle` the mean over the same,

    J τ = (τ - ⟨τ⟩ - x̂ ⟨x̂ τ⟩) / σ
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from sktangent._speed import are_shortcuts_on
from sktangent._speed.observers import is_unobserved
from sktangent.propagation.dual import Dual, is_dual, register_rule
from sktangent.propagation.rules.batch_norm import affine, batch_norm


def _standardize(input: Dual, eps: float, weight: torch.Tensor | None) -> Dual:
    """Standardize over the last axis, before a multiplication by a weight."""
    standard = _standardized(input, eps)
    # without one, the caller may change in place what the way back needs
    return standard.clone() if weight is None else standard


def _standardized(input: Dual, eps: float) -> Dual:
    # a recording would keep the kernel and lose our backward
    if are_shortcuts_on() and is_unobserved(input.primal):
        standard, inverse = _Standard.apply(input.primal, eps)
        return Dual(standard, _StandardTangents.apply(input.tangents, standard, inverse))
    variance, mean = torch.var_mean(input.primal, -1, correction=0, keepdim=True)
    inverse = (variance + eps).rsqrt()
    standard = (input.primal - mean) * inverse
    return Dual(standard, _derivative(input.tangents, standard, inverse))


class _Standard(torch.autograd.Function):
    """x̂ and 1 / σ, by torch's kernel.

    Its own backward takes σ for a constant when it is differentiated again. Here it consists, as
    that of the tangents does, of functions that can themselves be differentiated.
    """

    @staticmethod
    def forward(ctx, x, eps):
        standard, _, inverse = torch.native_layer_norm(x, x.shape[-1:], None, None, eps)
        ctx.save_for_backward(standard, inverse)
        return standard, inverse

    @staticmethod
    def backward(ctx, of_standard, of_inverse):
        standard, inverse = ctx.saved_tensors
        along = _mean(of_standard * standard) + of_inverse * inverse / standard.shape[-1]
        return _project(of_standard, standard, along, inverse), None


def _derivative(tangents, standard, inverse) -> torch.Tensor:
    return _project(tangents, standard, _mean(tangents * standard), inverse)


class _StandardTangents(torch.autograd.Function):
    """J τ = P τ / σ with the projection P τ = τ - ⟨τ⟩ - x̂ ⟨x̂ τ⟩.

    From torch functions alone, autograd would keep and add up a tensor of the tangents' size for
    each term. P is symmetric, so it also takes the gradient back.
    """

    @staticmethod
    def forward(ctx, tangents, standard, inverse):
        derivative = _derivative(tangents, standard, inverse)
        ctx.save_for_backward(tangents, standard, inverse, derivative)
        return derivative

    @staticmethod
    def backward(ctx, grad):
        tangents, standard, inverse, derivative = ctx.saved_tensors
        of_tangents, of_grad = _mean(tangents * standard), _mean(grad * standard)
        along = (grad * of_tangents).addcmul_(tangents, of_grad).sum(0)
        return (
            _project(grad, standard, of_grad, inverse),
            -inverse * along,
            (grad * derivative).sum(-1, keepdim=True).sum(0) / inverse,
        )


def _mean(values: torch.Tensor) -> torch.Tensor:
    return values.mean(-1, keepdim=True)


def _project(values, standard, along_standard, inverse) -> torch.Tensor:
    rest = torch.addcmul(values, standard, along_standard, value=-1)
    return rest.sub_(_mean(values)).mul_(inverse)


def _reshape(input: Dual, shape: tuple) -> Dual:
    return Dual(
        input.primal.reshape(shape),
        input.tangents.reshape(input.tangents.shape[0], *shape),
    )


@register_rule(F.layer_norm)
def layer_norm(input, normalized_shape, weight=None, bias=None, eps=1e-5):
    """Normalize over the last axes."""
    if not is_dual(input):
        return _affine_last(F.layer_norm(input, normalized_shape, None, None, eps), weight, bias)
    shape = tuple(input.shape)
    kept = shape[: len(shape) - len(normalized_shape)]
    flat = _reshape(input, (*kept, torch.Size(normalized_shape).numel()))
    return _affine_last(_reshape(_standardize(flat, eps, weight), shape), weight, bias)


def _affine_last(normalized, weight, bias):
    if weight is not None:
        normalized = normalized * weight
    return normalized if bias is None else normalized + bias


@register_rule(torch.layer_norm)
def torch_layer_norm(input, normalized_shape, weight=None, bias=None, eps=1e-5, cudnn_enable=True):
    """Normalize over the last axes, in the spelling of torch's own namespace."""
    return layer_norm(input, normalized_shape, weight, bias, eps)


@register_rule(F.group_norm)
def group_norm(input, num_groups, weight=None, bias=None, eps=1e-5):
    """Normalize over groups of channels."""
    if not is_dual(input):
        return affine(F.group_norm(input, num_groups, None, None, eps), weight, bias)
    shape = tuple(input.shape)
    if shape[1] % num_groups:
        raise ValueError(f"{shape[1]} channels cannot be cut into {num_groups} equal groups.")
    size = torch.Size(shape[1:]).numel() // num_groups
    flat = _reshape(input, (shape[0], num_groups, size))
    return affine(_reshape(_standardize(flat, eps, weight), shape), weight, bias)


@register_rule(torch.group_norm)
def torch_group_norm(input, num_groups, weight=None, bias=None, eps=1e-5, cudnn_enabled=True):
    """Normalize over groups of channels, in the spelling of torch's own namespace."""
    return group_norm(input, num_groups, weight, bias, eps)


@register_rule(F.instance_norm)
def instance_norm(
    input,
    running_mean=None,
    running_var=None,
    weight=None,
    bias=None,
    use_input_stats=True,
    momentum=0.1,
    eps=1e-5,
):
    """Normalize each channel of each sample; running statistics are updated once."""
    statistics = running_mean, running_var
    if not is_dual(input):
        plain = F.instance_norm(input, *statistics, None, None, use_input_stats, momentum, eps)
        return affine(plain, weight, bias)
    if not use_input_stats:
        return batch_norm(input, *statistics, weight, bias, False, momentum, eps)
    if running_mean is not None:
        with torch.no_grad():
            F.instance_norm(input.primal, *statistics, None, None, True, momentum, eps)
    flat = Dual(input.primal.flatten(2), input.tangents.flatten(3))
    standard = _standardize(flat, eps, weight)
    return affine(_reshape(standard, tuple(input.shape)), weight, bias)


@register_rule(torch.instance_norm)
def torch_instance_norm(
    input,
    weight,
    bias,
    running_mean,
    running_var,
    use_input_stats,
    momentum,
    eps,
    cudnn_enabled,
):
    """Normalize each channel of each sample, in the spelling of torch's own namespace."""
    return instance_norm(
        input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps
    )


@register_rule(F.rms_norm, torch.rms_norm)
def rms_norm(input, normalized_shape, weight=None, eps=None):
    """Divide by the root of the mean square over the last axes."""
    if not is_dual(input):
        return F.rms_norm(input, normalized_shape, None, eps) * weight
    x, tangents = input.primal, input.tangents
    axes = tuple(range(-len(normalized_shape), 0))
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    inverse = (x.square().mean(axes, keepdim=True) + eps).rsqrt()
    standard = x * inverse
    projection = (tangents * standard).mean(axes, keepdim=True)
    result = Dual(standard, (tangents - standard * projection) * inverse)
    return result if weight is None else result * weight
