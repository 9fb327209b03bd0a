"""From a picture to its likeliest classes."""

import dataclasses
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from hrnet_jax.checkpoints import Loaded, load
from hrnet_jax.data.classes import model_classes, words
from hrnet_jax.data.preprocessing import Preprocessing
from hrnet_jax.errors import HRNetError
from hrnet_jax.inference.forward import make_classify


@dataclasses.dataclass(frozen=True)
class Guess:
    """One class.

    Attributes:
      index: number of the network's output.
      identifier: its name in the data set: of WordNet for ImageNet, "n02123045".
      name: in words: "tabby, tabby cat".
      probability: 0 … 1.
    """

    index: int
    identifier: str
    name: str
    probability: float


class Classifier:
    """Tells what a picture shows: `Classifier("models/imagenet_w18")(image)`.

    Args:
      checkpoint: what `hrnet_jax.load` takes, or what it returned: a "*_imagenet" network.
      names: of the classes in words, in the order of the outputs; by default those that the
        checkpoint tells, in the words of WordNet for ImageNet's, and numbers where it tells none.
    """

    def __init__(self, checkpoint: Loaded | str | Path, names: list[str] | None = None):
        loaded = checkpoint if isinstance(checkpoint, Loaded) else load(checkpoint)
        self.metadata = loaded.metadata
        count = loaded.metadata["model"].get("num_classes")
        if count is None:
            raise HRNetError(f"the checkpoint finds landmarks: {loaded.metadata['model']}")
        if names is not None and len(names) != count:
            raise HRNetError(f"{len(names)} class names are given: the network has {count} classes")
        known = model_classes(loaded.metadata) or [str(k) for k in range(count)]
        self._identifiers, self._names = known, names or [words(name) for name in known]
        stored = loaded.metadata.get("protocol")
        self.preprocessing = Preprocessing.from_dict(stored) if stored else Preprocessing()
        self._variables = loaded.variables
        self._classify = make_classify(loaded.model)

    def __call__(self, image: np.ndarray) -> list[Guess]:
        """The five likeliest classes, the likeliest first (all, where there are fewer).

        Args:
          image: uint8 (H, W, 3), RGB.

        Raises:
          HRNetError: the image is not uint8 (H, W, 3), or the network's output is not finite.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise HRNetError(f"image is {image.dtype} {image.shape}: give uint8 (H, W, 3) RGB")
        crop = self.preprocessing.crop(image)
        probabilities, found = map(np.asarray, self._classify(self._variables, crop[None]))
        if not np.isfinite(probabilities).all():
            raise HRNetError("the network's output is not finite: its weights are damaged")
        return [
            Guess(int(k), self._identifiers[k], self._names[k], float(p))
            for k, p in zip(found[0], probabilities[0], strict=True)
        ]


def draw_guesses(image: np.ndarray, guesses: list[Guess]) -> np.ndarray:
    """The picture with the classes, and bars as long as their probabilities, in a field below.

    Args:
      image: uint8 (H, W, 3), RGB.

    Returns:
      uint8 (H + field, W, 3), RGB; a name that is too long is cut at the edge.
    """
    height, width = image.shape[:2]
    line = max(14, min(width // 20, 40))
    field = Image.new("RGB", (width, line * len(guesses) + line // 2), (18, 22, 28))
    pen, font = ImageDraw.Draw(field), ImageFont.load_default(size=0.68 * line)
    for k, guess in enumerate(guesses):
        top = line // 4 + k * line
        length = round(guess.probability * (width - 1))
        pen.rectangle((0, top, length, top + line - 2), fill=(35, 90, 60))
        text = f"{100 * guess.probability:5.1f} %  {guess.name}"
        pen.text((line // 3, top + line // 2), text, (240, 240, 240), font, anchor="lm")
    return np.concatenate([image, np.asarray(field)])
