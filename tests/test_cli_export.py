"""`hrnet-jax export` and `hrnet-jax demo`: released files, their card, the whole path."""

import jax
import numpy as np
import pytest

import hrnet_jax
from hrnet_jax import checkpoints, cli
from hrnet_jax.checkpoints import load, save_model
from tests import tiny

CARD = ["--data=300W | train", "--terms=research only", "--command=python train.py"]


@pytest.fixture
def model_file(tmp_path):
    """A file with the least metadata that `save_model` asks for."""
    model = hrnet_jax.create_model(tiny.MODEL, 68)
    variables = model.init(jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32))
    metadata = {"model": {"name": tiny.MODEL, "num_landmarks": 68}, "scheme": "300w"}
    return save_model(tmp_path / "model.safetensors", variables, metadata)


def test_export_writes_weights_and_card(model_file, tmp_path, capsys):
    out = tmp_path / "small.safetensors"
    assert cli.main(["export", str(model_file), str(out), "--dtype=float16", *CARD]) == 0
    assert "300W / train" in (tmp_path / "small.md").read_text()
    before, after = load(model_file), load(out)
    assert after.metadata["provenance"]["terms"] == "research only"
    kernels = [
        v["params"]["backbone"]["conv1"]["kernel"] for v in (before.variables, after.variables)
    ]
    np.testing.assert_allclose(*kernels, rtol=1e-3, atol=1e-6)
    assert out.stat().st_size < model_file.stat().st_size


def test_export_stores_the_flip_offset(model_file, tmp_path, capsys):
    out = tmp_path / "small.safetensors"
    for wrong in ("nan", "2.5"):
        assert cli.main(["export", str(model_file), str(out), f"--flip-offset={wrong}", *CARD]) == 2
        assert "give inter-ocular distances" in capsys.readouterr().err and not out.exists()
    assert cli.main(["export", str(model_file), str(out), "--flip-offset=0.013", *CARD]) == 0
    assert load(out).metadata["flip_offset"] == 0.013
    assert "| flip offset | 0.013 inter-ocular distances |" in (tmp_path / "small.md").read_text()
    again = tmp_path / "again.safetensors"
    assert cli.main(["export", str(out), str(again), *CARD]) == 0
    assert load(again).metadata["flip_offset"] == 0.013  # stays


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"model": {"name": "hrnet_w18_imagenet", "num_classes": 5}}, "is for landmarks"),
        ({"model": {"name": "hrnetv2_w18", "num_landmarks": 19}, "scheme": "aflw"}, "no outer eye"),
    ],
)
def test_a_flip_offset_that_means_nothing(about, message, tmp_path, capsys, monkeypatch):
    loaded = checkpoints.Loaded(None, {}, about | {"provenance": {}})
    monkeypatch.setattr(checkpoints, "load", lambda *args, **options: loaded)
    out = tmp_path / "out.safetensors"
    assert cli.main(["export", "any", str(out), "--flip-offset=0.01", *CARD]) == 2
    assert message in capsys.readouterr().err and not out.exists()


def test_export_that_cannot_write_its_card_leaves_nothing(model_file, tmp_path, capsys):
    (tmp_path / "out.md").mkdir()
    out = tmp_path / "out.safetensors"
    assert cli.main(["export", str(model_file), str(out), *CARD]) == 2
    assert capsys.readouterr().err.startswith("error: cannot write")
    assert not out.exists()


def test_demo_ends_with_a_table_and_a_picture(tmp_path, capsys):
    config = tmp_path / "config.py"
    config.write_text(
        "from tests import tiny\n\n\n"
        "def get_config():\n"
        "    config = tiny.get_config()\n"
        "    config.data.update(source='synthetic', train_count=8, valid_count=5, size=64)\n"
        "    config.train.epochs = 1\n"
        "    return config\n"
    )
    status = cli.main(["demo", f"--config={config}", f"--workdir={tmp_path / 'run'}"])
    out = capsys.readouterr().out
    assert status == 0
    assert "mean shape in the landmark box" in out and f"{tiny.PLAIN}, 1 epochs" in out
    assert (tmp_path / "run" / "faces.png").stat().st_size > 10_000
    assert (tmp_path / "run" / "eval" / "metrics.json").exists()


def test_demo_is_for_rendered_faces(tmp_path, capsys):
    config = tmp_path / "config.py"
    config.write_text("from tests.tiny import get_config\n")
    assert cli.main(["demo", f"--config={config}", f"--workdir={tmp_path / 'run'}"]) == 2
    assert "data.source is 'csv'" in capsys.readouterr().err
