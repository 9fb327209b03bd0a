"""From a picture to its faces' landmarks."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np

from hrnet_jax import geometry
from hrnet_jax.checkpoints import Loaded, load
from hrnet_jax.errors import HRNetError
from hrnet_jax.inference.alignment import five_points
from hrnet_jax.inference.detector import HaarDetector, rectangles_of_faces, suppress_duplicates
from hrnet_jax.inference.forward import make_forward
from hrnet_jax.inference.mirror import align, check_averaging, eye_corners
from hrnet_jax.protocols import official
from hrnet_jax.schemes import SCHEMES

DEFAULT_MODEL = "300w_small"  # ships with the project
# With the network that ships: the lowest of 200 faces of 300W has 0.69, of 138 YouTube frames 0.73;
# the Haar cascade's false detections in seven photographs have 0.24 to 0.74.
MIN_SCORE = 0.65
_MAX_BATCH = 16
_FAR = 1e6  # pixels


@dataclasses.dataclass(frozen=True)
class Face:
    """One face. Coordinates are continuous image pixels (pixel k covers [k, k + 1)).

    Attributes:
      landmarks: (L, 2) float32, (x, y); whole pixels where the protocol is "official".
      scores: (L,) float32, the heatmap maxima: about 1 for a sure point, near 0 for a guess.
      box: (4,) float32, x0, y0, x1, y1: the landmark box that the last pass cropped by.
      five_points: (5, 2) float32: eyes, nose tip, mouth corners, image left before right.
    """

    landmarks: np.ndarray
    scores: np.ndarray
    box: np.ndarray
    five_points: np.ndarray


class Predictor:
    """Finds landmarks, of the faces in given boxes or of those that a detector finds.

        predictor = Predictor()
        faces = predictor(image)
        faces = predictor(image, boxes=[(x0, y0, x1, y1)])

    The networks expect the tight box round the landmarks. A given box is taken for one. From a
    detector's box the landmarks are predicted, and then again from the box round these.

    Args:
      checkpoint: what `hrnet_jax.load` takes, or what it returned; None for the small network that
        ships with the project.
      detector: `detector(image) -> (boxes, scores)`, see `hrnet_jax.inference.detector`; None for
        the Haar cascades of OpenCV, loaded when a call first needs them.
      passes: how often the landmarks of a detected face are predicted.
      min_score: detected faces whose mean landmark score is below it are dropped.
      aligned_flip: average the points with those of the mirrored crop, moved right by the flip
        offset that the checkpoint stores (`flip_offset`, in inter-ocular distances: `hrnet-jax
        export --flip-offset`). Twice the time. HRNetError where none is stored, the protocol gives
        whole pixels or has a flip test of its own, or the scheme names no outer eye corners.
    """

    def __init__(
        self,
        checkpoint: Loaded | str | Path | None = None,
        detector: Callable | None = None,
        passes: int = 2,
        min_score: float = MIN_SCORE,
        aligned_flip: bool = False,
    ):
        if passes < 1:
            raise HRNetError(f"passes={passes}: a prediction takes at least one")
        if checkpoint is None:
            checkpoint = DEFAULT_MODEL
        loaded = checkpoint if isinstance(checkpoint, Loaded) else load(checkpoint)
        self.metadata = loaded.metadata
        self.scheme = _scheme(loaded)
        # Converted weights say nothing about it: they are the official code's.
        self.protocol = loaded.protocol or official(self.scheme.name)
        self._flip_offset = None
        if aligned_flip:
            self._flip_offset = loaded.flip_offset
            check_averaging(self.protocol)
            eye_corners(self.scheme)
        self._variables = loaded.variables
        self._forward = make_forward(loaded.model, self.protocol, self.scheme)
        self._detector = detector
        self._passes = passes
        self._min_score = min_score

    def __call__(self, image: np.ndarray, boxes=None) -> list[Face]:
        """Returns the faces of a picture: one for each box, or those the detector finds.

        Args:
          image: uint8 (H, W, 3), RGB.
          boxes: landmark boxes (F, 4), x0, y0, x1, y1 in image pixels; they may reach beyond the
            image. For AFLW's 19 points: face rectangles.

        Returns:
          F faces in the order of the boxes; without boxes the surest detection first, and an empty
          list where there is none.

        Raises:
          HRNetError: the image is not uint8 (H, W, 3); a box is empty, not finite or wholly outside
            the image.
        """
        _check_image(image)
        if boxes is not None:
            return self._predict(image, _check_boxes(boxes, image))
        return self._detect(image)

    def _detect(self, image):
        if self._detector is None:
            self._detector = HaarDetector()
        boxes, certainty = self._detector(image)
        boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
        usable = np.array([_fault(box, image) is None for box in boxes], bool)
        boxes, certainty = self._crop_boxes(boxes[usable]), np.asarray(certainty)[usable]
        faces = self._predict(image, boxes)
        for _ in range(self._passes - 1):
            boxes = self._crop_boxes(_tight_boxes(faces))
            # Nonsense landmarks, of a false detection, may have no box: keep the one they had.
            boxes = [
                face.box if _fault(box, image) else box
                for box, face in zip(boxes, faces, strict=True)
            ]
            faces = self._predict(image, boxes)
        # Two detections of one face end up at the same place.
        order = suppress_duplicates(_tight_boxes(faces), certainty)
        return [faces[i] for i in order if faces[i].scores.mean() >= self._min_score]

    def _crop_boxes(self, boxes):
        """Landmark boxes (F, 4) to the boxes that the network was trained on."""
        if self.scheme.normaliser is not None:
            return boxes
        return rectangles_of_faces(boxes)

    def _predict(self, image, boxes) -> list[Face]:
        squares = [geometry.box_from_corners(*np.asarray(box, np.float64)) for box in boxes]
        faces = []
        for start in range(0, len(squares), _MAX_BATCH):
            batch = squares[start : start + _MAX_BATCH]
            # Filled up to a power of two, so that few shapes are compiled.
            size = self.protocol.input_size
            crops = np.zeros((1 << (len(batch) - 1).bit_length(), size, size, 3), np.uint8)
            for crop, (center, side) in zip(crops, batch, strict=False):
                crop[:] = self.protocol.crop(image, center, side)
            points, scores = self._run(crops, len(batch))
            if self._flip_offset is not None:
                permutation = np.asarray(self.scheme.flip_permutation)
                mirrored, mirrored_scores = self._run(crops[:, :, ::-1], len(batch))
                mirrored = np.stack([self.protocol.unmirrored(p, permutation) for p in mirrored])
                points = (points + align(mirrored, points, self._flip_offset, self.scheme)) / 2
                scores = (scores + mirrored_scores[:, permutation]) / 2
            for index, (center, side) in enumerate(batch):
                landmarks = self.protocol.to_image(points[index], center, side)
                faces.append(
                    Face(
                        landmarks=landmarks.astype(np.float32),
                        scores=scores[index].astype(np.float32),
                        box=np.asarray(boxes[start + index], np.float32),
                        five_points=five_points(landmarks, self.scheme),
                    )
                )
        return faces

    def _run(self, crops, count):
        """Points in heatmap pixels and scores of the first `count` crops."""
        points, scores = (
            np.asarray(part)[:count] for part in self._forward(self._variables, crops)
        )
        if not np.isfinite(scores).all():
            raise HRNetError("the network's output is not finite: its weights are damaged")
        return points, scores


def _scheme(loaded):
    """The scheme that the metadata names, or else the one with that number of landmarks."""
    model = loaded.metadata["model"]
    if "num_classes" in model:
        raise HRNetError(f"{model['name']} tells classes: use hrnet_jax.inference.classifier")
    scheme, count = loaded.scheme, model.get("num_landmarks")
    if scheme is None:
        scheme = next((s for s in SCHEMES.values() if s.num_landmarks == count), None)
        if scheme is None:
            raise HRNetError(f"no landmark scheme has the {count} points of this checkpoint")
    if count not in (None, scheme.num_landmarks):
        raise HRNetError(
            f"the checkpoint has {count} points, its scheme {scheme.name} {scheme.num_landmarks}"
        )
    return scheme


def _check_image(image):
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        kind = image.dtype if isinstance(image, np.ndarray) else type(image).__name__
        raise HRNetError(f"image is {kind}: give a NumPy array of uint8, (H, W, 3) RGB")
    if image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise HRNetError(f"image has shape {image.shape}: give (H, W, 3) RGB")


def _check_boxes(boxes, image):
    try:
        array = np.asarray(boxes, np.float64)
    except (TypeError, ValueError):
        raise HRNetError(f"boxes {boxes!r}: give a list of (x0, y0, x1, y1)") from None
    if array.size and (array.ndim != 2 or array.shape[1] != 4):
        raise HRNetError(f"boxes have shape {array.shape}: give a list of (x0, y0, x1, y1)")
    for box in array.reshape(-1, 4):
        fault = _fault(box, image)
        if fault:
            height, width = image.shape[:2]
            corners = ", ".join(f"{value:g}" for value in box)
            raise HRNetError(f"box ({corners}) {fault}; the image is {width} x {height} pixels")
    return array.reshape(-1, 4)


def _fault(box, image):
    """What is wrong with a box, or None."""
    x0, y0, x1, y1 = box
    if not np.isfinite(box).all():
        return "is not finite"
    if np.abs(box).max() > _FAR:
        return f"reaches beyond {_FAR:g} pixels"
    if x1 <= x0 or y1 <= y0:
        return "is empty: give x0 < x1 and y0 < y1"
    if max(x1 - x0, y1 - y0) < 1:
        return "is smaller than a pixel"
    if x1 <= 0 or y1 <= 0 or x0 >= image.shape[1] or y0 >= image.shape[0]:
        return "lies outside the image"
    return None


def _tight_boxes(faces):
    """(F, 4): round the landmarks, to whole pixels outwards as the annotation files have them."""
    return np.array(
        [
            [*np.floor(face.landmarks.min(axis=0)), *np.ceil(face.landmarks.max(axis=0))]
            for face in faces
        ],
        np.float64,
    ).reshape(-1, 4)
