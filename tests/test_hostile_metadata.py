"""A checkpoint's metadata is data: it opens nothing, and odd values are one clear line."""

import copy
import json
import os

import jax
import numpy as np
import pytest

from hrnet_jax import load, protocols
from hrnet_jax.checkpoints import save_model
from hrnet_jax.cli import run
from hrnet_jax.errors import HRNetError, printable
from hrnet_jax.evaluation.scoring import read_run
from hrnet_jax.inference.predictor import Predictor
from hrnet_jax.models import create_model
from hrnet_jax.schemes import describe, read_scheme
from tests import tiny

OWLS = {
    "name": "owls",
    "num_landmarks": 3,
    "flip_pairs": [[0, 1]],
    "normaliser": [0, 1],
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    model = create_model(tiny.PLAIN, num_landmarks=68)
    variables = model.init(jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32))
    metadata = {
        "model": {"name": tiny.PLAIN, "num_landmarks": 68},
        "scheme": "300w",
        "protocol": protocols.float_protocol(input_size=32).to_dict(),
    }
    return tmp_path_factory.mktemp("hostile"), variables, metadata


def open_with(saved, metadata):
    folder, variables, _ = saved
    return Predictor(load(save_model(folder, variables, metadata)))


def test_a_scheme_by_path_is_not_opened(saved, tmp_path):
    os.mkfifo(tmp_path / "scheme.json")  # opening it would wait for ever
    path = str(tmp_path / "scheme.json")
    with pytest.raises(HRNetError, match=r"names the landmark scheme .*scheme\.json.*, unknown"):
        open_with(saved, {**saved[2], "scheme": path})
    stored = {"scheme": path, "normaliser": "inter-ocular", "auc_rule": "trapezoid"}
    (tmp_path / "metrics.json").write_text(json.dumps(stored))
    with pytest.raises(HRNetError, match=r"names the landmark scheme .*scheme\.json.*, unknown"):
        read_run(tmp_path)


def test_convert_stores_the_content_of_a_scheme_file(tmp_path):
    from hrnet_jax.torch_weights.convert import _stored

    (tmp_path / "owls.json").write_text(json.dumps(OWLS))
    assert _stored(str(tmp_path / "owls.json")) == describe(read_scheme(tmp_path / "owls.json"))
    assert _stored("wflw") == "wflw" and _stored(None) is None


ODD = [
    *(0, -1, 1, 2.5, 1e308, 1e-300, float("nan"), float("inf"), 10**400, 10**9, 2001, 100_000),
    *(True, None, "", "x" * 5000, "\x1b]0;owned\x07\u202e\ud800", [], [[[]]], {}, {"a": []}),
]


def _leaves(tree, path=()):
    for key, value in tree.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from _leaves(value, (*path, key))


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: ascii(odd)[:20])
def test_odd_values_are_one_printable_line(saved, odd):
    for path in _leaves(saved[2]):
        metadata = copy.deepcopy(saved[2])
        place = metadata
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = odd
        try:
            predictor = open_with(saved, metadata)
        except HRNetError as error:
            assert str(error).isprintable() and len(str(error)) < 3000
        else:
            assert predictor.protocol.input_size <= 1024
            assert 0.1 <= predictor.protocol.padding <= 100


def test_messages_hold_nothing_that_a_terminal_obeys(capsys, tmp_path):
    hostile = "\x1b]0;owned\x07 \u202e\r\n\ud800 \x9b31m " + "x" * 10**6
    for text in (printable(hostile), str(HRNetError(hostile))):
        assert text.isprintable() and len(text) < 2100 and r"\x1b]0;owned\x07" in text
    assert printable("µm, 顔, naïve") == "µm, 顔, naïve"
    assert run("evaluate", [f"--predictions={tmp_path}/\x1b[31m.csv", "--truth=x", "--scheme=wflw"])
    assert "\x1b" not in capsys.readouterr().err
