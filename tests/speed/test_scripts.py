"""Functions that torch runs by itself: the same results, wherever they cannot be so run too."""

import numpy as np
import pytest
import torch
from torch import Tensor

from sktangent import _torch
from sktangent._memory import memory_for
from sktangent._speed import shortcuts
from sktangent._speed.scripts import scripted
from sktangent.tangents import ImageTangents


def halves(x: Tensor, n: int) -> Tensor:
    total = torch.zeros_like(x)
    for _ in range(n):
        total += x / 2
    return total


def unreadable(*tensors):
    return sum(tensors)


@pytest.fixture
def written(monkeypatch):
    """Note which functions are written as scripts."""
    names = []
    write = _torch._script

    def noting(function):
        names.append(function.__name__)
        return write(function)

    monkeypatch.setattr(_torch, "_script", noting)
    return names


@pytest.mark.filterwarnings("error")
def test_a_script_is_written_once_and_only_with_shortcuts(written):
    function = scripted(halves)
    with shortcuts(False):
        torch.testing.assert_close(function(torch.ones(3), 4), torch.full((3,), 2.0))
    assert written == []
    with shortcuts(True):
        for _ in range(3):
            torch.testing.assert_close(function(torch.ones(3), 4), torch.full((3,), 2.0))
    assert written == ["halves"]
    assert function.__name__ == "halves"


@pytest.mark.filterwarnings("error")
def test_what_torch_cannot_read_runs_as_it_is(written):
    with shortcuts(True):
        assert scripted(unreadable)(torch.ones(()), torch.ones(())) == 2
    assert written == ["unreadable"]


def test_a_lack_of_memory_is_told_in_torchs_words():
    function, much = scripted(halves), torch.zeros(1).expand(10**13)
    for on in (True, False):
        lacks = pytest.raises(MemoryError, match=r"\(.*you tried to allocate")
        with shortcuts(on), lacks, memory_for("halves", "Take fewer."):
            function(much, 1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_moved_images_are_the_same_to_the_bit(dtype):
    X = np.random.default_rng(0).random((300, 3, 17, 19)).astype(dtype)
    tangents = ImageTangents((3, 17, 19), ("rotation", "scaling", "thickening"))
    amounts = np.random.default_rng(1).uniform(-2, 2, size=(300, 3))
    found = []
    for on in (True, False):
        with shortcuts(on):
            found += [tangents.move(X, amounts) for _ in range(3)]
    for each in found[1:]:
        np.testing.assert_array_equal(each, found[0])


def test_without_a_source_it_runs_as_it_is():
    names = {"torch": torch}
    exec("def ones(n: int):\n    return torch.ones(n)", names)
    with shortcuts(True):
        assert scripted(names["ones"])(2).tolist() == [1, 1]
