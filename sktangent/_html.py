"""How estimators and tangents are shown in notebooks, beside what scikit-learn does."""

from __future__ import annotations

import importlib.metadata
import itertools
import sys
from collections.abc import Sequence

try:
    from sklearn.utils._repr_html.estimator import _VisualBlock
except ImportError:  # scikit-learn before 1.7
    from sklearn.utils._estimator_html_repr import _VisualBlock


class DocumentationLink:
    """Links from the representation in notebooks to the reference.

    The address is that of the documentation in the metadata of the installed package; where it has
    none there are no links.
    """

    def _get_doc_link(self) -> str:
        """Return the address of the class's page, empty if there is none."""
        address, name = _documentation(), _public_name(type(self))
        return f"{address}/api/{name}.html" if address and name else ""


def diagram(owner, parts: Sequence[tuple[str, object]]) -> _VisualBlock:
    """Draw the parts of an estimator inside it, side by side.

    Parameters
    ----------
    owner : estimator
        The estimator.
    parts : sequence of (str, object)
        Their names and themselves; there may be none.

    Returns
    -------
    block : object
        What ``_sk_visual_block_`` of the owner returns.
    """
    if not parts:
        return _VisualBlock("single", owner, names=type(owner).__name__, name_details=str(owner))
    return _VisualBlock(
        "parallel",
        [part for _, part in parts],
        names=[f"{name}: {_title(part)}" for name, part in parts],
        name_details=[str(part) for _, part in parts],
    )


def _title(part) -> str:
    return getattr(part, "__name__", type(part).__name__)


def _documentation() -> str:
    """Find the address of the documentation."""
    try:
        urls = importlib.metadata.metadata("sktangent").get_all("Project-URL") or []
    except importlib.metadata.PackageNotFoundError:
        return ""
    named = dict(url.split(", ", 1) for url in urls)
    return named.get("Documentation", "").rstrip("/")


def _public_name(cls: type) -> str:
    """Return the shortest name under which the package has a class; empty if it is not there."""
    parts = cls.__module__.split(".")
    if parts[0] != "sktangent":
        return ""
    for module in itertools.accumulate(parts, "{}.{}".format):
        if getattr(sys.modules[module], cls.__name__, None) is cls:
            return f"{module}.{cls.__name__}"
    return ""
