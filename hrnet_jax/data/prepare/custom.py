"""Anybody's own data: CSV files, or pictures with a `.pts` file beside each, of any points.

A CSV file becomes the split of its name. It has a header and either the official columns, or the
picture's name and then an x and a y for every landmark: `image_name,x0,y0,x1,y1,…`; boxes then
follow the official rule. A sidecar `NAME.attributes.csv` beside an unpacked one is kept. Without
CSV files, every folder at the top of the source (`train`, `test`, …) with `.pts` files becomes a
split.
"""

from pathlib import PurePosixPath

from hrnet_jax.data.attributes import read_attributes
from hrnet_jax.data.prepare.faces import DataSet, Faces, Pictures, Problems
from hrnet_jax.data.prepare.pts import picture_beside, read_pts
from hrnet_jax.data.prepare.source import Source
from hrnet_jax.data.records import read_csv
from hrnet_jax.data.tables import read_table
from hrnet_jax.errors import HRNetError

WHERE = "CSV files and the pictures that they name, or pictures with a .pts file beside each."
PUBLISHED = {}
CONFIG = None

_BOX = {"scale", "center_w", "center_h"}


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
            faces.setdefault(split, Faces()).add(source.place(name), picture, points)
            files[picture] = picture
    if not faces:
        raise HRNetError(f"{source.folder} has no annotations. It needs {WHERE}")
    made = {split: found.records(str(source.folder)) for split, found in faces.items()}
    return DataSet(made, Pictures(source, files))


def _read_csv(source, file, problems):
    def choose(header):
        if header and _BOX <= set(header):
            return 0, []
        if len(header) < 3 or len(header) % 2 == 0:
            raise HRNetError(
                f"{source.place(file)} has {len(header)} columns: expected the picture's name, and "
                "an x and a y for every landmark (or the official columns)"
            )
        return 0, list(range(1, len(header)))

    with source.local(file) as path:
        table = read_table(path, choose)
        if not table.columns:
            records = read_csv(path, "")
        else:
            faces = Faces()
            for row, name in enumerate(table.names):
                with problems.guard():
                    faces.add(table.place(row), name, table.numbers[row].reshape(-1, 2))
            records = faces.records(source.place(file))
        return read_attributes(path, records)
