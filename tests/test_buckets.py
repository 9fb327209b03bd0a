"""Places in a bucket: whatever a path is for, gs://… is taken, through the command."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from hrnet_jax import cli, files
from hrnet_jax.errors import HRNetError
from hrnet_jax.files import Appended, as_path, is_local, list_files, open_atomically
from tests import bucket, tiny


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder behind gs://bucket; the current folder is another one, and stays empty."""
    folder, here = tmp_path / "bucket", tmp_path / "here"
    folder.mkdir()
    here.mkdir()
    bucket.mount(monkeypatch, folder)
    monkeypatch.chdir(here)
    yield folder
    assert not list(here.iterdir()), "something was written beside the bucket"


def test_every_command_works_in_a_bucket(folder, tmp_path, capsys):
    tiny.write_dataset(folder / "data")
    config = tmp_path / "config.py"
    config.write_text(
        "from tests import tiny\n\n\n"
        "def get_config():\n    return tiny.get_config('gs://bucket/data')\n"
    )

    def run(*command):
        status = cli.main([*command])
        assert status == 0, capsys.readouterr().err

    short = [f"--config={config}", "--config.train.epochs=1"]
    run("train", *short, "--workdir=gs://bucket/run")
    lines = (folder / "run" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines][-1] == 3
    events = list((folder / "run" / "tensorboard").iterdir())
    assert len(events) == 1 and events[0].stat().st_size > 300
    assert json.loads((folder / "run" / "config.json").read_text())["train"]["epochs"] == 1

    run("train", *short, "--workdir=gs://bucket/run")
    assert "going on from step 3 of 3 in gs://bucket/run" in capsys.readouterr().out
    run("evaluate", *short, "--checkpoint=gs://bucket/run", "--output=gs://bucket/eval")
    assert json.loads((folder / "eval" / "metrics.json").read_text())["count"] == 6
    assert "images could not be read" not in (folder / "eval" / "report.html").read_text()
    run("report", "gs://bucket/eval", "--output=gs://bucket/page.html")
    assert (folder / "page_figures" / "ced.png").stat().st_size > 1000
    said = ["--data=blobs", "--terms=none", "--command=x"]
    run("export", "gs://bucket/run", "gs://bucket/small.safetensors", *said)
    assert (folder / "small.md").exists()
    picture = "gs://bucket/data/images/valid 0.png"
    model = "--checkpoint=gs://bucket/small.safetensors"
    run("predict", picture, model, "--box=10,10,40,40", "--output=gs://bucket/faces")
    assert (folder / "faces" / "valid 0_landmarks.png").exists()
    run("data", "show", str(config), "--count=2", "--output=gs://bucket/sheet.png")
    assert (folder / "sheet.png").stat().st_size > 1000


def test_a_data_set_is_prepared_into_a_bucket(folder, tmp_path, capsys):
    tiny.write_dataset(tmp_path / "download")
    command = ["data", "prepare", "300w", f"--source={tmp_path / 'download'}"]
    assert cli.main([*command, "--output=gs://bucket/300w"]) == 0, capsys.readouterr().err
    found = {path.relative_to(folder / "300w").as_posix() for path in folder.rglob("*.png")}
    assert found == {
        f"images/{split} {i}.png" for split, n in (("train", 12), ("valid", 6)) for i in range(n)
    }
    assert cli.main([*command[:3], "--source=gs://bucket/300w", "--output=x"]) == 2
    assert "must be on this machine" in capsys.readouterr().err


def test_a_classifier_lists_its_pictures_in_a_bucket(folder):
    for name in ("b/2.jpg", "b/deep/1.PNG", "a/3.jpg", "a/notes.txt"):
        (folder / "train" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "train" / name).write_bytes(b"x")
    expected = ["a/3.jpg", "a/notes.txt", "b/2.jpg", "b/deep/1.PNG"]
    assert list_files(as_path("gs://bucket/train")) == expected
    assert list_files(folder / "train") == expected
    assert list_files(folder / "train", "b") == expected[2:]


@pytest.mark.parametrize("place", ["ftp://host/run", "gs://bucket/run"])
@pytest.mark.parametrize(
    "command",
    [
        ["train", "--config=demo", "--workdir={}"],
        ["train", "--config=300w_small", "--workdir=w", "--config.data.root={}"],
        ["evaluate", "--config=demo", "--checkpoint={}", "--output=out"],
        ["evaluate", "--predictions={}", "--truth=t.csv", "--scheme=300w", "--output=out"],
        ["report", "{}", "--output=out.html"],
        ["lesion", "x", "--config=demo", "--output={}"],
        ["convert", "{}", "out"],
        ["predict", "{}"],
        ["predict", "x.jpg", "--checkpoint={}"],
        ["predict", "x.jpg", "--output={}"],
        ["predict", "x.jpg", "--detector={}.onnx"],
        ["export", "{}", "out.safetensors", "--data=x", "--terms=x", "--command=x"],
        ["data", "show", "demo", "--output={}.png"],
        ["demo", "--config=demo", "--workdir={}"],
        ["weights", "get", "hr18-wflw", "--output={}"],
    ],
)
def test_an_address_that_cannot_be_opened_is_one_line(
    command, place, tmp_path, monkeypatch, capsys
):
    """And nothing is made that is called "gs:"."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hrnet_jax.files._opened", set())
    monkeypatch.setitem(sys.modules, "gcsfs", None)  # not installed, wherever the tests run
    monkeypatch.setattr("etils.epath.gpath._is_tf_installed", lambda: False)
    assert cli.main([part.format(place) for part in command]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert place in error and "cannot be opened" in error and "unexpected" not in error
    assert not list(tmp_path.glob("*:*"))


def test_local_paths_never_import_etils():
    code = (
        "import sys; from hrnet_jax.files import as_path; as_path('runs/x'); as_path('C:/x');"
        "assert not [name for name in sys.modules if name.startswith('etils')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_addresses_and_paths_are_told_apart(folder):
    assert is_local("runs/a") and is_local("C:/runs") and is_local("odd:/name")
    assert str(as_path(as_path("gs://bucket") / "run")) == "gs://bucket/run"
    assert str(as_path("gs:/bucket/run")) == "gs://bucket/run"  # what pathlib makes of it
    with pytest.raises(HRNetError, match="ftp:// cannot be opened.*gs://, s3://, az://, hf://"):
        as_path("ftp://host/x")


def test_a_file_in_a_bucket_is_whole_or_not_there(folder):
    with pytest.raises(ZeroDivisionError), open_atomically("gs://bucket/a.txt") as file:
        file.write("half")
        raise ZeroDivisionError
    assert not list(folder.iterdir())
    with open_atomically("gs://bucket/deep/a.txt") as file:
        file.write("all, ü\n")
    assert (folder / "deep" / "a.txt").read_text(encoding="utf-8") == "all, ü\n"


def test_a_growing_file_in_a_bucket_is_sent_now_and_then(folder, tmp_path, monkeypatch):
    here, there = (Appended(as_path(p), "0\n") for p in (tmp_path / "log", "gs://bucket/log"))
    for file in (here, there):
        file.write("1\n")
    assert (tmp_path / "log").read_text() == "0\n1\n"
    assert (folder / "log").read_text() == "0\n"
    monkeypatch.setattr(Appended, "_every", 0.0)
    there.write("2\n")
    assert (folder / "log").read_text() == "0\n1\n2\n"
    for file in (here, there):
        file.close()


# Modules whose paths are of this machine, and why.
LOCAL = {
    "files.py": "tells them apart",
    "cli/configs.py": "a config is code, which Python imports",
    "cli/predict.py": "only takes names apart",
    "cli/study.py": "a study is code, which Python imports",
    "data/prepare/source.py": "reads archives, which must be here",
    "images/__init__.py": "reads a file that is here after it asked",
    "inference/detector.py": "OpenCV's own cascades",
    "published.py": "downloads go on where they stopped, which needs a disk",
}


def test_no_other_module_makes_a_local_path_of_what_a_user_named():
    package = Path(files.__file__).parent
    found = []
    for module in sorted(package.rglob("*.py")):
        name = module.relative_to(package).as_posix()
        for node in ast.walk(ast.parse(module.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            words = [word.id for word in node.args if isinstance(word, ast.Name)]
            if node.func.id in ("Path", "open") and node.args and words != ["__file__"]:
                found.append(name)
    assert set(found) <= set(LOCAL), "use hrnet_jax.files: as_path, open_binary, open_atomically"
