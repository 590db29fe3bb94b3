"""The engine: what a torch module does to samples, and to the tangents that ride on them."""

from sktangent.propagation import rules  # noqa: F401  (registers them)
from sktangent.propagation.dual import register_rule
from sktangent.propagation.engine import propagate

__all__ = ["propagate", "register_rule"]
