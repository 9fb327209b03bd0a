"""Random changes of a training face: its box, and its pixels."""

import dataclasses
from statistics import NormalDist
from typing import Any

import cv2
import numpy as np

from hrnet_jax.errors import HRNetError


@dataclasses.dataclass(frozen=True)
class Draw:
    """One draw of an `Augmentation`'s geometry.

    Attributes:
      scale: factor on the box side.
      rotation: degrees; a positive one turns the picture counter-clockwise.
      flip: mirror the image.
      translation: (x, y) shift of the box centre, in box sides.

    Numbers, or arrays of one where the draw is part of a compiled program.
    """

    scale: Any = 1.0
    rotation: Any = 0.0
    flip: Any = False
    translation: Any = (0.0, 0.0)


def _uniform(rng, center, width, limit):
    return rng.uniform(center - width, center + width)


def _clipped_normal(rng, center, width, limit):
    return center + width * float(np.clip(rng.normal(), -limit, limit))


def _truncated_normal(rng, center, width, limit):
    normal = NormalDist()
    return center + width * normal.inv_cdf(rng.uniform(normal.cdf(-1), normal.cdf(1)))


DISTRIBUTIONS = {
    "uniform": _uniform,
    "clipped_normal": _clipped_normal,
    "truncated_normal": _truncated_normal,
}


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Distributions of the random changes; the defaults are those of the official code.

    Attributes:
      distribution: of scale and rotation: "uniform"; "clipped_normal" (mmpose 0.x), a normal one
        whose standard deviation is `scale` or `rotation`, clipped at one of these for the scale and
        two for the rotation; "truncated_normal" (mmpose 1.x), a standard normal one within -1 … 1
        (its standard deviation is 0.54) times `scale` or `rotation`.
      scale: the box side is multiplied by uniform(1 - scale, 1 + scale).
      rotation: degrees, uniform(-rotation, rotation), with `rotation_probability`.
      rotation_probability: 0 … 1.
      flip_probability: 0 … 1.
      flip_offset: image pixels; mirroring sends x to W + flip_offset - x. 0 is right where the
        annotations count from the pixels' edges, as the official code takes them to, -1 where they
        count the pixels' centres from 0 (mmpose) and +1 where from 1 (the 300W and COFW files).
      translation: the box moves by uniform(-t, t) of its side (before padding) along each axis,
        with `translation_probability`.
      translation_probability: 0 … 1.
      brightness: uniform(-b, b) of the full range is added to every pixel.
      contrast: distances from the mean grey value are multiplied by uniform(1 - c, 1 + c).
      colour: each channel is multiplied by its own uniform(1 - c, 1 + c).
      grey_probability: of an image without colour.
      blur_probability: of a Gaussian blur.
      blur_sigma: its sigma is uniform(low, high), pixels of the crop.
      occlusion_probability: of a rectangle of one random colour.
      occlusion_size: each of its sides is uniform(low, high) of the crop's.
      occlusion_inside: it lies within the crop as a whole; else its centre does.
    """

    distribution: str = "uniform"
    scale: float = 0.25
    rotation: float = 30.0
    rotation_probability: float = 0.6
    flip_probability: float = 0.5
    flip_offset: float = 0.0
    translation: float = 0.0
    translation_probability: float = 1.0
    brightness: float = 0.0
    contrast: float = 0.0
    colour: float = 0.0
    grey_probability: float = 0.0
    blur_probability: float = 0.0
    blur_sigma: tuple[float, float] = (0.5, 2.0)
    occlusion_probability: float = 0.0
    occlusion_size: tuple[float, float] = (0.1, 0.4)
    occlusion_inside: bool = False

    def __post_init__(self):
        if self.distribution not in DISTRIBUTIONS:
            raise HRNetError(
                f"unknown augmentation distribution {self.distribution!r}: choose one of "
                f"{', '.join(DISTRIBUTIONS)}"
            )
        for key in ("blur_sigma", "occlusion_size"):
            low_high = tuple(getattr(self, key))  # JSON has lists only
            object.__setattr__(self, key, low_high)
            if len(low_high) != 2 or not 0 <= low_high[0] <= low_high[1] < np.inf:
                raise HRNetError(f"augmentation {key} = {low_high} is not a range (low, high)")
        for key, value in dataclasses.asdict(self).items():
            if isinstance(value, (str, tuple)):
                continue
            limit = 1.0 if key.endswith("_probability") else np.inf
            limit = np.nextafter(1.0, 0.0) if key == "scale" else limit
            if not (0 <= value <= limit or key == "flip_offset" and np.isfinite(value)):
                raise HRNetError(f"augmentation {key} = {value} is out of range")

    def draw(self, rng: np.random.Generator) -> Draw:
        """Draws scale, rotation and flip in the official order, then the translation.

        What is off (0) takes no number from `rng`.
        """
        scale, rotation, flip, translation = 1.0, 0.0, False, (0.0, 0.0)
        spread = DISTRIBUTIONS[self.distribution]
        if self.scale:
            scale = spread(rng, 1.0, self.scale, limit=1)
        if self.rotation and self.rotation_probability:
            if rng.random() <= self.rotation_probability:
                rotation = spread(rng, 0.0, self.rotation, limit=2)
        if self.flip_probability:
            flip = bool(rng.random() <= self.flip_probability)
        if self.translation and self.translation_probability:
            certain = self.translation_probability == 1
            if certain or rng.random() <= self.translation_probability:
                translation = tuple(rng.uniform(-self.translation, self.translation, 2).tolist())
        return Draw(scale, rotation, flip, translation)

    def apply_pixels(self, image, rng: np.random.Generator) -> np.ndarray:
        """Changes the pixels of a crop.

        Args:
          image: (S, S, 3) uint8, RGB; not modified.
          rng: what is off (0) takes no number from it.

        Returns:
          (S, S, 3) uint8; `image` itself where everything is off.
        """
        image = self._tones(image, rng)
        if self.grey_probability and rng.random() <= self.grey_probability:
            image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        if self.blur_probability and rng.random() <= self.blur_probability:
            image = cv2.GaussianBlur(image, (0, 0), rng.uniform(*self.blur_sigma))
        if self.occlusion_probability and rng.random() <= self.occlusion_probability:
            image = self._occlude(image, rng)
        return image

    def _tones(self, image, rng):
        """Brightness, contrast and channel gains, as one table look-up."""
        if not (self.brightness or self.contrast or self.colour):
            return image
        table = np.repeat(np.arange(256.0)[:, None], 3, axis=1)
        if self.contrast:
            mean = sum(cv2.sumElems(image)) / image.size  # NumPy's takes 20 times as long
            table = (table - mean) * rng.uniform(1 - self.contrast, 1 + self.contrast) + mean
        if self.brightness:
            table += 255 * rng.uniform(-self.brightness, self.brightness)
        if self.colour:
            table *= rng.uniform(1 - self.colour, 1 + self.colour, 3)
        return cv2.LUT(image, np.rint(table.clip(0, 255)).astype(np.uint8)[None])

    def _occlude(self, image, rng):
        size = np.array(image.shape[1::-1])
        low, high = self.occlusion_size
        half = rng.uniform(low / 2, high / 2, 2) * size
        center = rng.uniform(0, 1, 2) * size
        if self.occlusion_inside:
            center = half + center * (1 - 2 * half / size)
        x0, y0 = np.maximum(np.rint(center - half), 0).astype(int)
        x1, y1 = np.rint(center + half).astype(int)
        image = image.copy()
        image[y0:y1, x0:x1] = rng.integers(0, 256, 3)
        return image


# Published recipes, for any network.
RECIPES = {
    "official": Augmentation(),
    # The face configs of mmpose 0.x and 1.x; its flip is that of index coordinates.
    "mmpose0": Augmentation("clipped_normal", scale=0.25, rotation=30.0, flip_offset=-1.0),
    "mmpose1": Augmentation("truncated_normal", scale=0.25, rotation=60.0, flip_offset=-1.0),
    # HIH changes crops of 256 px, padded by 1.2, by whole pixels (up to 30) and leaves what moves
    # in black and unfiltered; here the box moves over the image.
    "hih": Augmentation(
        scale=0.0,
        rotation=30.0,
        rotation_probability=0.5,
        translation=1.2 * 30 / 256,
        translation_probability=0.5,
        blur_probability=0.3,
        blur_sigma=(0.0, 5.0),
        occlusion_probability=0.5,
        occlusion_size=(0.0, 0.4),
        occlusion_inside=True,
    ),
}
