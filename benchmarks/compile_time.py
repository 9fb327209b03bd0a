"""Time to compile a forward pass and a training step: cold, and from the persistent cache.

python -m benchmarks.compile_time --model=hrnetv2_w18 --batch=8 --json=runs/compile.json

The cache is a new folder, read by a second process; jax.config.jax_compilation_cache_dir (or the
environment variable JAX_COMPILATION_CACHE_DIR) names it in everyday use.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax

from benchmarks.common import report
from benchmarks.workloads import MODES, workload

COLUMNS = {
    "mode": "mode",
    "model": "model",
    "batch": "batch",
    "trace": "trace s",
    "cold": "compile, cold s",
    "warm": "compile, cached s",
}


def measure(mode, model, size, batch, dtype) -> dict[str, float]:
    """Seconds of tracing and of compiling in this process."""
    start = time.perf_counter()
    work = workload(mode, model, size, batch, dtype)
    traced = time.perf_counter()
    work.lowered.compile()
    return {"trace": traced - start, "compile": time.perf_counter() - traced}


def measure_in_new_process(cache: str, arguments: list[str]) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.compile_time", f"--child={cache}", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mode", choices=MODES, help="forward and train unless told")
    parser.add_argument("--model", default="hrnetv2_w18")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--dtype", default="float32", help="float32 or bfloat16")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    work = (arguments.model, arguments.size, arguments.batch, arguments.dtype)
    if arguments.child:
        jax.config.update("jax_compilation_cache_dir", arguments.child)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        print(json.dumps(measure(arguments.mode, *work)))
        return
    rows = []
    for mode in [arguments.mode] if arguments.mode else ("forward", "train"):
        names = ("model", "size", "batch", "dtype")
        options = [f"--{name}={value}" for name, value in zip(names, work, strict=True)]
        with tempfile.TemporaryDirectory() as cache:
            cold, warm = (
                measure_in_new_process(cache, [f"--mode={mode}", *options]) for _ in range(2)
            )
        row = {"mode": mode, "model": arguments.model, "batch": arguments.batch}
        rows.append(
            row | {"trace": cold["trace"], "cold": cold["compile"], "warm": warm["compile"]}
        )
    report(rows, COLUMNS, arguments.json)


if __name__ == "__main__":
    main()
