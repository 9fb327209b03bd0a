"""A landmark scheme of one's own, in a small JSON or TOML file.

    {
      "name": "owls",
      "num_landmarks": 5,
      "names": ["eye, left", "eye, right", "beak", "ear, left", "ear, right"],
      "flip_pairs": [["eye, left", "eye, right"], [3, 4]],
      "normaliser": ["eye, left", "eye, right"],
      "lines": [{"name": "head", "points": [3, 0, 2, 1, 4], "closed": false}]
    }

`names` is optional: a landmark is meant by its index, from 0, or by its name. `normaliser` is the
pair whose distance divides the errors, or "box_size" where the annotations bring a length of their
own. `five_points`, optional, lists for the eyes, the nose tip and the mouth corners (image left
before right) the landmarks whose mean they are; `lines`, optional, what to draw.
"""

import json
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

from hrnet_jax.errors import HRNetError
from hrnet_jax.files import as_path, describe_error, open_binary
from hrnet_jax.schemes.table import SCHEMES, Line, Scheme

_MAX_LANDMARKS = 10_000
_MAX_BYTES = 10**6
_REQUIRED = {"name", "num_landmarks", "flip_pairs", "normaliser"}
_OPTIONAL = {"names", "five_points", "lines"}


def read_scheme(path: str | Path) -> Scheme:
    """Reads a scheme file; HRNetError names the file and what is wrong in it."""
    path = as_path(path)
    try:
        with open_binary(path) as file:
            text = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise HRNetError(f"cannot read {path}: {describe_error(error)}") from error
    if len(text) > _MAX_BYTES:
        raise HRNetError(f"{path} has more than {_MAX_BYTES:,} bytes: it is no scheme file")
    try:
        parse = tomllib.loads if path.suffix == ".toml" else json.loads
        description = parse(text.decode())
    except (ValueError, RecursionError) as error:
        kind = "TOML" if path.suffix == ".toml" else "JSON"
        raise HRNetError(f"{path} is not a {kind} file: {error}") from error
    return scheme_from_dict(description, str(path))


def scheme_from_dict(description, place: str) -> Scheme:
    """Checks a scheme's description (see the top of this module); errors begin with `place`."""
    if not isinstance(description, dict):
        raise HRNetError(f"{place}: a scheme is a table of {', '.join(sorted(_REQUIRED))}")
    keys = set(description)
    if missing := _REQUIRED - keys:
        raise HRNetError(f"{place} lacks {', '.join(sorted(missing))}")
    if unknown := keys - _REQUIRED - _OPTIONAL:
        known = ", ".join(sorted(_REQUIRED | _OPTIONAL))
        raise HRNetError(f"{place} has no key {sorted(unknown)[0]!r}: it has {known}")
    name, count = description["name"], description["num_landmarks"]
    if not isinstance(name, str) or not name.strip() or name in SCHEMES:
        raise HRNetError(f"{place}: name = {name!r}: give it one that is not built in")
    if type(count) is not int or not 1 <= count <= _MAX_LANDMARKS:
        raise HRNetError(f"{place}: num_landmarks = {count!r}: give 1 to {_MAX_LANDMARKS:,}")
    read = _Indices(place, count, description.get("names"))

    pairs = read.groups("flip_pairs", description["flip_pairs"], size=2)
    used = [index for pair in pairs for index in pair]
    if twice := [index for index, times in Counter(used).items() if times > 1]:
        raise HRNetError(f"{place}: flip_pairs has landmark {min(twice)} more than once")
    normaliser = description["normaliser"]
    if normaliser == "box_size":
        normaliser = None
    else:
        (normaliser,) = read.groups("normaliser", [normaliser], size=2)
        if normaliser[0] == normaliser[1]:
            raise HRNetError(f"{place}: normaliser names landmark {normaliser[0]} twice")
    five = read.groups("five_points", description.get("five_points", []))
    if len(five) not in (0, 5):
        raise HRNetError(f"{place}: five_points has {len(five)} entries, not five")
    return Scheme(name, count, pairs, normaliser, five, _lines(description, read, place))


def describe(scheme: Scheme) -> dict:
    """What `scheme_from_dict` reads back, of plain lists and numbers."""
    return {
        "name": scheme.name,
        "num_landmarks": scheme.num_landmarks,
        "flip_pairs": [list(pair) for pair in scheme.flip_pairs],
        "normaliser": "box_size" if scheme.normaliser is None else list(scheme.normaliser),
        "five_points": [list(indices) for indices in scheme.five_points],
        "lines": [
            {"name": line.name, "points": list(line.points), "closed": line.closed}
            for line in scheme.lines
        ],
    }


def _lines(description, read, place):
    lines = description.get("lines", [])
    known = {"name", "points", "closed"}
    made = []
    for line in lines if isinstance(lines, list) else [lines]:
        if not isinstance(line, dict) or not known - {"closed"} <= set(line) <= known:
            raise HRNetError(f"{place}: lines: {line!r} is not a table of name, points, closed")
        name, closed = line["name"], line.get("closed", False)
        if not isinstance(name, str) or not name.strip(" ,") or not isinstance(closed, bool):
            raise HRNetError(f"{place}: lines: {line!r}: name is a text, closed true or false")
        (points,) = read.groups("lines", [line["points"]])
        made.append(Line(name, points, closed))
    return tuple(made)


class _Indices:
    """Turns the names and numbers of a scheme file into landmark indices."""

    def __init__(self, place, count, names):
        self.place, self.count, self.names = place, count, names or []
        if names is not None:
            texts = isinstance(names, list) and all(isinstance(name, str) for name in names)
            if not texts or len(names) != count or len(set(names)) != count:
                raise HRNetError(f"{place}: names must be {count} texts that all differ")
        self.places = {name: index for index, name in enumerate(self.names)}

    def groups(self, key, groups, size=None) -> Any:
        """Tuples of indices, each of `size` where it is given, else of one at least."""
        if not isinstance(groups, list) or not all(isinstance(group, list) for group in groups):
            raise HRNetError(f"{self.place}: {key}: {groups!r} is not a list of landmarks")
        made = tuple(tuple(self.index(key, item) for item in group) for group in groups)
        for group in made:
            if not group or size not in (None, len(group)):
                wanted = f"{size} landmarks" if size else "at least one landmark"
                raise HRNetError(f"{self.place}: {key}: {list(group)} must have {wanted}")
        return made

    def index(self, key, item):
        if isinstance(item, str) and item in self.places:
            return self.places[item]
        if type(item) is not int or not 0 <= item < self.count:
            known = " or a name" if self.names else ""
            raise HRNetError(
                f"{self.place}: {key}: {item!r} is no landmark: give 0 … {self.count - 1}{known}"
            )
        return item
