"""Boxes, crop transforms and flips: pure NumPy, float64.

Coordinates are continuous: pixel k covers [k, k + 1) and its centre is k + 0.5. Points are (x, y).
A square box has a centre (x, y) and a side in image pixels, before the padding of 1.25. The
official files store scale = side / 200: `sides_of` and `scales_of` convert.
"""

import numpy as np

from hrnet_jax.errors import HRNetError


def landmark_box(points) -> tuple[np.ndarray, float]:
    """The box of the official annotation files around landmarks.

    The corners are rounded outwards to whole pixels, so centres are multiples of 0.5.

    Args:
      points: (L, 2), image pixels; rows with a value that is not finite are left out.

    Returns:
      center: (2,) float64, image pixels.
      side: the longer side, image pixels.
    """
    points = np.asarray(points, np.float64).reshape(-1, 2)
    points = points[np.isfinite(points).all(axis=1)]
    if not len(points):
        raise HRNetError("a face without a single finite landmark has no box")
    low, high = np.floor(points.min(axis=0)), np.ceil(points.max(axis=0))
    return (low + high) / 2, float((high - low).max())


def sides_of(scales) -> np.ndarray:
    """Box sides in image pixels of the official files' scales, of any shape; float64.

    As decimals, like the files: to the 15 digits that a float64 keeps of every decimal number. So
    0.29 is 58 pixels, where the product of floats is 57.99999999999999, and `scales_of` gives back
    a scale of up to 14 digits to the bit.
    """
    return _decimals(200 * np.asarray(scales, np.float64))


def scales_of(sides) -> np.ndarray:
    """The official files' scales of box sides in image pixels, of any shape; float64."""
    return _decimals(np.asarray(sides, np.float64) / 200)


def _decimals(values):
    rounded = [float(f"{value:.15g}") for value in values.ravel().tolist()]
    return np.array(rounded, np.float64).reshape(values.shape)


def box_from_corners(x0, y0, x1, y1) -> tuple[np.ndarray, float]:
    """The smallest square with the same centre that holds a rectangle.

    Returns:
      center: (2,) float64, image pixels.
      side: longer side, image pixels.
    """
    corners = np.array([x0, y0, x1, y1], np.float64)
    if not np.isfinite(corners).all() or x1 <= x0 or y1 <= y0:
        raise HRNetError(f"box ({x0}, {y0}, {x1}, {y1}) is empty: give x0 < x1 and y0 < y1")
    return (corners[:2] + corners[2:]) / 2, float(max(x1 - x0, y1 - y0))


def crop_matrix(center, side, size, rotation=0.0) -> np.ndarray:
    """The transform from image pixels to crop pixels, T(p) = (p - center) * size / side + size / 2.

    Args:
      center: (2,), image pixels.
      side: side of the square box, image pixels.
      size: side of the crop (or of the heatmap), its pixels.
      rotation: degrees about the box's centre; a positive one turns the picture counter-clockwise.

    Returns:
      (2, 3) float64.
    """
    center, side = check_box(center, side)
    zoom = size / side
    # Offsets in the order of operations of the official code, so that its truncations agree.
    matrix = np.array(
        [
            [zoom, 0.0, size * (-center[0] / side + 0.5)],
            [0.0, zoom, size * (-center[1] / side + 0.5)],
        ]
    )
    if rotation == 0:
        return matrix
    angle = np.deg2rad(rotation)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    matrix[:, 2] -= size / 2
    matrix = turn @ matrix
    matrix[:, 2] += size / 2
    return matrix


def check_box(center, side) -> tuple[np.ndarray, float]:
    """Returns (center, side) as float64; HRNetError where no crop can be made of them."""
    center, side = np.asarray(center, np.float64), float(side)
    if center.shape != (2,) or not np.isfinite(center).all():
        raise HRNetError(f"box centre {center.tolist()} is not a finite (x, y)")
    if not np.isfinite(side) or side <= 0:
        raise HRNetError(f"box side {side} is not a positive number of pixels")
    return center, side


def apply_affine(matrix, points) -> np.ndarray:
    """Maps points (…, 2) by a (2, 3) matrix; float64."""
    points = np.asarray(points, np.float64)
    return points @ matrix[:, :2].T + matrix[:, 2]


def invert_affine(matrix) -> np.ndarray:
    """The inverse of a (2, 3) affine matrix; HRNetError where there is none."""
    try:
        inverse = np.linalg.inv(np.vstack([matrix, [0.0, 0.0, 1.0]]))[:2]
    except np.linalg.LinAlgError:
        inverse = np.array(np.nan)
    if not np.isfinite(inverse).all():
        raise HRNetError(f"affine matrix {np.asarray(matrix).tolist()} has no inverse")
    return inverse


def official_transform_pixel(points, center, scale, size, rotation=0.0, invert=False) -> np.ndarray:
    """The integer point transform of the official code: trunc(T(p - 1)) + 1.

    Args:
      points: (…, 2), image pixels, or pixels of the size x size frame with `invert`. Pass value + 1
        for a point in this project's frame.
      center: (2,), image pixels.
      scale: box side / 200, the padding already in it.
      size: side of the crop or heatmap.
      rotation: degrees, counter-clockwise.
      invert: map from the size x size frame back to the image.

    Returns:
      int64 (…, 2); truncation is toward zero.
    """
    matrix = crop_matrix(center, 200 * scale, size, rotation)
    if invert:
        matrix = invert_affine(matrix)
    return np.trunc(apply_affine(matrix, np.asarray(points, np.float64) - 1)).astype(np.int64) + 1


def flip_points(points, width, permutation) -> np.ndarray:
    """Landmarks of the mirrored image: x -> width - x, then rows change places.

    Args:
      points: (L, 2), pixels of an image `width` pixels wide.
      permutation: int (L,), `Scheme.flip_permutation`.

    Returns:
      (L, 2) float64.
    """
    mirrored = np.array(points, np.float64)
    mirrored[:, 0] = width - mirrored[:, 0]
    return mirrored[np.asarray(permutation)]
