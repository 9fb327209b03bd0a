"""Reading and writing image files."""

import contextlib
import io
import os
import threading
import warnings
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from hrnet_jax.errors import HRNetError
from hrnet_jax.files import open_atomically

_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(path, upright=False) -> np.ndarray:
    """Reads an image file as RGB.

    Grey, palette, CMYK and 16-bit files are converted; an alpha channel is dropped; of an animation
    the first frame counts.

    Args:
      path: of the file, in a format that Pillow reads.
      upright: turn the picture as its EXIF orientation says. For users' photographs; data sets are
        read as stored, which is how they were annotated.

    Returns:
      (H, W, 3) uint8, RGB, its own memory.

    Raises:
      HRNetError: the file is missing, empty, corrupt, truncated, no image, or larger than Pillow's
        limit against decompression bombs (179 million pixels); the line names the file.
    """
    path = Path(path)
    if not os.path.isfile(path):  # Path.is_file raises for a name that is too long
        raise HRNetError(f"{path}: no such image file")
    if path.stat().st_size == 0:
        raise HRNetError(f"{path}: the image file is empty")
    return _decode(path, path, upright)


def decode_image(content: bytes, place: str) -> np.ndarray:
    """The image in the content of a file, as `read_image` would read it; errors name `place`."""
    if not content:
        raise HRNetError(f"{place}: the image file is empty")
    return _decode(io.BytesIO(content), place)


def _decode(file, path, upright=False):
    try:
        with _without_pillow_warnings(), Image.open(file) as image:
            return np.array(_to_rgb(_turned(image) if upright else image))
    except Image.DecompressionBombError:
        limit = 2 * Image.MAX_IMAGE_PIXELS // 10**6
        raise HRNetError(f"{path}: the image has more than {limit} million pixels") from None
    except UnidentifiedImageError:
        raise HRNetError(f"{path}: not an image that Pillow can read") from None
    except MemoryError:
        raise HRNetError(f"{path}: not enough memory for the image") from None
    except Exception as error:  # Pillow's decoders raise many types for broken files
        raise HRNetError(f"{path}: the image is corrupt or truncated ({_line(error)})") from error


def _line(error):
    return " ".join(str(error).split()) or type(error).__name__


def _turned(image):
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # a broken EXIF block says nothing about the pixels
        orientation = 1
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _to_rgb(image):
    if image.mode == "I" or image.mode.startswith("I;16"):
        # 16 bits: keep the upper 8, as Pillow does for 16-bit RGB; here its conversion would clip.
        grey = np.asarray(image).clip(0, 65535).astype(np.uint16) >> 8
        image = Image.fromarray(grey.astype(np.uint8))
    return image.convert("RGB")


def write_image(path, image) -> None:
    """Writes RGB uint8 (H, W, 3) as the suffix says (.png, .jpg); the file appears whole or not.

    HRNetError if it cannot be written.
    """
    path = Path(path)
    options = [cv2.IMWRITE_JPEG_QUALITY, 95] if path.suffix in (".jpg", ".jpeg") else []
    made, encoded = cv2.imencode(path.suffix, image[..., ::-1], options)
    if not made:
        raise HRNetError(
            f"{path}: {image.shape[1]} x {image.shape[0]} pixels do not fit the format"
        )
    with open_atomically(path, binary=True) as file:
        file.write(encoded.tobytes())


_quiet_lock = threading.Lock()
_quiet_count = 0
_quiet_stack = contextlib.ExitStack()


@contextlib.contextmanager
def _without_pillow_warnings():
    """Hides Pillow's warnings (odd EXIF blocks, large images, palettes) in all reading threads.

    `warnings.catch_warnings` restores the wrong filters when threads overlap; so the first reader
    in installs the filter and the last one out removes it.
    """
    global _quiet_count
    with _quiet_lock:
        if _quiet_count == 0:
            _quiet_stack.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", module=r"PIL\.")
        _quiet_count += 1
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_count -= 1
            if _quiet_count == 0:
                _quiet_stack.close()
