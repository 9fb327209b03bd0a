"""What a data set says of its faces beside the landmarks: a sidecar of the annotation file.

Beside `faces.csv` in the official columns lies `faces.attributes.csv` with the same faces in the
same order: image_name, then any of x0, y0, x1, y1 (a rectangle, image pixels), visible_0,
visible_1, … (1 where the landmark is to be seen, 0 where it is occluded), and one column of 0 and 1
for every subset ("pose", "common", …).
"""

import csv
import dataclasses
import re
from pathlib import Path

import numpy as np

from hrnet_jax.data.records import Records
from hrnet_jax.data.tables import read_table
from hrnet_jax.errors import HRNetError
from hrnet_jax.files import as_path, open_atomically

_RECTANGLE = ["x0", "y0", "x1", "y1"]


def attributes_path(csv_path: str | Path) -> Path:
    """The sidecar's place: `faces.attributes.csv` for `faces.csv`."""
    return as_path(csv_path).with_suffix(".attributes.csv")


def write_attributes(csv_path: str | Path, records: Records) -> None:
    """Writes the sidecar of an annotation file, or removes it: the records may have nothing."""
    header, columns = ["image_name"], []
    if records.rectangles is not None:
        header += _RECTANGLE
        columns += records.rectangles.T.tolist()
    for name, mask in records.subsets.items():
        header.append(name)
        columns.append(mask.astype(int).tolist())
    if records.visible is not None:
        header += _visible_columns(records.visible.shape[1])
        columns += records.visible.T.astype(int).tolist()
    if not columns:
        attributes_path(csv_path).unlink(missing_ok=True)
        return
    with open_atomically(attributes_path(csv_path)) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(zip(records.names, *columns, strict=True))


def read_attributes(csv_path: str | Path, records: Records) -> Records:
    """The records of an annotation file with what its sidecar says; as they are where it has none.

    HRNetError names the line of a sidecar that does not fit the annotation file.
    """
    path = attributes_path(csv_path)
    if not path.exists():
        return records

    def choose(header):
        repeated = {name for name in header if header.count(name) > 1}
        if header[0] != "image_name" or len(header) < 2 or repeated:
            raise HRNetError(
                f"{path}: its header must be image_name and at least one more name, each once"
            )
        return 0, list(range(1, len(header)))

    table = read_table(path, choose)
    header = table.header[1:]
    if table.names != records.names:
        pairs = zip(table.names, records.names, strict=False)
        row = next((i for i, (a, b) in enumerate(pairs) if a != b), None)
        what = (
            f"{path} has {len(table.names)} faces, but {as_path(csv_path).name} {len(records)}"
            if row is None
            else f"{table.place(row)}: {table.names[row]!r} stands where "
            f"{as_path(csv_path).name} has {records.names[row]!r}"
        )
        raise HRNetError(f"{what}: the files must have the same faces in the same order")

    expected = _visible_columns(records.points.shape[1])
    seen = [name for name in header if re.fullmatch(r"visible_\d+", name)]
    cornered = [name for name in header if name in _RECTANGLE]
    if cornered not in ([], _RECTANGLE) or seen not in ([], expected):
        raise HRNetError(
            f"{path}: a rectangle is x0, y0, x1, y1, and visibilities are visible_0 … "
            f"{expected[-1]}, in this order"
        )
    flags = [column for column, name in enumerate(header) if name not in _RECTANGLE]
    bad = np.argwhere(~np.isin(table.numbers[:, flags], (0, 1)))
    if bad.size:
        row, column = bad[0][0], flags[bad[0][1]]
        raise HRNetError(
            f"{table.place(row, column)}: {table.numbers[row, column]:g} is neither 0 nor 1"
        )

    def take(names):
        return table.numbers[:, [header.index(name) for name in names]]

    return dataclasses.replace(
        records,
        subsets={
            name: take([name])[:, 0] == 1 for name in header if name not in _RECTANGLE + expected
        },
        rectangles=take(_RECTANGLE) if cornered else None,
        visible=take(expected) == 1 if seen else None,
    )


def _visible_columns(num_landmarks):
    return [f"visible_{i}" for i in range(num_landmarks)]
