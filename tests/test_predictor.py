"""The way from a picture to landmarks, with coloured dots for faces."""

import dataclasses

import numpy as np
import pytest

from hrnet_jax import protocols
from hrnet_jax.checkpoints import Loaded
from hrnet_jax.errors import HRNetError
from hrnet_jax.inference import predictor as module
from hrnet_jax.inference.predictor import Predictor
from tests.dots import SCHEME, DotNetwork, compiled_once, dot_model, landmarks_in, picture  # noqa: F401

pytestmark = pytest.mark.usefixtures("compiled_once")

BOX = (61.0, 40.0, 241.0, 220.0)


def detector_of(boxes, scores=None):
    scores = np.arange(len(boxes), 0, -1) if scores is None else scores
    return lambda image: (np.array(boxes, np.float32), np.array(scores, np.float32))


@pytest.fixture(scope="module")
def image():
    return picture(260, 320, [BOX])


@pytest.mark.parametrize("flip_test", [False, True])
def test_landmarks_in_a_box_are_found_to_a_fraction_of_a_pixel(image, flip_test):
    predictor = Predictor(dot_model(protocols.float_protocol(flip_test=flip_test)))
    (face,) = predictor(image, boxes=[BOX])
    truth = landmarks_in(BOX)
    np.testing.assert_allclose(face.landmarks, truth, atol=0.2)
    assert np.abs((face.landmarks - truth).mean(axis=0)).max() < 0.03  # no half pixel anywhere
    np.testing.assert_array_equal(face.box, BOX)
    assert face.landmarks.dtype == face.scores.dtype == face.box.dtype == np.float32
    assert face.landmarks.shape == (29, 2) and face.scores.shape == (29,)
    assert face.scores.min() > 0.5
    truth_five = [truth[list(indices)].mean(axis=0) for indices in SCHEME.five_points]
    np.testing.assert_allclose(face.five_points, truth_five, atol=0.2)


def test_official_protocol_gives_its_whole_pixels(image):
    (face,) = Predictor(dot_model(protocols.official("cofw")))(image, boxes=[BOX])
    np.testing.assert_array_equal(face.landmarks, np.rint(face.landmarks))
    # A cell is 3.5 pixels: a quarter-cell decoder errs by up to half of one, and trunc + 1 adds 1.
    np.testing.assert_allclose(face.landmarks, landmarks_in(BOX), atol=2.8)


def test_weights_without_a_protocol_use_the_official_one():
    loaded = dot_model()
    loaded = dataclasses.replace(loaded, metadata={**loaded.metadata, "protocol": None})
    assert Predictor(loaded).protocol == protocols.official("cofw")
    loaded.metadata["scheme"] = None
    assert Predictor(loaded).scheme is SCHEME


def test_box_beyond_the_image():
    box = (-60.0, 30.0, 120.0, 210.0)
    (face,) = Predictor(dot_model())(picture(260, 320, [box]), boxes=[box])
    truth = landmarks_in(box)
    seen = truth[:, 0] > 10
    np.testing.assert_allclose(face.landmarks[seen], truth[seen], atol=0.2)


def test_second_pass_crops_by_the_landmarks(image):
    detector = detector_of([(75, 45, 265, 235)])  # 8 % off, 6 % too large
    (face,) = Predictor(dot_model(), detector)(image)
    np.testing.assert_allclose(face.box, BOX, atol=1.2)
    np.testing.assert_allclose(face.landmarks, landmarks_in(BOX), atol=0.2)
    (face,) = Predictor(dot_model(), detector, passes=1)(image)
    np.testing.assert_array_equal(face.box, (75, 45, 265, 235))


def test_aflw_is_cropped_by_face_rectangles():
    metadata = {"model": {"name": "dots", "num_landmarks": 19}, "scheme": "aflw"}
    predictor = Predictor(Loaded(None, {}, metadata))
    boxes = predictor._crop_boxes(np.array([[100.0, 100.0, 200.0, 180.0]]))
    np.testing.assert_allclose(boxes, [[86.5, 69.5, 213.5, 196.5]])


def test_false_and_double_detections_are_dropped(image):
    boxes = [(260, 5, 300, 45), (55, 45, 245, 235), (65, 30, 250, 215)]
    (face,) = Predictor(dot_model(), detector_of(boxes))(image)
    np.testing.assert_allclose(face.landmarks, landmarks_in(BOX), atol=0.2)
    # A given box is the caller's word: it always gives a face.
    faces = Predictor(dot_model())(image, boxes=boxes)
    assert len(faces) == 3 and faces[0].scores.mean() < 0.01


def test_unusable_detections_are_ignored(image):
    boxes = [(400, 5, 500, 45), (np.nan, 0, 1, 1), (10, 10, 10, 40), (55, 45, 245, 235)]
    assert len(Predictor(dot_model(), detector_of(boxes))(image)) == 1
    assert Predictor(dot_model(), detector_of(np.zeros((0, 4))))(image) == []
    assert Predictor(dot_model())(image, boxes=[]) == []


def test_batches_are_powers_of_two(monkeypatch):
    monkeypatch.setattr(module, "_MAX_BATCH", 4)
    network = DotNetwork()
    predictor = Predictor(dot_model(protocols.float_protocol(input_size=64), network))
    boxes = [(10 + i, 12, 58 + i, 60) for i in range(7)]
    image = picture(70, 70, boxes[:1])
    together = predictor(image, boxes=boxes)
    assert [shape[0] for shape in network.shapes] == [4]  # 4 and 3, both compiled as 4
    (alone,) = predictor(image, boxes=boxes[6:])
    np.testing.assert_allclose(together[6].scores, alone.scores, atol=1e-5)
    np.testing.assert_array_equal(together[6].box, boxes[6])
    assert [shape[0] for shape in network.shapes] == [4, 1]


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ((np.nan, 0, 10, 10), "not finite"),
        ((50, 20, 50, 60), r"\(50, 20, 50, 60\) is empty"),
        ((50, 60, 90, 20), "is empty"),
        ((330, 20, 400, 90), r"outside the image; the image is 320 x 260 pixels"),
        ((0, -50, 40, 0), "outside the image"),
    ],
)
def test_bad_boxes(image, box, words):
    with pytest.raises(HRNetError, match=words):
        Predictor(dot_model())(image, boxes=[BOX, box])


@pytest.mark.parametrize("boxes", [[1, 2, 3, 4], [(1, 2, 3)], "box", [(1, 2, 3, "x")]])
def test_boxes_of_a_wrong_form(image, boxes):
    with pytest.raises(HRNetError, match="list of"):
        Predictor(dot_model())(image, boxes=boxes)


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((20, 20, 3), np.float32),
        np.zeros((20, 20), np.uint8),
        np.zeros((20, 20, 4), np.uint8),
        np.zeros((0, 20, 3), np.uint8),
        "photo.jpg",
    ],
)
def test_bad_images(bad):
    with pytest.raises(HRNetError, match="image"):
        Predictor(dot_model())(bad, boxes=[(0, 0, 9, 9)])


def test_bad_construction():
    with pytest.raises(HRNetError, match="passes=0"):
        Predictor(dot_model(), passes=0)
    loaded = dot_model()
    loaded.metadata["scheme"] = "wflw"
    with pytest.raises(HRNetError, match="29 points, its scheme wflw 98"):
        Predictor(loaded)
    loaded.metadata.update(scheme=None, model={"name": "dots", "num_landmarks": 5})
    with pytest.raises(HRNetError, match="5 points"):
        Predictor(loaded)
    with pytest.raises(HRNetError, match="no-such-model"):
        Predictor("no-such-model")


def test_output_that_is_not_finite(image):
    class Broken(DotNetwork):
        def apply(self, variables, images):
            return super().apply(variables, images) * np.nan

    with pytest.raises(HRNetError, match="not finite"):
        Predictor(dot_model(network=Broken()))(image, boxes=[BOX])


def test_the_aligned_flip_moves_points_by_half_of_the_stored_offset(image):
    loaded = dot_model()
    loaded.metadata["flip_offset"] = 0.1
    (plain,) = Predictor(loaded)(image, boxes=[BOX])
    (flipped,) = Predictor(loaded, aligned_flip=True)(image, boxes=[BOX])
    left, right = SCHEME.normaliser
    eyes = np.linalg.norm(plain.landmarks[left] - plain.landmarks[right])
    # The network obeys the mirror: what is left is the offset, half of it, to the right.
    moved = flipped.landmarks - plain.landmarks
    np.testing.assert_allclose(moved, np.tile([0.05 * eyes, 0], (29, 1)), atol=0.1)
    assert np.abs(moved.mean(axis=0) - [0.05 * eyes, 0]).max() < 0.02


@pytest.mark.parametrize(
    ("offset", "protocol", "words"),
    [
        (None, protocols.float_protocol(), "stores no flip_offset"),
        ("far", protocols.float_protocol(), "no share below 1"),
        (float("nan"), protocols.float_protocol(), "no share below 1"),
        (0.01, protocols.float_protocol(flip_test=True), "take one of them"),
        (0.01, protocols.official("cofw"), "whole pixels"),
    ],
)
def test_an_aligned_flip_that_cannot_be(offset, protocol, words):
    loaded = dot_model(protocol)
    if offset is not None:
        loaded.metadata["flip_offset"] = offset
    with pytest.raises(HRNetError, match=words):
        Predictor(loaded, aligned_flip=True)


def test_an_aligned_flip_without_eye_corners():
    """Told when the network is loaded, not at the first face."""
    loaded = dot_model(protocols.float_protocol())
    model = {"name": "dots", "num_landmarks": 19}
    loaded.metadata.update(model=model, scheme="aflw", flip_offset=0.01)
    with pytest.raises(HRNetError, match="aflw names no outer eye corners"):
        Predictor(loaded, aligned_flip=True)
