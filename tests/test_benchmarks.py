"""The benchmarks' own arithmetic: timing, tables, the reading of compiled programs, scaling."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import common, end_to_end, error_sources, options, profile_step, scaling
from tests import tiny


def test_functions_take_turns():
    calls = []
    samples = common.interleave(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=3, warmup=1
    )
    assert calls == ["a", "a", "b", "b"] * 4
    assert [len(taken) for taken in samples.values()] == [3, 3]


def test_summary_is_in_milliseconds():
    walls = (0.004, 0.001, 0.003, 0.002, 0.005)
    samples = [common.Sample(wall, 2 * wall, int(1e4 * wall)) for wall in walls]
    summary = common.summary(samples)
    assert summary == pytest.approx(
        {"ms": 3, "ms_low": 2, "ms_high": 4, "processor_ms": 6, "faults": 30, "samples": 5}
    )
    assert common.summary(samples[:1])["ms_low"] == pytest.approx(4)


def test_report_prints_a_table_and_writes_every_key(tmp_path, capsys):
    rows = [{"name": "a", "ms": 1.23456, "more": [1]}, {"name": "b", "ms": 12345.6}]
    common.report(rows, {"name": "what", "ms": "ms", "none": "?"}, tmp_path / "r.json")
    described, *table = capsys.readouterr().out.splitlines()
    assert "processor" in described and "jax" in described
    assert table == [
        "| what |    ms |   ? |",
        "| ---- | ----: | --: |",
        "| a    | 1.235 |   - |",
        "| b    | 12346 |   - |",
    ]
    written = json.loads((tmp_path / "r.json").read_text())
    assert written["rows"] == rows
    assert written["machine"]["backend"] == jax.default_backend()


def test_operations_are_told_by_kind():
    """The gradient of a convolution and a mean: forward, weight gradient and reduction appear."""

    def loss(kernel, x):
        y = jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return jnp.tanh(y).var()

    kernel, x = jnp.ones((3, 3, 4, 4)), jnp.ones((2, 16, 16, 4))
    compiled = jax.jit(jax.value_and_grad(loss)).lower(kernel, x).compile()
    kinds = profile_step.operation_kinds(compiled.as_text())
    found = {kind for kind, _ in kinds.values()}
    assert {"convolution, forward", "convolution, weight gradient", "reduction"} <= found
    times = profile_step.operation_times(
        lambda: jax.block_until_ready(compiled(kernel, x)), steps=1
    )
    assert times and set(times) <= set(kinds)


RING = scaling.Network(island=8, inside=100e9, between=10e9, hop=1e-6)


def test_ring_moves_twice_the_bytes():
    assert scaling.all_reduce_seconds(1e9, 1, RING) == 0
    assert scaling.all_reduce_seconds(1e9, 2, RING) == pytest.approx(0.01)
    inside = 2 * 7 / 8 * 0.01
    assert scaling.all_reduce_seconds(1e9, 8, RING) == pytest.approx(inside)
    between = 2 * (1 / 2) * (1e9 / 8) / 10e9
    assert scaling.all_reduce_seconds(1e9, 16, RING) == pytest.approx(inside + between)


def test_efficiency_is_whole_where_nothing_waits():
    step, efficiency = scaling.predict(0.1, 10**7, 8, RING, overlap=1.0, syncs=0)
    assert (step, efficiency) == (0.1, 1.0)
    slower, lower = scaling.predict(0.1, 10**7, 8, RING, overlap=0.0, syncs=1000)
    assert slower == pytest.approx(0.1 + 7e-4 + 6e-6 + 1000 * 6e-6, rel=1e-2)
    assert lower == pytest.approx(0.1 / slower)


def test_options_are_measured_beside_the_plain_config():
    """Two parts of a batch in turn need less memory at once, and several steps more data."""
    plain, parts, several = options.measure(
        tiny.get_config(), ["plain", "accumulate", "several"], repeats=1
    )
    assert plain["ratio"] == 1 and parts["change"] == "train.accumulate=2"
    assert parts["temporary"] < 0.7 * plain["temporary"]
    pictures = 4 * 32 * 32 * 3 / 2**20
    assert several["arguments"] - plain["arguments"] > 3 * pictures


@pytest.mark.parametrize("per_call", [1, 2])
def test_end_to_end_trains_with_every_source(tmp_path, per_call):
    config = tiny.get_config(tiny.write_dataset(tmp_path / "data"))
    config.train.steps_per_call = per_call
    step, *rows = end_to_end.measure(config, ["threads", "device"], calls=2, repeats=1)
    assert step["utilisation"] == pytest.approx(100) and [row["row"] for row in rows] == [
        "threads",
        "device",
    ]
    assert all(row["steps_per_repeat"] == 2 * per_call for row in rows)
    assert rows[1]["cache_gib"] > 0


def test_error_sources_take_away_what_they_name():
    rng = np.random.default_rng(0)
    truth, lengths = rng.uniform(0, 100, (4, 6, 2)), np.full(4, 50.0)
    turn = np.array([[0.8, 0.6], [-0.6, 0.8]])
    shift = rng.uniform(-5, 5, (4, 1, 2))
    left = error_sources.without(truth + shift, truth, lengths)
    errors = {name: np.abs(points - truth).max() for name, points in left.items()}
    assert errors["nothing"] > 1 and errors["each face's shift"] < 1e-9
    left = error_sources.without(1.1 * truth @ turn + shift, truth, lengths)
    assert np.abs(left["each face's similarity"] - truth).max() < 1e-9
    assert np.abs(left["each face's shift"] - truth).max() > 1
    left = error_sources.without(truth + rng.normal(size=(1, 6, 2)), truth, lengths)
    assert np.abs(left["the mean error of each landmark"] - truth).max() < 1e-9
