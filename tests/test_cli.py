"""The command line: help, and one clear line with exit status 2 for bad input."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hrnet_jax import cli
from hrnet_jax.cli import configs, data
from hrnet_jax.tasks import train
from tests import tiny

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return tiny.write_dataset(tmp_path_factory.mktemp("cli") / "data")


@pytest.fixture(scope="module")
def config_file(dataset, tmp_path_factory):
    return tiny.write_config(tmp_path_factory.mktemp("config") / "config.py", dataset)


@pytest.fixture(scope="module")
def workdir(config_file, dataset, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("workdir") / "run"
    config = tiny.get_config(dataset)
    with config.unlocked():
        config.train.epochs = 1
    train(config, workdir)
    return workdir


def run(capsys, *arguments):
    """Exit status, stdout, and stderr without the progress bar's lines."""
    status = cli.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return status, out, [line for line in err.splitlines() if line.startswith("error:")]


def assert_refused(capsys, *arguments, says):
    status, _, errors = run(capsys, *arguments)
    assert status == 2
    assert len(errors) == 1
    for text in [says] if isinstance(says, str) else says:
        assert text in errors[0]


def test_train_then_evaluate(capsys, config_file, workdir, tmp_path):
    status, out, errors = run(
        capsys,
        "evaluate",
        f"--config={config_file}",
        f"--checkpoint={workdir}",
        f"--output={tmp_path / 'eval'}",
    )
    assert status == 0, errors
    assert "NME %" in out
    result = json.loads((tmp_path / "eval" / "metrics.json").read_text())
    assert result["count"] == 6
    assert result["protocol"]["name"] == "float"
    assert result["split"] == "face_landmarks_300w_valid.csv"
    assert "this run:" in out and "3.34" in out
    for file in ("per_image.csv", "annotations.csv", "report.html", "report_figures/ced.png"):
        assert (tmp_path / "eval" / file).exists()


def test_flip_test_is_overridden_and_recorded(capsys, config_file, workdir, tmp_path):
    command = ["evaluate", f"--config={config_file}", f"--checkpoint={workdir}"]
    assert run(capsys, *command, "--flip-test=on", f"--output={tmp_path}")[0] == 0
    result = json.loads((tmp_path / "metrics.json").read_text())
    assert result["protocol"]["flip_test"] is True


def test_predictions_have_no_flip_test(capsys, dataset, tmp_path):
    truth = dataset / "face_landmarks_300w_valid.csv"
    command = ["evaluate", f"--predictions={truth}", f"--truth={truth}", "--scheme=300w"]
    assert_refused(
        capsys, *command, "--flip-test=on", f"--output={tmp_path}", says="without --config"
    )


def test_own_predictions_score_the_same(capsys, config_file, dataset, workdir, tmp_path):
    truth = dataset / "face_landmarks_300w_valid.csv"
    first, second = tmp_path / "first", tmp_path / "second"
    command = ["evaluate", f"--config={config_file}", f"--checkpoint={workdir}"]
    assert run(capsys, *command, f"--output={first}")[0] == 0
    command = ["evaluate", f"--predictions={first / 'per_image.csv'}", f"--truth={truth}"]
    assert run(capsys, *command, "--scheme=300w", f"--output={second}")[0] == 0
    scores = [json.loads((d / "metrics.json").read_text())["nme"] for d in (first, second)]
    assert scores[0] == pytest.approx(scores[1], rel=1e-12)


def test_other_boxes_are_told_in_the_result(capsys, config_file, workdir, tmp_path):
    command = ["evaluate", f"--config={config_file}", f"--checkpoint={workdir}"]
    command.append(f"--output={tmp_path / 'eval'}")
    assert_refused(capsys, *command, "--box=rectangle", says="no face rectangles")
    assert_refused(capsys, *command, "--box=detector", "--detector=mtcnn", says="'mtcnn'")
    assert_refused(capsys, *command, "--box-jitter=1", says="box jitter 1.0")
    assert not (tmp_path / "eval").exists()
    assert run(capsys, *command, "--box=detector", "--box-jitter=0.2")[0] == 0
    result = json.loads((tmp_path / "eval" / "metrics.json").read_text())
    assert result["box"] == {
        "kind": "detector",
        "jitter": 0.2,
        "seed": 0,
        "detector": "haar",
        "missed": 6,  # blobs are no faces
    }
    assert result["subsets"]["detected"]["count"] == 0


def test_unknown_config_key_names_the_nearest(capsys, config_file, tmp_path):
    assert_refused(
        capsys,
        "train",
        f"--config={config_file}",
        "--config.train.learnin_rate=1",
        f"--workdir={tmp_path / 'run'}",
        says=["learnin_rate", "learning_rate"],
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "override, says",
    [
        ("--config.train.epochs=many", "epochs"),
        ("--config.model.name=hrnetv3", "unknown model 'hrnetv3'"),
        ("--config.scheme=68", "unknown landmark scheme '68'"),
        ("--config.data.loader=dali", "unknown data.loader 'dali'"),
        ("--config.data.train=absent.csv", "absent.csv"),
        ("--config.scheme=wflw", "68"),
        ("--config.augment.rotation=-1", "rotation = -1"),
        ("--config.train.schedule=linear", "unknown train.schedule 'linear'"),
        ("--config.train.epochs=None", "not of type int"),
        ("--config.train.epochs=" + 5000 * "-" + "1", "not of type int"),
        ("--config.data.workers=-1", "data.workers = -1"),
        ("--config.data.train_count=-1", "data.train_count = -1"),
        ("--config.seed=-1", "seed = -1"),
        ("--config.model.dtype=float64", "JAX_ENABLE_X64"),
    ],
)
def test_bad_config_value(capsys, config_file, tmp_path, override, says):
    arguments = ["train", f"--config={config_file}", override, f"--workdir={tmp_path / 'run'}"]
    assert_refused(capsys, *arguments, says=says)


def test_missing_config_file(capsys, tmp_path):
    arguments = ["train", "--config=absent.py", f"--workdir={tmp_path / 'run'}"]
    assert_refused(capsys, *arguments, says="absent.py")


def test_no_config(capsys, tmp_path):
    assert_refused(capsys, "train", f"--workdir={tmp_path / 'run'}", says="--config=")


def test_checkpoint_of_another_network(capsys, config_file, workdir, tmp_path):
    assert_refused(
        capsys,
        "evaluate",
        f"--config={config_file}",
        "--config.model.name=hrnetv2_w18",
        f"--checkpoint={workdir}",
        f"--output={tmp_path}",
        says=[
            "holds {'name': 'plain', 'num_landmarks': 68",
            "asks for {'name': 'hrnetv2_w18'",
        ],
    )


def test_missing_checkpoint(capsys, config_file, tmp_path):
    assert_refused(
        capsys,
        "evaluate",
        f"--config={config_file}",
        f"--checkpoint={tmp_path / 'absent'}",
        f"--output={tmp_path}",
        says="absent",
    )


def test_truncated_checkpoint(capsys, config_file, workdir, tmp_path):
    damaged = tmp_path / "damaged"
    shutil.copytree(workdir, damaged)
    for file in (damaged / "checkpoints").rglob("*"):
        if file.is_file() and file.stat().st_size > 2000:
            file.write_bytes(file.read_bytes()[:1000])
    assert_refused(
        capsys,
        "evaluate",
        f"--config={config_file}",
        f"--checkpoint={damaged}",
        f"--output={tmp_path / 'eval'}",
        says="cannot be restored",
    )
    assert not (tmp_path / "eval").exists()


def test_unknown_command(capsys):
    assert_refused(capsys, "trian", says="'trian'")


@pytest.mark.parametrize(
    "script, command",
    [
        ("train.py", "train"),
        ("evaluate.py", "evaluate"),
        ("predict.py", "predict"),
        ("convert_torch_weights.py", "convert"),
    ],
)
def test_help_shows_an_example(script, command):
    done = subprocess.run(
        [sys.executable, ROOT / script, "--help"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0
    assert "example" in done.stdout
    assert f"hrnet-jax {command}" in done.stdout


HELP = [(c,) for c in cli.COMMANDS if c != "data"] + [("data", c) for c in data.COMMANDS]


@pytest.mark.parametrize("command", HELP, ids=" ".join)
def test_help_names_only_what_an_installed_package_has(command, capsys):
    """A wheel has neither train.py nor configs/: commands are `hrnet-jax …`, configs go by name.

    A study is a file of the user's own, `fusion.py` say.
    """
    with pytest.raises(SystemExit):
        cli.main([*command, "--help"])
    text = capsys.readouterr().out
    assert not re.search(
        r"\w+\.py\b(?! classifier)|configs/", re.sub(r"(config|fusion)\.py", "", text)
    )
    for name in re.findall(r"--config=(\w+)", text):
        assert name in configs.shipped_configs() or name == "FILE"
    for name in re.findall(r"hrnet-jax (\w+)", text):
        assert name in cli.COMMANDS


def test_import_is_light():
    code = "import sys, hrnet_jax; sys.exit('jax' in sys.modules or 'tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
    code = (
        "import sys, hrnet_jax.inference.predictor, hrnet_jax.tasks.landmarks; "
        "sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize(
    "command",
    [["--help"], ["--version"], ["weights", "list"], *([name, "--help"] for name in cli.COMMANDS)],
    ids=" ".join,
)
def test_a_reader_that_has_enough_ends_a_command_quietly(command, monkeypatch, capfd):
    """As `… | head` does: no traceback, no "error:", and the status that SIGPIPE leaves."""
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as gone:
        monkeypatch.setattr(sys, "stdout", gone)
        assert cli.main(command) == 141
    assert capfd.readouterr().err == ""


def test_a_real_pipe_that_closes_ends_a_command_quietly():
    script = f"{sys.executable} -m hrnet_jax weights list | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() in ("141", "0") and done.stderr == ""  # 0: written before it closed
