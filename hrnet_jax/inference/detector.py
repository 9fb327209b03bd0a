"""Face detectors: an image to boxes near the landmarks' own.

A detector is any function `detector(image) -> (boxes, scores)`: `image` uint8 (H, W, 3) RGB;
`boxes` float32 (F, 4), x0, y0, x1, y1 in continuous image pixels; `scores` (F,), higher is surer,
in the detector's own unit. `Predictor` calls it from every thread that calls it: the ones here take
turns.

Networks for landmarks are trained on boxes round the landmarks (brows to chin), and detectors draw
theirs differently. The detectors here return squares moved and scaled to where that box lies on
average: see `_to_landmark_boxes`.
"""

import threading
from pathlib import Path

import cv2
import numpy as np

from hrnet_jax.errors import HRNetError
from hrnet_jax.files import as_path


class HaarDetector:
    """Viola and Jones's detector with the cascades inside opencv-python-headless 4.

    It needs no download and finds upright, fairly frontal faces. The frontal cascade is asked
    first; the profile cascade, on the image and on its mirror image, only where that finds none.
    """

    # Chosen on photographs with several faces and 300W: of 85 faces it finds 83, with 7 false ones;
    # OpenCV's "default" cascade 80 with 20.
    _side = 800  # longer side of the searched picture, its pixels
    _smallest = 24  # side of the smallest box, of the same pixels
    _step = 1.05
    _votes = 3
    # Where landmark boxes lie: medians over 133 faces of these and of WFLW. Four of five lie within
    # 0.1 and 10 % of them.
    _shift, _ratio = (0.0, 0.145), 0.87

    def __init__(self):
        if not hasattr(cv2, "CascadeClassifier"):
            raise HRNetError(
                f"OpenCV {cv2.__version__} has no Haar cascades: install "
                "'opencv-python-headless<5', give --detector=MODEL.onnx (YuNet), or give boxes"
            )
        self._lock = threading.Lock()  # OpenCV's objects keep state within a call
        self._frontal = _cascade("haarcascade_frontalface_alt.xml")
        self._profile = _cascade("haarcascade_profileface.xml")

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Boxes (F, 4) float32, continuous image pixels, and scores (F,): surest first."""
        grey, zoom = _resized(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), self._side)
        with self._lock:
            boxes, scores = self._detect(self._frontal, grey)
            if not len(boxes):
                boxes, scores = self._detect(self._profile, grey)
                mirrored, mirrored_scores = self._detect(self._profile, grey[:, ::-1].copy())
                mirrored[:, [0, 2]] = grey.shape[1] - mirrored[:, [2, 0]]
                boxes = np.concatenate([boxes, mirrored])
                scores = np.concatenate([scores, mirrored_scores])
        kept = suppress_duplicates(boxes, scores)
        return _to_landmark_boxes(boxes[kept] / zoom, self._shift, self._ratio), scores[kept]

    def _detect(self, cascade, grey):
        found, _, scores = cascade.detectMultiScale3(
            grey,
            scaleFactor=self._step,
            minNeighbors=self._votes,
            minSize=(self._smallest, self._smallest),
            outputRejectLevels=True,
        )
        corners = np.asarray(found, np.float64).reshape(-1, 4)
        corners[:, 2:] += corners[:, :2]
        return corners, np.asarray(scores, np.float32).reshape(-1)


class YuNetDetector:
    """The YuNet network (Wu, Peng and Yu, 2023) by OpenCV: small faces, profiles, and few mistakes.

    Args:
      model_path: an ONNX file, e.g. face_detection_yunet_2023mar.onnx of OpenCV's model zoo.
      score_threshold: boxes below it are dropped; scores lie in 0 … 1.

    Raises:
      HRNetError: no such file, or no YuNet model that this OpenCV can read.
    """

    _side = 640  # fixed input of the published files; a face of 10 pixels in it is still found
    _overlap = 0.3  # intersection over union above which the weaker box goes; OpenCV's default
    # Medians over 288 faces, as for the cascades. Four of five lie within 0.04 and 10 % of them.
    _shift, _ratio = (0.0, 0.12), 0.79

    def __init__(self, model_path: str | Path, score_threshold: float = 0.7):
        path = as_path(model_path)
        if not path.is_file():
            raise HRNetError(f"{path}: no such detector model (an .onnx file of YuNet)")
        self._lock = threading.Lock()  # OpenCV's network keeps state within a call
        model = path.read_bytes()
        for name, value in (("batch", 1), ("height", self._side), ("width", self._side)):
            model = _fix_dimension(model, name, value)
        try:
            self._network = cv2.FaceDetectorYN.create(
                "onnx",
                np.frombuffer(model, np.uint8),
                np.zeros(0, np.uint8),
                (self._side, self._side),
                score_threshold,
                self._overlap,
            )
            self(np.zeros((64, 64, 3), np.uint8))  # another network fails only when it runs
        except cv2.error as error:
            raise HRNetError(
                f"{path}: no YuNet model that OpenCV {cv2.__version__} can read "
                "(try face_detection_yunet_2023mar.onnx of OpenCV's model zoo)"
            ) from error

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Boxes (F, 4) float32, continuous image pixels, and scores (F,): surest first."""
        small, zoom = _resized(image, self._side)
        canvas = np.zeros((self._side, self._side, 3), np.uint8)
        canvas[: small.shape[0], : small.shape[1]] = small[..., ::-1]
        with self._lock:
            found = self._network.detect(canvas)[1]
        found = np.zeros((0, 15), np.float32) if found is None else found
        boxes = found[:, :4].astype(np.float64)
        boxes[:, 2:] += boxes[:, :2]
        inside = (boxes[:, :2] < small.shape[1::-1]).all(axis=1)
        boxes, scores = boxes[inside], found[inside, -1]
        kept = suppress_duplicates(boxes, scores)
        return _to_landmark_boxes(boxes[kept] / zoom, self._shift, self._ratio), scores[kept]


def make_detector(name: str):
    """The detector of a command line: "haar", or the path of a YuNet model (.onnx)."""
    if name == "haar":
        return HaarDetector()
    if not name.endswith(".onnx"):
        raise HRNetError(f"unknown detector {name!r}: give haar or the path of a YuNet .onnx file")
    return YuNetDetector(name)


def _cascade(name):
    folder = Path(cv2.__file__).parent / "data"  # cv2.data.haarcascades, which the stubs lack
    cascade = cv2.CascadeClassifier(str(folder / name))
    if cascade.empty():
        raise HRNetError(f"OpenCV {cv2.__version__} cannot read its cascade {name}: reinstall it")
    return cascade


def _resized(image, side):
    """The image with a longer side of `side` pixels, and the factor, (x, y), that took it there."""
    height, width = image.shape[:2]
    zoom = side / max(height, width)
    size = max(1, round(width * zoom)), max(1, round(height * zoom))
    how = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
    resized = cv2.resize(image, size, interpolation=how)
    return resized, np.array([size[0] / width, size[1] / height] * 2)


def suppress_duplicates(boxes: np.ndarray, scores: np.ndarray) -> list[int]:
    """Which boxes to keep, surest first: none that a surer one shares half of the smaller with.

    Not intersection over union: a false box inside a face, on its mouth say, has little of that.

    Args:
      boxes: (F, 4), x0, y0, x1, y1 in any unit.
      scores: (F,).

    Returns:
      indices of the boxes to keep, by descending score.
    """
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    kept = []
    for index in np.argsort(-scores, kind="stable").tolist():
        low = np.maximum(boxes[kept, :2], boxes[index, :2])
        high = np.minimum(boxes[kept, 2:], boxes[index, 2:])
        shared = np.prod(np.maximum(high - low, 0), axis=1)
        if not (shared > 0.5 * np.minimum(areas[kept], areas[index])).any():
            kept.append(index)
    return kept


def _to_landmark_boxes(boxes, shift, ratio):
    """Squares where the landmarks of the detected faces lie on average.

    Args:
      boxes: (F, 4), image pixels.
      shift: (x, y) from a box's centre to that of its landmarks' box, in longer sides of the box.
      ratio: longer side of the landmarks' box / longer side of the box.

    Returns:
      (F, 4) float32, image pixels.
    """
    side = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True)
    center = (boxes[:, :2] + boxes[:, 2:]) / 2 + side * np.array(shift)
    half = ratio * side / 2
    return np.concatenate([center - half, center + half], axis=1).astype(np.float32)


# Where AFLW's face rectangles lie: in sides of the landmark box. Measured on two of its faces.
_AFLW_SHIFT, _AFLW_RATIO = (0.0, -0.07), 1.27


def rectangles_of_faces(boxes: np.ndarray) -> np.ndarray:
    """Landmark boxes to AFLW's face rectangles, which its networks are trained on instead.

    Both (F, 4), x0, y0, x1, y1 in image pixels; squares come back.
    """
    return _to_landmark_boxes(boxes, _AFLW_SHIFT, _AFLW_RATIO)


def _fix_dimension(model, name, value):
    """An ONNX file with the dimension of that name set to a number.

    OpenCV 4 refuses a YuNet whose input size is open. In the file a dimension is a tagged string
    (field 2); this writes a number (field 1) of the same length over it, padded as protobuf allows.
    """
    length = len(name) + 1
    digits = [(value >> (7 * i)) & 0x7F | (0x80 if i < length - 1 else 0) for i in range(length)]
    return model.replace(b"\x12" + bytes([len(name)]) + name.encode(), b"\x08" + bytes(digits), 1)
