"""COCO-style JSON with face landmarks, such as mmpose's annotation files.

A file becomes the split of its name. Its `keypoints` are x, y, visibility for every landmark: 0 is
not annotated, 1 occluded, 2 visible; a file without any 2 says nothing of occlusion. An annotation
without keypoints, as a crowd has none, is of no face and left out. `center` and `scale` (box side /
200) are kept where an annotation has them, and so is `box_size`; other boxes follow the official
rule from the landmarks. `bbox` is x, y, width, height; it may be null.
"""

import json
from pathlib import PurePosixPath

import numpy as np

from hrnet_jax.data.prepare.faces import DataSet, Faces, Pictures, Problems
from hrnet_jax.data.prepare.source import Source
from hrnet_jax.errors import HRNetError
from hrnet_jax.geometry import sides_of

WHERE = "one .json file or more, with `images` and `annotations`, and the pictures that they name."
PUBLISHED = {}
CONFIG = None


def read(source: Source, problems: Problems) -> DataSet:
    """Every .json file of the source that has annotations."""
    splits = {}
    for file in source.ending(".json"):
        content = _content(source, file)
        if isinstance(content, dict) and {"images", "annotations"} <= set(content):
            stem = PurePosixPath(file).stem
            if stem in splits:
                raise HRNetError(f"{source.folder} has several {stem}.json: rename one of them")
            splits[stem] = _read_faces(content, source.place(file), problems)
    if not splits:
        raise HRNetError(f"{source.folder} has no COCO annotations. It needs {WHERE}")
    return DataSet(splits, Pictures(source))


def _content(source, file):
    try:
        return json.loads(source.read(file))
    except (ValueError, RecursionError) as error:
        raise HRNetError(f"{source.place(file)} is not a JSON file: {error}") from error


def _read_faces(content, place, problems):
    images, annotations = content["images"], content["annotations"]
    if not isinstance(images, list) or not isinstance(annotations, list):
        raise HRNetError(f"{place}: images and annotations must be lists")
    try:
        names = {image["id"]: str(image["file_name"]) for image in images}
    except (KeyError, TypeError) as error:
        raise HRNetError(f"{place}: every image needs an id and a file_name") from error
    faces, box_sizes, empty = Faces(problems), [], 0
    for number, annotation in enumerate(annotations, 1):
        if _without_keypoints(annotation):
            empty += 1
            continue
        with problems.guard():
            _add(faces, names, annotation, f"{place}, annotation {number}")
            box_sizes.append(annotation.get("box_size"))
    if empty:
        problems.notes.append(f"{place}: {empty} annotations without keypoints are left out")
    if not any(visible.any() for visible in faces.visible):
        faces.visible = [None] * len(faces)
    known = None not in box_sizes
    return faces.records(place, box_sizes=np.array(box_sizes, np.float64) if known else None)


def _without_keypoints(annotation):
    """Whether COCO means by an annotation that there are no landmarks."""
    if not isinstance(annotation, dict):
        return False
    values = annotation.get("keypoints", [])
    # Of a crowd there may be a list of zeros.
    return isinstance(values, list) and not any(value for value in values)


def _add(faces, names, annotation, place):
    if not isinstance(annotation, dict):
        raise HRNetError(f"{place} is not a table")
    image = annotation.get("image_id")
    name = names.get(image) if isinstance(image, int | str) else None
    if name is None:
        raise HRNetError(f"{place}: no image has the id {image!r}")
    values = _numbers(annotation.get("keypoints"), place, "keypoints")
    if len(values) % 3 or not len(values):
        raise HRNetError(f"{place}: {len(values)} keypoint values are not x, y, visibility each")
    x, y, visibility = values.reshape(-1, 3).T
    if not (known := np.isin(visibility, (0, 1, 2))).all():
        bad = int(np.argmin(known))
        raise HRNetError(
            f"{place}: landmark {bad} has visibility {visibility[bad]:g}, which is none of 0, 1, 2"
        )
    x[visibility == 0] = y[visibility == 0] = np.nan
    box = rectangle = None
    if "center" in annotation and "scale" in annotation:
        center = _numbers(annotation["center"], place, "center", 2)
        box = center, float(sides_of(_numbers([annotation["scale"]], place, "scale", 1)[0]))
    if annotation.get("bbox") is not None:
        x0, y0, width, height = _numbers(annotation["bbox"], place, "bbox", 4).tolist()
        rectangle = [x0, y0, x0 + width, y0 + height]
    if "box_size" in annotation:
        (size,) = _numbers([annotation["box_size"]], place, "box_size", 1)
        if not 0 < size < np.inf:
            raise HRNetError(f"{place}: box_size {size:g} must be above zero")
    faces.add(place, name, np.stack([x, y], axis=1), rectangle, visibility == 2, box=box)


def _numbers(values, place, key, count=None):
    numbers = isinstance(values, list) and all(
        type(value) is float or type(value) is int and abs(value) < 2**53 for value in values
    )
    if not numbers or count not in (None, len(values)):
        wanted = "a list of numbers" if count is None else f"{count} numbers"
        raise HRNetError(f"{place}: {key} is not {wanted}")
    return np.array(values, np.float64)
