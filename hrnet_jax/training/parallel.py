"""One program per device, several steps per call, and notice of preemption."""

import contextlib
import itertools
import signal
import threading
from collections.abc import Callable, Iterable, Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils

from hrnet_jax.devices import AXIS, Devices
from hrnet_jax.models.cpu_conv import jit

MODES = ("jit", "pmap")


def per_device(step: Callable, mesh: jax.sharding.Mesh) -> Callable:
    """`step(state, batch)` as one program on each device, with its rows of the batch.

    The state lies on every device; what the step returns must be equal on all of them.
    """
    return jax.shard_map(
        step, mesh=mesh, in_specs=(jax.P(), jax.P(AXIS)), out_specs=(jax.P(), jax.P())
    )


def several_steps(step: Callable, steps_per_call: int, resident: bool = False) -> Callable:
    """Returns `call(state, data, count) -> (state, metrics)`: `count` steps in one dispatch.

    With `steps_per_call` 1, `count` is 1 and the call is the step. Above, `data` holds `count`
    batches along a new first axis, and so do the metrics; with `resident`, `data` lie on the device
    and serve every step.
    """
    step = step.__wrapped__  # compiled as a part of the whole

    def steps(state, data, count):
        if steps_per_call == 1:
            return step(state, data)
        if resident:
            return jax.lax.scan(lambda state, _: step(state, data), state, length=count)
        return jax.lax.scan(step, state, data, length=count)

    return jit(steps, donate_argnums=0, static_argnums=2)


def call_counts(
    first_step: int, total_steps: int, steps_per_epoch: int, steps_per_call: int
) -> Iterator[int]:
    """Yields how many steps each call makes: `steps_per_call`, less at the end of an epoch.

    The calls of an epoch start at the same steps wherever a run was stopped.
    """
    step = first_step
    while step < total_steps:
        position = step % steps_per_epoch
        count = min(steps_per_call - position % steps_per_call, steps_per_epoch - position)
        yield count
        step += count


def feed(
    batches: Iterable[dict], counts: Iterable[int], devices: Devices, steps_per_call: int
) -> Iterator[tuple[int, dict]]:
    """Yields (count, data) for `several_steps`: the next batches, on the devices."""
    batches = iter(batches)
    for count in counts:
        if steps_per_call == 1:
            yield count, devices.split(next(batches))
        else:
            parts = list(itertools.islice(batches, count))
            stacked = {key: np.stack([part[key] for part in parts]) for key in parts[0]}
            yield count, devices.split(stacked, axis=1)


class Preemption(contextlib.AbstractContextManager):
    """Notices SIGTERM, which clusters send before they take a machine away."""

    def __enter__(self):
        self._calls, self._noticed, self._previous = 0, False, None
        # In a job of several processes JAX listens, and lets all of them agree on a call.
        if not jax.distributed.is_initialized() and _in_main_thread():
            self._previous = signal.signal(signal.SIGTERM, self._notice)
        return self

    def __exit__(self, *_):
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)

    def _notice(self, *_):
        self._noticed = True

    def requested(self) -> bool:
        """Whether to save and stop now: after the same call in every process, each calling it."""
        self._calls += 1
        return self._noticed or multihost_utils.reached_preemption_sync_point(self._calls)


def _in_main_thread():
    return threading.current_thread() is threading.main_thread()
