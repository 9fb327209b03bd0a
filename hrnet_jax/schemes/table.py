"""Landmark schemes as data: point counts, flip pairs, normaliser, five points, lines to draw.

All indices are 0-based. The flip pairs are those of the official HRNet facial-landmark code (its
300W, AFLW and COFW lists are 1-based there; its WFLW list is 0-based), which HIH and mmpose share.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Line:
    """A contour to draw: point indices in order, joined back to the first when `closed`."""

    name: str
    points: tuple[int, ...]
    closed: bool = False


@dataclasses.dataclass(frozen=True)
class Scheme:
    """The meaning of the landmark indices of one data set.

    Attributes:
      name: key in `SCHEMES`, or of one's own (`hrnet_jax.schemes.files`).
      num_landmarks: number of points L.
      flip_pairs: index pairs that change places when the image is mirrored.
      normaliser: the pair of points whose distance normalises the NME (outer eye corners, the
        "inter-ocular" distance), or None where the data set brings a box size (AFLW).
      five_points: for the eyes (image left, image right), nose tip and mouth corners (image left,
        image right): the landmarks whose mean is that point; () where a scheme has no such points.
      lines: contours, for drawing.
    """

    name: str
    num_landmarks: int
    flip_pairs: tuple[tuple[int, int], ...]
    normaliser: tuple[int, int] | None
    five_points: tuple[tuple[int, ...], ...]
    lines: tuple[Line, ...]

    @property
    def flip_permutation(self) -> np.ndarray:
        """int array (L,): the landmark of the mirrored face that each landmark becomes."""
        permutation = np.arange(self.num_landmarks)
        for a, b in self.flip_pairs:
            permutation[a], permutation[b] = b, a
        return permutation


def _span(first, last):
    return tuple(range(first, last + 1))


def _mirror(first: int, last: int, total: int) -> tuple[tuple[int, int], ...]:
    """Pairs i <-> total - i for i = first … last."""
    return tuple((i, total - i) for i in range(first, last + 1))


def _pairs(text: str) -> tuple[tuple[int, int], ...]:
    split = [pair.split("-") for pair in text.split()]
    return tuple((int(a), int(b)) for a, b in split)


W300 = Scheme(
    name="300w",
    num_landmarks=68,
    flip_pairs=_mirror(0, 7, 16)
    + _pairs("17-26 18-25 19-24 20-23 21-22 31-35 32-34 36-45 37-44 38-43 39-42 40-47 41-46")
    + _pairs("48-54 49-53 50-52 58-56 59-55 60-64 61-63 67-65"),
    normaliser=(36, 45),
    five_points=((37, 38, 40, 41), (43, 44, 46, 47), (30,), (48,), (54,)),
    lines=(
        Line("contour", _span(0, 16)),
        Line("brow, image left", _span(17, 21)),
        Line("brow, image right", _span(22, 26)),
        Line("nose bridge", _span(27, 30)),
        Line("nose base", _span(31, 35)),
        Line("eye, image left", _span(36, 41), closed=True),
        Line("eye, image right", _span(42, 47), closed=True),
        Line("outer lips", _span(48, 59), closed=True),
        Line("inner lips", _span(60, 67), closed=True),
    ),
)

WFLW = Scheme(
    name="wflw",
    num_landmarks=98,
    flip_pairs=_mirror(0, 15, 32)
    + _pairs("33-46 34-45 35-44 36-43 37-42 38-50 39-49 40-48 41-47 55-59 56-58")
    + _pairs("60-72 61-71 62-70 63-69 64-68 65-75 66-74 67-73 76-82 77-81 78-80 87-83 86-84")
    + _pairs("88-92 89-91 95-93 96-97"),
    normaliser=(60, 72),
    five_points=((96,), (97,), (53,), (88,), (92,)),
    lines=(
        Line("contour", _span(0, 32)),
        Line("brow, image left", _span(33, 41), closed=True),
        Line("brow, image right", _span(42, 50), closed=True),
        Line("nose bridge", _span(51, 54)),
        Line("nose base", _span(55, 59)),
        Line("eye, image left", _span(60, 67), closed=True),
        Line("eye, image right", _span(68, 75), closed=True),
        Line("outer lips", _span(76, 87), closed=True),
        Line("inner lips", _span(88, 95), closed=True),
    ),
)

COFW = Scheme(
    name="cofw",
    num_landmarks=29,
    flip_pairs=_pairs("0-1 2-3 4-6 5-7 8-9 10-11 12-14 13-15 16-17 18-19 22-23"),
    normaliser=(8, 9),
    five_points=((16,), (17,), (20,), (22,), (23,)),
    lines=(
        Line("brow, image left", (0, 4, 2, 5), closed=True),
        Line("brow, image right", (1, 6, 3, 7), closed=True),
        Line("eye, image left", (8, 12, 10, 13), closed=True),
        Line("eye, image right", (9, 14, 11, 15), closed=True),
        Line("nose", (18, 20, 19, 21), closed=True),
        Line("outer lips", (22, 24, 23, 27), closed=True),
        Line("inner lips", (25, 26)),
    ),
)

AFLW = Scheme(
    name="aflw",
    num_landmarks=19,
    flip_pairs=_pairs("0-5 1-4 2-3 6-11 7-10 8-9 12-14 15-17"),
    normaliser=None,
    five_points=((7,), (10,), (13,), (15,), (17,)),
    lines=(
        Line("brow, image left", (0, 1, 2)),
        Line("brow, image right", (3, 4, 5)),
        Line("eye, image left", (6, 7, 8)),
        Line("eye, image right", (9, 10, 11)),
        Line("nose", (12, 13, 14)),
        Line("mouth", (15, 16, 17)),
    ),
)

SCHEMES = {scheme.name: scheme for scheme in (W300, WFLW, COFW, AFLW)}
