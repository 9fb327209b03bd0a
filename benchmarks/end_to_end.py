"""Images/s of training with each way of making batches, and how much of the step alone that is.

python -m benchmarks.end_to_end --config=configs/300w_w18_device.py --rows=threads,tfdata,device

Every row trains on the config's training faces: "device" from crops in device memory, the others
with `data.loader` of that name. "step" is the training step alone, on one batch that stays on the
device; a row's utilisation is its images/s as a share of that. Calls of the compiled program are
those of the training loop, `train.steps_per_call` steps each. Only the row "tfdata" imports
TensorFlow.
"""

import argparse
import functools
import itertools
import sys
import types
from pathlib import Path

import jax
import numpy as np

from benchmarks.common import interleave, report, summary
from hrnet_jax.cli.configs import split_config
from hrnet_jax.config import plain
from hrnet_jax.data import pipeline
from hrnet_jax.data.device import DeviceBatches
from hrnet_jax.data.sources import open_split
from hrnet_jax.devices import Devices
from hrnet_jax.images.augment import Augmentation
from hrnet_jax.protocols import Protocol
from hrnet_jax.schemes import get_scheme
from hrnet_jax.tasks.landmarks import build_model, initial_variables, prepare_landmarks
from hrnet_jax.training.feeds import HostFeed, ResidentFeed
from hrnet_jax.training.loop import compile_steps
from hrnet_jax.training.losses import get_loss
from hrnet_jax.training.optimisers import create_optimiser
from hrnet_jax.training.state import create_state

COLUMNS = {
    "row": "batches from",
    "images_per_s": "images/s",
    "utilisation": "of the step alone, %",
    "ms": "median ms a step",
    "ms_low": "25 %",
    "ms_high": "75 %",
    "cache_gib": "crops, GiB",
}
MOST_CALLS = 100_000  # more than anybody measures: the batches ahead must not end


class Training:
    """The network, optimiser and data of a config, ready to be trained in several ways."""

    def __init__(self, config):
        self.config, self.devices = config, Devices()
        self.scheme = get_scheme(config.scheme)
        self.protocol = Protocol.from_dict(plain(config.protocol), allow=True)
        self.faces = (
            open_split(config.data, self.scheme, "train"),
            self.protocol,
            Augmentation(**plain(config.augment)),
            self.scheme.flip_permutation,
            config.train.batch_size,
            config.seed,
        )
        self.model = build_model(config, self.scheme, self.protocol)
        # On the host: what a row trains is donated to its steps.
        self.variables = jax.device_get(initial_variables(config, self.model, self.protocol)[0])

    @functools.cached_property
    def device_batches(self) -> DeviceBatches:
        return DeviceBatches(*self.faces, drop_last=True, mesh=self.devices.mesh)

    def runner(self, row: str, calls: int):
        """A callable that makes `calls` more calls of the training steps, to their end."""
        per_call = self.config.train.steps_per_call
        optimiser = create_optimiser(self.config.train, 1000, 1000 * self.config.train.epochs)
        feed = self._feed(row, per_call)
        task = types.SimpleNamespace(
            config=self.config,
            model=self.model,
            prepare=prepare_landmarks(self.protocol.codec),
            loss=get_loss(self.config.train.loss, self.protocol.codec),
            feed=feed,
        )
        train = compile_steps(task, optimiser, self.devices)
        ema = self.config.train.ema_decay > 0
        state = self.devices.replicate(create_state(self.variables, optimiser, ema))
        data = feed.calls(0, [per_call] * MOST_CALLS)
        if row == "step":
            data = itertools.repeat(next(data))

        def run():
            nonlocal state  # donated: the step overwrites it
            for count, _, streamed in itertools.islice(data, calls):
                state, metrics = train(state, feed.resident, streamed, np.uint32(0), count)
            jax.block_until_ready((state, metrics))

        return run

    def _feed(self, row, per_call):
        """As in the training loop."""
        if row == "device":
            return ResidentFeed(self.device_batches, self.devices)
        batches = pipeline.TrainBatches(*self.faces, drop_last=True)
        loader = "threads" if row == "step" else row
        ahead = functools.partial(pipeline.iterate, loader, workers=self.config.data.workers)
        return HostFeed(batches, ahead, self.devices, per_call)


def measure(config, rows: list[str], calls: int, repeats: int) -> list[dict]:
    """A table row for "step" and each of `rows`, one after the other."""
    training, table = Training(config), []
    for row in ["step", *rows]:
        taken = summary(interleave({row: training.runner(row, calls)}, repeats)[row])
        steps = calls * config.train.steps_per_call
        line = {"row": row, **{key: taken[key] / steps for key in ("ms", "ms_low", "ms_high")}}
        line["images_per_s"] = 1000 * config.train.batch_size / line["ms"]
        line["utilisation"] = 100 * line["images_per_s"] / (table or [line])[0]["images_per_s"]
        if row == "device":
            line["cache_gib"] = training.device_batches.nbytes / 2**30
        table.append(line | {"repeats": repeats, "steps_per_repeat": steps})
    return table


def main():
    config, rest = split_config(sys.argv[1:])
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default="threads,tfdata,device", help="comma-separated")
    parser.add_argument("--calls", type=int, default=10, help="of train.steps_per_call, a sample")
    parser.add_argument("--repeats", type=int, default=7, help="samples")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args(rest)
    if config is None:
        parser.error("give --config=FILE, e.g. --config=configs/300w_small.py")
    rows = measure(config, arguments.rows.split(","), arguments.calls, arguments.repeats)
    print(f"{config.model.name}, {config.protocol.input_size} px, batch {config.train.batch_size}")
    report(rows, COLUMNS, arguments.json)


if __name__ == "__main__":
    main()
