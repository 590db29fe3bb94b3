"""Displays: pictures of tangents, of invariance, of sensitivity, and of training.

Each keeps what it draws, is made by a classmethod that also draws it, and draws again by ``plot``.
They need matplotlib, and ask for it when they draw.
"""

from sktangent.inspection.invariance import InvarianceDisplay
from sktangent.inspection.learning import LearningDisplay
from sktangent.inspection.penalty_path import PenaltyPathDisplay
from sktangent.inspection.sensitivity import SensitivityDisplay
from sktangent.inspection.tangents import TangentDisplay

__all__ = [
    "InvarianceDisplay",
    "LearningDisplay",
    "PenaltyPathDisplay",
    "SensitivityDisplay",
    "TangentDisplay",
]
