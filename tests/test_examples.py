"""The examples run, and come to what they print."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest

from hrnet_jax.checkpoints import load

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@pytest.mark.usefixtures("quick_compile")
def test_own_parts(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(EXAMPLES)
    own_parts = importlib.import_module("own_parts")
    first, run = own_parts.main(
        tmp_path, epochs=2, log_every=1, data={"train_count": 32, "valid_count": 8}
    )
    assert first["nme"] == pytest.approx(run.result["nme"], rel=1e-6)
    assert "in training" in capsys.readouterr().out
    lines = (tmp_path / "texts" / "log.jsonl").read_text().splitlines()
    scores = [line["score"] for line in map(json.loads, lines) if "score" in line]
    assert len(scores) == 4 and np.isfinite(scores).all()
    loaded = load(tmp_path / "mine.safetensors", allow_import=["own_parts"])
    assert set(loaded.variables) == {"params"}  # no running statistics
    assert loaded.protocol.codec == own_parts.SoftArgmax()
    told = {key: loaded.metadata["model"][key] for key in ("norm", "head")}
    assert told == {"norm": "own_parts:RMSNorm", "head": "own_parts:ThinHead"}
    assert len((EXAMPLES / "own_parts.py").read_text().splitlines()) <= 80
