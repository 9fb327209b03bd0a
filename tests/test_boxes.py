"""Boxes for evaluation: the data set's, a detector's, and moved ones."""

import dataclasses

import numpy as np
import pytest

from hrnet_jax.data.records import Records
from hrnet_jax.errors import HRNetError
from hrnet_jax.evaluation.boxes import describe_boxes, with_boxes
from hrnet_jax.geometry import landmark_box
from hrnet_jax.inference.detector import make_detector

FACES = np.array([[10, 20, 50, 60], [70, 25, 110, 65], [15, 12, 45, 48], [20, 20, 60, 60]], float)


@pytest.fixture
def records():
    """Two faces in the first picture, one in each other; landmarks at the corners of FACES."""
    points = FACES[:, [[0, 1], [2, 1], [0, 3], [2, 3]]]
    boxes = [landmark_box(p) for p in points]
    return Records(
        names=("a", "a", "b", "c"),
        root=None,
        points=points,
        centers=np.stack([center for center, _ in boxes]),
        sides=np.array([side for _, side in boxes]),
        pictures=np.arange(4, dtype=np.uint8)[[0, 0, 2, 3], None, None, None]
        * np.ones((1, 80, 120, 3), np.uint8),
    )


def detector(image):
    """Finds the faces of pictures a (each a little off, and something else) and c (far off)."""
    found = {
        0: [[72, 27, 112, 67], [9, 18, 51, 60], [0, 70, 8, 78]],
        2: [],
        3: [[90, 0, 120, 30]],
    }[int(image[0, 0, 0])]
    return np.array(found, np.float32).reshape(-1, 4), np.ones(len(found))


def test_landmark_boxes_stay(records):
    assert with_boxes(records) is records
    assert describe_boxes(records, "landmarks", 0.0, 0, "haar") == {
        "kind": "landmarks",
        "jitter": 0.0,
    }


def test_rectangles_become_squares(records):
    with pytest.raises(HRNetError, match="no face rectangles"):
        with_boxes(records, "rectangle")
    rectangles = FACES + [0, -10, 4, 10]
    given = dataclasses.replace(records, rectangles=rectangles)
    squared = with_boxes(given, "rectangle")
    np.testing.assert_allclose(squared.centers, (rectangles[:, :2] + rectangles[:, 2:]) / 2)
    np.testing.assert_allclose(squared.sides, [60, 60, 56, 60])
    empty = dataclasses.replace(records, rectangles=rectangles * [[1], [1], [0], [1]])
    with pytest.raises(HRNetError, match="face rectangle of b: .*is empty"):
        with_boxes(empty, "rectangle")


def test_each_face_gets_its_own_detection_and_missed_ones_are_marked(records):
    found = with_boxes(records, "detector", detector=detector)
    np.testing.assert_allclose(found.centers[:2], [[30, 39], [92, 47]])
    np.testing.assert_allclose(found.sides[:2], [42, 40], rtol=1e-6)
    np.testing.assert_array_equal(found.centers[2:], records.centers[2:])
    np.testing.assert_array_equal(found.sides[2:], records.sides[2:])
    np.testing.assert_array_equal(found.subsets["detected"], [True, True, False, False])
    assert describe_boxes(found, "detector", 0.0, 0, "yunet.onnx") == {
        "kind": "detector",
        "jitter": 0.0,
        "detector": "yunet.onnx",
        "missed": 2,
    }
    assert records.subsets == {}


def test_aflw_networks_get_rectangles_of_faces(records):
    aflw = dataclasses.replace(records, box_sizes=np.full(4, 40.0))
    found = with_boxes(aflw, "detector", detector=detector)
    np.testing.assert_allclose(found.sides[1], 1.27 * 40, rtol=1e-6)
    np.testing.assert_allclose(found.centers[1], [92, 47 - 0.07 * 40], rtol=1e-6)


def test_jitter_is_seeded_and_of_the_size_it_says():
    count, jitter = 4000, 0.1
    records = Records(
        names=("a",) * count,
        root=None,
        points=np.zeros((count, 1, 2)),
        centers=np.full((count, 2), 50.0),
        sides=np.linspace(20, 400, count),
    )
    moved = with_boxes(records, jitter=jitter, seed=3)
    shift = (moved.centers - records.centers) / records.sides[:, None]
    factor = moved.sides / records.sides
    for change in (*shift.T, factor - 1):
        assert -jitter <= change.min() < -0.099 and 0.099 < change.max() <= jitter
        assert abs(change.mean()) < 0.003
        assert change.std() == pytest.approx(jitter / np.sqrt(3), rel=0.03)
    again = with_boxes(records[:10], jitter=jitter, seed=3)
    np.testing.assert_array_equal(again.centers, moved.centers[:10])
    other = with_boxes(records, jitter=jitter, seed=4)
    assert (other.sides != moved.sides).all()
    np.testing.assert_array_equal(records.centers, 50.0)


def test_what_is_refused(records):
    with pytest.raises(HRNetError, match="unknown box 'mtcnn'"):
        with_boxes(records, "mtcnn")
    for jitter in (-0.1, 1.0, np.nan):
        with pytest.raises(HRNetError, match="box jitter"):
            with_boxes(records, jitter=jitter)


def test_haar_boxes_of_photographs_lie_near_the_landmarks(shared):
    from hrnet_jax.data.records import read_csv

    root = shared / "data" / "300w"
    records = read_csv(root / "face_landmarks_300w_valid.csv", root / "images", 68)[:8]
    found = with_boxes(records, "detector", detector=make_detector("haar"))
    detected = found.subsets["detected"]
    assert detected.sum() >= 6
    factor = (found.sides / records.sides)[detected]
    shift = np.abs(found.centers - records.centers) / records.sides[:, None]
    assert 0.7 < factor.min() and factor.max() < 1.4 and shift.max() < 0.25
