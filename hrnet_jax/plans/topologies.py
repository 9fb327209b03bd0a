"""TPU slices that XLA compiles for without one at hand, and the published rates of their chips.

libtpu brings the compiler: `pip install 'hrnet-jax[plan]'`.
"""

import importlib.util
import math
import os
import re
from typing import NamedTuple

import jax
import numpy as np
from jax.experimental import topologies

from hrnet_jax.devices import AXIS
from hrnet_jax.errors import HRNetError


class Chip(NamedTuple):
    """One generation of TPUs, from the page `source` unless told.

    Attributes:
      name: as Google writes it.
      flops: bfloat16 operations a second.
      clock: cycles a second. No page gives it: it is `flops` over the operations of a cycle, 2 for
        every cell of the matrix units (`units`).
      units: matrix units: how many on the chip and the cells along a side.
      memory: bytes of HBM.
      memory_rate: its bytes a second.
      link_rate: bytes a second that a chip sends over all its links, one direction.
      shapes: the slices that can be rented, as chips along each axis; not all of them.
    """

    name: str
    flops: float
    clock: float
    units: tuple[int, int]
    memory: float
    memory_rate: float
    link_rate: float
    shapes: tuple[str, ...]
    source: str


_FLAT = ("2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
CHIPS = {
    "v5e": Chip(
        "TPU v5e",
        flops=197e12,
        clock=1.5e9,
        units=(4, 128),
        memory=16e9,
        memory_rate=819e9,
        link_rate=200e9,  # 400 GB/s both directions
        shapes=_FLAT,
        source="https://docs.cloud.google.com/tpu/docs/v5e",
    ),
    "v6e": Chip(
        "TPU v6e",
        flops=918e12,
        clock=1.75e9,
        units=(4, 256),  # versions of the page say 2 or 4; with 2 the clock would be 3.5 GHz
        memory=32e9,
        memory_rate=1600e9,
        link_rate=400e9,  # 800 GB/s both directions
        shapes=_FLAT,
        source="https://docs.cloud.google.com/tpu/docs/v6e",
    ),
    "v5p": Chip(
        "TPU v5p",
        flops=459e12,
        clock=1.75e9,
        units=(8, 128),  # two cores of four, which JAX shows as one device
        memory=95e9,
        memory_rate=2765e9,
        link_rate=600e9,  # 1200 GB/s both directions
        shapes=("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8"),
        source="https://docs.cloud.google.com/tpu/docs/v5p",
    ),
}


# libtpu would ask Google's metadata server which TPU this machine has, and let one process load it.
_SETTINGS = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


class Slice(NamedTuple):
    """A TPU slice to compile for.

    Attributes:
      name: "v5e:8x8".
      chip: its generation.
      mesh: its chips in one row, the axis that of `hrnet_jax.devices.Devices`.
      hosts: machines that feed it, four chips each.
    """

    name: str
    chip: Chip
    mesh: jax.sharding.Mesh
    hosts: int

    @property
    def chips(self) -> int:
        return self.mesh.size


def known_slices() -> str:
    """The names of `CHIPS`, for a message."""
    return "; ".join(f"{name}:{', '.join(chip.shapes)}" for name, chip in CHIPS.items())


def open_slice(name: str) -> Slice:
    """The slice called "GENERATION:CHIPSxCHIPS"; HRNetError for an unknown one or without libtpu.

    Nothing is sent anywhere and no TPU is touched: libtpu describes the slice.
    """
    generation, _, shape = name.partition(":")
    if generation not in CHIPS or not re.fullmatch(r"\d{1,4}(x\d{1,4}){1,2}", shape):
        raise HRNetError(f"unknown topology {name!r}; known: {known_slices()}")
    if importlib.util.find_spec("libtpu") is None:
        raise HRNetError(
            "libtpu, which has the compiler for TPUs, is not installed: "
            "pip install 'hrnet-jax[plan]'"
        )
    for key, value in _SETTINGS.items():
        os.environ.setdefault(key, value)
    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=name)
    except Exception as error:  # jaxlib's own type, for a shape that no slice has
        raise HRNetError(
            f"topology {name!r}: {' '.join(str(error).split())}; known: {known_slices()}"
        ) from error
    devices = np.array(found.devices)
    if len(devices) != math.prod(int(side) for side in shape.split("x")):
        raise HRNetError(f"topology {name!r}: libtpu describes {len(devices)} devices")
    hosts = len({device.process_index for device in found.devices})
    axis_type = jax.sharding.AxisType.Auto
    mesh = jax.sharding.Mesh(devices, (AXIS,), axis_types=(axis_type,))
    return Slice(name, CHIPS[generation], mesh, hosts)
