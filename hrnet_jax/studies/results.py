"""From the folders of a study's runs to its numbers."""

import dataclasses
import json
from pathlib import Path

import numpy as np

from hrnet_jax.errors import HRNetError
from hrnet_jax.evaluation.scoring import read_run
from hrnet_jax.files import open_atomically
from hrnet_jax.studies import statistics
from hrnet_jax.studies.definition import BASELINE, Run
from hrnet_jax.training.logs import LOG

RECORD = "run.json"
TRAINING = "train"  # a run's workdir, as of `hrnet-jax train`
EVALUATION = "eval"  # what `hrnet-jax evaluate` writes
COSTS = ("parameters", "gmacs", "step_ms")


def read_record(workdir: Path, run: Run) -> dict:
    """What `write_record` wrote last: {"status": "done" or "failed", …}; {} before."""
    path = workdir / run.folder / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["status"] not in ("done", "failed"):
            raise ValueError(f"status {record['status']!r:.40}")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise HRNetError(f"{path} is damaged ({error}): delete it to do this run again") from error
    return record


def write_record(workdir: Path, run: Run, **record) -> None:
    """How a run ended: `status`, and what is known of its costs or its failure."""
    with open_atomically(workdir / run.folder / RECORD) as file:
        json.dump(record | {"name": run.name, "levels": run.levels}, file, indent=1)


@dataclasses.dataclass(frozen=True, eq=False)
class Point:
    """The runs of one point of the design that are done.

    Attributes:
      name: "baseline", or the levels that differ from it.
      seeds: in the order of the errors.
      errors: NME in percent (S, F).
      curves: for every seed the steps and the validation NME in percent at them, (2, E).
      costs: means over the runs, by the names in `COSTS`; None where not known.
    """

    name: str
    seeds: tuple[int, ...]
    errors: np.ndarray
    curves: list[np.ndarray]
    costs: dict[str, float | None]


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of a study's table.

    Attributes:
      point: the name of its `Point`.
      estimate: of the mean error.
      difference: to the baseline, over the seeds that both have; None of the baseline itself and
        while there is no such seed.
      p_holm: `difference.p` with Holm's correction over the study; None without a p.
      subsets: {name: (estimate, difference)} of the subsets of the faces; their p is not corrected.
      costs: of the point.
    """

    point: str
    estimate: statistics.Estimate
    difference: statistics.Difference | None
    p_holm: float | None
    subsets: dict[str, tuple[statistics.Estimate, statistics.Difference | None]]
    costs: dict[str, float | None]


@dataclasses.dataclass(frozen=True, eq=False)
class Results:
    """All that is known of a study.

    Attributes:
      points: with at least one run done, the baseline first.
      rows: a line for each.
      subsets: boolean masks (F,) of the faces by name.
      faces: how many there are.
      settings: {key: text} of what all runs were measured by.
      runs, failures: how many runs the study has, and {name of a run: why it failed}.
    """

    points: list[Point]
    rows: list[Row]
    subsets: dict[str, np.ndarray]
    faces: int
    settings: dict[str, str]
    runs: int
    failures: dict[str, str]


def collect(runs: list[Run], workdir: Path, draws: int = statistics.DRAWS) -> Results:
    """Reads the runs of a study that are done, and computes its table.

    HRNetError if none is done, or if they were not measured on the same faces alike.
    """
    first, points, failures = None, [], {}
    for name in dict.fromkeys(run.point for run in runs):
        mine = [run for run in runs if run.point == name]
        records = {run: read_record(workdir, run) for run in mine}
        failed = [run for run in mine if records[run].get("status") == "failed"]
        failures |= {run.name: records[run]["error"] for run in failed}
        done = [run for run in mine if records[run].get("status") == "done"]
        if not done:
            continue
        errors = []
        for run in done:
            measured = read_run(workdir / run.folder / EVALUATION).measured()
            first = first or measured
            _check_alike(first, measured, run)
            errors.append(100 * measured.nme)
        known = [[records[run].get(key) for run in done] for key in COSTS]
        costs = {
            key: None if None in values else float(np.mean(np.asarray(values, float)))
            for key, values in zip(COSTS, known, strict=True)
        }
        curves = [read_curve(workdir / run.folder / TRAINING) for run in done]
        seeds = tuple(run.seed for run in done)
        points.append(Point(name, seeds, np.stack(errors), curves, costs))
    if first is None:
        texts = list(failures.values())
        why = f"; {len(texts)} failed, the first by: {texts[0]}" if texts else ""
        raise HRNetError(f"{workdir}: no run of this study is done yet{why}")
    settings = {
        "errors divided by": f"{first.result['normaliser']} ({first.result['normaliser_length']})",
        "faces": f"{len(first.nme)}, {first.result['split']}",
        "version": first.result["version"],
    }
    subsets = {name: np.asarray(mask) for name, mask in first.records.subsets.items()}
    rows = make_rows(points, subsets, draws)
    return Results(points, rows, subsets, len(first.nme), settings, len(runs), failures)


def make_rows(points: list[Point], subsets: dict, draws: int = statistics.DRAWS) -> list[Row]:
    """The table of a study."""
    baseline = next((point for point in points if point.name == BASELINE), None)
    compared = [_compare(point, baseline, slice(None), draws) for point in points]
    tested = {i: d.p for i, (_, d) in enumerate(compared) if d is not None and d.p is not None}
    corrected = statistics.holm(np.array(list(tested.values())))
    p_holm = dict(zip(tested, corrected.tolist(), strict=True))
    rows = []
    for i, (point, (mean, difference)) in enumerate(zip(points, compared, strict=True)):
        parts = {
            name: _compare(point, baseline, mask, draws)
            for name, mask in subsets.items()
            if mask.sum() > 1
        }
        rows.append(Row(point.name, mean, difference, p_holm.get(i), parts, point.costs))
    return rows


def _compare(
    point, baseline, faces, draws
) -> tuple[statistics.Estimate, statistics.Difference | None]:
    """(estimate, difference to the baseline) on some of the faces."""
    mean = statistics.estimate(point.errors[:, faces], draws)
    if baseline is None or point is baseline:
        return mean, None
    common = [seed for seed in point.seeds if seed in baseline.seeds]
    if not common:
        return mean, None
    mine = point.errors[[point.seeds.index(seed) for seed in common]]
    theirs = baseline.errors[[baseline.seeds.index(seed) for seed in common]]
    return mean, statistics.difference(mine[:, faces], theirs[:, faces], draws)


def read_curve(folder: Path) -> np.ndarray:
    """Steps and validation NME in percent at them, (2, E), of a training run's log."""
    found = []
    try:
        for line in (folder / LOG).read_text(encoding="utf-8").splitlines():
            values = json.loads(line)
            if "nme" in values:
                found.append((values["step"], values["nme"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise HRNetError(f"cannot read {folder / LOG}: {error}") from error
    return np.array(found, np.float64).reshape(-1, 2).T


def _check_alike(first, measured, run):
    for what, mine, theirs in (
        ("faces", measured.records.names, first.records.names),
        ("annotations", measured.records.points.tobytes(), first.records.points.tobytes()),
        ("normaliser", measured.normaliser, first.normaliser),
    ):
        if mine != theirs:
            raise HRNetError(
                f"{run.name} was measured on other {what} than {first.name}: the levels of a study "
                "have to share the validation set and what errors are divided by"
            )
