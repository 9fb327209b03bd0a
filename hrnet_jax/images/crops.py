"""Square face crops: the official one, and one affine warp in continuous or index coordinates."""

import math

import cv2
import numpy as np
from PIL import Image

from hrnet_jax import images
from hrnet_jax.errors import HRNetError
from hrnet_jax.geometry import check_box, invert_affine, official_transform_pixel


def official_crop(image, center, scale, size, rotation=0.0) -> np.ndarray:
    """The crop of the official HRNet facial-landmark code.

    It cuts whole pixels, rotates with Pillow's bilinear filter and resizes with its antialiased
    one, and, as scipy.misc did, stretches the grey values of the cut-out to 0 … 255 (black
    surroundings count). Boxes of twice the crop's side and more are cut from a smaller copy of the
    image, which was stretched already (the official code spares COFW this first stretch).

    Args:
      image: (H, W, 3) uint8, RGB, or an `images.Encoded`.
      center: (2,), image pixels.
      scale: box side / 200, the padding already in it.
      size: side of the crop; 256 in the official code, whose constants follow it here.
      rotation: degrees; a positive one turns the picture counter-clockwise.

    Returns:
      (size, size, 3) uint8; black where the box leaves the image, so all black where it is outside.

    Raises:
      HRNetError: the image is not (H, W, 3) uint8, or the box has no whole pixel.
    """
    _check_image(image)
    center, side = check_box(center, 200 * scale)
    shrink = side / size
    if shrink >= 2:
        height, width = (int(length / shrink) for length in image.shape[:2])
        if min(height, width) < 1 or max(height, width) < 2:
            return np.zeros((size, size, 3), np.uint8)
        image = _resize(_stretch(images.whole(image)), (height, width))
        center, scale = (center / shrink).astype(np.float32), scale / shrink

    low, high = official_transform_pixel([[0, 0], [size, size]], center, scale, size, invert=True)
    if (high <= low).any():
        raise HRNetError(f"a box of {side:.3g} pixels is too small to crop")
    margin = 0
    if rotation != 0:
        # Room for the corners that the rotation turns in.
        margin = int(np.linalg.norm(high - low) / 2 - (high[1] - low[1]) / 2)
    cut = _stretch(_cut(image, low - margin, high + margin))
    if rotation != 0:
        cut = np.asarray(Image.fromarray(cut).rotate(rotation, Image.Resampling.BILINEAR))
        cut = cut[margin : cut.shape[0] - margin, margin : cut.shape[1] - margin]
    return _resize(cut, (size, size))


def affine_crop(image, matrix, size) -> np.ndarray:
    """One bilinear warp of the image, antialiased where it shrinks.

    Args:
      image: (H, W, 3) uint8, RGB, or an `images.Encoded`, which is decoded 2, 4 or 8 times smaller
        where the crop shrinks it more than that: those pixels are box means too, nearly.
      matrix: (2, 3), image pixels -> crop pixels, continuous coordinates (`geometry.crop_matrix`).
      size: side of the crop.

    Returns:
      (size, size, 3) uint8; black where the crop leaves the image. Its cost depends on the part of
      the image under the crop, not on the whole image.

    Raises:
      HRNetError: the image is not (H, W, 3) uint8, or the matrix has no inverse.
    """
    _check_image(image)
    matrix = np.asarray(matrix, np.float64)
    back = invert_affine(matrix)
    zoom = _zoom(matrix)
    low, high = _reach(image, back, size)
    if high[0] <= low[0] or high[1] <= low[1]:
        return np.zeros((size, size, 3), np.uint8)
    # Not as small as could be: the last step of shrinking is the one below.
    factor = 1 << max(0, int(math.log2(ANTIALIAS_BELOW / zoom)))
    region, origin, factor = images.region(image, low, high, factor)
    back[:, 2] -= origin
    back, zoom = back / factor, zoom * factor
    if zoom < ANTIALIAS_BELOW:
        shape = np.array(region.shape[1::-1])
        small = np.maximum(np.round(shape * zoom), 1).astype(int)
        region = cv2.resize(region, small.tolist(), interpolation=cv2.INTER_AREA)
        back *= (small / shape)[:, None]
    # OpenCV counts from pixel centres: index = continuous coordinate - 0.5, on both sides.
    back[:, 2] += back[:, :2] @ [0.5, 0.5] - 0.5
    return cv2.warpAffine(region, back, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)


def index_crop(image, matrix, size) -> np.ndarray:
    """One bilinear warp of the image by mmpose's rules, without antialiasing.

    Args:
      image: (H, W, 3) uint8, RGB, or an `images.Encoded`.
      matrix: (2, 3), image pixels -> crop pixels, in index coordinates: pixel k lies at k in both.
      size: side of the crop.

    Returns:
      (size, size, 3) uint8; black where the crop leaves the image.

    Raises:
      HRNetError: the image is not (H, W, 3) uint8, or the matrix has no inverse.
    """
    _check_image(image)
    matrix = np.array(matrix, np.float64)
    low, high = _reach(image, invert_affine(matrix), size)
    if high[0] <= low[0] or high[1] <= low[1]:
        return np.zeros((size, size, 3), np.uint8)
    region, origin, _ = images.region(image, low, high)
    matrix[:, 2] += matrix[:, :2] @ origin
    return cv2.warpAffine(region, matrix, (size, size))


def _zoom(matrix):
    """How many times larger an affine matrix makes things."""
    (a, b, _), (c, d, _) = matrix.tolist()
    return abs(a * d - b * c) ** 0.5


def _reach(image, back, size):
    """The part of the image that a crop and its filters see.

    Returns whole pixels low, high, each (x, y); none lies between them where the part is empty.
    """
    margin = 2 + 2 * _zoom(back)  # a little beyond the corners
    low, high = [], []
    # Plain numbers: NumPy takes ten times as long over so few.
    for (a, b, shift), limit in zip(back.tolist(), image.shape[1::-1], strict=True):
        first = shift + size * (min(a, 0.0) + min(b, 0.0)) - margin
        last = shift + size * (max(a, 0.0) + max(b, 0.0)) + margin
        low.append(math.floor(min(max(first, 0), limit)))
        high.append(math.ceil(min(max(last, 0), limit)))
    return low, high


def loose_crop(image, center, side, size) -> tuple[np.ndarray, np.ndarray, float]:
    """Whole pixels about a face, shrunk where they would be too many: material for a later warp.

    Args:
      image: (H, W, 3) uint8, RGB.
      center: (2,), image pixels.
      side: of the square that must be in the crop, image pixels.
      size: side of the crop.

    Returns:
      (size, size, 3) uint8, black where it leaves the image; low (2,) int and zoom, which say where
      an image point p lies in it: (p - low) * zoom. Up to `size` pixels nothing is resampled.

    Raises:
      HRNetError: the image is not (H, W, 3) uint8, or the square is far larger than it.
    """
    _check_image(image)
    center, side = check_box(center, side)
    if side > size + 8 * max(image.shape[:2]):
        raise HRNetError(
            f"a face with its surroundings takes {side:.0f} pixels of a picture of "
            f"{image.shape[1]} x {image.shape[0]}: its annotated box is wrong"
        )
    length = max(size, math.ceil(side))
    # Far outside every crop is black: the limits keep the numbers whole.
    low = np.clip(np.rint(center - length / 2), -(10**9), 10**9).astype(int)
    cut = _cut(image, low, low + length)
    if length > size:
        cut = cv2.resize(cut, (size, size), interpolation=cv2.INTER_AREA)
    return cut, low, size / length


# Bilinear interpolation reads the 2 x 2 nearest pixels, which is enough for mild shrinking only.
ANTIALIAS_BELOW = 0.75


def _check_image(image):
    if isinstance(image, images.Encoded):
        return
    fits = isinstance(image, np.ndarray) and image.dtype == np.uint8
    if not fits or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        kind = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image)
        raise HRNetError(f"an image must be a uint8 (height, width, 3) array, not {kind}")


def _cut(image, low, high):
    """Whole pixels [low, high) (x, y) of the image, zeros outside."""
    cut = np.zeros((high[1] - low[1], high[0] - low[0], 3), np.uint8)
    x0, y0 = np.maximum(low, 0)
    x1, y1 = np.minimum(high, image.shape[1::-1])
    if x0 < x1 and y0 < y1:
        region = images.region(image, (x0, y0), (x1, y1))[0]
        cut[y0 - low[1] : y1 - low[1], x0 - low[0] : x1 - low[0]] = region
    return cut


def _stretch(image):
    """Grey values from lowest … highest of all channels to 0 … 255, with scipy.misc's rounding."""
    low, high = int(image.min()), int(image.max())
    values = np.arange(256, dtype=np.float32) - np.float32(low)
    table = values * np.float32(255 / ((high - low) or 1))
    table = (table.clip(0, 255) + np.float32(0.5)).astype(np.uint8)
    return cv2.LUT(np.ascontiguousarray(image), table)


def _resize(image, shape):
    """Pillow's antialiased bilinear resize to (height, width)."""
    resized = Image.fromarray(image).resize(shape[::-1], Image.Resampling.BILINEAR)
    return np.asarray(resized)
