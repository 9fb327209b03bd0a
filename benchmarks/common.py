"""What the benchmarks share: the machine's description, fair timing, tables and JSON."""

import importlib.metadata
import json
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax

from hrnet_jax.evaluation.tables import format_table
from hrnet_jax.files import open_atomically

PACKAGES = ("jax", "jaxlib", "flax", "optax", "torch", "timm", "tensorflow-cpu", "tensorflow")
SETTINGS = ("GLIBC_TUNABLES", "XLA_FLAGS")  # environment variables that change times


def machine() -> dict:
    """Processor, cores, JAX devices, versions, settings, load before it all, and the date."""
    devices = jax.devices()
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "backend": devices[0].platform,
        "device": devices[0].device_kind,
        "devices": len(devices),
        "python": platform.python_version(),
        **{name: version for name in PACKAGES if (version := _version(name))},
        **{name: os.environ[name] for name in SETTINGS if name in os.environ},
        "load": round(os.getloadavg()[0], 2),
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }


def _processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


class Sample(NamedTuple):
    """One call: seconds of wall time and of all its threads' processor time, memory page faults."""

    wall: float
    processor: float
    faults: int = 0


def interleave(
    functions: dict[str, Callable], repeats: int, warmup: int = 1
) -> dict[str, list[Sample]]:
    """Times of `repeats` calls of each function, taken in turns: a slow minute hits all alike.

    Each function runs to the end of its work before it returns (`jax.block_until_ready`). In every
    turn it is called once before the call that counts: in a loop of its own it finds its memory as
    it left it, here others took pages and caches meanwhile (a step of 2.5 GB takes three times as
    long then, on a virtual machine that hands idle pages back).
    """
    samples = {name: [] for name in functions}
    for turn in range(warmup + repeats):
        for name, function in functions.items():
            function()
            before = _now()
            function()
            sample = Sample(*(b - a for a, b in zip(before, _now(), strict=True)))
            if turn >= warmup:
                samples[name].append(sample)
    return samples


def _now():
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    return time.perf_counter(), time.process_time(), faults


def summary(samples: list[Sample]) -> dict:
    """Median and quartiles in milliseconds, median processor time and page faults, and how many."""
    low, median, high = (1000 * t for t in _quartiles([sample.wall for sample in samples]))
    processor = 1000 * statistics.median(sample.processor for sample in samples)
    return {
        "ms": median,
        "ms_low": low,
        "ms_high": high,
        "processor_ms": processor,
        "faults": statistics.median(sample.faults for sample in samples),
        "samples": len(samples),
    }


def _quartiles(values):
    if len(values) == 1:
        return values * 3
    return statistics.quantiles(values, n=4, method="inclusive")


def report(rows: list[dict], columns: dict[str, str], path: Path | None = None) -> None:
    """Prints the machine and a Markdown table of `rows`; writes both as JSON to `path`.

    `columns` maps a row's keys to the titles above them, in the table's order; a missing value is
    shown as "-", a float with four digits. The JSON has every key of every row.
    """
    described = machine()
    print(", ".join(f"{key} {value}" for key, value in described.items()))
    print(
        format_table(
            [[_cell(row.get(key)) for key in columns] for row in rows], [*columns.values()]
        )
    )
    if path is not None:
        with open_atomically(Path(path)) as file:
            json.dump({"machine": described, "rows": rows}, file, indent=1)


def _cell(value):
    if not isinstance(value, float):
        return value
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:#.4g}"
