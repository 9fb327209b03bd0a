"""Top-1 and top-5 accuracy of a classifier, and what it says about each picture."""

import csv
import json
from collections.abc import Callable

import jax
import numpy as np
from tqdm import tqdm

import hrnet_jax
from hrnet_jax.checkpoints import load
from hrnet_jax.config import plain
from hrnet_jax.data.classes import model_classes
from hrnet_jax.data.pictures import EvalBatches, Pictures, open_split
from hrnet_jax.data.pipeline import iterate_threads
from hrnet_jax.data.preprocessing import Preprocessing
from hrnet_jax.devices import one_at_a_time
from hrnet_jax.errors import HRNetError
from hrnet_jax.evaluation.tables import format_table
from hrnet_jax.files import as_path, open_atomically
from hrnet_jax.models import normalise_images
from hrnet_jax.models.cpu_conv import jit

TOP = 5


def make_classify(model) -> Callable:
    """Returns the compiled `classify(variables, images) -> (probabilities, classes)`.

    `images` is uint8 (N, S, S, 3) RGB; the results are (N, K), the likeliest first, K the lesser of
    five and the number of classes.
    """

    @jit
    def classify(variables, images):
        probabilities = jax.nn.softmax(model.apply(variables, normalise_images(images)))
        return jax.lax.top_k(probabilities, min(TOP, probabilities.shape[-1]))

    return one_at_a_time(classify)


def classify_pictures(
    classify: Callable,
    variables: dict,
    pictures: Pictures,
    preprocessing: Preprocessing,
    batch_size: int,
    workers: int = 0,
    progress: Callable = iter,
) -> dict[str, np.ndarray]:
    """Runs a network over N pictures.

    Args:
      classify: of `make_classify`.
      progress: wraps the iterator over batches (tqdm, say).

    Returns:
      "name" and "label" (N,); "probability" and "class" (N, K), the likeliest first. HRNetError if
      a probability is not finite.
    """
    if batch_size < 1:
        raise HRNetError(f"eval.batch_size = {batch_size}: it must be above zero")
    batches = EvalBatches(pictures, preprocessing, batch_size)
    made = []
    for batch in progress(iterate_threads(batches, 0, batches.steps, workers)):
        count = len(batch["label"])
        both = [np.asarray(part)[:count] for part in classify(variables, batch["image"])]
        made.append((batch["name"], batch["label"], *both))
    parts = [np.concatenate(part) for part in zip(*made, strict=True)]
    if not np.isfinite(parts[2]).all():
        raise HRNetError("the network's output is not finite: its weights are damaged")
    return dict(zip(("name", "label", "probability", "class"), parts, strict=True))


def accuracy(labels: np.ndarray, classes: np.ndarray) -> dict[str, float]:
    """{"top1", "top5"} in percent, of labels (N,) and classes (N, K), the likeliest first."""
    right = classes == labels[:, None]
    return {
        "top1": 100 * float(right[:, 0].mean()),
        "top5": 100 * float(right[:, :TOP].any(axis=1).mean()),
    }


def evaluate_classifier(config, arguments) -> None:
    """`hrnet-jax evaluate` for a classifier: writes metrics.json and per_image.csv, prints a table.

    Args:
      config: attributes as in `hrnet_jax.tasks.classification_config`: the data set.
      arguments: of `hrnet_jax.cli.evaluate`; those that are about landmarks are refused.

    Raises:
      HRNetError: no classifier, or another network than the config's; data that cannot be read.
    """
    landmarks_only = {
        "--flip-test": arguments.flip_test,
        "--normaliser": arguments.normaliser,
        "--auc": arguments.auc != "trapezoid",
        "--box": arguments.box != "landmarks",
        "--box-jitter": arguments.box_jitter,
    }
    if given := [name for name, value in landmarks_only.items() if value]:
        raise HRNetError(f"{' and '.join(given)}: for landmarks only; the config tells classes")
    loaded = load(arguments.checkpoint)
    model = loaded.metadata["model"]
    wanted = {"name": config.model.name, "num_classes": config.model.num_classes}
    if model != wanted:
        raise HRNetError(
            f"{arguments.checkpoint} holds {model}; the config asks for {wanted}: use its own "
            "config, or set --config.model.name and --config.model.num_classes"
        )
    stored = arguments.protocol == "checkpoint" and loaded.metadata["protocol"]
    preprocessing = Preprocessing.from_dict(stored or plain(config.preprocessing))
    known = model_classes(loaded.metadata)
    pictures = open_split(config.data, arguments.split, known, model["num_classes"])
    size = config.eval.batch_size
    found = classify_pictures(
        make_classify(loaded.model),
        loaded.variables,
        pictures,
        preprocessing,
        size,
        config.data.workers,
        lambda batches: tqdm(batches, total=-(-len(pictures) // size), unit="batch"),
    )
    result = {
        **accuracy(found["label"], found["class"]),
        "count": len(pictures),
        "protocol": preprocessing.to_dict(),
        "model": model,
        "split": f"{config.data.source} {config.data[arguments.split]}",
        "checkpoint": str(arguments.checkpoint),
        "version": hrnet_jax.__version__,
    }
    names = known or [str(k) for k in range(model["num_classes"])]
    _write(as_path(arguments.output), result, found, names)
    row = [f"{result['top1']:.2f}", f"{result['top5']:.2f}"]
    print(format_table([[result["count"], *row]], ["pictures", "top-1 %", "top-5 %"]))


def _write(output, result, found, names):
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
        file.write(json.dumps(result, indent=2, allow_nan=False) + "\n")
