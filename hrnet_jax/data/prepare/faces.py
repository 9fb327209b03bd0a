"""What every reader of a data set returns, and how it reports a bad face."""

import contextlib
import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from hrnet_jax.data.prepare.source import Source
from hrnet_jax.data.records import Records, check_image_name, check_points
from hrnet_jax.errors import HRNetError
from hrnet_jax.geometry import landmark_box


@dataclasses.dataclass(frozen=True)
class DataSet:
    """The annotated faces of a data set, and its pictures.

    Attributes:
      splits: faces by the name of the split's annotation file, without ".csv"; their names are
        paths of pictures under the prepared data set's folder of images.
      pictures: the content of the picture files by these names.
    """

    splits: dict[str, Records]
    pictures: "Pictures"


class Pictures:
    """Picture files that lie in a source.

    Args:
      source: where they lie.
      files: of each picture's name, the source's; by default `Source.locate` finds them.
    """

    def __init__(self, source: Source, files: dict[str, str] | None = None):
        self._source = source
        self._find = source.locate if files is None else files.get

    def missing(self, names: Iterable[str]) -> list[str]:
        """Those of the names that no file has."""
        return [name for name in names if self._find(name) is None]

    def read(self, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """(name, content) of picture files that are there, in an order of its own."""
        found = defaultdict(list)
        for name in names:
            found[self._find(name)].append(name)
        for file, content in self._source.read_many(found):
            for name in found[file]:
                yield name, content


class Problems:
    """What is wrong with single faces: the first one stops, or they are listed and left out.

    with problems.guard():
        …  # what raises HRNetError for a bad face
    """

    def __init__(self, skip: bool = False, missing: tuple[float, float] | None = None):
        self.skip = skip
        self.missing = missing  # the coordinates of a landmark that is not annotated
        self.texts: list[str] = []
        self.notes: list[str] = []  # what is to be said of the source and stops nothing

    def without_missing(self, points: np.ndarray) -> np.ndarray:
        """Points (…, 2) with NaN for those that are `missing`."""
        if self.missing is None:
            return points
        return np.where((points == self.missing).all(axis=-1, keepdims=True), np.nan, points)

    @contextlib.contextmanager
    def guard(self):
        try:
            yield
        except HRNetError as error:
            if not self.skip:
                raise
            self.texts.append(" ".join(str(error).split()))


class Faces:
    """Collects the faces of a split; their boxes follow the official rule (`landmark_box`)."""

    def __init__(self, problems: Problems):
        self._problems = problems
        self.names, self.points, self.boxes = [], [], []
        self.rectangles, self.visible, self.subsets = [], [], []

    def add(self, place, name, points, rectangle=None, visible=None, subsets=(), box=None) -> None:
        """Adds a face.

        Args:
          place: the file and line of the annotation, for the error.
          name: of the picture.
          points: (L, 2), image pixels, as the data set gives them; NaN where not annotated.
          rectangle: (x0, y0, x1, y1), image pixels.
          visible: (L,) bool.
          subsets: the names of those it belongs to.
          box: (centre, side), image pixels, where the data set gives them.

        Raises:
          HRNetError: the name leads out of the image folder, a number is infinite, the face has
            another number of landmarks than those before, or no extent, or no landmark.
        """
        check_image_name(place, name)
        points = self._problems.without_missing(np.asarray(points, np.float64))
        finite = rectangle is None or np.isfinite(rectangle).all()
        if np.isinf(points).any() or not finite:
            raise HRNetError(f"{place}: a coordinate is not a finite number")
        check_points(place, points)
        if self.points and points.shape != self.points[0].shape:
            before = len(self.points[0])
            raise HRNetError(f"{place}: {len(points)} landmarks, but {before} in the faces before")
        center, side = landmark_box(points) if box is None else box
        if not (np.isfinite(center).all() and 0 < side < np.inf):
            raise HRNetError(f"{place}: the face has no extent (a box of {side:g} pixels)")
        self.names.append(name)
        self.points.append(points)
        self.boxes.append((center, side))
        self.rectangles.append(rectangle)
        self.visible.append(visible)
        self.subsets.append(frozenset(subsets))

    def __len__(self) -> int:
        return len(self.names)

    def records(self, place: str, subsets: Iterable[str] = (), box_sizes=None) -> Records:
        """The table, with the masks of these subsets; HRNetError if there is no face."""
        if not self.names:
            raise HRNetError(f"{place} has no face that can be used")

        def column(values):
            return None if any(value is None for value in values) else np.array(values)

        return Records(
            names=tuple(self.names),
            root=Path(),
            points=np.stack(self.points),
            centers=np.array([center for center, _ in self.boxes]),
            sides=np.array([side for _, side in self.boxes]),
            box_sizes=box_sizes,
            subsets={name: np.array([name in face for face in self.subsets]) for name in subsets},
            rectangles=column(self.rectangles),
            visible=column(self.visible),
        )


def lines_of(source: Source, name: str) -> Iterator[tuple[str, str]]:
    """(place, text) of the lines of an annotation file; blank ones are left out."""
    try:
        text = source.read(name).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise HRNetError(f"{source.place(name)} is not a text file: {error}") from error
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield f"{source.place(name)}, line {number}", line.strip()


def numbers_of(place: str, words: list[str]) -> list[float]:
    """The words as numbers; HRNetError names the first that is none."""
    numbers = []
    for word in words:
        try:
            numbers.append(float(word))
        except ValueError:
            raise HRNetError(f"{place}: {word[:80]!r} is not a number") from None
    return numbers
