"""What the parameters of tangents of signals say about the signals at hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from sktangent.tangents._signals import differentiate

DISPLACEMENTS = ("shift", "stretch", "warp")
ADDITIONS = ("offset", "slope", "curvature")
# Values worked on at once: a few arrays of this size stay in a processor's cache.
_CHUNK_VALUES = 2**15


@dataclass
class SignalSetting:
    """What the parameters say about some signals, of shape (n_samples, n_channels, length)."""

    names: list[str]
    signals: np.ndarray
    positions: np.ndarray
    blur: csr_array | None
    intercept_weights: np.ndarray | None

    def chunks(self) -> Iterator[slice]:
        step = max(1, _CHUNK_VALUES // self.signals[0].size)
        return (slice(start, start + step) for start in range(0, len(self.signals), step))

    def slopes(self, x: np.ndarray) -> np.ndarray | None:
        """Return the slopes of signals, if a displacement needs them."""
        moves = not set(DISPLACEMENTS).isdisjoint(self.names)
        return _slopes(x, self.positions) if moves else None

    def intercepts(self, x: np.ndarray) -> np.ndarray:
        # In double precision: the weights of a flat reference nearly cancel.
        intercepts = np.einsum("ncl,cl->nc", x, self.intercept_weights, dtype=np.float64)
        return intercepts[..., np.newaxis].astype(x.dtype)

    def patterns(self) -> Iterator[tuple[str, np.ndarray | None]]:
        """Yield, for each tangent, its name, and its displacement or addition if it is one."""
        by_name = _patterns(self.positions, self.names.count("warp"), self.signals.dtype)
        rows = {name: iter(pattern) for name, pattern in by_name.items()}
        return ((name, next(rows[name]) if name in rows else None) for name in self.names)

    def fields(self, kinds: Sequence[str]) -> np.ndarray:
        """Return the patterns of some kinds, zero for others, (n_tangents, length)."""
        fields = np.zeros((len(self.names), self.signals.shape[-1]), dtype=self.signals.dtype)
        for field, (name, pattern) in zip(fields, self.patterns(), strict=True):
            if name in kinds:
                field[...] = pattern[0]
        return fields


def _patterns(positions: np.ndarray, n_warps: int, dtype: np.dtype) -> dict[str, np.ndarray]:
    """Return, by name, displacements and additions of shape (n_tangents, 1, length)."""
    s = positions / positions[-1]
    u = 2 * s - 1
    modes = np.arange(1, n_warps + 1)[:, np.newaxis]
    rows = {
        "shift": np.ones_like(u),
        "stretch": u,
        "warp": np.sin(np.pi * modes * s),
        "offset": np.ones_like(u),
        "slope": u,
        "curvature": (3 * u**2 - 1) / 2,
    }
    return {name: np.atleast_2d(row)[:, np.newaxis].astype(dtype) for name, row in rows.items()}


def blurred(signals: np.ndarray, blur: csr_array | None) -> np.ndarray:
    if blur is None:
        return signals
    rows = signals.reshape(-1, signals.shape[-1])
    return np.ascontiguousarray((blur @ rows.T).T).reshape(signals.shape)


def _slopes(signals: np.ndarray, positions: np.ndarray) -> np.ndarray:
    rows = signals.reshape(-1, signals.shape[-1])
    return differentiate(rows, positions).reshape(signals.shape)
