import pytest
import torch

from sktangent.propagation import propagate
from tests.propagation.cases import check
from tests.propagation.reference import samples

FORMATS = {
    "channels last": torch.channels_last,
    "contiguous": torch.contiguous_format,
}


@pytest.mark.parametrize("memory_format", FORMATS.values(), ids=FORMATS)
def test_memory_formats(memory_format):
    check(lambda x: x.to(memory_format=memory_format), 2, 3, 4, 5)
    check(lambda x: x.clone(memory_format=memory_format), 2, 3, 4, 5)
    check(lambda x: x.contiguous(memory_format=memory_format), 2, 3, 4, 5)
    layout = []
    propagate(lambda x: layout.append(x.to(memory_format=memory_format)) or x, *samples(2, 3, 4, 5))
    assert layout[0].primal.is_contiguous(memory_format=memory_format)


def test_channels_last_in_three_dimensions():
    check(lambda x: x.contiguous(memory_format=torch.channels_last_3d), 2, 3, 4, 5, 2)


CONVERTED = {
    "to dtype": lambda x: x.to(torch.float32),
    "to device and dtype": lambda x: x.to("cpu", torch.float32),
    "to other": lambda x: x.to(torch.zeros(1)),
    "to named": lambda x: x.to(dtype=torch.float32),
    "float": lambda x: x.float(),
    "type": lambda x: x.type(torch.float32),
    "type name": lambda x: x.type("torch.FloatTensor"),
    "type_as": lambda x: x.type_as(torch.zeros(1)),
    "half": lambda x: x.half().float(),
    "bfloat16": lambda x: x.bfloat16().float(),
}


@pytest.mark.parametrize("name", CONVERTED)
def test_conversion_keeps_tangents_in_step_with_samples(name):
    x, tangents = samples(3, 4)
    y, dy = propagate(CONVERTED[name], x, tangents)
    expected = CONVERTED[name]
    assert y.dtype == dy.dtype == torch.float32
    assert torch.equal(y, expected(x))
    assert torch.equal(dy, expected(tangents))


def test_conversion_that_changes_nothing():
    check(lambda x: x.to(torch.float64), 3, 4)
    check(lambda x: x.to("cpu").cpu().double().type(torch.float64).clone(), 3, 4)


def test_type_without_argument_names_the_type():
    names = []
    propagate(lambda x: names.append(x.type()) or x, *samples(3, 4))
    assert names == ["torch.DoubleTensor"]


def test_a_constant_converted_to_the_type_of_samples():
    check(lambda x: x * torch.ones(4, dtype=torch.int64).to(x).type_as(x), 3, 4)


def test_whole_numbers_carry_no_tangents():
    table = torch.arange(20, dtype=torch.float64)
    check(lambda x: x * table[(x.abs() * 3).long().clamp(max=19)], 3, 4)
    check(lambda x: x * x.int() + x.to(torch.bool) * x, 3, 4)
