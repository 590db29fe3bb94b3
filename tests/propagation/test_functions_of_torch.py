"""torch's own table of its functions, with samples: each is right, or refused by its name."""

from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.testing._internal.common_methods_invocations import op_db

from sktangent.propagation import propagate
from tests.propagation.reference import double_backward, penalty_gradients

MAX_SAMPLES = 20
MAX_NUMBERS = 3000

REFUSED = "refused"
REFERENCE_IS_WRONG = "autograd's own answer is wrong"
REFERENCE_IS_NOT_FINITE = "autograd's own answer is not finite"

# What comes of at least one sample of these functions, in place of a result as autograd has it.
EXCEPTIONS = {
    # no second derivative in torch
    "nn.functional.ctc_loss": REFUSED,
    # no second derivative in torch without a weight but with a bias
    "native_layer_norm": REFUSED,
    # chunks without a reduction are written with out=, which torch cannot differentiate
    "nn.functional.linear_cross_entropy.chunked_none": REFUSED,
    # torch adds up in the second derivative what the function overwrites
    "as_strided_scatter": REFUSED,
    # batch statistics are constants to the tangents, which they are not to autograd
    "native_batch_norm": REFUSED,
    "_native_batch_norm_legit": REFUSED,
    "_batch_norm_with_update": REFUSED,
    # in place: other views of the same memory would have to survive
    "as_strided": REFUSED,
    # tangents are strided tensors
    "sparse.sampled_addmm": REFUSED,
    "to_sparse": REFUSED,
    # differentiated a third time, these kernels take the mean and the deviation for constants
    "nn.functional.instance_norm": REFERENCE_IS_WRONG,
    "nn.functional.layer_norm": REFERENCE_IS_WRONG,
    # where an index is repeated, the derivative adds up what the function overwrites
    "nn.functional.max_unpool1d": REFERENCE_IS_WRONG,
    "nn.functional.max_unpool2d": REFERENCE_IS_WRONG,
    "nn.functional.max_unpool3d": REFERENCE_IS_WRONG,
    # exp(x) overflows in the derivative
    "logcumsumexp": REFERENCE_IS_NOT_FINITE,
    # norms of vectors of zeros
    "linalg.norm.subgradients_at_zero": REFERENCE_IS_NOT_FINITE,
    # minus infinity for what is masked on both sides
    "masked.logaddexp": REFERENCE_IS_NOT_FINITE,
}

# The same for other versions of torch than the pinned one, whose derivatives are not as good.
EXCEPTIONS_ELSEWHERE = {
    "nn.functional.pdist": REFERENCE_IS_NOT_FINITE,
}


def is_pinned():
    """Tell whether this torch is the one that every exception must still apply to."""
    constraints = Path(__file__).parents[2] / ".ci" / "constraints.txt"
    (pinned,) = (line for line in constraints.read_text().split() if line.startswith("torch=="))
    return torch.__version__.split("+")[0] == pinned.removeprefix("torch==")


def full_name(op):
    return f"{op.name}.{op.variant_test_name}" if op.variant_test_name else op.name


def is_differentiable_twice(op):
    return (
        op.supports_autograd
        and op.supports_gradgrad
        and torch.float64 in op.supported_dtypes("cpu")
        # its samples look past their own numbers, at memory that they are cut from
        and full_name(op) != "as_strided.partial_views"
    )


FUNCTIONS = [op for op in op_db if is_differentiable_twice(op)]


# A sample of the table is a call. All its tensors that can be differentiated become one batch of
# one sample: their numbers, in a row.


def tensors(values):
    if isinstance(values, torch.Tensor):
        yield values
    elif isinstance(values, (tuple, list, dict)):
        for value in values.values() if isinstance(values, dict) else values:
            yield from tensors(value)


def is_input(value):
    is_strided = isinstance(value, torch.Tensor) and value.layout is torch.strided
    return is_strided and value.requires_grad and value.is_floating_point()


def replace(values, inputs):
    if is_input(values):
        return next(inputs)
    if type(values) in (tuple, list):
        return type(values)([replace(value, inputs) for value in values])
    if isinstance(values, dict):
        return {name: replace(value, inputs) for name, value in values.items()}
    return values


def arguments(sample):
    return sample.input, sample.args, sample.kwargs


def inputs_of(sample):
    return [value for value in tensors(arguments(sample)) if is_input(value)]


def numbers(y):
    parts = (y.real, y.imag) if y.is_complex() else (y,)
    return torch.cat([part.reshape(-1).double() for part in parts])


def as_module(op, function, sample):
    """Make a function of one row, the sample's inputs, that gives the results in one row."""
    inputs = inputs_of(sample)

    def module(x):
        rows = x[0].split([value.numel() for value in inputs])
        parts = [row.reshape(value.shape).clone() for row, value in zip(rows, inputs, strict=True)]
        first, args, kwargs = replace(arguments(sample), iter(parts))
        result = op.gradcheck_wrapper(function, first, *args, **kwargs)
        results = tensors(sample.output_process_fn_grad(result))
        floating = [y for y in results if y.is_floating_point() or y.is_complex()]
        return torch.cat([numbers(y) for y in floating]).unsqueeze(0)

    return module


def samples_of(op):
    """Take samples from all over the table's list, those with inputs."""
    samples = [
        s for s in op.sample_inputs("cpu", torch.float64, requires_grad=True) if inputs_of(s)
    ]
    if op.name == "nn.functional.batch_norm":
        # a batch's statistics are constants to the tangents, as its own tests say
        samples = [sample for sample in samples if not sample.kwargs.get("training")]
    small = [s for s in samples if sum(y.numel() for y in inputs_of(s)) <= MAX_NUMBERS] or samples
    return small[:: -(-len(small) // MAX_SAMPLES)]


def variants(op, sample):
    """Name the spellings of a function: itself, the tensor's method, its form in place."""
    yield op.op
    if op.method_variant is not None:
        yield op.method_variant
    if op.inplace_variant is not None and not sample.broadcasts_input:
        yield op.inplace_variant


def rows(sample):
    generator = torch.Generator().manual_seed(0)
    x = torch.cat([value.detach().reshape(1, -1) for value in inputs_of(sample)], 1)
    return x, torch.randn(1, 2, x.shape[1], generator=generator, dtype=x.dtype)


def evaluate(differentiate, module, x, tangents):
    x = x.clone().requires_grad_()
    torch.manual_seed(0)
    y, dy = differentiate(module, x, tangents)
    return {"y": y.detach(), "dy": dy.detach(), "gradient": penalty_gradients(y, dy, [x])[0]}


def expected_from_autograd(module, x, tangents):
    """Differentiate twice; None where torch cannot."""
    try:
        with sdpa_kernel(SDPBackend.MATH):  # fused attention has no second derivative
            return evaluate(double_backward, module, x, tangents)
    except (RuntimeError, NotImplementedError):
        return None


def agree(actual, expected):
    return torch.allclose(actual, expected, rtol=1e-8, atol=scale(expected) * 1e-9, equal_nan=True)


def scale(values):
    finite = values[values.isfinite()]
    return max(1.0, finite.abs().max().item()) if finite.numel() else 1.0


def outcome(op, function, sample):
    """Propagate through one call and compare; fail where that is wrong."""
    x, tangents = rows(sample)
    module = as_module(op, function, sample)
    expected = expected_from_autograd(as_module(op, op.op, sample), x, tangents)
    try:
        actual = evaluate(propagate, module, x, tangents)
    except (NotImplementedError, RuntimeError, TypeError) as error:
        assert op.name.split(".")[-1] in str(error), error
        return REFUSED
    if expected is None:
        assert_agrees_with_differences(module, x, tangents)
        return None
    for name, value in actual.items():
        assert value.shape == expected[name].shape, name
    assert agree(actual["y"], expected["y"])
    if all(agree(actual[name], expected[name]) for name in actual):
        return None
    if not all(value.isfinite().all() for value in expected.values()):
        assert_finite_parts_agree(actual, expected)
        return REFERENCE_IS_NOT_FINITE
    assert_agrees_with_differences(module, x, tangents)
    return REFERENCE_IS_WRONG


def assert_finite_parts_agree(actual, expected):
    for name, value in expected.items():
        finite = value.isfinite()
        assert agree(actual[name][finite], value[finite]), name


def assert_agrees_with_differences(module, x, tangents, step=1e-6):
    def penalty(x):
        return (propagate(module, x, tangents)[1] - 0.3).square().sum()

    x = x.clone().requires_grad_()
    value, dy = penalty(x), propagate(module, x, tangents)[1]
    (gradient,) = torch.autograd.grad(value, x) if value.requires_grad else (x * 0,)
    with torch.no_grad():
        for t, direction in enumerate(tangents.unbind(1)):
            moved = [x + sign * step * direction for sign in (1, -1)]
            difference = (module(moved[0]) - module(moved[1])) / (2 * step)
            torch.testing.assert_close(dy[:, t], difference, rtol=1e-5, atol=1e-5)
            difference = (penalty(moved[0]) - penalty(moved[1])) / (2 * step)
            exact = (gradient * direction).sum()
            torch.testing.assert_close(exact, difference, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("op", FUNCTIONS, ids=full_name)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("seeded")
def test_functions_are_right_or_refused(op):
    outcomes = {
        outcome(op, function, sample)
        for sample in samples_of(op)
        for function in variants(op, sample)
    }
    exception = EXCEPTIONS.get(full_name(op))
    assert outcomes, "no sample has inputs"
    if is_pinned():
        assert exception in outcomes
        assert outcomes <= {None, exception}
    else:
        assert outcomes <= {None, exception, EXCEPTIONS_ELSEWHERE.get(full_name(op))}
