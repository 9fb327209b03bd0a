"""From predicted points to metrics.json, per_image.csv, annotations.csv, whoever predicted them."""

import collections
import csv
import dataclasses
import functools
import json
import re
from pathlib import Path

import numpy as np

import hrnet_jax
from hrnet_jax.data.attributes import attributes_path, read_attributes, write_attributes
from hrnet_jax.data.records import Records, point_columns, read_csv, write_csv
from hrnet_jax.data.tables import read_table
from hrnet_jax.errors import HRNetError
from hrnet_jax.evaluation import metrics
from hrnet_jax.files import absolute, as_path, describe_error, open_atomically
from hrnet_jax.schemes import SCHEMES, Scheme, get_scheme, stored_scheme
from hrnet_jax.schemes.files import describe as describe_scheme


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """One evaluation: annotated faces, what was predicted for them, and what that measures.

    Attributes:
      name: for tables and legends.
      records: N faces, with the subsets that are also measured by themselves.
      predictions: (N, L, 2), (x, y) in image pixels, in the order of the records.
      scheme: the landmark scheme.
      metadata: JSON values that belong to the result, "protocol", "model" and "split" at least.
      normaliser: one of `metrics.NORMALISERS`.
      auc_rule: one of `metrics.AUC_RULES`.
    """

    name: str
    records: Records
    predictions: np.ndarray
    scheme: Scheme
    metadata: dict
    normaliser: str
    auc_rule: str = "trapezoid"

    @functools.cached_property
    def nme(self) -> np.ndarray:
        """NME of every face as a fraction, float64 (N,); NaN where it cannot be measured."""
        return nme_of_records(self.records, self.predictions, self.scheme, self.normaliser)

    @functools.cached_property
    def result(self) -> dict:
        """What metrics.json holds."""
        has_box_sizes = self.records.box_sizes is not None
        known = self.scheme.name in SCHEMES
        return metrics.summarise(self.nme, self.records.subsets, self.auc_rule) | {
            "scheme": self.scheme.name,
            **({} if known else {"scheme_description": describe_scheme(self.scheme)}),
            "normaliser": self.normaliser,
            "normaliser_length": metrics.describe_normaliser(
                self.scheme, self.normaliser, has_box_sizes
            ),
            "auc_rule": self.auc_rule,
            "version": hrnet_jax.__version__,
            **self._missing(),
            **self.metadata,
        }

    def _missing(self):
        """How many landmarks are not annotated, and faces not measured therefore; {} if none."""
        landmarks = np.asarray(np.isnan(self.records.points).any(axis=-1))
        if not landmarks.any():
            return {}
        return {
            "landmarks_not_annotated": int(landmarks.sum()),
            "faces_partly_annotated": int(landmarks.any(axis=1).sum()),
            "faces_not_measured": int(np.isnan(self.nme).sum()),
        }

    def measured(self) -> "Run":
        """The run with the faces alone that can be measured."""
        known = ~np.isnan(self.nme)
        if known.all():
            return self
        parts = {"records": self.records[known], "predictions": self.predictions[known]}
        return dataclasses.replace(self, **parts)


def nme_of_records(
    records: Records, predictions: np.ndarray, scheme: Scheme, normaliser: str | None = None
) -> np.ndarray:
    """NME of every face as a fraction, float64 (N,); predictions (N, L, 2), image pixels.

    It is the mean over the landmarks that are annotated, and NaN where those are not that the
    errors are divided by. `normaliser` is one of `metrics.NORMALISERS`, None for the scheme's own.
    HRNetError names the images whose predictions are not finite, or whose annotation leaves nothing
    to divide by.
    """
    kind = normaliser or metrics.default_normaliser(scheme)
    predictions = np.asarray(predictions, np.float64)
    lengths = metrics.normaliser(records.points, scheme, records.box_sizes, kind)
    words = metrics.describe_normaliser(scheme, kind, records.box_sizes is not None)
    unknown = np.isnan(lengths)
    _require((lengths > 0) | unknown, records, f"the {kind} normaliser ({words}) is zero")
    _require(np.isfinite(predictions).all(axis=(1, 2)), records, "predicted points are not finite")
    with np.errstate(over="ignore"):
        nme = metrics.nme_per_image(predictions, records.points, lengths)
    _require(np.isfinite(nme) | unknown, records, "predicted points are too far away to measure")
    return nme


def write_results(
    output_dir: str | Path | None,
    records: Records,
    predictions: np.ndarray,
    scheme: Scheme,
    metadata: dict,
    normaliser: str | None = None,
    auc_rule: str = "trapezoid",
) -> Run:
    """Computes the metrics and writes them, each file whole or not; `read_run` reads them again.

    Args:
      output_dir: folder for the files, made if needed; it names the run. None writes nothing.
      records: the annotated faces; each of their subsets is measured by itself too.
      predictions: (N, L, 2), (x, y) in image pixels, in the order of the records.
      scheme: tells the normaliser.
      metadata: JSON values to store with the result, "protocol", "model" and "split" at least;
        the scheme, the normaliser and this package's version are added.
      normaliser: one of `metrics.NORMALISERS`; None for the scheme's own.
      auc_rule: one of `metrics.AUC_RULES`.

    metrics.json holds `Run.result`. per_image.csv has image_name, nme (percent, empty for a face
    that cannot be measured) and the predicted points in the official columns: it can be scored
    again by `score_files`, against annotations.csv, which has the true points and, in its sidecar,
    the subsets.
    """
    if missing := {"protocol", "model", "split"} - metadata.keys():
        raise ValueError(f"a result must carry its {', '.join(sorted(missing))}")
    images = str(records.root) if records.pictures is None else None  # rendered: no files
    metadata = {"images": images, **metadata}
    kind = normaliser or metrics.default_normaliser(scheme)
    name = _name(as_path(output_dir)) if output_dir is not None else ""
    run = Run(name, records, predictions, scheme, metadata, kind, auc_rule)
    if output_dir is None:
        return run
    output_dir = as_path(output_dir)
    content = json.dumps(run.result, indent=2, allow_nan=False)
    points = np.asarray(predictions, np.float64).reshape(len(records), -1).tolist()
    with open_atomically(output_dir / "per_image.csv") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["image_name", "nme", *point_columns(scheme.num_landmarks)])
        for name, error, row in zip(records.names, (100 * run.nme).tolist(), points, strict=True):
            writer.writerow([name, "" if np.isnan(error) else error, *row])
    write_csv(output_dir / "annotations.csv", records)
    attributes_path(output_dir / "annotations.csv").unlink(missing_ok=True)  # an older run's
    write_attributes(output_dir / "annotations.csv", records)
    with open_atomically(output_dir / "metrics.json") as file:
        file.write(content + "\n")
    return run


def read_run(folder: str | Path, images: str | Path | None = None) -> Run:
    """Reads what `write_results` wrote; metrics are computed again.

    `images` is the folder that the image names start from; None: where they were when it was
    written. HRNetError names what is missing or damaged.
    """
    folder = as_path(folder)
    path = folder / "metrics.json"
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        scheme = stored_scheme(stored.get("scheme_description", stored["scheme"]))
        kind, rule = stored["normaliser"], stored["auc_rule"]
        metadata = {key: stored[key] for key in ("protocol", "model", "split")}
        if kind not in metrics.NORMALISERS or rule not in metrics.AUC_RULES:
            raise ValueError(f"normaliser {kind!r} or auc_rule {rule!r} is unknown")
        if "box" in stored:
            kinds = {"kind": str, "jitter": float}
            metadata["box"] = stored["box"] | {k: t(stored["box"][k]) for k, t in kinds.items()}
    except OSError as error:
        raise HRNetError(
            f"cannot read {path}: {describe_error(error)}; give a folder that hrnet-jax evaluate "
            "wrote"
        ) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise HRNetError(
            f"{path} is damaged or of an older version ({error}): evaluate again"
        ) from error
    for key in ("checkpoint", "predictions", "images", "dtype"):
        if stored.get(key) is not None:
            metadata[key] = str(stored[key])
    root = as_path(images or metadata.get("images", folder))
    records = read_csv(folder / "annotations.csv", root, scheme.num_landmarks)
    records = read_attributes(folder / "annotations.csv", records)
    names, points = _read_predictions(folder / "per_image.csv", scheme)
    if names != records.names:
        raise HRNetError(f"{folder}: annotations.csv and per_image.csv list other images")
    return Run(_name(folder), records, points, scheme, metadata, kind, rule)


def score_files(
    predictions_csv: str | Path,
    truth_csv: str | Path,
    scheme_name: str,
    output_dir: str | Path,
    images: str | Path | None = None,
    normaliser: str | None = None,
    auc_rule: str = "trapezoid",
) -> Run:
    """Scores a file of predictions against an annotation file and writes the results.

    The truth is a file in the official columns, its subsets in the sidecar beside it
    (`hrnet_jax.data.attributes`), if any. The predictions need a column image_name and the
    columns original_0_x, original_0_y, …, found by their names; others are ignored. Rows are
    matched by image name; where an image has several faces, in their order of appearance.
    HRNetError names the images that only one of the files has, or has more often.

    `images` is the folder that the image names start from, for the report: None for "images"
    beside the truth. `normaliser` and `auc_rule` are as for `write_results`.
    """
    scheme = get_scheme(scheme_name)
    predictions_csv, truth_csv = as_path(predictions_csv), as_path(truth_csv)
    records = read_csv(truth_csv, images or truth_csv.parent / "images", scheme.num_landmarks)
    records = read_attributes(truth_csv, records)
    names, points = _read_predictions(predictions_csv, scheme)
    rows = _match(names, records.names, predictions_csv, truth_csv)
    metadata = {
        "protocol": None,  # how the points were predicted is not known here
        "model": None,
        "split": truth_csv.name,
        "predictions": predictions_csv.name,
    }
    return write_results(output_dir, records, points[rows], scheme, metadata, normaliser, auc_rule)


def _name(folder):
    """The last part of a folder's path; of RUN/eval that is RUN."""
    folder = absolute(folder)
    return folder.parent.name if folder.name == "eval" else folder.name


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
