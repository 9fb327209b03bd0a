"""Random changes of a training face: its box, and its pixels."""

import dataclasses

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
    """

    scale: float = 1.0
    rotation: float = 0.0
    flip: bool = False
    translation: tuple[float, float] = (0.0, 0.0)


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Distributions of the random changes; the defaults are those of the official code.

    Attributes:
      scale: the box side is multiplied by uniform(1 - scale, 1 + scale).
      rotation: degrees, uniform(-rotation, rotation), with `rotation_probability`.
      rotation_probability: 0 … 1.
      flip_probability: 0 … 1.
      flip_offset: image pixels; mirroring sends x to W + flip_offset - x. 0 is right where the
        annotations count from the pixels' edges, as the official code takes them to, -1 where they
        count the pixels' centres from 0 (mmpose) and +1 where from 1 (the 300W and COFW files).
      translation: the box moves by uniform(-t, t) of its side (before padding) along each axis.
      brightness: uniform(-b, b) of the full range is added to every pixel.
      contrast: distances from the mean grey value are multiplied by uniform(1 - c, 1 + c).
      colour: each channel is multiplied by its own uniform(1 - c, 1 + c).
      grey_probability: of an image without colour.
      blur_probability: of a Gaussian blur with sigma uniform(0.5, 2) pixels.
      occlusion_probability: of a rectangle of one random colour, each side uniform(0.1, 0.4) of the
        crop's, its centre anywhere.
    """

    scale: float = 0.25
    rotation: float = 30.0
    rotation_probability: float = 0.6
    flip_probability: float = 0.5
    flip_offset: float = 0.0
    translation: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    colour: float = 0.0
    grey_probability: float = 0.0
    blur_probability: float = 0.0
    occlusion_probability: float = 0.0

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            limit = 1.0 if field.name.endswith("_probability") else np.inf
            limit = np.nextafter(1.0, 0.0) if field.name == "scale" else limit
            if not (0 <= value <= limit or field.name == "flip_offset" and np.isfinite(value)):
                raise HRNetError(f"augmentation {field.name} = {value} is out of range")

    def draw(self, rng: np.random.Generator) -> Draw:
        """Draws scale, rotation and flip in the official order, then the translation.

        What is off (0) takes no number from `rng`.
        """
        scale, rotation, flip, translation = 1.0, 0.0, False, (0.0, 0.0)
        if self.scale:
            scale = rng.uniform(1 - self.scale, 1 + self.scale)
        if self.rotation and self.rotation_probability:
            if rng.random() <= self.rotation_probability:
                rotation = rng.uniform(-self.rotation, self.rotation)
        if self.flip_probability:
            flip = bool(rng.random() <= self.flip_probability)
        if self.translation:
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
            image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 2.0))
        if self.occlusion_probability and rng.random() <= self.occlusion_probability:
            image = _occlude(image, rng)
        return image

    def _tones(self, image, rng):
        """Brightness, contrast and channel gains, as one table look-up."""
        if not (self.brightness or self.contrast or self.colour):
            return image
        table = np.repeat(np.arange(256.0)[:, None], 3, axis=1)
        if self.contrast:
            mean = image.mean()
            table = (table - mean) * rng.uniform(1 - self.contrast, 1 + self.contrast) + mean
        if self.brightness:
            table += 255 * rng.uniform(-self.brightness, self.brightness)
        if self.colour:
            table *= rng.uniform(1 - self.colour, 1 + self.colour, 3)
        return cv2.LUT(image, np.rint(table.clip(0, 255)).astype(np.uint8)[None])


def _occlude(image, rng):
    height, width = image.shape[:2]
    half = rng.uniform(0.05, 0.2, 2) * (width, height)
    center = rng.uniform(0, 1, 2) * (width, height)
    x0, y0 = np.maximum(np.rint(center - half), 0).astype(int)
    x1, y1 = np.rint(center + half).astype(int)
    image = image.copy()
    image[y0:y1, x0:x1] = rng.integers(0, 256, 3)
    return image
