"""Which values with tangents share memory, so that in-place functions reach all of them."""

from __future__ import annotations

import weakref

import torch


class Aliases:
    """The values that share memory with one another, as far as they are still alive."""

    def __init__(self, first: torch.Tensor) -> None:
        self._members = [weakref.ref(first)]
        self._consistent = True
        self.exposed = False  # to constants, whose own views nothing here knows of

    def add(self, source: torch.Tensor, view: torch.Tensor) -> None:
        """Note a value that was made as a view of another."""
        shared = share_memory(source.primal, view.primal)
        if shared != share_memory(source.tangents, view.tangents):
            self._consistent = False
        elif not shared:
            return
        self._members.append(weakref.ref(view))
        view._aliases = self

    def others(self, *members: torch.Tensor) -> bool:
        """Tell whether values beside these are still alive."""
        known = set(map(id, members))
        living = (other() for other in self._members)
        return any(other is not None and id(other) not in known for other in living)

    def check(self) -> None:
        """Raise RuntimeError if samples and tangents do not share the same views."""
        if not self._consistent:
            raise RuntimeError(
                "An in-place function changes a tensor of which forward also holds a view, and "
                "samples and tangents do not share that view. Use the out-of-place function."
            )


def share_memory(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Tell whether two tensors lie in the same memory."""
    return a.untyped_storage() is b.untyped_storage()
