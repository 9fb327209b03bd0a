"""Annotations as one table: a row per face, read from and written to the official CSV files.

The columns of the official files (HRNet-Facial-Landmark-Detection) are image_name, scale, center_w,
center_h, then x and y of every landmark; AFLW's files carry a box_size too. They are known by their
names, wherever they stand (`hrnet_jax.data.columns`).
"""

import contextlib
import csv
import dataclasses
from collections.abc import Callable
from pathlib import Path, PureWindowsPath

import numpy as np

from hrnet_jax import images
from hrnet_jax.data.columns import BOX, find_columns
from hrnet_jax.data.tables import read_table
from hrnet_jax.errors import HRNetError
from hrnet_jax.files import as_path, open_atomically
from hrnet_jax.geometry import scales_of, sides_of
from hrnet_jax.schemes import SCHEMES


@dataclasses.dataclass(frozen=True, eq=False)
class Records:
    """The annotated faces of one split; an image with several faces has several rows.

    Attributes:
      names: image files as the annotation names them, relative to `root`.
      root: the folder that holds the images.
      points: float64 (N, L, 2), (x, y) in image pixels, as the data set gives them; NaN, both of
        them, for a landmark that is not annotated. Every face has one that is.
      centers: float64 (N, 2), (x, y) of the landmark box's centre in image pixels.
      sides: float64 (N,), side of that box in image pixels, before any padding.
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
    sides: np.ndarray
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
            sides=self.sides[rows],
            box_sizes=pick(self.box_sizes),
            pictures=pick(self.pictures),
            subsets={name: mask[rows] for name, mask in self.subsets.items()},
            rectangles=pick(self.rectangles),
            visible=pick(self.visible),
        )

    @property
    def scales(self) -> np.ndarray:
        """The boxes as the official files have them: float64 (N,), side / 200."""
        return scales_of(self.sides)

    def path(self, i: int) -> Path:
        """The image file of face i."""
        return self.root / self.names[i]

    def image(self, i: int) -> np.ndarray:
        """The image of face i: RGB uint8 (H, W, 3). HRNetError if it is missing or damaged."""
        return images.whole(self.open(i))

    def open(self, i: int, opener: Callable = images.open_image):
        """The image of face i as `images.open_image` gives it: decoded when a crop is taken."""
        return opener(self.path(i)) if self.pictures is None else self.pictures[i]


def read_csv(
    path: str | Path,
    root: str | Path,
    num_landmarks: int | None = None,
    guard: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext,
) -> Records:
    """Reads an annotation file in the official columns.

    `box_sizes` is None where the file has no such column. An empty cell, or "nan", is a coordinate
    of a landmark that is not annotated. `root` is the folder that the image names start from; the
    images are not opened. `num_landmarks` is L; None takes what the file has. `guard` is a context
    around what is wrong with single faces: one that goes on after an HRNetError leaves those out.
    HRNetError names the file, the line and the column of anything that is not as it should be.
    """
    path, found = as_path(path), []

    def choose(header):
        columns = find_columns(str(path), header)
        found.append(columns)
        if not columns.box:
            raise HRNetError(
                f"{path} lacks {', '.join(BOX)}: `hrnet-jax data prepare custom` makes the "
                "official columns of names and points"
            )
        _check_count(path, header, len(columns.points), num_landmarks)
        box_size = [] if columns.box_size is None else [columns.box_size]
        points = [column for point in columns.points for column in point]
        return columns.name, [*columns.box, *box_size, *points]

    table = read_table(path, choose, missing=True, guard=guard)
    boxed = found[0].box_size is not None
    numbers, first = table.numbers, 3 + boxed
    points = numbers[:, first:].reshape(len(numbers), -1, 2)
    good = np.zeros(len(numbers), bool)
    for row, name in enumerate(table.names):
        with guard():
            check_image_name(f"{table.place(row)}, column image_name", name)
            for column in range(first):
                value = numbers[row, column]
                if not np.isfinite(value) or column in (0, 3) and value <= 0:
                    must = "must be above zero" if column in (0, 3) else "must be a number"
                    raise HRNetError(f"{table.place(row, column)}: {value:g} {must}")
            check_points(table.place(row), points[row])
            good[row] = True
    if not good.any():
        raise HRNetError(f"{path} has no face that can be used")
    records = Records(
        names=table.names,
        root=as_path(root),
        points=points,
        centers=numbers[:, 1:3],
        sides=sides_of(numbers[:, 0]),
        box_sizes=numbers[:, 3] if boxed else None,
    )
    return records if good.all() else records[good]


def write_csv(path: str | Path, records: Records) -> None:
    """Writes the table in the official columns; `read_csv` gives back the same numbers.

    The cells of a landmark that is not annotated are empty.

    The file appears whole or not at all. HRNetError if it cannot be written.
    """
    columns = [records.scales[:, None], records.centers, records.points.reshape(len(records), -1)]
    header = ["image_name", "scale", "center_w", "center_h"]
    if records.box_sizes is not None:
        columns.insert(1, records.box_sizes[:, None])
        header.insert(2, "box_size")
    table = np.concatenate(columns, axis=1).tolist()  # Python floats print all their digits
    if np.isnan(records.points).any():
        table = [["" if value != value else value for value in row] for row in table]
    with open_atomically(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header + point_columns(records.points.shape[1]))
        writer.writerows([name, *row] for name, row in zip(records.names, table, strict=True))


def point_columns(num_landmarks: int) -> list[str]:
    """The official column names of L points: original_0_x, original_0_y, original_1_x, …"""
    return [f"original_{i}_{axis}" for i in range(num_landmarks) for axis in "xy"]


def _check_count(path, header, found, num_landmarks):
    if num_landmarks not in (None, found):
        names = [scheme.name for scheme in SCHEMES.values() if scheme.num_landmarks == found]
        scheme = f"the {names[0]} scheme" if names else "no known scheme"
        raise HRNetError(
            f"{path} has {found} landmarks a face ({len(header)} columns, {scheme}), "
            f"but {num_landmarks} are expected: choose the scheme or the file that fits"
        )


def check_points(place: str, points: np.ndarray) -> None:
    """Refuses a face (L, 2) with half a landmark, or without any; NaN is one not annotated."""
    absent = np.isnan(points)
    if (half := absent[:, 0] != absent[:, 1]).any():
        raise HRNetError(f"{place}: landmark {half.argmax()} has only one of x and y")
    if absent.all():
        raise HRNetError(f"{place}: no landmark is annotated")


def check_image_name(place: str, name: str) -> None:
    """Refuses an image name that is empty, leads out of the image folder or is a formula.

    A spreadsheet that opens a CSV file runs the cells that begin like a formula. HRNetError begins
    with `place`, the file and line of the name.
    """
    check_inside(place, name)
    if name.lstrip()[0] in "=+@" or "|" in name:
        raise HRNetError(
            f"{place}: {name[:200]!r} would run as a formula in a spreadsheet: rename the image"
        )


def check_inside(place: str, name: str) -> None:
    """Refuses a path that is empty or could lead out of the folder that it is relative to."""
    # Windows paths know both separators and drives, so one check serves files from everywhere.
    parts = PureWindowsPath(name)
    if not name.strip() or "\0" in name or parts.anchor or ".." in parts.parts:
        raise HRNetError(
            f"{place}: {name[:200]!r} must be a path inside the image folder, relative to it"
        )
