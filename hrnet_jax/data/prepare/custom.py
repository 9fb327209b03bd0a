"""Anybody's own data: CSV files, or pictures with a `.pts` file beside each, of any points.

A CSV file becomes the split of its name. Its header names the columns (`hrnet_jax.data.columns`):
either the official ones, or the picture's name and an x and a y for every landmark,
`image_name,x0,y0,x1,y1,…`, perhaps with a visibility each and a rectangle; boxes then follow the
official rule. A sidecar `NAME.attributes.csv` beside an unpacked one is kept. Without
CSV files, every folder at the top of the source (`train`, `test`, …) with `.pts` files becomes a
split.
"""

from pathlib import PurePosixPath

import numpy as np

from hrnet_jax.data.attributes import read_attributes
from hrnet_jax.data.columns import find_columns
from hrnet_jax.data.prepare.faces import DataSet, Faces, Pictures, Problems
from hrnet_jax.data.prepare.official_files import read_official
from hrnet_jax.data.prepare.pts import picture_beside, read_pts
from hrnet_jax.data.prepare.source import Source
from hrnet_jax.data.tables import read_header, read_table
from hrnet_jax.errors import HRNetError

WHERE = "CSV files and the pictures that they name, or pictures with a .pts file beside each."
PUBLISHED = {}
CONFIG = None


def read(source: Source, problems: Problems) -> DataSet:
    """The CSV files of the source, or else its `.pts` files."""
    splits, files = {}, {}
    for file in source.ending(".csv"):
        if file.endswith(".attributes.csv"):
            continue
        stem = PurePosixPath(file).stem
        if stem in splits:
            raise HRNetError(f"{source.folder} has several {stem}.csv: rename one of them")
        splits[stem] = _read_csv(source, file, problems)
    if splits:
        return DataSet(splits, Pictures(source))
    faces = {}
    for name in source.ending(".pts"):
        with problems.guard():
            points, picture = read_pts(source, name), picture_beside(source, name)
            split = PurePosixPath(name).parts[0] if "/" in name else "faces"
            faces.setdefault(split, Faces(problems)).add(source.place(name), picture, points)
            files[picture] = picture
    if not faces:
        raise HRNetError(f"{source.folder} has no annotations. It needs {WHERE}")
    made = {split: found.records(str(source.folder)) for split, found in faces.items()}
    return DataSet(made, Pictures(source, files))


def _read_csv(source, file, problems):
    place = source.place(file)
    with source.local(file) as path:
        header = read_header(path)
        columns = find_columns(place, header)
        if columns.ignored:
            names = ", ".join(header[column] or str(column + 1) for column in columns.ignored)
            problems.notes.append(f"{place}: column {names} left out: no landmark")
        if columns.box:
            records = read_official(path, problems)
        else:
            points = [column for point in columns.points for column in point]
            wanted = [*points, *columns.visible, *columns.rectangle]
            table = read_table(path, lambda _: (columns.name, wanted), True, problems.guard)
            records = _records(table, columns, place, problems)
        return read_attributes(path, records)


def _records(table, columns, place, problems):
    """The faces of names and points, with what the file says of boxes and visibility."""
    ends = np.cumsum([2 * len(columns.points), len(columns.visible)])
    coordinates, flags, rectangles = np.split(table.numbers, ends, axis=1)
    coco = (flags == 2).any()  # 0 not annotated, 1 hidden, 2 visible; else 0 hidden, 1 visible
    faces = Faces(problems)
    for row, name in enumerate(table.names):
        points, visible = coordinates[row].reshape(-1, 2).copy(), None
        with problems.guard():
            if flags.size:
                if not np.isin(flags[row], (0, 1, 2) if coco else (0, 1)).all():
                    raise HRNetError(f"{table.place(row)}: a visibility is none of 0, 1 and 2")
                visible = flags[row] == (2 if coco else 0 if columns.occluded else 1)
                points[coco & (flags[row] == 0)] = np.nan
            corners = rectangles[row].tolist() or None
            if corners and not columns.corners:
                corners[2:] = corners[0] + corners[2], corners[1] + corners[3]
            faces.add(table.place(row), name, points, corners, visible)
    return faces.records(place)
