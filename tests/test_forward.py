"""The flip test restores symmetry."""

import numpy as np
import pytest

from hrnet_jax.codecs import DarkCodec, UnbiasedCodec
from hrnet_jax.inference.forward import make_forward
from hrnet_jax.protocols import Protocol
from hrnet_jax.schemes import get_scheme

SCHEME = get_scheme("cofw")
PERMUTATION = np.asarray(SCHEME.flip_permutation)
SIZE = 32  # cells


class Lopsided:
    """Stands in for a network: a blob in each map, pulled about by the picture under it."""

    def __init__(self):
        rng = np.random.default_rng(0)
        x = rng.uniform(12, 20, SCHEME.num_landmarks)
        self.x = x / 2 + (SIZE - x[PERMUTATION]) / 2 + rng.uniform(-1, 1, len(x))
        self.y = rng.uniform(12, 20, len(x))
        self.y = (self.y + self.y[PERMUTATION]) / 2

    def apply(self, variables, images):
        y, x = np.mgrid[:SIZE, :SIZE][..., None] + 0.5
        blobs = np.exp(-((x - self.x) ** 2 + (y - self.y) ** 2) / 8)
        return blobs * (2 + 0.05 * images[:, ::4, ::4, :1])


def points_of(image, codec, **flip):
    protocol = Protocol("float", codec, 4 * SIZE, **flip)
    points, scores = make_forward(Lopsided(), protocol, SCHEME)({}, image[None])
    return np.asarray(points)[0], np.asarray(scores)[0]


@pytest.fixture
def symmetric():
    half = np.random.default_rng(1).integers(0, 256, (4 * SIZE, 2 * SIZE, 3), np.uint8)
    return np.concatenate([half, half[:, ::-1]], axis=1)


@pytest.mark.parametrize("codec", [UnbiasedCodec(2.0), DarkCodec(2.0)])
@pytest.mark.parametrize(("shift", "axis"), [(False, SIZE), (True, SIZE + 1)])
def test_symmetric_input_gives_symmetric_points(symmetric, codec, shift, axis):
    """About the middle of the map; with the shift about the middle of the columns from 1 on."""
    points, scores = points_of(symmetric, codec, flip_test=True, flip_shift=shift)
    mirrored = points[PERMUTATION] * [-1, 1] + [axis, 0]
    pairs = PERMUTATION != np.arange(len(points))
    np.testing.assert_allclose(points[pairs], mirrored[pairs], atol=1e-3)
    # On the mid-line two cells may tie, and the first one's neighbours decide.
    np.testing.assert_allclose(points, mirrored, atol=0.05)
    np.testing.assert_allclose(scores, scores[PERMUTATION], rtol=1e-5)


def test_without_it_the_points_are_not_symmetric(symmetric):
    points, _ = points_of(symmetric, UnbiasedCodec(2.0))
    assert np.abs(points - points[PERMUTATION] * [-1, 1] - [SIZE, 0]).max() > 0.3
    shifted, _ = points_of(symmetric, UnbiasedCodec(2.0), flip_shift=True)
    np.testing.assert_array_equal(points, shifted)  # there is nothing to shift
