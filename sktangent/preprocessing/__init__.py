"""Transformers that stand between the samples and the network, and tangents through them."""

from sktangent.preprocessing.blur import GaussianBlur
from sktangent.preprocessing.push import push_forward

__all__ = ["GaussianBlur", "push_forward"]
