"""From a data set as it was downloaded to the project's folder of CSV files and images.

Each data set is a module with a reader, `read(source, problems) -> DataSet`, and what is published
of it; `writer.py` writes what they read. `prepare` does both.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable
from pathlib import Path

from hrnet_jax.data.checks import describe_annotation
from hrnet_jax.data.prepare import aflw, coco, cofw, custom, w300, wflw
from hrnet_jax.data.prepare.faces import Problems
from hrnet_jax.data.prepare.source import Source
from hrnet_jax.data.prepare.writer import write_data_set
from hrnet_jax.data.records import Records
from hrnet_jax.errors import HRNetError
from hrnet_jax.files import absolute, as_path, local_path
from hrnet_jax.schemes import Scheme

DATA_SETS = {
    "wflw": wflw,
    "300w": w300,
    "cofw": cofw,
    "aflw": aflw,
    "coco": coco,
    "custom": custom,
}


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What `prepare` wrote: the faces by split, and a line for every face that it left out.

    `notes` are further lines on what it found: columns left out, landmarks not annotated.
    """

    splits: dict[str, Records]
    skipped: list[str]
    notes: list[str]


def prepare(
    name: str,
    source: str | Path,
    output: str | Path,
    crop: float = 0.0,
    scheme: Scheme | None = None,
    skip_bad: bool = False,
    missing: tuple[float, float] | None = None,
    progress: Callable[[Iterable, int], Iterable] = lambda pictures, total: pictures,
) -> Prepared:
    """Reads a data set and writes it in the project's layout (docs/data.md).

    Args:
      name: one of `DATA_SETS`.
      source: the folder with the downloaded archives, or what was unpacked of them.
      output: the folder to write, outside the source.
      crop: 0, or how many landmark boxes wide a picture to cut out for every face.
      scheme: whose number of landmarks the faces must have.
      skip_bad: leave out faces that are wrong, missing or unreadable, instead of stopping.
      missing: the x and y that mean "not annotated" in this data set; empty cells, NaN and COCO's
        visibility 0 do in any case.
      progress: wraps the iterator over the pictures, given their number.

    Raises:
      HRNetError: one line that names the file, and the line in it, that is wrong.
    """
    if name not in DATA_SETS:
        raise HRNetError(f"unknown data set {name!r}: choose one of {', '.join(DATA_SETS)}")
    if crop and not 1 <= crop < math.inf:
        raise HRNetError(f"crop = {crop:g}: give how many landmark boxes wide, 1 at least")
    source = local_path(source, "the downloaded data set")
    if absolute(as_path(output)).is_relative_to(source.resolve()):
        raise HRNetError(f"the output {output} lies in the source {source}: choose one outside it")
    problems = Problems(skip_bad, missing)
    data = DATA_SETS[name].read(Source(source), problems)
    for split, records in data.splits.items():
        count = records.points.shape[1]
        if scheme is not None and count != scheme.num_landmarks:
            raise HRNetError(
                f"{split} has {count} landmarks a face, the scheme {scheme.name} "
                f"{scheme.num_landmarks}"
            )
        problems.notes += describe_annotation(split, records)
    settings = {"data set": name, "crop": crop}
    if crop and missing is not None:  # the boxes, and so the crops, depend on it
        settings["missing"] = list(missing)
    splits = write_data_set(data, output, problems, settings, crop, progress)
    return Prepared(splits, problems.texts, problems.notes)
