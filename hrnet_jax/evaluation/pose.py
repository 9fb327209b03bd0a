"""Head pose estimated from landmarks: good enough to sort faces by it, not a measurement."""

import numpy as np

from hrnet_jax.schemes import Scheme

# How far the nose tip stands out of the plane of eyes and mouth corners, in distances of the eyes'
# centres. Mallick's widely used six-point head model ("Head Pose Estimation using OpenCV and Dlib",
# 2016) has it 130 units out at 450 between the outer eye corners; eye centres are 0.73 of that
# apart (median of 1812 annotated faces of 300W).
_NOSE = 0.4


def yaw_and_roll(points: np.ndarray, scheme: Scheme) -> tuple[np.ndarray, np.ndarray] | None:
    """Estimates how far heads are turned and tilted.

    A head seen from afar: turned by yaw, the eyes' distance d shrinks by its cosine and the nose
    tip moves along the eyes' line by 0.4 d of a frontal face times its sine.

    Args:
      points: (N, L, 2), (x, y), image pixels.
      scheme: its five points are used.

    Returns:
      Two float64 (N,), degrees: yaw, positive with the nose to the image's right, and roll,
      positive clockwise. None for a scheme without five points.
    """
    if not scheme.five_points:
        return None
    points = np.asarray(points, np.float64)
    eyes_nose_mouth = [points[:, list(indices)].mean(axis=1) for indices in scheme.five_points]
    left_eye, right_eye, nose, left_mouth, right_mouth = eyes_nose_mouth
    across = right_eye - left_eye
    roll = np.arctan2(across[:, 1], across[:, 0])
    along = np.stack([np.cos(roll), np.sin(roll)], axis=1)
    middle = (left_eye + right_eye + left_mouth + right_mouth) / 4
    shift = np.sum((nose - middle) * along, axis=1)
    yaw = np.arctan2(shift, _NOSE * np.linalg.norm(across, axis=1))
    return np.degrees(yaw), np.degrees(roll)
