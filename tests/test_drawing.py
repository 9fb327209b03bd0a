"""Drawn landmarks: in place, in proportion, and never a crash."""

import dataclasses

import numpy as np
import pytest

from hrnet_jax.inference.drawing import contact_sheet, draw_landmarks
from hrnet_jax.schemes import SCHEMES

DOTS_ONLY = dataclasses.replace(SCHEMES["aflw"], name="dots", lines=())


def random_face(scheme, low, size, seed=0):
    return low + size * np.random.default_rng(seed).random((scheme.num_landmarks, 2))


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("size", [20, 300, 2000])
def test_every_scheme_draws_at_every_size(name, size):
    scheme = SCHEMES[name]
    side = int(1.5 * size)
    image = np.full((side, side + 1, 3), 90, np.uint8)
    drawn = draw_landmarks(
        image, random_face(scheme, size / 4, size), scheme, box=(1, 1, size, size)
    )
    assert drawn.shape == image.shape and drawn.dtype == np.uint8
    assert (image == 90).all()  # the argument stays as it was
    changed = (drawn != 90).any(axis=-1)
    assert 0.001 < changed.mean() < 0.9


@pytest.mark.parametrize("size", [80, 900])
def test_dots_are_centred_on_the_points(size):
    """The centroid of a dot's light is the point to a twentieth of a pixel: no half pixel lost."""
    points = np.full((19, 2), 30.3)
    points[1:] = [30.3 + size, 30.8 + size]
    points[0] = [30.3, 40.7]
    image = np.zeros((size + 80, size + 80, 3), np.uint8)
    drawn = draw_landmarks(image, points, DOTS_ONLY)[..., 0].astype(float)
    y, x = np.mgrid[: len(drawn), : len(drawn)] + 0.5
    near = drawn * ((x - 30.3) ** 2 + (y - 40.7) ** 2 < 15**2)
    centre = np.array([(near * x).sum(), (near * y).sum()]) / near.sum()
    np.testing.assert_allclose(centre, [30.3, 40.7], atol=0.05)


def test_drawing_obeys_the_mirror():
    scheme = SCHEMES["300w"]
    points = random_face(scheme, 20, 150)
    image = np.full((190, 200, 3), 120, np.uint8)
    drawn = draw_landmarks(image, points, scheme).astype(int)
    mirrored = draw_landmarks(image, [200, 0] + points * [-1, 1], scheme).astype(int)
    difference = np.abs(drawn - mirrored[:, ::-1])
    assert difference.mean() < 0.3 and np.quantile(difference, 0.99) < 12


@pytest.mark.parametrize("offset", [-100, 150, 1e9, -1e300])
def test_points_outside_the_image(offset):
    scheme = SCHEMES["wflw"]
    image = np.full((100, 120, 3), 50, np.uint8)
    points = random_face(scheme, 10, 60)
    points[::2] += offset
    assert draw_landmarks(image, points, scheme, box=(offset, 0, 2e9, 50)).shape == image.shape


def test_points_that_are_not_finite_are_left_out():
    scheme = SCHEMES["cofw"]
    image = np.full((100, 120, 3), 50, np.uint8)
    points = random_face(scheme, 10, 60)
    points[3], points[10] = np.nan, np.inf
    assert (draw_landmarks(image, points, scheme) != image).any()
    np.testing.assert_array_equal(draw_landmarks(image, points * np.nan, scheme), image)


def test_low_scores_turn_red():
    points = np.array([[20.0, 20.0]] * 18 + [[180.0, 180.0]])
    image = np.zeros((200, 200, 3), np.uint8)
    scores = np.array([1.0] * 18 + [0.0])
    drawn = draw_landmarks(image, points, DOTS_ONLY, scores)
    assert drawn[20, 20].min() > 200
    red, green, _ = drawn[180, 180].astype(int)
    assert red > 200 and green < 90


def test_contact_sheet():
    images = [np.full((h, w, 3), 10 * h, np.uint8) for h, w in ((4, 9), (20, 10), (7, 7))]
    sheet = contact_sheet(images, columns=2, cell=20, gap=2)
    assert sheet.shape == (46, 46, 3) and sheet.dtype == np.uint8
    assert (sheet[12, 12] == 40).all() and (sheet[12, 34] == 200).all()
    assert (sheet[34, 12] == 70).all() and (sheet[34, 34] == 255).all()
    assert contact_sheet(images[:1], columns=5, cell=20, gap=2).shape == (24, 24, 3)


@pytest.mark.parametrize("offset", [(500, 60), (80, -300), (170, 60), (-1e6, 0)])
def test_a_face_wholly_outside_leaves_the_image_as_it_is(offset):
    image = np.full((120, 160, 3), 90, np.uint8)
    face = random_face(SCHEMES["300w"], 0, 40) + offset
    assert (draw_landmarks(image, face, SCHEMES["300w"]) == image).all()
