"""The report's galleries: the worst, median and best faces with truth and prediction drawn."""

import dataclasses

import cv2
import numpy as np

from hrnet_jax.errors import HRNetError
from hrnet_jax.evaluation.scoring import Run
from hrnet_jax.geometry import apply_affine, crop_matrix
from hrnet_jax.images.crops import affine_crop
from hrnet_jax.inference.drawing import draw_landmarks

TRUTH, PREDICTION = (64, 224, 128), (255, 64, 160)  # RGB
_SIDE = 288  # pixels of a thumbnail
_PADDING = 1.3  # of the landmark box


@dataclasses.dataclass(frozen=True)
class Shot:
    """One face of a gallery: name of its image, NME in percent, RGB uint8 (S, S, 3).

    `note` says how many of its landmarks are annotated, where not all are.
    """

    name: str
    nme: float
    picture: np.ndarray
    note: str = ""

    def jpeg(self) -> bytes:
        """The picture as a JPEG file whose colours are as sharp as its greys."""
        options = [cv2.IMWRITE_JPEG_QUALITY, 85]
        options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
        return cv2.imencode(".jpg", self.picture[..., ::-1], options)[1].tobytes()


def make_galleries(run: Run, count: int = 8) -> tuple[dict[str, list[Shot]], list[str]]:
    """The worst, the median and the best faces, `count` of each, no face twice.

    Returns:
      shots by "worst", "median", "best" (no images at all: an empty dict), and the problems of
      images that could not be read.
    """
    run = run.measured()
    order = np.argsort(run.nme, kind="stable")[::-1]
    count = min(count, -(-len(order) // 3))
    middle = max(count, (len(order) - count) // 2)
    chosen = {
        "worst": order[:count],
        "median": order[middle : middle + count],
        "best": order[max(middle + count, len(order) - count) :][::-1],
    }
    galleries, problems = {}, []
    for kind, rows in chosen.items():
        shots = []
        for row in rows:
            try:
                shots.append(_shot(run, row))
            except HRNetError as error:
                problems.append(str(error))
        if shots:
            galleries[kind] = shots
    return galleries, problems


def _shot(run, row):
    """The face about its landmark box, with its true and predicted landmarks."""
    records = run.records
    side = records.sides[row] * _PADDING
    matrix = crop_matrix(records.centers[row], side, _SIDE)
    picture = affine_crop(records.image(row), matrix, _SIDE)
    for points, colour in ((records.points[row], TRUTH), (run.predictions[row], PREDICTION)):
        picture = draw_landmarks(picture, apply_affine(matrix, points), run.scheme, colour=colour)
    annotated = np.isfinite(records.points[row]).all(axis=1)
    note = "" if annotated.all() else f"{annotated.sum()} of {annotated.size} landmarks annotated"
    return Shot(records.names[row], 100 * float(run.nme[row]), picture, note)
