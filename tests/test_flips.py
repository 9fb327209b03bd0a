"""Flip lists: involutions that leave a symmetric face as it is, and real faces nearly so."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrnet_jax.data.records import read_csv
from hrnet_jax.geometry import flip_points
from hrnet_jax.schemes import SCHEMES

each_scheme = pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)


@each_scheme
def test_flipping_twice_changes_nothing(scheme):
    permutation = scheme.flip_permutation
    assert sorted(permutation) == list(range(scheme.num_landmarks))
    np.testing.assert_array_equal(permutation[permutation], np.arange(scheme.num_landmarks))
    paired = np.ravel(scheme.flip_pairs)
    assert len(set(paired)) == len(paired)


@given(st.sampled_from(list(SCHEMES.values())), st.integers(0, 2**32 - 1), st.floats(20, 2000))
def test_a_symmetric_face_is_its_own_mirror_image(scheme, seed, width):
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, width, (scheme.num_landmarks, 2))
    points[:, 0] = width / 2  # the middle, but for pairs
    for left, right in scheme.flip_pairs:
        away = rng.uniform(0, width / 2)
        points[left, 0], points[right, 0] = width / 2 - away, width / 2 + away
        points[right, 1] = points[left, 1]
    mirrored = flip_points(points, width, scheme.flip_permutation)
    np.testing.assert_allclose(mirrored, points, atol=1e-9 * width)


@each_scheme
def test_flipped_contours_are_contours(scheme):
    """The list against the lines to draw: the left eye becomes the right one, the lips stay."""
    lines = {line.name: set(line.points) for line in scheme.lines}
    for name, points in lines.items():
        other = name.replace("left", "right") if "left" in name else name.replace("right", "left")
        assert {int(scheme.flip_permutation[p]) for p in points} == lines[other], name


def _mean_shape(points):
    """The mean of faces (N, L, 2) in unit boxes about 0."""
    low, high = points.min(axis=1, keepdims=True), points.max(axis=1, keepdims=True)
    return ((points - (low + high) / 2) / (high - low).max(axis=-1, keepdims=True)).mean(axis=0)


@pytest.mark.parametrize("name", ["300w", "wflw"])
def test_the_mean_face_is_nearly_its_own_mirror_image(shared, name):
    if name == "300w":
        folder = shared / "data" / "300w"
        points = read_csv(folder / "face_landmarks_300w_train.csv", folder, 68).points
    else:
        folder = shared / "data" / "wflw_mini" / "WFLW_annotations"
        (path,) = folder.glob("*/list_98pt_rect_attr_train.txt")
        rows = [line.split()[:196] for line in path.read_text().splitlines()]
        points = np.array(rows, float).reshape(-1, 98, 2)
    mean = _mean_shape(points)
    mirrored = flip_points(mean, 0, SCHEMES[name].flip_permutation)
    assert np.linalg.norm(mirrored - mean, axis=1).max() < 0.05  # neighbours are 0.03 … 0.1 apart
