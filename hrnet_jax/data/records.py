"""Annotations as one table: a row per face, read from and written to the official CSV files.

The columns of the official files (HRNet-Facial-Landmark-Detection) are known by their position:
image_name, scale, center_w, center_h, then x and y of every landmark; AFLW's files carry a
box_size between scale and center_w. The header's names are used in error messages only.
"""

import csv
import dataclasses
import operator
from collections.abc import Callable
from pathlib import Path, PureWindowsPath

import numpy as np

from hrnet_jax.data import images
from hrnet_jax.errors import HRNetError
from hrnet_jax.files import open_atomically
from hrnet_jax.schemes import SCHEMES


@dataclasses.dataclass(frozen=True, eq=False)
class Records:
    """The annotated faces of one split; an image with several faces has several rows.

    Attributes:
      names: image files as the annotation names them, relative to `root`.
      root: the folder that holds the images.
      points: float64 (N, L, 2), (x, y) in image pixels, as the data set gives them.
      centers: float64 (N, 2), (x, y) of the landmark box's centre in image pixels.
      scales: float64 (N,), side of that box in image pixels / 200, before any padding.
      box_sizes: float64 (N,), image pixels, the length that normalises AFLW's errors; None where
        the data set has no such column.
      pictures: uint8 (N, H, W, 3), RGB, of faces that were rendered instead of read: held in
        memory, under names that are no files; None otherwise.
      subsets: named boolean masks (N,) of faces that are also measured by themselves ("pose", …).
      rectangles: float64 (N, 4), x0, y0, x1, y1 in image pixels, the box that the data set gives;
        None where it gives none.
      visible: bool (N, L), False for a landmark annotated as occluded; None where not annotated.
    """

    names: tuple[str, ...]
    root: Path
    points: np.ndarray
    centers: np.ndarray
    scales: np.ndarray
    box_sizes: np.ndarray | None = None
    pictures: np.ndarray | None = None
    subsets: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    rectangles: np.ndarray | None = None
    visible: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index) -> "Records":
        """The rows that a slice, an index array or a boolean mask selects (an int: that one)."""
        rows = np.atleast_1d(np.arange(len(self))[index])

        def pick(column):
            return None if column is None else column[rows]

        return Records(
            names=tuple(self.names[row] for row in rows),
            root=self.root,
            points=self.points[rows],
            centers=self.centers[rows],
            scales=self.scales[rows],
            box_sizes=pick(self.box_sizes),
            pictures=pick(self.pictures),
            subsets={name: mask[rows] for name, mask in self.subsets.items()},
            rectangles=pick(self.rectangles),
            visible=pick(self.visible),
        )

    def path(self, i: int) -> Path:
        """The image file of face i."""
        return self.root / self.names[i]

    def image(self, i: int) -> np.ndarray:
        """The image of face i: RGB uint8 (H, W, 3). HRNetError if it is missing or damaged."""
        return images.whole(self.open(i))

    def open(self, i: int, opener: Callable = images.open_image):
        """The image of face i as `images.open_image` gives it: decoded when a crop is taken."""
        return opener(self.path(i)) if self.pictures is None else self.pictures[i]


def read_csv(path: str | Path, root: str | Path, num_landmarks: int) -> Records:
    """Reads an annotation file in the official columns.

    A file with one column more than 4 + 2 L is AFLW's kind, with a box_size; `box_sizes` is None
    otherwise. `root` is the folder that the image names start from; the images are not opened.
    HRNetError names the file, the line and the column of anything that is not as it should be.
    """
    path = Path(path)
    header, lines, rows = read_table(path)
    first_point = _first_point(path, header, num_landmarks)
    names = tuple(row[0] for row in rows)
    for line, name in zip(lines, names, strict=True):
        _check_name(path, line, name)
    numbers = parse_numbers(path, header, lines, rows, range(1, len(header)))
    for column, label in ((0, "scale"), (1, "box_size"))[: first_point - 3]:
        bad = np.flatnonzero(numbers[:, column] <= 0)
        if bad.size:
            value = rows[bad[0]][column + 1]
            raise HRNetError(
                f"{path}, line {lines[bad[0]]}, column {label}: {value} must be above zero"
            )
    return Records(
        names=names,
        root=Path(root),
        points=numbers[:, first_point - 1 :].reshape(len(rows), num_landmarks, 2),
        centers=numbers[:, first_point - 3 : first_point - 1],
        scales=numbers[:, 0],
        box_sizes=numbers[:, 1] if first_point == 5 else None,
    )


def write_csv(path: str | Path, records: Records) -> None:
    """Writes the table in the official columns; `read_csv` gives back the same numbers.

    The file appears whole or not at all. HRNetError if it cannot be written.
    """
    columns = [records.scales[:, None], records.centers, records.points.reshape(len(records), -1)]
    header = ["image_name", "scale", "center_w", "center_h"]
    if records.box_sizes is not None:
        columns.insert(1, records.box_sizes[:, None])
        header.insert(2, "box_size")
    table = np.concatenate(columns, axis=1).tolist()  # Python floats print all their digits
    with open_atomically(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header + point_columns(records.points.shape[1]))
        writer.writerows([name, *row] for name, row in zip(records.names, table, strict=True))


def point_columns(num_landmarks: int) -> list[str]:
    """The official column names of L points: original_0_x, original_0_y, original_1_x, …"""
    return [f"original_{i}_{axis}" for i in range(num_landmarks) for axis in "xy"]


def read_table(path: Path) -> tuple[list[str], list[int], list[list[str]]]:
    """Reads a CSV file as (header, line number of each row, rows of text); blank lines are skipped.

    HRNetError for a file that cannot be read, has no header or no rows, or whose rows do not have
    as many columns as its header.
    """
    lines, rows = [], []
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            for row in reader:
                if len(row) > 1 or "".join(row).strip():
                    lines.append(reader.line_num)
                    rows.append(row)
    except OSError as error:
        raise HRNetError(f"cannot read {path}: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise HRNetError(f"{path} is not a UTF-8 CSV file: {error}") from error
    if not rows:
        raise HRNetError(f"{path} is empty: expected a header line and a line for every face")
    header = [name.strip() for name in rows[0]]
    if len(header) > 1 and _is_number(header[1]):
        raise HRNetError(f"{path} has no header line: its first line already holds numbers")
    if len(rows) == 1:
        raise HRNetError(f"{path} has no faces: there is only a header line")
    for line, row in zip(lines, rows, strict=True):
        if len(row) != len(header):
            raise HRNetError(
                f"{path}, line {line}: {len(row)} columns, but the header has {len(header)}"
            )
    return header, lines[1:], rows[1:]


def parse_numbers(path: Path, header: list[str], lines: list[int], rows, columns) -> np.ndarray:
    """Converts columns of `read_table`'s text to float64 (rows, columns).

    HRNetError names line and column of the first text that is not a finite number.
    """
    columns = list(columns)
    pick = operator.itemgetter(*columns)
    numbers = np.empty((len(rows), len(columns)))
    for i, row in enumerate(rows):
        try:
            numbers[i] = list(map(float, pick(row)))
        except ValueError:
            numbers[i] = np.nan  # found again below
    bad = np.flatnonzero(~np.isfinite(numbers).all(axis=1))
    if bad.size:
        row = rows[bad[0]]
        column = next(c for c in columns if not _is_number(row[c], finite=True))
        raise HRNetError(
            f"{path}, line {lines[bad[0]]}, column {header[column] or column + 1}: "
            f"{row[column]!r} is not a finite number"
        )
    return numbers


def _is_number(text, finite=False):
    try:
        value = float(text)
    except ValueError:
        return False
    return not finite or bool(np.isfinite(value))


def _first_point(path, header, num_landmarks):
    """Index of the first landmark's column: 4, or 5 where there is a box_size column."""
    first_point = 4 + len(header) % 2  # two columns a point: the parity tells the box_size
    found = (len(header) - first_point) // 2
    if found != num_landmarks:
        names = [scheme.name for scheme in SCHEMES.values() if scheme.num_landmarks == found]
        scheme = f"the {names[0]} scheme" if names else "no known scheme"
        raise HRNetError(
            f"{path} has {max(found, 0)} landmarks a face ({len(header)} columns, {scheme}), "
            f"but {num_landmarks} are expected: choose the scheme or the file that fits"
        )
    return first_point


def _check_name(path, line, name):
    """Refuses an image name that is empty or could lead out of the image folder."""
    # Windows paths know both separators and drives, so one check serves files from everywhere.
    parts = PureWindowsPath(name)
    if not name.strip() or "\0" in name or parts.anchor or ".." in parts.parts:
        raise HRNetError(
            f"{path}, line {line}, column image_name: {name!r} must be a path inside the image "
            "folder, relative to it"
        )
