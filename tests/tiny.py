"""A tiny network and data set; `python -m tests.tiny COMMAND …` is the CLI with them."""

import functools
import sys

import flax.linen as nn
import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from hrnet_jax import models
from hrnet_jax.config import default_config
from hrnet_jax.data.records import Records, write_csv
from hrnet_jax.models.features import Features
from hrnet_jax.models.layers import ConvNorm
from hrnet_jax.models.variants import HOURGLASSES, VARIANTS, HourglassVariant, HRNetVariant
from hrnet_jax.protocols import float_protocol

VARIANTS["tiny"] = HRNetVariant(2, 1, 2, modules=(1, 1, 1), blocks=1)
HOURGLASSES["hih_tiny"] = HourglassVariant(stacks=2, width=16)
MODEL = "hrnetv2_tiny"
HOURGLASS = "hih_tiny"
PLAIN = "plain"


class Plain(nn.Module):
    """A backbone of two convolutions, which compiles in a second."""

    conv: nn.Module
    norm: nn.Module

    @nn.compact
    def __call__(self, images, train=False):
        norm = functools.partial(self.norm, use_running_average=not train)
        x = ConvNorm(8, self.conv, norm, kernel=3, stride=2, name="stem1")(images)
        return Features([ConvNorm(8, self.conv, norm, kernel=3, stride=2, name="stem2")(x)])


models.PRESETS[PLAIN] = models.Preset(Plain, init="kaiming")


def write_dataset(folder, train=12, valid=6, num_landmarks=68, seed=0):
    """Writes images with a bright blob for a face, and both annotation files; returns `folder`."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    for split, count in (("train", train), ("valid", valid)):
        names, points = [], []
        for i in range(count):
            image = rng.integers(0, 80, (48, 56, 3), np.uint8)
            center = rng.uniform(20, 28, 2)
            x0, y0 = center.astype(int) - 8
            image[y0 : y0 + 16, x0 : x0 + 16] += 120
            names.append(f"{split} {i}.png")  # a space, as in one of 300W's
            Image.fromarray(image).save(folder / "images" / names[-1])
            points.append(center + rng.uniform(-10, 10, (num_landmarks, 2)))
        points = np.stack(points)
        low, high = np.floor(points.min(1)), np.ceil(points.max(1))
        sides = (high - low).max(1)
        records = Records(tuple(names), folder / "images", points, (low + high) / 2, sides)
        write_csv(folder / f"face_landmarks_300w_{split}.csv", records)
    return folder


def get_config(root="data/300w"):
    """A config that trains in seconds: its network compiles in one."""
    config = ConfigDict(default_config())
    config.model.name = PLAIN
    config.protocol = ConfigDict(float_protocol(sigma=1.5, input_size=32).to_dict())
    config.data.update(root=str(root), loader="threads", workers=2)
    config.train.update(epochs=3, batch_size=4, learning_rate=1e-3, schedule="cosine", log_every=2)
    config.eval.batch_size = 4
    return config.lock()


def write_config(path, root):
    """Writes a config file whose config is `get_config(root)`; returns its path."""
    path.write_text(
        "from tests import tiny\n\n\n"
        f"def get_config():\n    return tiny.get_config({str(root)!r})\n"
    )
    return path


if __name__ == "__main__":
    from hrnet_jax.cli import main

    sys.exit(main(sys.argv[1:]))
