"""From a picture of any size to the network's square input, as the official code and torchvision.

Everywhere: uint8 RGB (H, W, 3), Pillow's filters, whole pixels.
"""

import dataclasses
import math

import numpy as np
from PIL import Image

from hrnet_jax.errors import HRNetError

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes the network's input; stored with a model as its protocol.

    Attributes:
      input_size: side of the network's input, pixels.
      resize: the picture's shorter side becomes so many pixels, then the centre is cut out.
      interpolation: of `FILTERS`; Pillow's, antialiased.
    """

    input_size: int = 224
    resize: int = 256
    interpolation: str = "bilinear"

    def __post_init__(self):
        if self.interpolation not in FILTERS:
            raise HRNetError(
                f"unknown interpolation {self.interpolation!r}: choose one of {', '.join(FILTERS)}"
            )
        for key in ("input_size", "resize"):
            value = getattr(self, key)
            if type(value) is not int or not 32 <= value <= 4096:
                raise HRNetError(f"preprocessing {key} = {value!r}: give 32 … 4096 pixels")
        if self.resize < self.input_size:
            raise HRNetError(
                f"preprocessing resize = {self.resize} is less than input_size = {self.input_size}"
            )

    @classmethod
    def from_dict(cls, data) -> "Preprocessing":
        """The inverse of `to_dict`; HRNetError for unknown or missing keys."""
        names = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(data, dict) or data.keys() != names:
            raise HRNetError(f"a preprocessing has the keys {', '.join(sorted(names))}")
        return cls(**data)

    def to_dict(self) -> dict:
        return dataclasses.asdict(self)

    def crop(self, image: np.ndarray) -> np.ndarray:
        """The centre of the resized picture: (input_size, input_size, 3)."""
        height, width = image.shape[:2]
        size = self.resize
        if width <= height:
            width, height = size, int(size * height / width)
        else:
            width, height = int(size * width / height), size
        resized = Image.fromarray(image).resize((width, height), FILTERS[self.interpolation])
        left, top = (round((length - self.input_size) / 2) for length in (width, height))
        return np.asarray(resized)[top : top + self.input_size, left : left + self.input_size]


# By where a checkpoint comes from; the figures that these publish hold for it. Official: tools/
# valid.py of HRNet-Image-Classification (resize to 224 / 0.875); mmpretrain does the same, also for
# its figures of the SSLD networks (`hrnet_jax.published`). The others are timm's settings.
PREPROCESSINGS = {
    "official": Preprocessing(),
    "timm ms_aug_in1k": Preprocessing(resize=235),
    "timm gluon_in1k": Preprocessing(interpolation="bicubic"),
    "timm ssld.paddle_in1k": Preprocessing(input_size=288, resize=288),
}


@dataclasses.dataclass(frozen=True)
class RandomCrop:
    """The random changes of a training picture; the defaults are torchvision's and the official.

    Attributes:
      area: (low, high): the crop has uniform(low, high) of the picture's area,
      ratio: (low, high): and a ratio of width to height whose logarithm is uniform.
      flip_probability: of mirroring.
    """

    area: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip_probability: float = 0.5

    def __post_init__(self):
        for key, most in (("area", 1.0), ("ratio", math.inf)):
            low_high = tuple(getattr(self, key))
            object.__setattr__(self, key, low_high)
            if len(low_high) != 2 or not 0 < low_high[0] <= low_high[1] <= most:
                raise HRNetError(f"augment.{key} = {low_high} is not a range (low, high)")
        if not 0 <= self.flip_probability <= 1:
            raise HRNetError(f"augment.flip_probability = {self.flip_probability}: give 0 … 1")

    def box(self, width: int, height: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
        """Draws the crop's (left, top, width, height), whole pixels within the picture.

        After ten draws that do not fit: the largest centred crop of an allowed ratio.
        """
        low, high = self.ratio
        for _ in range(10):
            area = width * height * rng.uniform(*self.area)
            ratio = math.exp(rng.uniform(math.log(low), math.log(high)))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                return int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1)), w, h
        w = min(width, max(1, round(height * high)))
        h = min(height, max(1, round(width / low)))
        return (width - w) // 2, (height - h) // 2, w, h

    def __call__(
        self, image: np.ndarray, preprocessing: Preprocessing, rng: np.random.Generator
    ) -> np.ndarray:
        """A random crop at the network's input size: (input_size, input_size, 3)."""
        left, top, width, height = self.box(image.shape[1], image.shape[0], rng)
        mirrored = rng.random() < self.flip_probability
        cut = Image.fromarray(image[top : top + height, left : left + width])
        size = preprocessing.input_size, preprocessing.input_size
        made = np.asarray(cut.resize(size, FILTERS[preprocessing.interpolation]))
        return made[:, ::-1] if mirrored else made
