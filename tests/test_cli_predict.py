"""predict.py, with coloured dots for faces."""

import json

import numpy as np
import pytest
from PIL import Image

from hrnet_jax import checkpoints
from hrnet_jax.cli import run
from hrnet_jax.images import read_image
from hrnet_jax.inference import detector
from hrnet_jax.inference.predictor import DEFAULT_MODEL
from tests.dots import compiled_once, dot_model, landmarks_in, picture  # noqa: F401

pytestmark = pytest.mark.usefixtures("compiled_once")
BOX = (30.0, 20.0, 150.0, 140.0)


@pytest.fixture(scope="module")
def image():
    return picture(160, 200, [BOX])


@pytest.fixture
def photos(tmp_path, image):
    """A folder with a.png and deep/a.png; the working models are replaced by the dots'."""
    (tmp_path / "deep").mkdir()
    for name in ("a.png", "deep/a.png"):
        Image.fromarray(image).save(tmp_path / name)
    return tmp_path


@pytest.fixture(autouse=True)
def dots(monkeypatch):
    calls = []

    def load(path, allow_import=()):
        calls.append(path)
        return dot_model()

    monkeypatch.setattr(checkpoints, "load", load)
    box = np.array([[35, 15, 160, 140]], np.float32)

    def detect(image):
        count = int(image.max() > 100)
        return box[:count], np.ones(count, np.float32)

    monkeypatch.setattr(detector, "make_detector", lambda name: detect)
    return calls


def results(folder):
    return json.loads((folder / "landmarks.json").read_text())


def test_pictures_of_one_name_and_a_single_load(photos, capsys, dots):
    output = photos / "out"
    paths = [str(photos / "a.png"), str(photos / "deep" / "a.png")]
    status = run("predict", [*paths, f"--output={output}", "--checkpoint=runs/dots", "--aligned"])
    assert status == 0 and dots == ["runs/dots"]
    names = sorted(path.name for path in output.iterdir())
    assert names == sorted(
        "a_landmarks.png a_2_landmarks.png a_aligned_1.png a_2_aligned_1.png landmarks.json".split()
    )
    content = results(output)
    assert content["checkpoint"] == "runs/dots" and content["scheme"] == "cofw"
    assert content["model"] == {"name": "dots", "num_landmarks": 29}
    assert content["protocol"]["name"] == "float"
    for path, entry in zip(paths, content["images"], strict=True):
        assert entry["file"] == path and entry["error"] is None
        assert (entry["width"], entry["height"]) == (200, 160)
        (face,) = entry["faces"]
        assert np.abs(np.array(face["landmarks"]) - landmarks_in(BOX)).max() < 0.3
        assert len(face["scores"]) == 29 and np.shape(face["five_points"]) == (5, 2)
        assert len(face["box"]) == 4
    assert read_image(output / "a_aligned_1.png").shape == (112, 112, 3)
    out, err = capsys.readouterr()
    assert out.count("1 face ->") == 2 and err == ""


def test_boxes_given(photos, image):
    Image.fromarray(image).save(photos / "b.JPG", quality=98)
    arguments = ["--box=30,20,150,140", "--box=-5,20.5,115,140.5", f"--output={photos}"]
    assert run("predict", [str(photos / "b.JPG"), *arguments]) == 0
    faces = results(photos)["images"][0]["faces"]
    assert [face["box"] for face in faces] == [[30, 20, 150, 140], [-5, 20.5, 115, 140.5]]
    assert read_image(photos / "b_landmarks.jpg").shape == image.shape
    assert results(photos)["checkpoint"] == DEFAULT_MODEL


def test_good_pictures_are_done_beside_bad_ones(photos, capsys):
    (photos / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(photos / "black.png")
    names = ["broken.png", "black.png", "missing.png", "a.png"]
    status = run("predict", [*(str(photos / name) for name in names), f"--output={photos / 'out'}"])
    assert status == 2
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert len(lines) == 3 and all(line.startswith("error: ") for line in lines)
    assert "broken.png" in lines[0] and "black.png: no face found" in lines[1]
    assert "--box" in lines[1] and "missing.png" in lines[2]
    assert out.count("\n") == 1 and "a.png: 1 face" in out
    entries = results(photos / "out")["images"]
    assert [bool(entry["error"]) for entry in entries] == [True, True, True, False]
    assert entries[1]["width"] == 40 and entries[0]["width"] is None
    assert (photos / "out" / "a_landmarks.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a.png", "--box=1,2,3"], "--box=1,2,3: give four numbers"),
        (["a.png", "--box=1,2,3,x"], "give four numbers"),
        (["a.png", "b.png", "--box=1,2,3,4"], "single picture: 2 are given"),
        (["a.png", "--box=1,2,3,4", "--detector=haar"], "not both"),
    ],
)
def test_bad_arguments(arguments, words, capsys):
    assert run("predict", arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and words in err and err.count("\n") == 1


def test_box_outside_the_picture(photos, capsys):
    status = run("predict", [str(photos / "a.png"), "--box=300,0,400,90", f"--output={photos}"])
    assert status == 2
    err = capsys.readouterr().err
    assert "a.png: box (300, 0, 400, 90) lies outside the image; the image is 200 x 160" in err


def test_output_that_cannot_be_written(photos, capsys):
    (photos / "file").write_text("")
    assert run("predict", [str(photos / "a.png"), f"--output={photos / 'file' / 'out'}"]) == 2
    assert "cannot make the folder" in capsys.readouterr().err


def test_help_shows_an_example(capsys):
    with pytest.raises(SystemExit) as stop:
        run("predict", ["--help"])
    assert stop.value.code == 0
    assert "hrnet-jax predict photo.jpg" in capsys.readouterr().out


def test_the_aligned_flip_is_told(photos, capsys, monkeypatch):
    given = [str(photos / "a.png"), "--box=30,20,150,140", "--aligned-flip"]
    assert run("predict", [*given, f"--output={photos / 'none'}"]) == 2
    assert "stores no flip_offset" in capsys.readouterr().err and not (photos / "none").exists()
    loaded = dot_model()
    loaded.metadata["flip_offset"] = 0.1
    monkeypatch.setattr(checkpoints, "load", lambda path, allow_import=(): loaded)
    points = []
    for name, arguments in (("with", given), ("without", given[:-1])):
        assert run("predict", [*arguments, f"--output={photos / name}"]) == 0
        points.append(np.array(results(photos / name)["images"][0]["faces"][0]["landmarks"]))
    assert results(photos / "with")["aligned_flip"] == 0.1
    assert "aligned_flip" not in results(photos / "without")
    assert (points[0] - points[1])[:, 0].min() > 1
