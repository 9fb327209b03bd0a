"""One program per device, several steps per call, and notice of preemption."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

import jax
from jax.experimental import multihost_utils

from hrnet_jax.devices import AXIS
from hrnet_jax.models.cpu_conv import jit

MODES = ("jit", "pmap")


def per_device(step: Callable, mesh: jax.sharding.Mesh) -> Callable:
    """`step(state, batch, rng)` as one program on each device, with its rows of the batch.

    The state lies on every device; what the step returns must be equal on all of them.
    """
    whole = jax.P()
    return jax.shard_map(
        step, mesh=mesh, in_specs=(whole, jax.P(AXIS), whole), out_specs=(whole, whole)
    )


def several_steps(step: Callable, feed, steps_per_call: int) -> Callable:
    """Returns the compiled `call(state, resident, streamed, seed, count) -> (state, metrics)`.

    It makes `count` steps in one dispatch, each on the batch `feed.batch(resident, streamed, step)`
    (`hrnet_jax.training.feeds`). With `steps_per_call` 1, `count` is 1 and the call is the step.
    Above, `streamed` holds `count` batches along a new first axis, and so do the metrics. `seed` is
    a number (uint32), of what the steps draw. The state is donated.
    """

    def steps(state, resident, streamed, seed, count):
        rng = jax.random.key(seed)

        def one(state, streamed):
            return step(state, feed.batch(resident, streamed, state.step), rng)

        if steps_per_call == 1:
            return one(state, streamed)
        return jax.lax.scan(one, state, streamed, length=count)

    return jit(steps, donate_argnums=0, static_argnums=4)


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
        count = min(count, total_steps - step)
        yield count
        step += count


class Preemption(contextlib.AbstractContextManager):
    """Notices SIGTERM, which clusters send before they take a machine away, and Ctrl-C.

    A second Ctrl-C interrupts at once. In a job of several processes only SIGTERM is noticed: JAX
    listens, and lets all of them agree on a call.
    """

    def __enter__(self):
        self._calls, self._noticed, self._previous = 0, "", {}
        if not jax.distributed.is_initialized() and _in_main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._notice)
        return self

    def __exit__(self, *_):
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _notice(self, number, frame):
        if self._noticed and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._noticed = signal.Signals(number).name

    def requested(self) -> str:
        """The signal to save and stop for now, "" without one.

        The same in every process, each of which calls it after each call of the training program.
        """
        self._calls += 1
        if not self._noticed and multihost_utils.reached_preemption_sync_point(self._calls):
            self._noticed = signal.SIGTERM.name
        return self._noticed


def _in_main_thread():
    return threading.current_thread() is threading.main_thread()
