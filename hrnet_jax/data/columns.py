"""What the columns of somebody's CSV file are, told by their names.

Columns of landmarks are named by a landmark and an axis, in any common order and spelling
(`x0,y0`, `x_0,…,y_0,…`, `original_0_x`, `left_eye_y`, `p3v`), and may stand anywhere. Nothing is
told by its position but the picture's name, which may have any name if it comes first. A name that
could be read in two ways, or in none, is refused.
"""

import collections
import dataclasses
import re

from hrnet_jax.errors import HRNetError

BOX = ("scale", "center_w", "center_h")  # of the official files; box_size is AFLW's

_NAMES = """image_name image_names image image_path image_file img img_name img_path file filename
file_name file_path path name picture photo""".split()
_VISIBLE = "v|vis|visible|visibility"
_AXIS = rf"x|y|{_VISIBLE}|occ|occluded|occlusion"
# A landmark's column: its axis, and the rest of its name, before it or behind it.
_POINT = [
    re.compile(pattern, re.ASCII)
    for pattern in (
        rf"(?P<stem>)(?P<axis>{_AXIS})[\W_]*(?P<number>\d*)",  # x0, y_0, x[0], visible.0
        rf"(?P<stem>.*?)[\W_]*(?P<number>\d*)[\W_]+(?P<axis>{_AXIS})",  # original_0_x, left_eye_x
        rf"(?P<stem>.*?)[\W_]*(?P<number>\d+)(?P<axis>{_AXIS})",  # p0x
        rf"(?P<stem>.+?)[\W_]+(?P<axis>{_AXIS})[\W_]*(?P<number>\d+)",  # landmark_x_0, lm_x0
        r"(?P<stem>p|pt|lm|kp|gt|point|landmark)(?P<axis>x|y|v)(?P<number>\d+)",  # px0
        rf"(?P<axis>{_AXIS})[\W_]+(?P<stem>.+?)(?P<number>)",  # x_left_eye
    )
]
_NO_LANDMARK = re.compile(  # stems of what has an x and a y, but is no landmark
    r"((face|bbox|box|rect|roi|crop|image|img)[\W_]*)?(center|centre|size|offset|shape|pose|gaze)"
    r"|(bbox|box|rect|rectangle|roi|crop|image|img)([\W_].*)?"
)
_RECTANGLES = [  # a quadruple of names, without prefix and signs; corners or a corner and sizes
    (("xmin", "ymin", "xmax", "ymax"), True),
    (("minx", "miny", "maxx", "maxy"), True),
    (("left", "top", "right", "bottom"), True),
    (("left", "top", "width", "height"), False),
    (("x", "y", "width", "height"), False),
    (("x", "y", "w", "h"), False),
    (("x0", "y0", "x1", "y1"), True),
    (("x1", "y1", "x2", "y2"), True),
]
_PREFIXES = ("", *"bbox box bb b rect rectangle face facebox facerect boundingbox roi".split())
_IGNORED = re.compile(
    r"|unnamed.*|index|idx|((image|img|im|picture|original)[\W_]*)?(width|height|w|h)"
)


@dataclasses.dataclass(frozen=True)
class Columns:
    """Indices of columns.

    Attributes:
      name: of the picture.
      points: an x and a y for every landmark, in the landmarks' order.
      visible: one for every landmark, or empty.
      occluded: whether those say that a landmark is hidden instead of visible.
      box: scale, center_w and center_h, or empty.
      box_size: AFLW's, or None.
      rectangle: four, or empty.
      corners: whether those are two corners, instead of a corner, a width and a height.
      ignored: what is certainly none of these: an index, the picture's size.
    """

    name: int
    points: list[tuple[int, int]]
    visible: list[int]
    occluded: bool
    box: list[int]
    box_size: int | None
    rectangle: list[int]
    corners: bool
    ignored: list[int]


def find_columns(place: str, header: list[str]) -> Columns:
    """What the columns of a header are; HRNetError begins with `place` and names the column."""
    names = [name.strip().lower() for name in header]
    free = dict(enumerate(names))  # what is not understood yet

    def label(column):
        return f"{place}, column {column + 1} ({header[column]!r})"

    official = {name: names.index(name) for name in (*BOX, "box_size") if name in names}
    for name, column in official.items():
        if names.count(name) > 1:
            raise HRNetError(f"{label(column)}: there are several of this name")
        del free[column]
    if missing := [name for name in BOX if name not in official]:
        if len(missing) < len(BOX):
            raise HRNetError(f"{place} lacks {', '.join(missing)}: a box needs {', '.join(BOX)}")
    rectangle, corners = _rectangle(free)
    for column in rectangle:
        del free[column]
    ignored = [column for column, name in free.items() if _IGNORED.fullmatch(name)]
    for column in ignored:
        del free[column]
    named = [column for wanted in _NAMES for column, name in free.items() if name == wanted]
    if named:
        ids = [column for column, name in free.items() if re.fullmatch(r"(\w+_)?id", name)]
        ignored += ids
        for column in ids:
            del free[column]
    elif free and _point(next(iter(free.values()))) is None:
        named = [next(iter(free))]
    else:
        raise HRNetError(f"{place} has no column of picture names: call it image_name")
    del free[named[0]]
    points, flags = _points(free, label)
    return Columns(
        name=named[0],
        points=points,
        visible=[column for column, _ in flags],
        occluded=any(hidden for _, hidden in flags),
        box=[official[name] for name in BOX if name in official],
        box_size=official.get("box_size"),
        rectangle=rectangle,
        corners=corners,
        ignored=ignored,
    )


def _rectangle(free):
    """The columns of a box that is no landmark, and whether they are corners."""
    plain = {re.sub(r"[\W_]", "", name): column for column, name in free.items()}
    for four, corners in _RECTANGLES:
        for prefix in _PREFIXES:
            wanted = [prefix + name for name in four]
            if not all(name in plain for name in wanted):
                continue
            numbered = re.compile(rf"{prefix}[xy]\d+")
            if four[0][-1].isdigit() and (
                not prefix or sum(map(bool, map(numbered.fullmatch, plain))) > 4
            ):
                continue  # x0, y0, x1, y1 are two landmarks, and face_x0 … face_y67 are 68
            return [plain[name] for name in wanted], corners
    return [], True


def _point(name):
    """(stem, number or None, axis) of a landmark's column, or None."""
    name = name.rstrip(")]}")
    for pattern in _POINT:
        if found := pattern.fullmatch(name):
            stem, number, axis = found["stem"], found["number"], found["axis"]
            if _NO_LANDMARK.fullmatch(stem):
                return None
            return stem, int(number) if number else None, axis
    return None


def _points(free, label):
    """[(x, y)] and [(visibility, whether it means hidden)] of the landmarks, in their order."""
    counts = collections.Counter()
    found = {}  # (stem, number) -> {axis: column}
    for column, name in free.items():
        point = _point(name)
        if point is None:
            raise HRNetError(
                f"{label(column)} is neither a landmark's x or y nor anything known: name it as in "
                "image_name,x0,y0,x1,y1,… or take it out"
            )
        stem, number, axis = point
        if (stem, number) == ("", None):  # x,y,x,y,…: the first, the second, …
            number = counts[axis]
            counts[axis] += 1
        if axis not in "xy":
            axis = "occluded" if axis.startswith("occ") else "visible"
        if axis in found.setdefault((stem, number), {}):
            raise HRNetError(f"{label(column)}: this coordinate is there twice")
        found[stem, number][axis] = column
    stems = {}
    for (stem, _), axes in found.items():
        stems[stem] = min([*axes.values(), *([stems[stem]] if stem in stems else [])])
    numbered = all(number is not None for _, number in found)
    if len(stems) > 1 and (numbered or "" in stems):
        raise HRNetError(
            f"{label(sorted(stems.values())[1])}: landmarks are named in {len(stems)} ways: leave "
            "the columns of one"
        )
    if numbered:
        ordered = sorted(found)
    else:
        ordered = sorted(found, key=lambda key: min(found[key].values()))
    extra = sorted({axis for axes in found.values() for axis in axes} - {"x", "y"})
    points, flags = [], []
    for key in ordered:
        axes = found[key]
        for axis in ("x", "y", *extra):
            if axis not in axes:
                raise HRNetError(f"{label(min(axes.values()))}: this landmark has no {axis} column")
        points.append((axes["x"], axes["y"]))
        flags += [(axes[axis], axis == "occluded") for axis in extra]
    if len(extra) > 1:
        raise HRNetError(f"{label(flags[0][0])}: visible and occluded say the same: leave one")
    return points, flags
