"""Protocols: crop geometry, codec and flip test under one name, stored with every result."""

import dataclasses
import math

import numpy as np

from hrnet_jax import geometry, images
from hrnet_jax.codecs import (
    Codec,
    HIHCodec,
    OfficialCodec,
    UnbiasedCodec,
    codec_from_dict,
    codec_to_dict,
)
from hrnet_jax.errors import HRNetError
from hrnet_jax.images.augment import Augmentation, Draw
from hrnet_jax.images.crops import affine_crop, index_crop, official_crop
from hrnet_jax.schemes import get_scheme

_NAMES = ("official", "float", "mmpose")
STRIDE = 4  # image pixels of the crop per heatmap cell


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How a face in an image becomes a network input, and network outputs become landmarks.

    `scale` is everywhere that of the official CSV files: box side / 200, before `padding`.

    Attributes:
      name: "official": the published code's crop, integer heatmap cells and integer landmarks, to
        reproduce its figures. Its constant 256 becomes `input_size`. "float": one affine warp and
        continuous coordinates throughout. "mmpose": one affine warp in index coordinates, where
        pixel k lies at k in image, crop and heatmap alike; the codec's heatmap pixels are that
        index + 0.5.
      codec: landmarks <-> heatmaps.
      input_size: side of the crop, pixels; a multiple of 4.
      padding: the box side is multiplied by it.
      flip_test: average with the heatmaps of the mirrored crop.
      flip_shift: move those one column to the right before, as mmpose does: in its index
        coordinates a crop's mirror image is 3/4 of a heatmap cell off that of the heatmap.
    """

    name: str
    codec: Codec
    input_size: int = 256
    padding: float = 1.25
    flip_test: bool = False
    flip_shift: bool = False

    def __post_init__(self):
        if self.name not in _NAMES:
            raise HRNetError(f"unknown protocol {self.name!r}: choose one of {', '.join(_NAMES)}")
        size = self.input_size
        if isinstance(size, bool) or not isinstance(size, int) or size < 12 or size % STRIDE:
            raise HRNetError(f"protocol input_size {size!r} is not a multiple of 4 from 12 up")
        padding = self.padding
        if isinstance(padding, bool) or not isinstance(padding, (int, float)):
            raise HRNetError(f"protocol padding {padding!r} is not a number")
        if not math.isfinite(padding) or padding <= 0:
            raise HRNetError(f"protocol padding {padding!r} is not positive")
        for key in ("flip_test", "flip_shift"):
            if not isinstance(value := getattr(self, key), bool):
                raise HRNetError(f"protocol {key} {value!r} is neither true nor false")
        if self.flip_test and isinstance(self.codec, HIHCodec):
            raise HRNetError(
                "protocol flip_test does not go with codec 'hih': decimal maps belong to one "
                "heatmap's cell each and cannot be averaged"
            )

    @property
    def heatmap_size(self) -> int:
        """Side of the heatmaps, cells."""
        return self.input_size // STRIDE

    def crop(self, image, center, scale, rotation=0.0) -> np.ndarray:
        """The network's view of a face.

        Args:
          image: (H, W, 3) uint8, RGB, or what `data.images.open_image` gave.
          center: (2,), image pixels.
          scale: box side / 200, before padding.
          rotation: degrees; a positive one turns the picture counter-clockwise.

        Returns:
          (input_size, input_size, 3) uint8, RGB.
        """
        if self.name == "official":
            center = np.asarray(center, np.float32)
            return official_crop(image, center, scale * self.padding, self.input_size, rotation)
        side = 200 * scale * self.padding
        matrix = geometry.crop_matrix(center, side, self.input_size, rotation)
        warp = index_crop if self.name == "mmpose" else affine_crop
        return warp(image, matrix, self.input_size)

    def to_heatmap(self, points, center, scale, rotation=0.0) -> tuple[np.ndarray, np.ndarray]:
        """Landmarks from the image to the heatmap.

        Args:
          points: (L, 2), image pixels.
          center, scale, rotation: as for `crop`.

        Returns:
          points: (L, 2) float64, heatmap pixels; for "official" whole cells, truncated toward zero.
          weights: (L,) float64; 0 where there is nothing to learn: y <= 0 for "official", else a
            point that is not finite (which becomes 0, 0).
        """
        points = np.asarray(points, np.float64)
        finite = np.isfinite(points).all(axis=-1)
        points = np.where(finite[:, None], points, 0.0)
        if self.name == "official":
            center = np.asarray(center, np.float32)
            cells = geometry.official_transform_pixel(
                points + 1, center, scale * self.padding, self.heatmap_size, rotation
            )
            return (cells - 1).astype(np.float64), (finite & (points[:, 1] > 0)).astype(np.float64)
        side = 200 * scale * self.padding
        matrix = geometry.crop_matrix(center, side, self.heatmap_size, rotation)
        mapped = geometry.apply_affine(matrix, points) + self.index_offset
        return np.where(finite[:, None], mapped, 0.0), finite.astype(np.float64)

    def to_image(self, points, center, scale) -> np.ndarray:
        """Decoded landmarks from the heatmap to the image.

        Args:
          points: (L, 2), heatmap pixels.
          center, scale: as for `crop` (without rotation).

        Returns:
          (L, 2) float64, image pixels. For "official" they are whole: trunc(v) + 1, which lies half
          a pixel right of and below v on average; published figures include that.
        """
        if self.name == "official":
            points = np.asarray(points, np.float64) + 1
            center = np.asarray(center, np.float32)
            return geometry.official_transform_pixel(
                points, center, scale * self.padding, self.heatmap_size, invert=True
            ).astype(np.float64)
        side = 200 * scale * self.padding
        matrix = geometry.crop_matrix(center, side, self.heatmap_size)
        points = np.asarray(points, np.float64) - self.index_offset
        return geometry.apply_affine(geometry.invert_affine(matrix), points)

    def to_crop(self, points) -> np.ndarray:
        """Where landmarks lie in the crop.

        Args:
          points: (L, 2), heatmap pixels, as `to_heatmap` gives them.

        Returns:
          (L, 2) float64, crop pixels, continuous (pixel k covers [k, k + 1)); for "official" the
          middle of the landmark's cell.
        """
        points = np.asarray(points, np.float64)
        if self.name == "official":
            return (points + 0.5) * STRIDE
        return (points - self.index_offset) * STRIDE + self.index_offset

    @property
    def index_offset(self) -> float:
        """Added to this protocol's coordinates, of any frame, it makes them continuous ones."""
        return 0.5 if self.name == "mmpose" else 0.0

    def prepare(
        self,
        image,
        points,
        center,
        scale,
        augmentation: Augmentation | None = None,
        permutation=None,
        rng: np.random.Generator | None = None,
    ) -> dict:
        """One sample for training or evaluation.

        Args:
          image: (H, W, 3) uint8, RGB, not modified; or what `data.images.open_image` gave.
          points: (L, 2), image pixels.
          center: (2,), image pixels.
          scale: box side / 200, before padding.
          augmentation: None for evaluation.
          permutation: int (L,), `Scheme.flip_permutation`; needed where the augmentation flips.
          rng: needed with an augmentation.

        Returns:
          image: (input_size, input_size, 3) uint8, RGB.
          points: (L, 2) float32, heatmap pixels.
          weights: (L,) float32, 1 or 0.
          center: (2,) float64; scale: float: the box that was cut, in pixels of the image, which is
            mirrored where the draw flips.
        """
        center, scale = np.array(center, np.float64), float(scale)
        draw = augmentation.draw(rng) if augmentation else Draw()
        if draw.flip:
            width = image.shape[1] + augmentation.flip_offset
            image = images.mirror(image)
            points = geometry.flip_points(points, width, permutation)
            center[0] = width - center[0]
        center += 200 * scale * np.array(draw.translation)
        scale *= draw.scale
        crop = self.crop(image, center, scale, draw.rotation)
        if augmentation:
            crop = augmentation.apply_pixels(crop, rng)
        cells, weights = self.to_heatmap(points, center, scale, draw.rotation)
        return {
            "image": crop,
            "points": cells.astype(np.float32),
            "weights": weights.astype(np.float32),
            "center": center,
            "scale": scale,
        }

    def to_dict(self) -> dict:
        """A JSON-able description."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**fields, "codec": codec_to_dict(self.codec)}

    @classmethod
    def from_dict(cls, description) -> "Protocol":
        """The protocol that `to_dict` described; HRNetError names what is missing or unknown."""
        if not isinstance(description, dict):
            raise HRNetError(f"protocol {description!r} is not a table")
        known = [field.name for field in dataclasses.fields(cls)]
        for key in description:
            if key not in known:
                raise HRNetError(f"protocol has no setting {key!r}: it has {', '.join(known)}")
        for key in ("name", "codec"):
            if key not in description:
                raise HRNetError(f"protocol has no {key!r}: give one")
        return cls(**{**description, "codec": codec_from_dict(description["codec"])})


def official(scheme_name) -> Protocol:
    """The protocol of the official code for a landmark scheme: sigma 1.0 for 300W, else 1.5."""
    sigma = 1.0 if get_scheme(scheme_name).name == "300w" else 1.5
    return Protocol("official", OfficialCodec(sigma))


def float_protocol(sigma=1.5, input_size=256, flip_test=False) -> Protocol:
    """Continuous coordinates from the image to the heatmap and back.

    Args:
      sigma: of the Gaussians, heatmap cells.
      input_size: side of the crop, pixels.
      flip_test: average with the heatmaps of the mirrored crop.
    """
    return Protocol("float", UnbiasedCodec(sigma), input_size, flip_test=flip_test)


def mmpose(codec: Codec) -> Protocol:
    """The protocol of mmpose's face configs: index coordinates, flip test with the shift.

    Args:
      codec: DarkCodec(2.0, 11) for its "dark" configs, MsraCodec(2.0) (300W and COFW: 1.5) for the
        others.
    """
    return Protocol("mmpose", codec, flip_test=True, flip_shift=True)


def hih(masked=False) -> Protocol:
    """Heatmap in Heatmap on boxes padded by 1.2, as PFLD crops, which HIH names as its model.

    Args:
      masked: decode as the published figures were (`HIHCodec`).
    """
    return Protocol("float", HIHCodec(masked=masked), padding=1.2)
