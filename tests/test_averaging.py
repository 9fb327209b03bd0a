"""Averaging at test time: mirrored crops are mirrored back, and the command takes and tells it."""

import json

import numpy as np
import pytest

from hrnet_jax.cli import run
from hrnet_jax.codecs import UnbiasedCodec
from hrnet_jax.data.sources import render_split
from hrnet_jax.evaluation.landmarks import Averaging, predict_averaged, predict_records
from hrnet_jax.protocols import STRIDE, Protocol
from hrnet_jax.schemes import get_scheme
from tests import tiny

SCHEME = get_scheme("300w")
PERMUTATION = SCHEME.flip_permutation


def brightest(protocol):
    """A network that finds every landmark at the centre of brightness: mirrored, mirrored."""

    def forward(variables, images):
        light = (images.astype(float).sum(-1) + 1) ** 4
        centres = np.arange(images.shape[1]) + 0.5
        total = light.sum((1, 2))
        pixels = [(light.sum(axis) * centres).sum(-1) / total for axis in (1, 2)]
        offset = protocol.index_offset
        cells = (np.stack(pixels, -1) - offset) / STRIDE + offset
        points = np.repeat(cells[:, None], SCHEME.num_landmarks, 1)
        return points, np.ones(points.shape[:2])

    return forward


@pytest.mark.parametrize("name", ["float", "mmpose"])
def test_mirrored_crops_are_mirrored_back(name):
    protocol, faces = Protocol(name, UnbiasedCodec(), 64), render_split(5, 0, 96, "face")
    given = brightest(protocol), {}, faces, protocol
    plain = predict_records(*given)
    np.testing.assert_allclose(predict_records(*given, permutation=PERMUTATION), plain, atol=1e-9)
    both = predict_averaged(Averaging(flip_offset=2.0), SCHEME, *given)
    np.testing.assert_allclose(both, plain + [1.0, 0.0], atol=1e-9)  # half of the mirror's 2
    scaled = predict_averaged(Averaging((0.9, 1.0)), SCHEME, *given)
    assert 0 < np.abs(scaled - plain).max() < 4


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    place = tmp_path_factory.mktemp("averaging")
    root = tiny.write_dataset(place / "data")
    config = tiny.write_config(place / "config.py", root)
    once = ["--config.train.epochs=1"]
    assert run("train", [f"--config={config}", f"--workdir={place / 'run'}", *once]) == 0
    return config, place / "run"


def test_the_command_averages_and_tells(trained, tmp_path):
    config, workdir = trained
    results = {}
    for name, arguments in {
        "plain": [],
        "one": ["--scales=1"],
        "flip": ["--flip-offset=2.5"],
        "scales": ["--scales=0.93,1"],
    }.items():
        output = tmp_path / name
        given = [f"--config={config}", f"--checkpoint={workdir}", f"--output={output}"]
        assert run("evaluate", [*given, *arguments]) == 0
        results[name] = json.loads((output / "metrics.json").read_text())
    assert results["one"]["nme"] == results["plain"]["nme"] and "averaged" not in results["one"]
    assert results["flip"]["averaged"] == {"scales": [1.0], "flip_offset": 2.5, "flip_share": None}
    assert results["scales"]["averaged"] == {
        "scales": [0.93, 1.0],
        "flip_offset": None,
        "flip_share": None,
    }
    assert len({results[name]["nme"] for name in ("plain", "flip", "scales")}) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scales=0.9,big"], "--scales=0.9,big: give numbers"),
        (["--scales=0"], "give shares of the box's side"),
        (["--flip-offset=nan"], "no number of pixels"),
        (["--flip-offset=far"], "give pixels, or checkpoint"),
        (["--flip-offset=checkpoint"], "stores no flip_offset"),
        (["--flip-offset=2", "--flip-test=on"], "take one of them"),
        (["--flip-offset=2", "--protocol=config", "--config.protocol=official"], "whole pixels"),
    ],
)
def test_what_cannot_be_averaged(trained, tmp_path, capsys, arguments, message):
    config, workdir = trained
    given = [f"--config={config}", f"--checkpoint={workdir}", f"--output={tmp_path / 'out'}"]
    assert run("evaluate", [*given, *arguments]) == 2
    errors = [e for e in capsys.readouterr().err.splitlines() if e.startswith("error:")]
    assert len(errors) == 1 and message in errors[0] and not (tmp_path / "out").exists()


def test_the_offset_of_the_checkpoint(trained, tmp_path):
    config, workdir = trained
    card = ["--data=none", "--terms=none", "--command=none", "--flip-offset=0.25"]
    assert run("export", [str(workdir), str(tmp_path / "m.safetensors"), *card]) == 0
    results = []
    for arguments in (["--flip-offset=checkpoint"], ["--flip-offset=0"]):
        given = [f"--config={config}", f"--checkpoint={tmp_path / 'm.safetensors'}"]
        assert run("evaluate", [*given, f"--output={tmp_path / 'out'}", *arguments]) == 0
        results.append(json.loads((tmp_path / "out" / "metrics.json").read_text()))
    assert results[0]["averaged"]["flip_share"] == 0.25
    assert results[0]["nme"] != results[1]["nme"]


def test_the_share_is_of_each_face():
    points = np.zeros((2, SCHEME.num_landmarks, 2))
    points[:, SCHEME.normaliser[1]] = [[30.0, 40.0], [60.0, 80.0]]  # 50 and 100 pixels
    moved = Averaging(flip_share=0.1).align(points, points, SCHEME) - points
    np.testing.assert_allclose(moved[..., 0], [[5.0] * 68, [10.0] * 68])
    assert not moved[..., 1].any()
