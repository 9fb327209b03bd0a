"""Reading and writing image files."""

import contextlib
import dataclasses
import os
import stat
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from hrnet_jax.errors import HRNetError
from hrnet_jax.files import as_path, is_local, open_atomically
from hrnet_jax.images import jpeg
from hrnet_jax.images.formats import ImageError, open_picture
from hrnet_jax.limits import PICTURE_BYTES

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
_AS_STORED = _UPRIGHT | {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}


def read_image(path, upright=False) -> np.ndarray:
    """Reads an image file as RGB.

    Grey, palette, CMYK and 16-bit files are converted; an alpha channel is dropped; of an animation
    the first frame counts. Deep grey files become 8 bits by their brightest value: integers of up
    to 8, 12 or 16 bits keep the upper 8 of these, and floats reach up to 1, 255, 4095 or 65535.

    Args:
      path: of the file: JPEG, PNG, WebP, BMP, TIFF, GIF, PPM, and AVIF and HEIC where Pillow or the
        extra "heif" can. The content tells, not the name.
      upright: turn the picture as its EXIF orientation says. For users' photographs; data sets are
        read as stored, which is how they were annotated. (HEIC is upright always.)

    Returns:
      (H, W, 3) uint8, RGB, its own memory.

    Raises:
      HRNetError: the file is missing, empty, corrupt, truncated, of another format, or beyond the
        limits of `hrnet_jax.limits`; the line names the file.
    """
    if upright:
        return _read_with_pillow(path, _read_bytes(path), upright=True)
    return whole(open_image(path))


def decode_image(content: bytes, place: str) -> np.ndarray:
    """The image in the content of a file, as `read_image` would read it; errors name `place`."""
    if not content:
        raise ImageError(f"{place}: the image file is empty")
    return _read_with_pillow(place, content)


@dataclasses.dataclass(frozen=True, eq=False)
class Encoded:
    """A plain JPEG file in memory, of which `region` decodes no more than it must.

    Attributes:
      path: where it came from, for error messages.
      data: the file.
      shape: (height, width, 3), as an array's.
      mirrored: it stands for the picture's mirror image.
      decode_window: `f(data, x0, y0, x1, y1)` decodes a part: RGB uint8, equal to that part of the
        whole picture but for the pixels next to its edges; or None if it cannot. Without this
        function the whole is decoded always.
    """

    path: Path
    data: bytes
    shape: tuple[int, int, int]
    mirrored: bool = False
    decode_window: Callable | None = None

    def region(self, low, high, factor=1) -> tuple[np.ndarray, np.ndarray, int]:
        """See the function `region`."""
        height, width, _ = self.shape
        (x0, y0), (x1, y1) = low, high
        if self.mirrored:
            x0, x1 = width - x1, width - x0
        pixels = self._window(x0, y0, x1, y1) if factor == 1 else None
        if pixels is None:
            with _turn(height * width):
                image = jpeg.decode(self.data, (height, width), factor)
            if image is None:  # as a rule it is damaged, and this raises
                image, factor = _read_with_pillow(self.path, self.data), 1
            x0, y0, x1, y1 = x0 // factor, y0 // factor, -(-x1 // factor), -(-y1 // factor)
            pixels = image[y0:y1, x0:x1]
        if self.mirrored:
            return cv2.flip(pixels, 1), np.array([width - x1 * factor, y0 * factor]), factor
        return pixels, np.array([x0 * factor, y0 * factor]), factor

    def _window(self, x0, y0, x1, y1):
        """These pixels by `decode_window`, or None where that does not pay or fails."""
        height, width, _ = self.shape
        left, top = max(x0 - _EDGE, 0), max(y0 - _EDGE, 0)
        right, bottom = min(x1 + _EDGE, width), min(y1 + _EDGE, height)
        saved = width * height - (right - left) * (bottom - top)
        if self.decode_window is None or saved < _WORTH_A_WINDOW:
            return None
        window = self.decode_window(self.data, left, top, right, bottom)
        return None if window is None else window[y0 - top : y1 - top, x0 - left : x1 - left]


_EDGE = 16  # pixels, a JPEG block of halved colour: what a window's edge can change lies within
_WORTH_A_WINDOW = 1 << 17  # pixels saved: TensorFlow's call costs 0.1 ms more than OpenCV's


def open_image(path, decode_window: Callable | None = None) -> Encoded | np.ndarray:
    """An image file for `region`, `whole` and `mirror`: plain JPEG not decoded yet, others read.

    Raises what `read_image` does, now or, for damage inside a JPEG, when that is decoded.
    """
    path, data = as_path(path), _read_bytes(path)
    shape = jpeg.read_shape(data)
    if shape is None:
        return _read_with_pillow(path, data)
    return Encoded(path, data, (*shape, 3), decode_window=decode_window)


class ImageCache:
    """`open_image` that keeps the JPEG files it opened, encoded, until `limit` bytes are full.

    A small data set is then read once: opening a file again takes a fifth of the time of a sample
    of 180 pixels. The files must not change meanwhile.
    """

    def __init__(self, limit: int = 256 << 20, decode_window: Callable | None = None):
        self._left = limit
        self._decode_window = decode_window
        self._files = {}

    def __call__(self, path: Path) -> Encoded | np.ndarray:
        image = self._files.get(path)
        if image is None:
            image = open_image(path, self._decode_window)
            if isinstance(image, Encoded) and len(image.data) <= self._left:
                self._left -= len(image.data)
                self._files[path] = image
        return image


def region(image, low, high, factor=1) -> tuple[np.ndarray, np.ndarray, int]:
    """A part of an image, possibly smaller than it is.

    Args:
      image: RGB uint8 (H, W, 3), or what `open_image` gave.
      low, high: int (2,), (x, y) of the part's corners, within the image.
      factor: a power of two: how many times smaller the pixels may be.

    Returns:
      pixels: uint8 (h, w, 3), RGB: the part, or a little more where they are smaller.
      origin: int (2,): where in the image their corner lies.
      factor: how many times smaller they are: a point p of the image is (p - origin) / factor.
    """
    if isinstance(image, Encoded):
        return image.region(low, high, min(factor, max(jpeg.FACTORS)))
    pixels = image[low[1] : high[1], low[0] : high[0]]
    if pixels.strides[1] < 0:  # OpenCV mirrors many times faster than NumPy copies
        pixels = cv2.flip(np.ascontiguousarray(pixels[:, ::-1]), 1)
    return pixels, np.array(low), 1


def whole(image) -> np.ndarray:
    """All pixels of what `open_image` gave: RGB uint8 (H, W, 3)."""
    return region(image, (0, 0), image.shape[1::-1])[0]


def mirror(image):
    """The mirror image, left and right exchanged, of an array or of what `open_image` gave."""
    if isinstance(image, Encoded):
        return dataclasses.replace(image, mirrored=not image.mirrored)
    return image[:, ::-1]


def _read_bytes(path):
    path = as_path(path)
    try:
        if not is_local(path):
            return path.read_bytes()
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"{path}: no such image file")
        if not 0 < status.st_size <= PICTURE_BYTES:
            size = "empty" if not status.st_size else f"larger than {PICTURE_BYTES >> 20} MB"
            raise ImageError(f"{path}: the image file is {size}")
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise ImageError(f"{path}: no such image file") from None
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        raise ImageError(f"{path}: the image file cannot be read ({_line(error)})") from error


_LARGE = 1 << 24  # pixels
_large_lock = threading.Lock()


def _turn(pixels):
    """Large pictures are decoded one at a time, so that threads do not exhaust the memory."""
    return _large_lock if pixels > _LARGE else contextlib.nullcontext()


def _read_with_pillow(path, data, upright=False):
    try:
        with (
            _without_pillow_warnings(),
            open_picture(data, path) as image,
            _turn(image.width * image.height),
        ):
            return np.array(_to_rgb(_turned(image, upright)))
    except ImageError:
        raise
    except MemoryError:
        raise ImageError(f"{path}: not enough memory for the image") from None
    except Exception as error:  # Pillow's decoders raise many types for broken files
        raise ImageError(f"{path}: the image is corrupt or truncated ({_line(error)})") from error


def _line(error):
    return " ".join(str(error).split()) or type(error).__name__


def _turned(image, upright):
    """The picture upright, or as it is stored: of TIFF Pillow turns the pixels when it loads."""
    tiff = image.format == "TIFF"
    orientation = _orientation(image) if tiff else 1  # PNG's look would hide damage from `load`
    image.load()
    orientation = orientation if tiff else _orientation(image)
    if orientation in _UPRIGHT and upright != tiff:
        return image.transpose((_UPRIGHT if upright else _AS_STORED)[orientation])
    return image


def _orientation(image):
    try:
        return image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # a broken EXIF block says nothing about the pixels
        return 1


def _to_rgb(image):
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = Image.fromarray(_eight_bits(np.asarray(image)))  # Pillow would clip at 255
    return image if image.mode == "RGB" else image.convert("RGB")  # it would copy


def _eight_bits(grey):
    """Grey int or float (H, W) as uint8; the brightest value tells what white is."""
    if grey.dtype.kind == "f":
        grey = np.where(np.isfinite(grey), grey, 0).clip(0)
        top = float(grey.max())
        white = next((value for value in (1, 255, 4095, 65535) if top <= value), top)
        return np.rint(grey * (255 / white)).astype(np.uint8)
    used = int(grey.max()).bit_length()
    bits = next((bits for bits in (8, 12, 16) if used <= bits), used)
    return (grey.clip(0) >> (bits - 8)).astype(np.uint8)


def write_image(path, image) -> None:
    """Writes RGB uint8 (H, W, 3) as the suffix says (.png, .jpg); the file appears whole or not.

    HRNetError if it cannot be written.
    """
    path = as_path(path)
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
