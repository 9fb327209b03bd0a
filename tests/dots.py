"""Pictures of coloured dots in place of faces, and a network that finds dots by colour.

The two landmarks of a mirror pair have one colour; the network tells them apart by the half of the
crop they lie in, as a real one does by the face. So its heatmaps obey the mirror exactly.
"""

import functools
import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from hrnet_jax.checkpoints import Loaded
from hrnet_jax.inference import forward, predictor
from hrnet_jax.models import normalise_images
from hrnet_jax.protocols import float_protocol
from hrnet_jax.schemes import get_scheme

SCHEME = get_scheme("cofw")


def _layout():
    """Points (29, 2) in the unit square, mirror images about x = 0.5, and a colour index each."""
    points, colours = np.zeros((29, 2)), np.zeros(29, int)
    places = itertools.product((0, 1 / 3, 2 / 3, 1), (1 / 2, 1 / 3, 1 / 6))
    for colour, ((a, b), (y, x)) in enumerate(zip(SCHEME.flip_pairs, places, strict=False)):
        points[a], points[b] = (0.5 - x, y), (0.5 + x, y)
        colours[[a, b]] = colour
    middle = [i for i in range(29) if SCHEME.flip_permutation[i] == i]
    points[middle] = np.stack([np.full(7, 0.5), np.linspace(0, 1, 7)], axis=-1)
    colours[middle] = np.arange(11, 18)
    return points, colours


LAYOUT, _COLOUR_OF = _layout()
_GRID = [(i, j, 5 - i - j) for i in range(6) for j in range(6 - i)]
_COLOURS = np.array([np.array(c) / np.linalg.norm(c) for c in _GRID])[_COLOUR_OF]  # (29, 3)


def landmarks_in(box):
    """(29, 2): the dots whose landmark box is `box`."""
    x0, y0, x1, y1 = box
    return np.array([x0, y0]) + LAYOUT * [x1 - x0, y1 - y0]


def picture(height, width, boxes):
    """uint8 (height, width, 3): black, with a set of dots in each box."""
    y, x = np.mgrid[:height, :width] + 0.5
    image = np.zeros((height, width, 3))
    for box in boxes:
        sigma = 0.025 * (box[2] - box[0])
        for (px, py), colour in zip(landmarks_in(box), _COLOURS, strict=True):
            dot = np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * sigma**2))
            image += 255 * dot[..., None] * colour
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


class DotNetwork:
    """Stands for a Flax module; `shapes` lists the batches it was traced for."""

    def __init__(self):
        self.shapes = []

    def apply(self, variables, images):
        self.shapes.append(images.shape)
        offset = normalise_images(jnp.zeros((1, 1, 1, 3), jnp.uint8))
        gain = normalise_images(jnp.full((1, 1, 1, 3), 255, jnp.uint8)) - offset
        light = (images - offset) / gain
        length = jnp.linalg.norm(light, axis=-1, keepdims=True)
        cosine = light @ _COLOURS.T.astype(np.float32) / jnp.maximum(length, 1e-6)
        dots = jnp.where(length > 0.02, length * cosine**200, 0)
        n, height, width, _ = dots.shape
        maps = dots.reshape(n, height // 4, 4, width // 4, 4, -1).mean((2, 4))
        left = jnp.arange(width // 4)[None, None, :, None] < width // 8
        is_left, is_right = np.zeros(29, bool), np.zeros(29, bool)
        is_left[[a for a, _ in SCHEME.flip_pairs]] = True
        is_right[[b for _, b in SCHEME.flip_pairs]] = True
        return jnp.where((left & is_right) | (~left & is_left), 0, maps)


def dot_model(protocol=None, network=None):
    """A `Loaded` with a DotNetwork, the same one unless another is given."""
    protocol = protocol or float_protocol()
    model = {"name": "dots", "num_landmarks": 29}
    metadata = {"model": model, "scheme": "cofw", "protocol": protocol.to_dict()}
    return Loaded(network or _NETWORK, {}, metadata)


_NETWORK = DotNetwork()
_forward_of = functools.cache(forward.make_forward)


@pytest.fixture
def compiled_once(monkeypatch):
    """Lets the predictors of all tests share compiled functions."""
    monkeypatch.setattr(predictor, "make_forward", _forward_of)
