"""What each option of training costs or saves: time of a step, and memory as the compiler plans it.

python -m benchmarks.options --config=configs/300w_w18.py --config.train.batch_size=8
python -m benchmarks.options --config=configs/300w_w18_device.py --rows=plain,bfloat16,remat

Every row is the config with one field changed; "plain" is the config itself. The steps are
those of the training loop, on one batch of random pictures and points; samples of all rows are
taken in turns. Memory is that of one device: state and batch, and what a step allocates besides.
"""

import argparse
import copy
import sys
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.common import interleave, report, summary
from benchmarks.dispatch import Repeated, in_turn
from benchmarks.workloads import random_batch
from hrnet_jax.cli.configs import override, split_config
from hrnet_jax.config import plain
from hrnet_jax.devices import Devices
from hrnet_jax.protocols import Protocol
from hrnet_jax.schemes import get_scheme
from hrnet_jax.tasks.landmarks import build_model, prepare_landmarks
from hrnet_jax.training.feeds import HostFeed
from hrnet_jax.training.loop import compile_steps
from hrnet_jax.training.losses import get_loss
from hrnet_jax.training.optimisers import create_optimiser
from hrnet_jax.training.state import create_state

ROWS = {
    "plain": "",
    "pmap": "parallel.mode=pmap",
    "accumulate": "train.accumulate=2",
    "ema": "train.ema_decay=0.999",
    "bfloat16": "model.dtype=bfloat16",
    "remat": "model.remat=True",
    "flatten": "train.flatten_optimiser=True",
    "several": "train.steps_per_call=4",
}
COLUMNS = {
    "row": "row",
    "change": "change",
    "ms": "median ms a step",
    "ms_low": "25 %",
    "ms_high": "75 %",
    "ratio": "of plain",
    "arguments": "state and batch MiB",
    "temporary": "step MiB",
}
MEBIBYTES = 2.0**20
SEED = np.uint32(0)


class Measured:
    """The training steps of a config, compiled: `plan` is their memory, a call runs them once."""

    def __init__(self, config, variables):
        devices, per_call = Devices(), config.train.steps_per_call
        scheme, protocol = (
            get_scheme(config.scheme),
            Protocol.from_dict(plain(config.protocol), allow=True),
        )
        optimiser = create_optimiser(config.train, 1000, 1000 * config.train.epochs)
        batch = random_batch(config.train.batch_size, protocol.input_size, scheme.num_landmarks)
        feed = HostFeed(Repeated(batch, per_call), in_turn, devices, per_call)
        task = types.SimpleNamespace(
            config=config,
            model=build_model(config, scheme, protocol),
            prepare=prepare_landmarks(protocol.codec),
            loss=get_loss(config.train.loss, protocol.codec),
            feed=feed,
        )
        steps = compile_steps(task, optimiser, devices)
        ((count, _, self._data),) = feed.calls(0, [per_call])
        ema = config.train.ema_decay > 0
        self._state = devices.replicate(create_state(variables, optimiser, ema))
        self._steps = steps.lower(self._state, None, self._data, SEED, count).compile()
        self.plan = self._steps.memory_analysis()

    def __call__(self):
        self._state, metrics = self._steps(self._state, None, self._data, SEED)
        jax.block_until_ready((self._state, metrics))


def measure(config, rows: list[str], repeats: int) -> list[dict]:
    """A table row for each of `rows`, the first of which the others are compared with."""
    scheme, protocol = (
        get_scheme(config.scheme),
        Protocol.from_dict(plain(config.protocol), allow=True),
    )
    model = build_model(config, scheme, protocol)
    variables = jax.device_get(model.init(jax.random.key(0), jnp.zeros((1, 64, 64, 3))))
    changes = {row: [f"--config.{ROWS[row]}"] if ROWS[row] else [] for row in rows}
    configs = {row: override(copy.deepcopy(config), changes[row]) for row in rows}
    functions = {}
    for row in rows:
        print(f"compiling: {row}", file=sys.stderr, flush=True)
        functions[row] = Measured(configs[row], variables)
    table = []
    for row, samples in interleave(functions, repeats).items():
        steps, taken = configs[row].train.steps_per_call, summary(samples)
        line = {"row": row, **{key: taken[key] / steps for key in ("ms", "ms_low", "ms_high")}}
        line["change"] = ROWS[row]
        line["ratio"] = line["ms"] / (table or [line])[0]["ms"]
        plan = functions[row].plan
        line["arguments"] = plan.argument_size_in_bytes / MEBIBYTES
        line["temporary"] = plan.temp_size_in_bytes / MEBIBYTES
        table.append(line | {"repeats": repeats})
    return table


def main():
    config, rest = split_config(sys.argv[1:])
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default=",".join(ROWS), help="comma-separated")
    parser.add_argument("--repeats", type=int, default=5, help="samples of each row")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args(rest)
    if config is None:
        parser.error("give --config=FILE, e.g. --config=configs/300w_small.py")
    rows = arguments.rows.split(",")
    if unknown := [row for row in rows if row not in ROWS]:
        parser.error(f"unknown row {unknown[0]!r}: choose of {', '.join(ROWS)}")
    table = measure(config, rows, arguments.repeats)
    print(f"{config.model.name}, {config.protocol.input_size} px, batch {config.train.batch_size}")
    report(table, COLUMNS, arguments.json)


if __name__ == "__main__":
    main()
