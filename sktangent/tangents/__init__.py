"""Where tangent vectors come from: one file a kind of data, each usable without any network."""

from sktangent.tangents.features import FeatureTangents
from sktangent.tangents.images import ImageTangents
from sktangent.tangents.neighbors import NeighborTangents
from sktangent.tangents.series import SeriesTangents
from sktangent.tangents.transforms import TransformTangents
from sktangent.tangents.union import TangentUnion

__all__ = [
    "FeatureTangents",
    "ImageTangents",
    "NeighborTangents",
    "SeriesTangents",
    "TangentUnion",
    "TransformTangents",
]
