"""Face detectors; how well they find faces is measured on photographs that a clone lacks."""

import xml.etree.ElementTree

import cv2
import numpy as np
import pytest

from hrnet_jax.errors import HRNetError
from hrnet_jax.geometry import box_from_corners
from hrnet_jax.images import read_image
from hrnet_jax.inference import detector as module
from hrnet_jax.inference.detector import HaarDetector, YuNetDetector, make_detector


@pytest.fixture(scope="session")
def photographs(shared):
    """[(image, landmark boxes (F, 4))]: two group photographs with all their faces."""
    folder = shared / "data" / "faces"
    tree = xml.etree.ElementTree.parse(folder / "training_with_face_landmarks.xml")
    result = []
    for element in tree.getroot().iter("image"):
        if element.get("file") not in ("2008_001009.jpg", "2008_001322.jpg"):
            continue
        boxes = []
        for box in element.iter("box"):
            points = [[float(part.get("x")), float(part.get("y"))] for part in box.iter("part")]
            boxes.append([*np.min(points, axis=0), *np.max(points, axis=0)])
        result.append((read_image(folder / element.get("file")), np.array(boxes)))
    return result


def check_finds(detector, photographs, most_false):
    """All faces found, with centres within 15 % and sides within 30 % of the landmark boxes'."""
    found = false = 0
    for image, truth in photographs:
        boxes, scores = detector(image)
        assert boxes.dtype == np.float32 and boxes.shape == (len(scores), 4)
        assert (np.diff(scores) <= 0).all()
        matched = set()
        for box in boxes:
            center, side = box_from_corners(*box)
            for index, true_box in enumerate(truth):
                true_center, true_side = box_from_corners(*true_box)
                near = np.linalg.norm(center - true_center) < 0.15 * true_side
                if near and 0.7 < side / true_side < 1.3:
                    matched.add(index)
                    break
            else:
                false += 1
        found += len(matched)
    assert found == sum(len(truth) for _, truth in photographs)
    assert false <= most_false


def test_haar_finds_the_faces(photographs):
    check_finds(HaarDetector(), photographs, most_false=2)


def test_yunet_finds_the_faces(photographs, shared):
    path = shared / "data" / "detectors" / "yunet_n_dynamic.onnx"
    check_finds(make_detector(str(path)), photographs, most_false=0)


def test_boxes_follow_a_large_and_a_wide_picture(photographs, shared):
    """A face keeps its place when the picture is enlarged and put in a corner of a wide one."""
    path = shared / "data" / "detectors" / "yunet_n_dynamic.onnx"
    image, boxes = photographs[0]
    large = np.repeat(np.repeat(image, 2, axis=0), 2, axis=1)
    wide = np.concatenate([np.zeros((len(large), 280, 3), np.uint8), large], axis=1)
    moved = 2 * boxes + [280, 0, 280, 0]
    for detector in (HaarDetector(), YuNetDetector(path)):
        check_finds(detector, [(wide, moved)], most_false=2)


def test_picture_without_a_face():
    boxes, scores = HaarDetector()(np.full((90, 120, 3), 128, np.uint8))
    assert boxes.shape == (0, 4) and scores.shape == (0,)
    boxes, _ = HaarDetector()(np.zeros((1, 1, 3), np.uint8))
    assert boxes.shape == (0, 4)


def test_profiles_are_asked_only_without_frontal_faces(monkeypatch):
    """The mirrored image's boxes come back mirrored."""
    detector = HaarDetector()
    asked = []

    def detect(cascade, grey):
        asked.append(cascade)
        found = len(asked) == 3  # frontal, profile, profile of the mirror image
        return np.array([[80.0, 100.0, 180.0, 200.0]] * found).reshape(-1, 4), np.ones(int(found))

    monkeypatch.setattr(detector, "_detect", detect)
    monkeypatch.setattr(detector, "_shift", (0.0, 0.0))
    monkeypatch.setattr(detector, "_ratio", 1.0)
    boxes, _ = detector(np.zeros((800, 800, 3), np.uint8))
    np.testing.assert_allclose(boxes, [[620, 100, 720, 200]])
    assert asked == [detector._frontal, detector._profile, detector._profile]


def test_duplicates_and_boxes_inside_others_go():
    boxes = np.array(
        [[0, 0, 10, 10], [1, 1, 11, 11], [3, 5, 7, 9], [20, 0, 30, 10], [8, 0, 18, 10]]
    )
    scores = np.array([2.0, 3.0, 9.0, 1.0, 0.5])
    assert module.suppress_duplicates(boxes, scores) == [2, 3, 4]
    assert module.suppress_duplicates(boxes[:2], scores[:2]) == [1]
    assert module.suppress_duplicates(np.zeros((0, 4)), np.zeros(0)) == []


def test_landmark_boxes_are_shifted_squares():
    boxes = module._to_landmark_boxes(np.array([[10.0, 20.0, 50.0, 100.0]]), (0.1, 0.25), 0.5)
    np.testing.assert_allclose(boxes, [[18, 60, 58, 100]])


def test_opencv_5_is_told_plainly(monkeypatch):
    monkeypatch.delattr(cv2, "CascadeClassifier")
    with pytest.raises(HRNetError, match="--detector=MODEL.onnx"):
        HaarDetector()


def test_bad_detector_models(tmp_path):
    with pytest.raises(HRNetError, match="no such detector model"):
        make_detector(str(tmp_path / "none.onnx"))
    (tmp_path / "bad.onnx").write_bytes(b"not a network")
    with pytest.raises(HRNetError, match="bad.onnx: no YuNet model"):
        make_detector(str(tmp_path / "bad.onnx"))
    with pytest.raises(HRNetError, match="unknown detector 'mtcnn'"):
        make_detector("mtcnn")
