"""Studies through the command, with a network that compiles in a second."""

import json
import re
import shutil

import pytest

import tests.tiny
from hrnet_jax.checkpoints.training import TrainCheckpoints
from hrnet_jax.cli import run
from hrnet_jax.cli.study import load_runs
from hrnet_jax.errors import Stopped
from hrnet_jax.studies.results import read_record
from hrnet_jax.training import loop
from hrnet_jax.training.workdir import locked

STUDY = """
import flax.linen as nn
from hrnet_jax.ablations import with_norm
from hrnet_jax.studies import Study
from tests import tiny

def slower(config):
    config.train.learning_rate /= 10

def halved_loss(outputs, batch):
    import jax.numpy as jnp
    return jnp.square(outputs - batch["targets"]).mean() / 2, {{}}

class Shifted(nn.Module):
    use_running_average: bool

    @nn.compact
    def __call__(self, x):
        return x + self.param("shift", nn.initializers.zeros, (x.shape[-1],))

def without_norm(network):
    return with_norm("none")(network)

def get_study():
    return Study(
        base=tiny.get_config({root!r}),
        factors={{
            "loss": {{"mse": {{}}, "halved": {{"train.loss": "fusion_study:halved_loss"}}}},
            "rate": {{"high": {{}}, "low": slower}},
            "network": {{
                "batch": {{}},
                "shifted": "with_norm('fusion_study:Shifted')",
                "own": {{"model.ablations": ["fusion_study:without_norm"]}},
            }},
            "codec": {{
                "unbiased": {{}},
                "msra": {{"protocol.codec": {{"name": "msra", "sigma": 1.0}}}},
            }},
        }},
        seeds=2,
        overrides={{"train.epochs": 2}},
    )
"""
POINTS = ["baseline", "loss=halved", "rate=low", "network=shifted", "network=own", "codec=msra"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a study's file and all its runs done."""
    place = tmp_path_factory.mktemp("study")
    tests.tiny.write_dataset(place / "data")
    (place / "fusion_study.py").write_text(STUDY.format(root=str(place / "data")))
    assert run("study", ["run", str(place / "fusion_study.py"), f"--workdir={place}/runs"]) == 0
    return place


def study(place, action, *more, workdir="runs"):
    return run(
        "study", [action, str(place / "fusion_study.py"), f"--workdir={place / workdir}", *more]
    )


def test_every_run_is_trained_and_scored_and_not_again(place, capsys, monkeypatch):
    runs = load_runs(str(place / "fusion_study.py"))
    assert [each.point for each in runs] == [*POINTS, *POINTS]
    for each in runs:
        record = read_record(place / "runs", each)
        assert record["status"] == "done" and record["parameters"] > 0 and record["step_ms"] > 0
        metrics = json.loads((place / "runs" / each.folder / "eval/metrics.json").read_text())
        log = (place / "runs" / each.folder / "train/log.jsonl").read_text().splitlines()
        last = [json.loads(line)["nme"] for line in log if '"nme"' in line][-1]
        assert metrics["nme"] == pytest.approx(last)  # of the last step
    # The second run of a point starts at once: nothing is compiled.
    starts = [read_record(place / "runs", each)["start_seconds"] for each in runs]
    assert max(starts[len(POINTS) :]) < 2
    monkeypatch.setattr(loop, "train", None)
    assert study(place, "run") == 0
    assert "12 of 12 runs are done already" in capsys.readouterr().out


def test_a_run_of_a_study_is_the_run_alone(place, tmp_path):
    """Its program was compiled for another seed: the bits are those of `hrnet-jax train`."""
    (each,) = [r for r in load_runs(str(place / "fusion_study.py")) if r.index == len(POINTS)]
    path = tmp_path / "config.py"
    path.write_text(
        f"from tests import tiny\ndef get_config(): return tiny.get_config({str(place / 'data')!r})"
    )
    argv = [f"--config={path}", "--config.train.epochs=2", "--config.seed=1"]
    assert run("train", [*argv, f"--workdir={tmp_path / 'alone'}"]) == 0
    assert equal(tmp_path / "alone", place / "runs" / each.folder / "train")


def equal(one, other):
    import jax
    import numpy as np

    states = []
    for folder in (one, other):
        checkpoints = TrainCheckpoints(folder)
        states.append(checkpoints.load(checkpoints.latest_step))
        checkpoints.close()
    leaves = [jax.tree.leaves(state) for state in states]
    assert len(leaves[0]) == len(leaves[1]) > 5
    return all(np.array_equal(a, b) for a, b in zip(*leaves, strict=True))


def test_the_report(place, capsys):
    assert study(place, "report") == 0
    said = capsys.readouterr().out
    assert re.search(r"\| loss=halved +\| +2 \|", said) and "p, Holm" in said
    page = (place / "runs/report.html").read_text()
    assert "hrnet-jax study run" in page and "codec=msra" in page
    stored = json.loads((place / "runs/report.json").read_text())
    assert [row["point"] for row in stored["rows"]] == POINTS


def test_the_plan(place, capsys):
    assert study(place, "plan", workdir="nothing") == 0
    said = capsys.readouterr().out
    assert "| network=shifted | 3, 9 " in said and "12 runs in one process" in said
    assert not (place / "nothing").exists()


def test_stopped_failed_and_busy_runs(place, capsys, monkeypatch, tmp_path):
    """What a run dies of is recorded; a stop ends the study, and it goes on to the same bits."""
    train = loop.train

    def dies(task, workdir, **options):
        if "loss=halved" in str(workdir):
            raise ValueError("two\nlines")
        if "rate=low" in str(workdir):
            monkeypatch.setattr(loop, "train", train)
            raise Stopped("SIGTERM", "saved")
        return train(task, workdir, **options)

    monkeypatch.setattr(loop, "train", dies)
    assert study(place, "run", workdir="other") == 143
    capsys.readouterr()
    runs = load_runs(str(place / "fusion_study.py"))
    assert read_record(place / "other", runs[1])["error"] == "ValueError: two lines"
    assert read_record(place / "other", runs[2]) == {}
    assert study(place, "report", workdir="other") == 0
    assert "1 of 12 runs are done, 1 failed." in capsys.readouterr().out
    for index in (0, 1, 2):
        assert study(place, "run", f"--index={index}", workdir="other") == 0
    for each in runs[:3]:
        assert equal(
            place / "runs" / each.folder / "train", place / "other" / each.folder / "train"
        )
    with locked(place / "other" / runs[3].folder):
        assert study(place, "run", "--index=3", workdir="other") == 0
    assert "1 runs are being done by other processes" in capsys.readouterr().out
    assert read_record(place / "other", runs[3]) == {}


def test_a_failed_run_fails_the_command(place, capsys):
    shutil.copytree(place / "runs", place / "third")
    runs = load_runs(str(place / "fusion_study.py"))
    shutil.rmtree(place / "third" / runs[5].folder)
    images = place / "data/images"
    images.rename(place / "data/moved")
    try:
        assert study(place, "run", workdir="third") == 1
    finally:
        (place / "data/moved").rename(images)
    said = capsys.readouterr()
    assert said.err.splitlines()[-1].startswith("failed: codec=msra, seed 0: ")
    assert "0 runs done now, 1 failed" in said.out


@pytest.mark.parametrize(
    "text, more, says",
    [
        ("def get_study(): 1 / 0", (), "s.py, line 1: ZeroDivisionError"),
        ("x = 1", (), "s.py has no get_study()"),
        ("def get_study(): return 5", (), "get_study() gives int, not a Study"),
        (None, (), "no such file; a study is a Python file"),
        ("S", ("--index=7",), "--index=7: the study has runs 0 to 1"),
        ("S", ("--config.train.epoch=1",), 'Did you mean "epochs"'),
    ],
)
def test_wrong_files_end_in_a_line(tmp_path, capsys, text, more, says):
    path = tmp_path / "s.py"
    if text == "S":
        text = (
            "from hrnet_jax.studies import Study\n"
            "def get_study():\n"
            "    return Study('demo', {'f': {'a': {}, 'b': {'train.epochs': 3}}}, seeds=1)\n"
        )
    if text:
        path.write_text(text)
    assert run("study", ["run", str(path), f"--workdir={tmp_path / 'w'}", *more]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1 and not (tmp_path / "w").exists()
