"""JPEG by OpenCV: the pixels that Pillow gives, bit for bit, at twice the speed, or smaller ones.

Only plain files are decoded here: baseline, grey or three channels, with nothing wrong in their
markers. For all others these functions return None, and Pillow decides what they are.
"""

import cv2
import numpy as np

from hrnet_jax.limits import PICTURE_PIXELS

# How many times smaller the decoder's own transform can make a picture.
_FLAGS = {
    1: cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
FACTORS = tuple(_FLAGS)
_START, _SCAN, _END = 0xD8, 0xDA, 0xD9
_BASELINE = (0xC0, 0xC1)
_TABLES = {0xC4, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0)}  # and comments and applications' blocks


def read_shape(data: bytes) -> tuple[int, int] | None:
    """(height, width) of a plain JPEG file whose markers are sound; else None.

    OpenCV fills in grey where a scan breaks off at a stray marker, as it does in files spoiled by
    other bytes; such files are told by these markers.
    """
    if data[:2] != bytes((0xFF, _START)):
        return None
    shape, at = None, 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4])
        if marker in _BASELINE:
            height, width = (int.from_bytes(data[at + k : at + k + 2]) for k in (5, 7))
            if data[at + 4 : at + 5] != b"\x08" or data[at + 9 : at + 10] not in (b"\1", b"\3"):
                return None  # more bits, other channels, or it ends here
            shape = height, width
        elif marker == _SCAN:
            if shape is None or not 0 < shape[0] * shape[1] <= PICTURE_PIXELS:
                return None
            return shape if _scan_is_sound(data, at + 2 + length) else None
        elif marker not in _TABLES:
            return None
        at += 2 + length
    return None


def _scan_is_sound(data, start):
    """Whether the entropy-coded rest has no marker but restarts, and ends with the end's."""
    end = data.rfind(bytes((0xFF, _END)))
    if end < start:
        return False
    scan = np.frombuffer(data, np.uint8, end - start, start)
    after = scan[np.flatnonzero(scan[:-1] == 0xFF) + 1]
    return bool(((after == 0) | (after & 0xF8 == 0xD0)).all())


def decode(data: bytes, shape: tuple[int, int], factor: int = 1) -> np.ndarray | None:
    """The picture of a file whose `read_shape` is `shape`, as stored: EXIF does not turn it.

    Args:
      data: the file.
      shape: (height, width).
      factor: of `FACTORS`. Others than 1 leave out the finest of the transform's coefficients,
        which amounts to the mean over factor x factor pixels but for a grey value or two.

    Returns:
      (ceil(height / factor), ceil(width / factor), 3) uint8, RGB; None if it cannot be decoded.
    """
    flag = _FLAGS[factor] | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    except cv2.error:
        return None
    if image is None or image.shape[:2] != tuple(-(-side // factor) for side in shape):
        return None
    return image if factor == 1 else cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)
