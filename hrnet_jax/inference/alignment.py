"""Five points of a face and its 112 x 112 crop for recognition networks."""

import cv2
import numpy as np

from hrnet_jax import geometry
from hrnet_jax.errors import HRNetError
from hrnet_jax.schemes import Scheme

# Where ArcFace (Deng et al., CVPR 2019) and most recognition networks since want the eyes, the nose
# tip and the mouth corners (image left before image right) in a crop of 112 x 112. The published
# numbers are in index coordinates, a pixel's centre being whole; the half makes them continuous.
TEMPLATE_SIZE = 112
TEMPLATE = 0.5 + np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ]
)


def five_points(landmarks, scheme: Scheme) -> np.ndarray:
    """Eyes (image left, image right), nose tip and mouth corners of a face.

    Args:
      landmarks: (L, 2), any frame.
      scheme: what the L points mean; `scheme.five_points` lists the landmarks to average.

    Returns:
      (5, 2) float32, the same frame; (0, 2) where the scheme has no such points.
    """
    landmarks = np.asarray(landmarks, np.float64)
    if landmarks.shape != (scheme.num_landmarks, 2):
        raise HRNetError(
            f"landmarks of shape {landmarks.shape}: scheme {scheme.name} has "
            f"({scheme.num_landmarks}, 2)"
        )
    means = [landmarks[list(indices)].mean(axis=0) for indices in scheme.five_points]
    return np.array(means, np.float32).reshape(-1, 2)


def similarity(source, target) -> np.ndarray:
    """The rotation, uniform scaling and translation that bring points closest to others.

    Least squares without reflection. In the plane Umeyama's solution (PAMI 1991) is the regression
    of complex numbers z -> a z + b.

    Args:
      source: (N, 2); not all the same point.
      target: (N, 2).

    Returns:
      (2, 3) float64: target is close to matrix[:, :2] @ p + matrix[:, 2].
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    if not (np.isfinite(source).all() and np.isfinite(target).all()):
        raise HRNetError("points that are not finite cannot be aligned")
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    z = (source - source_mean) @ [1, 1j]
    w = (target - target_mean) @ [1, 1j]
    spread = np.sum(np.abs(z) ** 2)
    if spread < 1e-12:
        raise HRNetError("points that all coincide cannot be aligned")
    a = np.sum(z.conj() * w) / spread
    turn = np.array([[a.real, -a.imag], [a.imag, a.real]])
    return np.column_stack([turn, target_mean - turn @ source_mean])


def align(image: np.ndarray, five, size: int = TEMPLATE_SIZE) -> tuple[np.ndarray, np.ndarray]:
    """Turns, scales and cuts a face so that its five points lie on ArcFace's template.

    Args:
      image: uint8 (H, W, 3), RGB.
      five: (5, 2), continuous image pixels, as `five_points` orders them.
      size: side of the crop, pixels; the template is scaled with it.

    Returns:
      aligned: uint8 (size, size, 3), RGB; black outside the image.
      matrix: (2, 3) float64, from image pixels to crop pixels, both continuous.
    """
    if len(five) != len(TEMPLATE):
        raise HRNetError("a face is aligned by its five points: its landmark scheme has none")
    matrix = similarity(five, TEMPLATE * (size / TEMPLATE_SIZE))
    zoom = np.hypot(matrix[0, 0], matrix[1, 0])
    from_image = matrix
    if zoom < 0.5:  # bilinear sampling would skip pixels: shrink by area to twice the crop first
        height, width = image.shape[:2]
        new = max(1, round(2 * zoom * width)), max(1, round(2 * zoom * height))
        image = cv2.resize(image, new, interpolation=cv2.INTER_AREA)
        from_image = matrix.copy()
        from_image[:, 0] *= width / new[0]
        from_image[:, 1] *= height / new[1]
    # OpenCV warps in index coordinates: there the centre of a pixel, k + 0.5 here, is k.
    indices = from_image.copy()
    indices[:, 2] = geometry.apply_affine(from_image, [0.5, 0.5]) - 0.5
    return cv2.warpAffine(image, indices, (size, size), flags=cv2.INTER_LINEAR), matrix
