"""Linear and bilinear functions: they map the tangents as they map the samples, bias left out.

A function that is linear in each of two factors follows the product rule.
"""

from __future__ import annotations

import string
from collections.abc import Callable

import torch
import torch.nn.functional as F

from sktangent._speed.products import linear
from sktangent.propagation.dual import Dual, any_dual, call, constant, is_dual, register_rule

# Matrix products ----------------------------------------------------------------------------------


@register_rule(F.linear)
def _linear(input, weight, bias=None):
    if is_dual(weight) or is_dual(bias) or not is_dual(input):
        across = call(torch.transpose, (weight, -1, -2), {}) if weight.ndim > 1 else weight
        product = torch.matmul(input, across)
        return product if bias is None else product + bias
    return Dual(linear(input.primal, weight, bias), linear(input.tangents, weight))


@register_rule(torch.matmul, torch.Tensor.__matmul__, torch.mm, torch.bmm, torch.mv)
def _matmul(input, other):
    a, b = constant(input), constant(other)
    y = torch.matmul(a, b)
    tangents = None
    if is_dual(input):
        tangents = _matmul_tangents(input.tangents, b)
    if is_dual(other):
        term = _tangents_matmul(a, other.tangents)
        tangents = term if tangents is None else tangents + term
    return Dual(y, tangents)


def _matmul_tangents(tangents: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    if tangents.ndim == 2:  # vectors: a row each
        return torch.matmul(_stack(tangents.unsqueeze(1), b.ndim), b).reshape(
            len(tangents), *b.shape[:-2], *b.shape[-1:] if b.ndim > 1 else ()
        )
    return torch.matmul(_stack(tangents, b.ndim), b)


def _tangents_matmul(a: torch.Tensor, tangents: torch.Tensor) -> torch.Tensor:
    if tangents.ndim == 2:  # vectors: a column each
        tangents = _stack(tangents.unsqueeze(2), a.ndim)
        return torch.matmul(a, tangents).reshape(len(tangents), *a.shape[:-1])
    return torch.matmul(a, _stack(tangents, a.ndim))


def _stack(matrices: torch.Tensor, ndim: int) -> torch.Tensor:
    """Put axes of length one behind the tangent axis, for a factor of more batch axes."""
    missing = ndim - (matrices.ndim - 1)
    if missing <= 0:
        return matrices
    return matrices.reshape(len(matrices), *(1,) * missing, *matrices.shape[1:])


@register_rule(torch.Tensor.__rmatmul__)
def _rmatmul(input, other):
    return _matmul(other, input)


@register_rule(torch.dot, torch.inner, torch.vdot)
def _inner(input, other):
    if input.ndim == 1 and other.ndim == 1:
        return _matmul(input, other)
    return NotImplemented


@register_rule(torch.outer, torch.ger)
def _outer(input, vec2):
    return input.unsqueeze(1) * vec2


def _plus(input, product, beta, alpha):
    scaled = product if alpha == 1 else alpha * product
    if beta == 0:
        return scaled
    return (input if beta == 1 else beta * input) + scaled


@register_rule(torch.addmm, torch.baddbmm)
def _addmm(input, mat1, mat2, *, beta=1, alpha=1):
    return _plus(input, torch.matmul(mat1, mat2), beta, alpha)


@register_rule(torch.addmv)
def _addmv(input, mat, vec, *, beta=1, alpha=1):
    return _plus(input, torch.matmul(mat, vec), beta, alpha)


@register_rule(torch.addr)
def _addr(input, vec1, vec2, *, beta=1, alpha=1):
    return _plus(input, torch.outer(vec1, vec2), beta, alpha)


@register_rule(torch.addbmm)
def _addbmm(input, batch1, batch2, *, beta=1, alpha=1):
    return _plus(input, torch.bmm(batch1, batch2).sum(0), beta, alpha)


@register_rule(torch.tensordot)
def _tensordot(a, b, dims=2, out=None):
    if out is not None or isinstance(dims, torch.Tensor):
        return NotImplemented
    if isinstance(dims, int):
        of_a, of_b = list(range(a.ndim - dims, a.ndim)), list(range(dims))
    else:
        of_a, of_b = ([axis] if isinstance(axis, int) else list(axis) for axis in dims)
    of_a, of_b = [axis % a.ndim for axis in of_a], [axis % b.ndim for axis in of_b]
    y = torch.tensordot(constant(a), constant(b), (of_a, of_b))
    tangents = 0.0
    if is_dual(a):
        shifted = [axis + 1 for axis in of_a]
        tangents = torch.tensordot(a.tangents, constant(b), (shifted, of_b))
    if is_dual(b):
        shifted = [axis + 1 for axis in of_b]
        term = torch.tensordot(constant(a), b.tangents, (of_a, shifted))
        tangents = tangents + term.movedim(a.ndim - len(of_a), 0)
    return Dual(y, tangents)


@register_rule(torch.einsum)
def _einsum(equation, *operands):
    if not isinstance(equation, str):
        return NotImplemented
    if len(operands) == 1 and isinstance(operands[0], (tuple, list)):
        operands = tuple(operands[0])
    inputs, output = _subscripts(equation)
    t = next(letter for letter in string.ascii_letters if letter not in equation)
    primals = [constant(operand) for operand in operands]
    tangents = None
    for i, operand in enumerate(operands):
        if not is_dual(operand):
            continue
        marked = [*inputs[:i], t + inputs[i], *inputs[i + 1 :]]
        values = [*primals[:i], operand.tangents, *primals[i + 1 :]]
        term = torch.einsum(f"{','.join(marked)}->{t}{output}", *values)
        tangents = term if tangents is None else tangents + term
    return Dual(torch.einsum(equation, *primals), tangents)


def _subscripts(equation: str) -> tuple[list[str], str]:
    """Split an equation into its operands' letters and its output's, written out or implied."""
    left, arrow, output = equation.replace(" ", "").partition("->")
    if not arrow:
        letters = left.replace(".", "").replace(",", "")
        once = sorted(letter for letter in set(letters) if letters.count(letter) == 1)
        output = ("..." if "..." in left else "") + "".join(once)
    return left.split(","), output


# Bilinear forms -----------------------------------------------------------------------------------


@register_rule(F.bilinear)
def _bilinear(input1, input2, weight, bias=None):
    if any_dual((weight, bias)):
        return NotImplemented
    a, b = constant(input1), constant(input2)
    y = F.bilinear(a, b, weight, bias)
    tangents = 0.0
    if is_dual(input1):
        t = input1.tangents
        tangents = F.bilinear(t, b.expand(len(t), *b.shape), weight)
    if is_dual(input2):
        t = input2.tangents
        tangents = tangents + F.bilinear(a.expand(len(t), *a.shape), t, weight)
    return Dual(y, tangents)


# Convolutions -------------------------------------------------------------------------------------


def _convolution(function: Callable, n_axes: int) -> Callable:
    def rule(input, weight, bias=None, *args, **kwargs):
        if not is_dual(input) or any_dual((weight, bias)):
            return NotImplemented
        y = function(input.primal, weight, bias, *args, **kwargs)
        tangents = input.tangents
        if input.primal.ndim == n_axes + 1:  # one sample without a batch axis
            return Dual(y, function(tangents, weight, None, *args, **kwargs))
        rows = function(tangents.flatten(0, 1), weight, None, *args, **kwargs)
        return Dual(y, rows.unflatten(0, tangents.shape[:2]))

    return rule


for _n_axes in (1, 2, 3):
    for _name in (f"conv{_n_axes}d", f"conv_transpose{_n_axes}d"):
        register_rule(getattr(torch, _name), getattr(F, _name))(
            _convolution(getattr(torch, _name), _n_axes)
        )
