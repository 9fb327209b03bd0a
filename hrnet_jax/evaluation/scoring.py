"""From predicted points to metrics.json and per_image.csv, whoever predicted them."""

import collections
import csv
import json
import re
from pathlib import Path

import numpy as np

import hrnet_jax
from hrnet_jax.data.records import Records, point_columns, read_csv
from hrnet_jax.data.tables import read_table
from hrnet_jax.errors import HRNetError
from hrnet_jax.evaluation import metrics
from hrnet_jax.evaluation.tables import metrics_table
from hrnet_jax.files import open_atomically
from hrnet_jax.schemes import Scheme, get_scheme


def nme_of_records(records: Records, predictions: np.ndarray, scheme: Scheme) -> np.ndarray:
    """NME of every face as a fraction, float64 (N,); predictions (N, L, 2), image pixels.

    HRNetError names the images whose predictions are not finite, or whose annotation leaves
    nothing to divide by.
    """
    predictions = np.asarray(predictions, np.float64)
    lengths = metrics.normaliser(records.points, scheme, records.box_sizes)
    _require(lengths > 0, records, f"{_normaliser_name(scheme)} is zero")
    _require(np.isfinite(predictions).all(axis=(1, 2)), records, "predicted points are not finite")
    with np.errstate(over="ignore"):
        nme = metrics.nme_per_image(predictions, records.points, lengths)
    _require(np.isfinite(nme), records, "predicted points are too far away to measure")
    return nme


def write_results(
    output_dir: str | Path,
    records: Records,
    predictions: np.ndarray,
    scheme: Scheme,
    metadata: dict,
    subsets: dict[str, np.ndarray] | None = None,
) -> dict:
    """Computes the metrics and writes them: metrics.json and per_image.csv, each whole or not.

    Args:
      output_dir: folder for both files, made if needed.
      records: the annotated faces.
      predictions: (N, L, 2), (x, y) in image pixels, in the order of the records.
      scheme: tells the normaliser.
      metadata: JSON values to store with the result, "protocol", "model" and "split" at least;
        the scheme, the normaliser and this package's version are added.
      subsets: named boolean masks (N,) to be measured by themselves.

    Returns:
      What metrics.json holds. per_image.csv has image_name, nme (percent) and the predicted points
      in the official columns: it can be scored again by `score_files`.
    """
    if missing := {"protocol", "model", "split"} - metadata.keys():
        raise ValueError(f"a result must carry its {', '.join(sorted(missing))}")
    nme = nme_of_records(records, predictions, scheme)
    result = metrics.summarise(nme, subsets) | {
        "scheme": scheme.name,
        "normaliser": _normaliser_name(scheme),
        "version": hrnet_jax.__version__,
        **metadata,
    }
    content = json.dumps(result, indent=2, allow_nan=False)
    output_dir = Path(output_dir)
    points = np.asarray(predictions, np.float64).reshape(len(records), -1).tolist()
    with open_atomically(output_dir / "per_image.csv") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["image_name", "nme", *point_columns(scheme.num_landmarks)])
        for name, error, row in zip(records.names, (100 * nme).tolist(), points, strict=True):
            writer.writerow([name, error, *row])
    with open_atomically(output_dir / "metrics.json") as file:
        file.write(content + "\n")
    return result


def score_files(
    predictions_csv: str | Path, truth_csv: str | Path, scheme_name: str, output_dir: str | Path
) -> dict:
    """Scores a file of predictions against an annotation file, writes the results, prints a table.

    The truth is a file in the official columns. The predictions need a column image_name and the
    columns original_0_x, original_0_y, …, found by their names; others are ignored. Rows are
    matched by image name; where an image has several faces, in their order of appearance.
    HRNetError names the images that only one of the files has, or has more often.
    """
    scheme = get_scheme(scheme_name)
    predictions_csv, truth_csv = Path(predictions_csv), Path(truth_csv)
    records = read_csv(truth_csv, truth_csv.parent, scheme.num_landmarks)
    names, points = _read_predictions(predictions_csv, scheme)
    rows = _match(names, records.names, predictions_csv, truth_csv)
    metadata = {
        "protocol": None,  # how the points were predicted is not known here
        "model": None,
        "split": truth_csv.name,
        "predictions": predictions_csv.name,
    }
    result = write_results(output_dir, records, points[rows], scheme, metadata)
    print(metrics_table(result))
    return result


def _normaliser_name(scheme):
    if scheme.normaliser is None:
        return "box size"
    return "inter-ocular distance, points {} and {}".format(*scheme.normaliser)


def _require(good, records, problem):
    if not good.all():
        names = [records.names[i] for i in np.flatnonzero(~good)]
        raise HRNetError(f"{problem} for {_listed(names)}")


def _listed(names, most=5):
    """The first few names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _read_predictions(path, scheme):
    """(image names, float64 (N, L, 2)) from a file whose header names its columns."""
    expected = ["image_name", *point_columns(scheme.num_landmarks)]

    def choose(header):
        known = [name for name in header if re.fullmatch(r"image_name|original_\d+_[xy]", name)]
        if collections.Counter(known) != collections.Counter(expected):
            absent = [name for name in expected if name not in known]
            surplus = [name for name in known if known.count(name) > expected.count(name)]
            problem = f"lacks {_listed(absent)}" if absent else f"has too many: {_listed(surplus)}"
            raise HRNetError(
                f"{path}: the {scheme.name} scheme needs columns image_name and "
                f"original_0_x … {expected[-1]} once each; the header {problem}"
            )
        return header.index("image_name"), [header.index(name) for name in expected[1:]]

    table = read_table(path, choose)
    return table.names, table.numbers.reshape(len(table.names), scheme.num_landmarks, 2)


def _match(predicted, truth, predictions_csv, truth_csv):
    """Row of the predictions for every row of the truth; the k-th face of an image is its k-th."""
    counts, wanted = collections.Counter(predicted), collections.Counter(truth)
    problems = []
    if missing := [name for name in wanted if name not in counts]:
        problems.append(f"no prediction for {_listed(missing)}")
    if surplus := [name for name in counts if name not in wanted]:
        problems.append(f"no such image in the truth: {_listed(surplus)}")
    unequal = [name for name in wanted if name in counts and counts[name] != wanted[name]]
    if unequal:
        texts = [f"{name} ({counts[name]} rows, truth {wanted[name]})" for name in unequal]
        problems.append(f"not as many faces as the truth: {_listed(texts)}")
    if problems:
        raise HRNetError(f"{predictions_csv} does not fit {truth_csv}: {'; '.join(problems)}")
    queues = collections.defaultdict(collections.deque)
    for row, name in enumerate(predicted):
        queues[name].append(row)
    return [queues[name].popleft() for name in truth]
