"""The boxes that an evaluation crops by: the annotated ones, the data set's, or a detector's."""

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np

from hrnet_jax import geometry
from hrnet_jax.data.records import Records
from hrnet_jax.errors import HRNetError
from hrnet_jax.inference.detector import rectangles_of_faces

KINDS = ("landmarks", "rectangle", "detector")
DETECTED = "detected"  # the subset of faces whose box a detector gave

_SAME_FACE = 0.3  # intersection over union with the landmark box, from which a detection is its


def with_boxes(
    records: Records,
    kind: str = "landmarks",
    jitter: float = 0.0,
    seed: int = 0,
    detector: Callable | None = None,
    progress: Callable[[Iterable], Iterable] = iter,
) -> Records:
    """The same faces with other boxes.

    Args:
      records: N faces.
      kind: "landmarks": the annotated boxes. "rectangle": the square round the rectangle that the
        data set gives. "detector": of the boxes that `detector` finds in the picture the one that
        fits the face best. A face that it misses keeps its annotated box, so that the result is of
        all faces; the subset "detected" marks the others, which are measured by themselves.
      jitter: each box moves by uniform(-jitter, jitter) of its side along either axis, and its side
        is multiplied by uniform(1 - jitter, 1 + jitter).
      seed: of the jitter, which does not depend on how many faces follow.
      detector: see `hrnet_jax.inference.detector`.
      progress: wraps the list of pictures that a detector looks at (tqdm, say).

    Returns:
      Records whose centers and sides are those of the boxes.

    Raises:
      HRNetError: the data set has no rectangles, one of them is empty, or jitter is not in 0 … 1.
    """
    if kind not in KINDS:
        raise HRNetError(f"unknown box {kind!r}: choose one of {', '.join(KINDS)}")
    if not 0 <= jitter < 1:
        raise HRNetError(f"box jitter {jitter} is not a share of the box side: 0 or more, below 1")
    if kind == "rectangle":
        records = _with_rectangles(records)
    elif kind == "detector":
        records = _with_detections(records, detector, progress)
    if not jitter:
        return records
    change = np.random.default_rng(seed).uniform(-jitter, jitter, (len(records), 3))
    return dataclasses.replace(
        records,
        centers=records.centers + change[:, :2] * records.sides[:, None],
        sides=records.sides * (1 + change[:, 2]),
    )


def describe_boxes(records: Records, kind: str, jitter: float, seed: int, detector: str) -> dict:
    """What metrics.json says of `with_boxes`'s result; `detector` is its name."""
    text = {"kind": kind, "jitter": jitter}
    if jitter:
        text["seed"] = seed
    if kind == "detector":
        text |= {"detector": detector, "missed": int((~records.subsets[DETECTED]).sum())}
    return text


def _with_rectangles(records):
    if records.rectangles is None:
        raise HRNetError("this data set has no face rectangles: choose another --box")
    squares = []
    for name, rectangle in zip(records.names, records.rectangles, strict=True):
        try:
            squares.append(geometry.box_from_corners(*rectangle.tolist()))
        except HRNetError as error:
            raise HRNetError(f"face rectangle of {name}: {error}") from error
    return _replace(records, np.arange(len(records)), squares)


def _with_detections(records, detector, progress):
    if detector is None:
        raise HRNetError("--box=detector needs a detector")
    rows_of = {}
    for row, name in enumerate(records.names):
        rows_of.setdefault(name, []).append(row)
    found, squares = [], []
    for rows in progress(list(rows_of.values())):
        boxes = np.asarray(detector(records.image(rows[0]))[0], np.float64).reshape(-1, 4)
        crops = rectangles_of_faces(boxes) if records.box_sizes is not None else boxes
        for row in rows:
            overlaps = _overlaps(boxes, *geometry.landmark_box(records.points[row]))
            if len(boxes) and overlaps.max() >= _SAME_FACE:
                found.append(row)
                squares.append(geometry.box_from_corners(*crops[overlaps.argmax()].tolist()))
    detected = np.zeros(len(records), bool)
    detected[found] = True
    records = _replace(records, found, squares)
    return dataclasses.replace(records, subsets=records.subsets | {DETECTED: detected})


def _overlaps(boxes, center, side):
    """Intersection over union of boxes (F, 4) with a square."""
    low, high = center - side / 2, center + side / 2
    inner = np.minimum(boxes[:, 2:], high) - np.maximum(boxes[:, :2], low)
    shared = np.prod(np.maximum(inner, 0), axis=1)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) + side**2
    return shared / (areas - shared)


def _replace(records, rows, squares):
    """The records with squares (centre, side) for the boxes of some rows."""
    centers, sides = records.centers.copy(), records.sides.copy()
    for row, (center, side) in zip(rows, squares, strict=True):
        centers[row], sides[row] = center, side
    return dataclasses.replace(records, centers=centers, sides=sides)
