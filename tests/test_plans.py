"""What `hrnet-jax plan` reads from compiled programs, and its errors."""

import jax
import jax.numpy as jnp
import pytest

from hrnet_jax.errors import HRNetError
from hrnet_jax.plans import hlo, topologies


@pytest.fixture(scope="module")
def program(data_dir):
    """Eleven operations of a training step that libtpu 0.0.42 compiled for v5e:2x4, and a fusion.

    A tiny HRNet in bfloat16, 64 px, 8 images a chip.
    """
    return hlo.read_operations((data_dir / "step_v5e.hlo").read_text())


def test_cycles_are_the_compilers_estimates(program):
    named = {operation.source.split("/")[-1]: operation for operation in program}
    assert named["add"].cycles == 1838
    assert hlo.estimated_cycles(program) == 59518


def test_collectives_have_the_bytes_of_all_their_results(program):
    """Two of a layer's 64 statistics, and one of several gradients."""
    found = hlo.collectives(program)
    assert [operation.kind for operation in found] == ["all-reduce"] * 3
    assert [operation.bytes for operation in found[:2]] == [256, 256]
    assert found[2].bytes == 2068
    assert [operation.backward for operation in found] == [False, False, True]


def test_modules_hold_their_layers_and_both_passes(program):
    assert hlo.cycles_by_module(program, "Network") == {
        "backbone": (37230, 17953),
        "backbone/stage4/fuse": (0, 2397),
        "other": (1938, 0),
    }
    assert list(hlo.cycles_by_module(program, "Network", depth=1)) == ["backbone", "other"]
    assert list(hlo.cycles_by_module(program, "Another")) == ["other"]


def test_what_is_in_a_loop_counts_in_every_turn():
    def loops(x):
        x, _ = jax.lax.scan(lambda x, _: (jnp.sin(x @ x), None), x, length=5)
        return x

    operations = hlo.read_operations(jax.jit(loops).lower(jnp.ones((64, 64))).compile().as_text())
    turns = {operation.turns for operation in operations if "dot_general" in operation.source}
    assert turns == {5}


def test_an_absurd_estimate_is_none(data_dir):
    text = (data_dir / "step_v5e.hlo").read_text().replace('"21340"', f'"{2**63 - 1}"')
    assert hlo.estimated_cycles(hlo.read_operations(text)) == 59518 - 21340


@pytest.mark.parametrize(
    "name", ["v5e", "v5e:8", "v9:2x2", "v5e:8x8x8x8", "v5e:2x2 ", "", "v5e:0x"]
)
def test_an_unknown_topology_is_told_with_the_known_ones(name):
    with pytest.raises(HRNetError, match="known: v5e:2x2, 2x4") as error:
        topologies.open_slice(name)
    assert repr(name) in str(error.value)


def test_without_libtpu_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(topologies.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(HRNetError, match=r"pip install 'hrnet-jax\[plan\]'"):
        topologies.open_slice("v5e:2x4")


@pytest.mark.parametrize("chip", topologies.CHIPS.values(), ids=lambda chip: chip.name)
def test_a_chips_clock_is_its_arithmetic_over_that_of_a_cycle(chip):
    units, side = chip.units
    assert units * side**2 * 2 * chip.clock == pytest.approx(chip.flops, rel=0.01)
