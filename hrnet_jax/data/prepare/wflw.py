"""WFLW (Wu et al., CVPR 2018): 98 points, 7500 training and 2500 test faces, six attributes.

A line of `list_98pt_rect_attr_{train,test}.txt` holds 196 coordinates, a face rectangle (x0, y0,
x1, y1), six flags and the picture's name. Points and rectangles are used as they stand there.
"""

from hrnet_jax.data.prepare import official_files
from hrnet_jax.data.prepare.faces import (
    DataSet,
    Faces,
    Pictures,
    Problems,
    lines_of,
    numbers_of,
)
from hrnet_jax.data.prepare.source import Source
from hrnet_jax.errors import HRNetError

WHERE = """\
WFLW_images.tar.gz and WFLW_annotations.tar.gz from
https://wywu.github.io/projects/LAB/WFLW.html, as they are or unpacked
(or the official face_landmarks_wflw_*.csv in place of the annotations)."""
NUM_LANDMARKS = 98
SUBSETS = ("pose", "expression", "illumination", "make-up", "occlusion", "blur")
PUBLISHED = {("face_landmarks_wflw_train", None): 7500, ("face_landmarks_wflw_test", None): 2500}
CONFIG = "configs/wflw_w18.py"

_COLUMNS = 2 * NUM_LANDMARKS + 4 + len(SUBSETS) + 1


def read(source: Source, problems: Problems) -> DataSet:
    """The original lists, or else the official repository's CSV files."""
    splits = {}
    for split in ("train", "test"):
        for name in source.ending(f"list_98pt_rect_attr_{split}.txt")[:1]:
            splits[f"face_landmarks_wflw_{split}"] = _read_list(source, name, problems)
    if splits:
        return DataSet(splits, Pictures(source))
    return official_files.read(source, problems, "wflw", WHERE)


def _read_list(source, name, problems):
    faces = Faces(problems)
    for place, line in lines_of(source, name):
        with problems.guard():
            words = line.split(maxsplit=_COLUMNS - 1)
            if len(words) != _COLUMNS:
                raise HRNetError(
                    f"{place}: {len(words)} columns instead of {_COLUMNS} (196 coordinates, a "
                    "rectangle, 6 attributes, a name)"
                )
            numbers = numbers_of(place, words[:-1])
            flags = numbers[-len(SUBSETS) :]
            if not set(flags) <= {0, 1}:
                raise HRNetError(f"{place}: an attribute is neither 0 nor 1")
            faces.add(
                place,
                words[-1],
                list(zip(numbers[0:196:2], numbers[1:196:2], strict=True)),
                rectangle=numbers[196:200],
                subsets=[subset for subset, flag in zip(SUBSETS, flags, strict=True) if flag],
            )
    return faces.records(source.place(name), SUBSETS)
