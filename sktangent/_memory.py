"""What to say when memory does not suffice."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator

_BEGINNING = "Memory does not suffice for"
_OF_TORCH = re.compile("can't allocate memory|not enough memory|out of memory", re.IGNORECASE)


@contextlib.contextmanager
def memory_for(what: str, advice: str) -> Iterator[None]:
    """Say what memory did not suffice for, and what to do; the innermost of several speaks.

    Parameters
    ----------
    what : str
        What takes the memory.
    advice : str
        What to set.

    Raises
    ------
    MemoryError
        In the place of NumPy's, and of torch's RuntimeError.

    Examples
    --------
    >>> from sktangent._memory import memory_for
    >>> with memory_for("a list", "Take fewer."):
    ...     raise RuntimeError("not enough memory: you tried to allocate 8 bytes.")
    Traceback (most recent call last):
    ...
    MemoryError: Memory does not suffice for a list (not enough memory: you tried to allocate 8 \
bytes.). Take fewer.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if str(error).startswith(_BEGINNING) or not _is_lack_of_memory(error):
            raise
        said = str(error).strip().splitlines()
        # of a script's the last line, behind what it was doing
        because = f" ({next(filter(_OF_TORCH.search, said), said[0])})" if said else ""
        raise MemoryError(f"{_BEGINNING} {what}{because}. {advice}") from error


def described(shape: tuple[int, ...], itemsize: int) -> str:
    """Tell the shape of an array and its size.

    Examples
    --------
    >>> from sktangent._memory import described
    >>> described((1000, 2000), 8)
    'shape (1000, 2000), 16.0 MB'
    """
    return f"shape {tuple(shape)}, {math.prod(shape) * itemsize / 1e6:.1f} MB"


def _is_lack_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or _OF_TORCH.search(str(error)) is not None
