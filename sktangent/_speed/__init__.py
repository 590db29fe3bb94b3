"""Shortcuts that change nothing but time, and the one switch that turns them all off.

Each is asked for at a marked door of another room, leaves whatever is out of the ordinary to the
way that everything else goes, and stays as long as some whole fit takes at most nine tenths of the
time with it; its docstring says what was measured (``examples/benchmarks/shortcuts.py``, torch
2.13, two cores of an AMD EPYC). With ``SKTANGENT_SHORTCUTS=0`` in the environment, or in
:func:`shortcuts`, all of them do.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

_is_on = os.environ.get("SKTANGENT_SHORTCUTS", "1") != "0"


def are_shortcuts_on() -> bool:
    """Tell whether shortcuts are taken."""
    return _is_on


@contextlib.contextmanager
def shortcuts(on: bool) -> Iterator[None]:
    """Take shortcuts or not, in the whole process.

    Parameters
    ----------
    on : bool
        Whether to take them.

    Examples
    --------
    >>> from sktangent._speed import are_shortcuts_on, shortcuts
    >>> with shortcuts(False):
    ...     are_shortcuts_on()
    False
    """
    global _is_on
    before, _is_on = _is_on, on
    try:
        yield
    finally:
        _is_on = before
