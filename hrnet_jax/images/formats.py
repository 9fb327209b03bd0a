"""Picture formats: a list of those that are opened, told by a file's content, not by its name.

Pillow knows some forty, and gives PostScript to another program, which runs it. What is not on the
list is never given to Pillow; the message names the common ones.
"""

import io

from PIL import Image, UnidentifiedImageError, features

from hrnet_jax.errors import HRNetError
from hrnet_jax.limits import PICTURE_PIXELS, PICTURE_SCANS

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")

# Of a file that begins as an ISO medium (`ftyp`): the brands of still pictures.
_HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_AVIF = {b"avif", b"avis"}
_OTHERS = (
    (b"%!", "PostScript"),
    (b"\xc5\xd0\xd3\xc6", "PostScript"),
    (b"%PDF", "a PDF document"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 picture"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL picture"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"8BPS", "a Photoshop file"),
    (b"\0\0\x01\0", "an icon"),
    (b"<!doctype html", "an HTML page: its download went wrong"),
    (b"<html", "an HTML page: its download went wrong"),
    (b"<svg", "an SVG drawing"),
    (b"version https://git-lfs", "a Git LFS pointer: run git lfs pull"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a gzip file"),
    (b"\x1a\x45\xdf\xa3", "a video"),
    (b"RIFF", "an AVI video or a sound"),
)


class ImageError(HRNetError):
    """An image file that is missing or cannot be decoded."""


def open_picture(data: bytes, place) -> Image.Image:
    """The file's picture, opened by Pillow and not decoded yet.

    Raises:
      ImageError: another format, or one whose decoder is not installed; more pixels than
        `PICTURE_PIXELS`; so many scans that a decoder would be busy for minutes. Errors name
        `place`. (And whatever Pillow raises on damaged files.)
    """
    try:
        image = Image.open(io.BytesIO(data), formats=_allowed(data, place))
    except UnidentifiedImageError:
        what = next((text for start, text in _OTHERS if _begins(data, start)), None)
        raise ImageError(
            f"{place}: not an image that is read here{f' (it is {what})' if what else ''}: "
            "give JPEG, PNG, WebP, BMP, TIFF or GIF"
        ) from None
    except Image.DecompressionBombError:
        raise ImageError(_too_large(place)) from None
    pixels, scans = image.width * image.height, data.count(b"\xff\xda")
    if pixels > PICTURE_PIXELS:
        raise ImageError(_too_large(place))
    if image.format in ("JPEG", "MPO") and pixels * scans > PICTURE_SCANS:
        raise ImageError(
            f"{place}: the JPEG paints its {pixels / 1e6:.1f} million pixels {scans} times, which "
            "no camera's does: save it anew"
        )
    return image


def _too_large(place):
    return (
        f"{place}: the image has more than {PICTURE_PIXELS / 1e6:.0f} million pixels: shrink it "
        "first"
    )


def _allowed(data, place):
    """The formats that Pillow may try on a file."""
    if data[4:8] != b"ftyp":
        return FORMATS
    brand = data[8:12]
    if brand in _AVIF and features.check("avif"):
        return ("AVIF",)
    if brand in _HEIC | _AVIF:
        try:
            from pillow_heif import register_heif_opener
        except ImportError:
            raise ImageError(
                f"{place}: a {'AVIF' if brand in _AVIF else 'HEIC'} picture: "
                "pip install 'hrnet-jax[heif]', or save it as JPEG"
            ) from None
        register_heif_opener(thumbnails=False, decode_threads=1)
        return ("HEIF",)
    raise ImageError(f"{place}: not an image (it is a video): give JPEG, PNG, WebP, BMP or TIFF")


def _begins(data, start):
    return data[:64].lstrip().lower().startswith(start.lower())
