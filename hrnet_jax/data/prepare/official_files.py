"""The official repository's annotation files (HRNet-Facial-Landmark-Detection).

`face_landmarks_{wflw,300w,aflw}_{train,valid,test}.csv`, and files of subsets such as
`face_landmarks_wflw_test_largepose.csv`, whose faces are found again among those of the split.
Centres and scales are the files' own.
"""

import dataclasses
import re
from pathlib import PurePosixPath

import numpy as np

from hrnet_jax.data.prepare.faces import DataSet, Pictures, Problems
from hrnet_jax.data.prepare.source import Source
from hrnet_jax.data.records import Records, check_points, read_csv
from hrnet_jax.errors import HRNetError

LINK = "https://1drv.ms/u/s!AiWjZ1LamlxzdmYbSkHpPYhI8Ms"

# Names of the files -> names of the subsets, where they differ.
_SUBSETS = {"largepose": "pose", "makeup": "make-up"}


def read(source: Source, problems: Problems, name: str, where: str) -> DataSet:
    """The files of a data set ("wflw", …); HRNetError says `where` to get it if there are none."""
    splits, subsets = {}, []
    for file in source.ending(".csv"):
        pattern = rf"(face_landmarks_{name}_(?:train|valid|test))(?:_([a-z]+))?\.csv"
        match = re.fullmatch(pattern, PurePosixPath(file).name)
        if match is None:
            continue
        split, subset = match.groups()
        with source.local(file) as path:
            records = read_official(path, problems)
        if subset is None:
            splits[split] = records
        else:
            subsets.append((file, split, _SUBSETS.get(subset, subset), records))
    if not splits:
        raise HRNetError(f"{source.folder} has no annotations of {name}. It needs {where}")
    for file, split, subset, records in subsets:
        if split not in splits:
            raise HRNetError(f"{source.place(file)} is a part of {split}.csv, which is not there")
        mask = _mask(splits[split], records, source.place(file))
        whole = splits[split]
        splits[split] = dataclasses.replace(whole, subsets=whole.subsets | {subset: mask})
    return DataSet(splits, Pictures(source))


def read_official(path, problems: Problems) -> Records:
    """The faces of one file; those without any landmark are bad ones."""
    records = read_csv(path, "", guard=problems.guard)
    if problems.missing is None:
        return records
    points = problems.without_missing(records.points)
    good = np.zeros(len(points), bool)
    for row, name in enumerate(records.names):
        with problems.guard():
            check_points(f"{path}, {name}", points[row])
            good[row] = True
    return dataclasses.replace(records, points=points)[good]


def _mask(whole: Records, part: Records, place: str) -> np.ndarray:
    """Which faces of a split a subset's file has: those of the same picture and points."""

    def keys(records):
        rows = zip(records.names, records.points, strict=True)
        return [(name, points.tobytes()) for name, points in rows]

    wanted = set(keys(part))
    mask = np.array([key in wanted for key in keys(whole)])
    if mask.sum() != len(part):
        known = set(keys(whole))
        strange = [name for name, points in keys(part) if (name, points) not in known]
        example = f", {strange[0]!r} for one" if strange else ""
        raise HRNetError(
            f"{place}: {len(part)} faces, of which {mask.sum()} are in the whole split{example}"
        )
    return mask
