"""Five points and aligned crops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrnet_jax.errors import HRNetError
from hrnet_jax.geometry import apply_affine
from hrnet_jax.inference.alignment import TEMPLATE, align, five_points, similarity
from hrnet_jax.schemes import SCHEMES


@given(
    angle=st.floats(-np.pi, np.pi),
    zoom=st.floats(0.05, 20),
    x=st.floats(-3000, 3000),
    y=st.floats(-3000, 3000),
)
def test_similarity_is_recovered(angle, zoom, x, y):
    turn = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = np.column_stack([turn, [x, y]])
    found = similarity(TEMPLATE, apply_affine(matrix, TEMPLATE))
    np.testing.assert_allclose(found, matrix, atol=1e-6)


def test_similarity_does_not_reflect():
    mirrored = TEMPLATE * [-1, 1]
    assert np.linalg.det(similarity(TEMPLATE, mirrored)[:, :2]) > 0


def test_similarity_is_the_least_squares_one():
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(2, 5, 2))
    best = similarity(source, target)

    def error(matrix):
        return np.sum((apply_affine(matrix, source) - target) ** 2)

    for _ in range(20):
        a, b, x, y = 0.05 * rng.normal(size=4)
        assert error(best + np.array([[a, -b, x], [b, a, y]])) > error(best)


@pytest.mark.parametrize("name", SCHEMES)
def test_five_points_are_means(name):
    scheme = SCHEMES[name]
    landmarks = np.random.default_rng(1).normal(size=(scheme.num_landmarks, 2))
    five = five_points(landmarks, scheme)
    assert five.shape == (5, 2)
    for point, indices in zip(five, scheme.five_points, strict=True):
        np.testing.assert_allclose(point, landmarks[list(indices)].mean(axis=0), rtol=1e-5)
    with pytest.raises(HRNetError, match=name):
        five_points(landmarks[1:], scheme)


@pytest.mark.parametrize("zoom", [0.4, 1.0, 1.7, 6.0])
def test_points_land_on_the_template(zoom):
    """Dots in a turned picture come out at the template's places, to a tenth of a pixel."""
    angle = np.deg2rad(20)
    turn = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    five = TEMPLATE @ turn.T + [60 * zoom, 10 * zoom]
    size = int(170 * zoom)
    y, x = np.mgrid[:size, :size] + 0.5
    image = np.zeros((size, size))
    for px, py in five:
        image += np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * (2.5 * zoom) ** 2))
    image = np.repeat((255 * image)[..., None], 3, axis=2).astype(np.uint8)
    aligned, matrix = align(image, five)
    assert aligned.shape == (112, 112, 3) and aligned.dtype == np.uint8
    np.testing.assert_allclose(apply_affine(matrix, five), TEMPLATE, atol=1e-6)
    y, x = np.mgrid[:112, :112] + 0.5
    for px, py in TEMPLATE:
        window = ((x - px) ** 2 + (y - py) ** 2 < 8**2) * aligned[..., 0].astype(float)
        centre = np.array([(window * x).sum(), (window * y).sum()]) / window.sum()
        np.testing.assert_allclose(centre, [px, py], atol=0.1)


def test_other_sizes_scale_the_template():
    image = np.zeros((300, 300, 3), np.uint8)
    aligned, matrix = align(image, TEMPLATE, size=224)
    assert aligned.shape == (224, 224, 3)
    np.testing.assert_allclose(matrix, [[2, 0, 0], [0, 2, 0]], atol=1e-9)


def test_points_that_cannot_be_aligned():
    image = np.zeros((30, 30, 3), np.uint8)
    with pytest.raises(HRNetError, match="coincide"):
        align(image, np.ones((5, 2)))
    with pytest.raises(HRNetError, match="not finite"):
        align(image, np.full((5, 2), np.nan))
