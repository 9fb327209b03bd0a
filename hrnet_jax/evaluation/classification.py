"""Top-1 and top-5 accuracy of a classifier, and what it says about each picture."""

import csv
import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from hrnet_jax.data.pictures import EvalBatches, Pictures
from hrnet_jax.data.pipeline import iterate_threads
from hrnet_jax.data.preprocessing import Preprocessing
from hrnet_jax.devices import Devices
from hrnet_jax.errors import HRNetError
from hrnet_jax.files import as_path, open_atomically
from hrnet_jax.inference.forward import TOP


def classify_pictures(
    classify: Callable,
    variables: dict,
    pictures: Pictures,
    preprocessing: Preprocessing,
    batch_size: int,
    workers: int = 0,
    progress: Callable = iter,
    devices: Devices | None = None,
) -> dict[str, np.ndarray]:
    """Runs a network over N pictures.

    Args:
      classify: of `hrnet_jax.inference.forward.make_classify`.
      batch_size: the last batch is filled up to it. With `devices` it is rounded up to a multiple
        of their number.
      progress: wraps the iterator over batches (tqdm, say).
      devices: share the batches of all processes, which call this together; the variables lie on
        each. By default, the one that the variables lie on.

    Returns:
      "label" (N,); "probability" and "class" (N, K), the likeliest first; and in a job of one
      process "name" (N,). HRNetError if a probability is not finite.
    """
    if batch_size < 1:
        raise HRNetError(f"eval.batch_size = {batch_size}: it must be above zero")
    if devices:
        batch_size = -(-batch_size // devices.count) * devices.count
        batches = EvalBatches(pictures, preprocessing, batch_size, devices.shard)
    else:
        batches = EvalBatches(pictures, preprocessing, batch_size)

    def run(batch):
        if not devices:
            return batch["label"], *jax.device_get(classify(variables, batch["image"]))
        images, labels = devices.split((batch["image"], batch["label"]))
        return devices.collect((labels, *classify(variables, images)))

    made, names = [], []
    for batch in progress(iterate_threads(batches, 0, batches.steps, workers)):
        made.append(run(batch))
        names.append(batch["name"])
    found = [np.concatenate(part) for part in zip(*made, strict=True)]
    shown = found[0] >= 0
    found = [part[shown] for part in found]
    if not np.isfinite(found[1]).all():
        raise HRNetError("the network's output is not finite: its weights are damaged")
    found = dict(zip(("label", "probability", "class"), found, strict=True))
    alone = not devices or devices.shard[1] == 1
    return found | ({"name": np.concatenate(names)[shown]} if alone else {})


def accuracy(labels: np.ndarray, classes: np.ndarray) -> dict[str, float]:
    """{"top1", "top5"} in percent, of labels (N,) and classes (N, K), the likeliest first."""
    right = classes == labels[:, None]
    return {
        "top1": 100 * float(right[:, 0].mean()),
        "top5": 100 * float(right[:, :TOP].any(axis=1).mean()),
    }


@dataclasses.dataclass(frozen=True, eq=False)
class PictureRun:
    """One evaluation of a classifier.

    Attributes:
      found: of `classify_pictures`.
      names: those of the classes, in their order.
      metadata: JSON values that belong to the result, "protocol", "model" and "split" at least.
    """

    found: dict[str, np.ndarray]
    names: list[str]
    metadata: dict

    @functools.cached_property
    def result(self) -> dict:
        """What metrics.json holds: "top1" and "top5" in percent, "count", and the metadata."""
        scores = accuracy(self.found["label"], self.found["class"])
        return {**scores, "count": len(self.found["label"]), **self.metadata}


def write_pictures(output: str | Path, run: PictureRun) -> None:
    """Writes metrics.json, and per_image.csv with the likeliest classes of each picture."""
    output, found, names = as_path(output), run.found, run.names
    top = range(found["class"].shape[1])
    with open_atomically(output / "per_image.csv") as file:
        writer = csv.writer(file, lineterminator="\n")
        columns = [f"{what}_{k + 1}" for k in top for what in ("class", "probability")]
        writer.writerow(["image_name", "truth", *columns])
        for k, image in enumerate(found["name"]):
            guesses = zip(found["class"][k], found["probability"][k].tolist(), strict=True)
            cells = [cell for c, p in guesses for cell in (names[c], round(p, 6))]
            writer.writerow([image, names[found["label"][k]], *cells])
    with open_atomically(output / "metrics.json") as file:
        file.write(json.dumps(run.result, indent=2, allow_nan=False) + "\n")
