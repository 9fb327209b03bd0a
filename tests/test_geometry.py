"""Boxes, transforms and flips, against the official code's integer transforms and by property."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrnet_jax import geometry
from hrnet_jax.errors import HRNetError
from hrnet_jax.schemes import SCHEMES

DATA = Path(__file__).parent / "data"
coordinates = st.floats(-2000, 2000)
boxes = st.tuples(coordinates, coordinates, st.floats(1, 3000))
angles = st.floats(-180, 180)


def test_official_integer_transform_both_ways():
    reference = np.load(DATA / "official_transform_pixel.npz")
    for k in range(len(reference["points"])):
        center, scale = reference["center"][k], reference["scale"][k]
        rotation = reference["rotation_deg"][k]
        there = geometry.official_transform_pixel(
            reference["points"][k], center, scale, 64, rotation
        )
        np.testing.assert_array_equal(there, reference["to_heatmap_64"][k])
        # The reference's way back was computed without rotation, as the decoder calls it.
        back = geometry.official_transform_pixel(
            reference["heatmap_points"][k], center, scale, 64, invert=True
        )
        np.testing.assert_array_equal(back, reference["from_heatmap_64"][k])
        matrix = geometry.crop_matrix(center, 200 * scale, 256, rotation)
        np.testing.assert_allclose(matrix, reference["matrix_to_256"][k][:2], atol=1e-12)


def test_the_integer_transform_truncates_toward_zero():
    # T(p - 1) of a box that is the heatmap itself is p - 1.
    points = np.array([[0.5, 1.5], [2.9, -3.5]])
    result = geometry.official_transform_pixel(points, (32, 32), 64 / 200, 64)
    np.testing.assert_array_equal(result, [[1, 1], [2, -3]])
    assert result.dtype == np.int64


def test_landmark_box_follows_the_annotation_files():
    center, side = geometry.landmark_box([[10.2, 20.0], [99.5, 61.3], [np.nan, 5.0]])
    np.testing.assert_array_equal(center, [55.0, 41.0])
    assert side == 90
    with pytest.raises(HRNetError, match="finite landmark"):
        geometry.landmark_box([[np.nan, 1.0]])


def test_box_from_corners():
    center, side = geometry.box_from_corners(10, 20, 40, 100)
    np.testing.assert_array_equal(center, [25, 60])
    assert side == 80
    for corners in ((0, 0, 0, 5), (5, 0, 0, 5), (0, 0, np.nan, 5), (0, 0, np.inf, 5)):
        with pytest.raises(HRNetError, match="box"):
            geometry.box_from_corners(*corners)


@given(boxes, angles)
def test_a_box_maps_to_the_whole_crop(box, rotation):
    x, y, side = box
    matrix = geometry.crop_matrix((x, y), side, 256)
    corners = np.array([[x - side / 2, y - side / 2], [x + side / 2, y + side / 2], [x, y]])
    expected = [[0, 0], [256, 256], [128, 128]]
    np.testing.assert_allclose(geometry.apply_affine(matrix, corners), expected, atol=1e-6)
    turned = geometry.crop_matrix((x, y), side, 256, rotation)
    np.testing.assert_allclose(geometry.apply_affine(turned, (x, y)), [128, 128], atol=1e-6)
    zoom = np.sqrt(np.linalg.det(turned[:, :2]))
    assert zoom == pytest.approx(256 / side)


def test_positive_rotation_is_counter_clockwise():
    matrix = geometry.crop_matrix((50, 50), 100, 100, 90)
    # The point right of the centre moves above it.
    np.testing.assert_allclose(geometry.apply_affine(matrix, [80, 50]), [50, 20], atol=1e-9)


@given(boxes, angles, st.lists(st.tuples(coordinates, coordinates), min_size=1, max_size=5))
def test_inverse_of_affine(box, rotation, points):
    matrix = geometry.crop_matrix(box[:2], box[2], 64, rotation)
    there = geometry.apply_affine(matrix, points)
    back = geometry.apply_affine(geometry.invert_affine(matrix), there)
    np.testing.assert_allclose(back, points, atol=1e-6)


@pytest.mark.parametrize(
    ("center", "side"),
    [((np.nan, 0), 10), ((0, 0), 0), ((0, 0), -3), ((0, 0), np.nan), ((0, 0, 0), 10)],
)
def test_impossible_boxes(center, side):
    with pytest.raises(HRNetError, match="box"):
        geometry.crop_matrix(center, side, 64)


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_a_matrix_without_inverse(value):
    with pytest.raises(HRNetError, match="no inverse"):
        geometry.invert_affine(np.full((2, 3), value))


@given(st.sampled_from(sorted(SCHEMES)), st.integers(1, 4000), st.integers(0, 2**32 - 1))
def test_flipping_twice_changes_nothing(name, width, seed):
    scheme = SCHEMES[name]
    points = np.random.default_rng(seed).uniform(-10, 4000, (scheme.num_landmarks, 2))
    once = geometry.flip_points(points, width, scheme.flip_permutation)
    twice = geometry.flip_points(once, width, scheme.flip_permutation)
    np.testing.assert_allclose(twice, points, atol=1e-9)
    a, b = scheme.flip_pairs[0]
    np.testing.assert_array_equal(once[b], [width - points[a, 0], points[a, 1]])


@given(st.integers(1, 10**9), st.integers(0, 9))
def test_scales_of_files_and_sides_are_the_same_decimals(digits, places):
    """Also where the product of floats is off: 200 * 0.29 is 57.99999999999999."""
    scale = Fraction(digits, 10**places)
    assert geometry.sides_of(float(scale)) == float(200 * scale)
    assert geometry.scales_of(float(200 * scale)) == float(scale)
    assert geometry.scales_of(geometry.sides_of([[float(scale)]])).tolist() == [[float(scale)]]


@pytest.mark.parametrize("file", ["wflw_pair/test_wflw.json", "300w_pair/test_300w.json"])
def test_boxes_are_those_of_the_official_annotations(shared, file):
    annotations = json.loads((shared / "data" / file).read_text())["annotations"]
    assert len(annotations) >= 2
    for annotation in annotations:
        points = np.reshape(annotation["keypoints"], (-1, 3))[:, :2]
        center, side = geometry.landmark_box(points)
        np.testing.assert_array_equal(center, annotation["center"])
        assert side == pytest.approx(200 * annotation["scale"], rel=1e-12)
