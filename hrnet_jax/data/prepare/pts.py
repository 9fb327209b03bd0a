"""`.pts` files: the landmarks of one face as text, an x and a y on every line.

iBUG's files, which 300W is made of, put them between braces below a header:

    version: 1
    n_points: 68
    {
    446.000 91.000
    …
    }

Others hold the lines of coordinates alone. The values are used as they are, also those of 300W,
which count pixels from 1.
"""

import numpy as np

from hrnet_jax.data.prepare.faces import lines_of, numbers_of
from hrnet_jax.data.prepare.source import PICTURES, Source
from hrnet_jax.errors import HRNetError


def read_pts(source: Source, name: str, num_landmarks: int | None = None) -> np.ndarray:
    """The points of a .pts file, float64 (L, 2), as they stand there; "nan nan" is none.

    HRNetError names the file and the line where it is cut off, has another number of points than
    its header or `num_landmarks` says, or holds what is not a number.
    """
    points, promised, end = [], None, None
    braces, last = False, source.place(name)
    for place, line in lines_of(source, name):
        if end is not None:
            raise HRNetError(f"{place}: {line[:40]!r} after the closing brace")
        if line == "{" and not points and not braces:
            braces = True
        elif line == "}" and braces:
            end = place
        elif ":" in line and not points and not braces:
            key, value = line.split(":", 1)
            if key.strip() == "n_points":
                (promised,) = numbers_of(place, [value.strip()])
        else:
            words = line.replace(",", " ").split()
            if len(words) != 2:
                raise HRNetError(f"{place}: {line[:40]!r} is not an x and a y")
            point = numbers_of(place, words)
            if np.isinf(point).any() or np.isnan(point).sum() == 1:
                raise HRNetError(f"{place}: {line[:40]!r} is not finite")
            points.append(point)
        last = place
    if not points:
        raise HRNetError(f"{source.place(name)} has no points: is it empty?")
    if braces and end is None:
        raise HRNetError(f"{last}: the file ends without its closing brace: it is cut off")
    if promised not in (None, len(points)):
        raise HRNetError(f"{last}: {len(points)} points, but the header says {promised:g}")
    if num_landmarks not in (None, len(points)):
        raise HRNetError(f"{last}: {len(points)} points instead of {num_landmarks}")
    return np.array(points)


def picture_beside(source: Source, name: str) -> str:
    """The name of the picture that a .pts file belongs to; HRNetError if there is none."""
    found = source.beside(name, PICTURES)
    if found is None:
        raise HRNetError(f"{source.place(name)}: no picture of this name beside it")
    return found
