"""Where a training run's batches come from: made by the host, or on the device from data there.

Every feed has

    batch_size: of all devices together; the last batch of an epoch may be smaller.
    steps_per_epoch: batches in an epoch.
    resident: a tree of arrays that lie on the devices and serve every step, or None.
    calls(first_step, counts) -> iterator of (count, samples, streamed): for each call of the
        training program how many steps it makes, how many samples they see, and a tree of arrays
        on the devices for it, or None.
    batch(resident, streamed, step) -> dict: the batch of one step, traced into the program.

A batch is a dictionary of arrays with one row a sample. What a run sees is a function of its seed
and the step number, so that a run goes on anywhere.
"""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator

import jax
import numpy as np

from hrnet_jax.devices import AXIS, Devices


class HostFeed:
    """Batches that the host makes, ahead of the step that needs them.

    Args:
      batches: `batches(step) -> dict` of NumPy arrays, this process's part of the batch, with
        `batch_size` and `steps_per_epoch` (`hrnet_jax.data.pipeline.TrainBatches`, say).
      ahead: `ahead(batches, first, last)` yields them in order (`pipeline.iterate`, say).
      devices: that share each batch.
      steps_per_call: of the training program; above 1, the batches of a call are stacked.
    """

    resident = None

    def __init__(self, batches, ahead: Callable, devices: Devices, steps_per_call: int = 1):
        self._batches, self._ahead = batches, ahead
        self._devices, self._steps_per_call = devices, steps_per_call
        self.batch_size, self.steps_per_epoch = batches.batch_size, batches.steps_per_epoch

    def calls(self, first_step: int, counts: Iterable[int]) -> Iterator[tuple[int, int, dict]]:
        counts = list(counts)
        made = iter(self._ahead(self._batches, first_step, first_step + sum(counts)))
        for count in counts:
            parts = list(itertools.islice(made, count))
            rows = sum(len(next(iter(part.values()))) for part in parts)
            samples = rows * self._devices.shard[1]  # every process has as many
            if self._steps_per_call == 1:
                yield count, samples, self._devices.split(parts[0])
            else:
                stacked = {key: np.stack([part[key] for part in parts]) for key in parts[0]}
                yield count, samples, self._devices.split(stacked, axis=1)

    def batch(self, resident, streamed: dict, step) -> dict:
        return streamed


class ResidentFeed:
    """Batches made on the device from data that lie there: no host in the loop.

    Args:
      batches: `batches.batch(cache, step)` gives a whole batch, traced; with `cache`, read when it
        is first needed, `batch_size` and `steps_per_epoch`
        (`hrnet_jax.data.device.DeviceBatches`, say). Every batch has the same size.
      devices: that share each batch.
    """

    def __init__(self, batches, devices: Devices):
        self._batches, self._devices = batches, devices
        self.batch_size, self.steps_per_epoch = batches.batch_size, batches.steps_per_epoch

    @functools.cached_property
    def resident(self):
        return self._batches.cache

    def calls(self, first_step: int, counts: Iterable[int]) -> Iterator[tuple[int, int, None]]:
        for count in counts:
            yield count, count * self.batch_size, None

    def batch(self, resident, streamed, step) -> dict:
        batch = self._batches.batch(resident, step)
        sharding = jax.NamedSharding(self._devices.mesh, jax.P(AXIS))
        return jax.lax.with_sharding_constraint(batch, sharding)
