"""Writes a prepared data set: pictures, then sidecars, then the annotation files.

Every file appears whole or not at all, and the annotation files come last: where one is, its split
is complete. A run that was stopped goes on with the pictures that are not there yet.
"""

import dataclasses
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

import numpy as np

from hrnet_jax.data.attributes import write_attributes
from hrnet_jax.data.prepare.faces import DataSet, Problems
from hrnet_jax.data.records import Records, write_csv
from hrnet_jax.errors import HRNetError
from hrnet_jax.files import as_path, open_atomically
from hrnet_jax.images import decode_image, write_image

IMAGES = "images"
SETTINGS = "prepare.json"
SKIPPED = "skipped.txt"


@dataclasses.dataclass(frozen=True)
class Cut:
    """A picture to write: `name` under `images`, the pixels from `low` to `high` of an original.

    Both are (x, y); without them it is the original file, unchanged.
    """

    name: str
    low: tuple[int, int] | None = None
    high: tuple[int, int] | None = None


def write_data_set(
    data: DataSet,
    output: str | Path,
    problems: Problems,
    settings: dict,
    crop: float = 0.0,
    progress: Callable[[Iterable, int], Iterable] = lambda pictures, total: pictures,
) -> dict[str, Records]:
    """Writes a data set as a folder of `images/…`, `SPLIT.csv` and `SPLIT.attributes.csv`.

    Args:
      data: of a reader.
      output: the folder, made if needed.
      problems: stops at the first picture that is missing or cannot be read; or collects them,
        leaves their faces out and lists them in `skipped.txt`.
      settings: what the pictures depend on, as JSON; a folder with others is refused.
      crop: 0 copies the picture files unchanged. Else every face gets a picture of its own: the
        part of the original under `crop` times its landmark box, in whole pixels, which are not
        resampled; points, boxes and rectangles move along.
      progress: wraps the iterator over the pictures, given their number.

    Returns:
      What was written, by split.

    Raises:
      HRNetError: as `problems` says; the folder belongs to other settings or cannot be written; a
        split is left without a face.
    """
    output = as_path(output)
    _check_settings(output, settings)
    if crop:
        splits, cuts = _cropped(data.splits, crop)
    else:
        splits = data.splits
        cuts = {name: [Cut(name)] for records in splits.values() for name in records.names}
    folder = output / IMAGES
    todo = [
        name
        for name, parts in cuts.items()
        if not all((folder / cut.name).is_file() for cut in parts)
    ]
    missing = set(data.pictures.missing(todo))
    if missing and not problems.skip:
        shown = ", ".join(sorted(missing)[:5]) + (" …" if len(missing) > 5 else "")
        raise HRNetError(f"{len(missing)} of {len(cuts)} pictures are missing: {shown}")
    problems.texts += [f"{name}: the picture is missing" for name in sorted(missing)]
    with open_atomically(output / SETTINGS) as file:
        json.dump(settings, file)
    present = [name for name in todo if name not in missing]
    for name, content in progress(data.pictures.read(present), len(present)):
        for cut, part in _parts(cuts[name], name, content, problems):
            _write_picture(folder / cut.name, part)

    written = {}
    for split, records in splits.items():
        there = [(folder / name).is_file() for name in records.names]
        if not any(there):
            raise HRNetError(f"{split} is left without a face: see what is missing")
        written[split] = dataclasses.replace(records[np.array(there)], root=folder)
    _list_skipped(output / SKIPPED, problems)
    for split, records in written.items():
        write_attributes(output / f"{split}.csv", records)
        write_csv(output / f"{split}.csv", records)
    return written


def _check_settings(output, settings):
    """HRNetError if the folder holds something else, or pictures made with other settings."""
    path = output / SETTINGS
    if path.exists():
        try:
            before = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise HRNetError(f"cannot read {path}: {error}") from error
        if before != json.dumps(settings):
            raise HRNetError(
                f"{output} was prepared with {before[:200]}, not {json.dumps(settings)}: choose "
                "another folder, or delete it"
            )
    elif output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise HRNetError(f"{output} is not empty and no folder of prepare: choose another one")


def _cropped(splits, crop):
    """The splits with a picture for every face, and the cuts of every original."""
    cuts, numbers, moved = defaultdict(list), Counter(), {}
    for split, records in splits.items():
        half = crop * records.sides[:, None] / 2
        lows = np.maximum(np.floor(records.centers - half), 0)
        highs = np.maximum(np.ceil(records.centers + half), 0)
        names = []
        for name, low, high in zip(records.names, lows, highs, strict=True):
            path = PurePosixPath(name)
            suffix = ".png" if path.suffix.lower() == ".png" else ".jpg"
            numbers[path.with_suffix("")] += 1
            number = numbers[path.with_suffix("")]
            names.append(str(path.with_name(f"{path.stem}-face{number}{suffix}")))
            low, high = (tuple(map(int, corner)) for corner in (low, high))
            cuts[name].append(Cut(names[-1], low, high))
        rectangles = records.rectangles
        moved[split] = dataclasses.replace(
            records,
            names=tuple(names),
            points=records.points - lows[:, None],
            centers=records.centers - lows,
            rectangles=None if rectangles is None else rectangles - np.tile(lows, 2),
        )
    return moved, cuts


def _parts(cuts, name, content, problems):
    """[(cut, bytes of a file or pixels)] of a picture; fewer where `problems` hears of bad ones."""
    parts = []
    with problems.guard():
        image = decode_image(content, name)
        for cut in cuts:
            with problems.guard():
                parts.append((cut, content if cut.low is None else _pixels(image, cut)))
    return parts


def _pixels(image, cut):
    (x0, y0), (x1, y1) = cut.low, cut.high
    part = image[y0:y1, x0:x1]
    if not part.size:
        raise HRNetError(f"{cut.name}: the face lies outside its picture")
    return part


def _write_picture(path, part):
    if path.is_file():
        return
    if isinstance(part, bytes):
        with open_atomically(path, binary=True) as file:
            file.write(part)
    else:
        write_image(path, part)


def _list_skipped(path, problems):
    """Writes what was left out, or removes the list of an earlier run."""
    if problems.texts:
        with open_atomically(path) as file:
            file.write("\n".join(problems.texts) + "\n")
    else:
        path.unlink(missing_ok=True)
