"""A face and its mirror image, averaged: both predictions in the one's frame, aligned.

A network that learned annotations which lie to the right of the symmetric place finds them there in
a mirrored picture too: mirrored back, they lie to the left. The flip offset is that distance.
"""

import numpy as np

from hrnet_jax.errors import HRNetError
from hrnet_jax.protocols import Protocol
from hrnet_jax.schemes import Scheme


def eye_corners(scheme: Scheme) -> tuple[int, int]:
    """The landmarks that flip offsets are measured by; HRNetError where the scheme names none."""
    if scheme.normaliser is None:
        raise HRNetError(
            f"a flip offset is in inter-ocular distances, and scheme {scheme.name} names no outer "
            "eye corners"
        )
    return scheme.normaliser


def inter_ocular(landmarks, scheme: Scheme) -> np.ndarray:
    """The distance between the outer eye corners, (…,), of landmarks (…, L, 2) in any frame."""
    left, right = eye_corners(scheme)
    landmarks = np.asarray(landmarks, np.float64)
    return np.linalg.norm(landmarks[..., left, :] - landmarks[..., right, :], axis=-1)


def align(mirrored: np.ndarray, found: np.ndarray, share: float, scheme: Scheme) -> np.ndarray:
    """Landmarks of the mirrored crops, moved right to where those of the crops lie.

    Args:
      mirrored: (N, L, 2), already mirrored back (`Protocol.unmirrored`).
      found: (N, L, 2), of the same faces in the same frame, without the mirror.
      share: the flip offset in inter-ocular distances, `Loaded.flip_offset`.
      scheme: tells the eye corners.

    Returns:
      (N, L, 2), the same frame.
    """
    lengths = inter_ocular((mirrored + found) / 2, scheme)
    return mirrored + share * lengths[:, None, None] * [1.0, 0.0]


def check_averaging(protocol: Protocol) -> None:
    """HRNetError where landmarks of mirrored crops cannot be averaged with those of the crops."""
    if protocol.flip_test:
        raise HRNetError(
            "the flip offset aligns points, flip_test averages heatmaps: take one of them"
        )
    if protocol.whole_cells:
        raise HRNetError(
            f"a flip offset does not go with protocol {protocol.name}, which gives whole pixels"
        )
