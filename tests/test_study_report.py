"""The report of a study, on results that were written by hand."""

import json

import numpy as np
import pytest

import tests.tiny
from hrnet_jax.data.records import Records
from hrnet_jax.errors import HRNetError
from hrnet_jax.evaluation.scoring import write_results
from hrnet_jax.schemes import get_scheme
from hrnet_jax.studies import Study, tables
from hrnet_jax.studies.definition import expand
from hrnet_jax.studies.figures import pareto
from hrnet_jax.studies.report import write_report
from hrnet_jax.studies.results import collect, write_record

FACTORS = {
    "loss": {"mse": {}, "wing": {"train.loss": "adaptive_wing"}},
    "rate": {"low": {}, "high_1": {"train.learning_rate": 1e-2}},
}
EFFECTS = {"baseline": 0.0, "loss=wing": -0.02, "rate=high_1": 0.0}  # of the inter-ocular distance
FACES = 40


@pytest.fixture
def study():
    return expand(Study("x", FACTORS, seeds=4), tests.tiny.get_config())


def write_run(workdir, run, faces=FACES, failed=False):
    if failed:
        return write_record(workdir, run, status="failed", error="ValueError: <b>oh</b>")
    rng = np.random.default_rng([run.seed, run.index])
    points = np.random.default_rng(0).uniform(0, 100, (faces, 68, 2))
    points[:, 36], points[:, 45] = (0, 50), (100, 50)  # the eye corners: a distance of 100
    records = Records(
        names=tuple(f"{i}.png" for i in range(faces)),
        root=workdir,
        points=points,
        centers=np.full((faces, 2), 50.0),
        sides=np.full(faces, 100.0),
        subsets={"hard": np.arange(faces) < 10},
    )
    off = 5 + 100 * EFFECTS[run.point] + rng.normal(0, 0.02) + rng.normal(0, 0.2, faces)
    metadata = {"protocol": None, "model": None, "split": "faces"}
    folder = workdir / run.folder
    write_results(
        folder / "eval", records, points + [1, 0] * off[:, None, None], get_scheme("300w"), metadata
    )
    (folder / "train").mkdir()
    lines = [{"step": s, "nme": 9 - s} for s in (1, 2)] + [{"step": 2, "loss": 0.1}]
    (folder / "train/log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_record(
        workdir, run, status="done", parameters=1000 * (run.index + 1), gmacs=0.5, step_ms=7.0
    )
    return off


def test_numbers_of_a_report(tmp_path, study):
    off = {(run.point, run.seed): write_run(tmp_path, run) for run in study}
    results = collect(study, tmp_path)
    by_hand = {point: np.stack([off[point, seed] for seed in range(4)]) for point in EFFECTS}
    for row in results.rows:
        np.testing.assert_allclose(row.estimate.mean, by_hand[row.point].mean(), atol=1e-9)
        hard = row.subsets["hard"][0].mean
        np.testing.assert_allclose(hard, by_hand[row.point][:, :10].mean(), atol=1e-9)
    base, wing, rate = results.rows
    assert base.difference is None
    change = (by_hand["loss=wing"] - by_hand["baseline"]).mean()
    np.testing.assert_allclose(wing.difference.estimate.mean, change, atol=1e-9)
    assert wing.p_holm < 0.05 < rate.p_holm
    assert wing.p_holm == pytest.approx(2 * wing.difference.p)
    assert wing.difference.p_permutation == 2 / 2**4

    files = write_report(results, tmp_path, "A <study>", "hrnet-jax study report x.py")
    assert files == [f"report.{kind}" for kind in ("html", "md", "csv", "tex", "json")]
    page = (tmp_path / "report.html").read_text()
    assert "A &lt;study&gt;" in page and "<svg" in page and "prefers-color-scheme" in page
    assert (
        "1 of 2 levels differ from the baseline (Holm, 5 % over the whole study): loss=wing."
        in page
    )
    table = (tmp_path / "report.md").read_text()
    assert f"| loss=wing   |     4 |  {wing.estimate.mean:.2f} |" in table
    assert "rate=high\\_1" in (tmp_path / "report.tex").read_text()
    first = (tmp_path / "report.csv").read_text().splitlines()[1].split(",")
    assert (first[0], float(first[2])) == ("baseline", base.estimate.mean)
    stored = json.loads((tmp_path / "report.json").read_text())
    assert stored["rows"][1]["p_holm"] == wing.p_holm
    names = {path.name for path in (tmp_path / "report_figures").iterdir()}
    assert {"forest.svg", "means.png", "curves.svg", "cost.svg"} <= names


def test_what_is_not_done_is_said(tmp_path, study):
    for run in study[:5]:
        write_run(tmp_path, run)
    write_run(tmp_path, study[5], failed=True)
    results = collect(study, tmp_path)
    assert [row.estimate.seeds for row in results.rows] == [2, 2, 1]
    assert results.rows[2].p_holm is None and results.rows[1].p_holm is not None
    said = "\n".join(tables.notes(results))
    assert "5 of 12 runs are done, 1 failed." in said
    assert "Failed: rate=high_1, seed 1: ValueError: <b>oh</b>" in said
    write_report(results, tmp_path, "x", "y")
    page = (tmp_path / "report.html").read_text()
    assert "&lt;b&gt;oh" in page and "<b>oh" not in page


def test_one_seed_has_no_noise_to_compare_with(tmp_path, study):
    for run in study[:3]:
        write_run(tmp_path, run)
    results = collect(study[:3], tmp_path)
    assert all(row.p_holm is None and row.estimate.sd is None for row in results.rows)
    assert "no noise between seeds to compare a difference with" in tables.notes(results)[0]


def test_what_cannot_be_compared_is_refused(tmp_path, study):
    with pytest.raises(HRNetError, match="no run of this study is done"):
        collect(study, tmp_path)
    write_run(tmp_path, study[0])
    write_run(tmp_path, study[1], faces=30)
    with pytest.raises(HRNetError, match="loss=wing, seed 0 was measured on other faces"):
        collect(study, tmp_path)
    (tmp_path / study[0].folder / "run.json").write_text("{")
    with pytest.raises(HRNetError, match=r"baseline/seed0/run.json is damaged"):
        collect(study, tmp_path)


def test_the_front_of_cost_and_error():
    assert pareto([(1, 5), (2, 6), (3, 4), (3, 3), (0.5, 7)]) == [(0.5, 7), (1, 5), (3, 3)]
