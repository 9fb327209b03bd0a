"""The devices of all processes of a job, and where arrays lie on them."""

import contextlib
import contextvars
import functools
import threading
from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils

from hrnet_jax.errors import HRNetError

AXIS = "data"
_target: contextvars.ContextVar[str | None] = contextvars.ContextVar("target", default=None)


def backend() -> str:
    """The kind of device that a program being traced is for: "cpu", "gpu" or "tpu".

    JAX's default, unless `target` tells another.
    """
    return _target.get() or jax.default_backend()


@contextlib.contextmanager
def target(platform: str):
    """Within, networks and steps are traced as for devices of `platform`, which need not be here.

    For functions that are traced within for the first time: JAX keeps what it has traced.
    """
    token = _target.set(platform)
    try:
        yield
    finally:
        _target.reset(token)


def start_processes(
    coordinator: str | None = None, processes: int | None = None, process: int | None = None
) -> None:
    """Joins this process to the others of the job; before anything touches a device.

    Cloud TPU, SLURM, Open MPI and Kubernetes tell JAX all three; elsewhere they are the first
    process's "host:port", the number of processes, and which of them (from 0) this one is.
    """
    try:
        jax.distributed.initialize(coordinator, processes, process)
    except (ValueError, RuntimeError) as error:
        raise HRNetError(
            f"cannot join the other processes: {error}; outside Cloud TPU, SLURM and Kubernetes "
            "give --coordinator=HOST:PORT --processes=N --process=I"
        ) from error
    # The first exchange now, while all have just met: between CPUs, one who comes to it 30 seconds
    # after the others, late with its data or compilation, finds them gone.
    devices = Devices()
    devices.collect(devices.split(np.zeros(jax.local_device_count())))
    multihost_utils.sync_global_devices("met")


_turn = threading.Lock()


def one_at_a_time(function: Callable) -> Callable:
    """A compiled function that threads may share: their calls run one after the other.

    On CPUs two programs of different shapes, called from several threads, can each wait for the
    threads that the other holds, for good. The lock is that of all such functions, and a call
    returns when its results are there.
    """

    @functools.wraps(function)
    def call(*arguments):
        with _turn:
            return jax.block_until_ready(function(*arguments))

    return call


class Devices:
    """All devices of all processes in one row, those of process 0 first.

    Attributes:
      mesh: the row, its one axis named "data".
      count: the number of devices.
      shard: (i, n): this is process i of n, which holds part i of every batch.
      whole: the sharding of arrays that lie on every device.
    """

    def __init__(self):
        row = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
        self.mesh = jax.sharding.Mesh(np.array(row), (AXIS,))
        self.count = len(row)
        self.shard = (jax.process_index(), jax.process_count())
        self.whole = jax.NamedSharding(self.mesh, jax.P())
        self._collect = jax.jit(lambda tree: tree, out_shardings=self.whole)

    def replicate(self, tree):
        """The arrays, equal in every process, on every device."""
        return jax.make_array_from_process_local_data(self.whole, jax.device_get(tree))

    def split(self, batch, axis: int = 0):
        """A batch (this process's part of it) with its rows, along `axis`, shared out."""
        sharding = jax.NamedSharding(self.mesh, jax.P(*[None] * axis, AXIS))
        return jax.make_array_from_process_local_data(sharding, batch)

    def collect(self, tree):
        """Arrays whose rows are shared out, as whole NumPy arrays in every process."""
        return jax.device_get(self._collect(tree))


def is_first_process() -> bool:
    """This process writes the files and talks to the user."""
    return jax.process_index() == 0
