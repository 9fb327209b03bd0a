"""Memory of a training step by width and batch size, as the compiler plans it.

python -m benchmarks.memory --models=hrnetv2_w18,hrnetv2_w32,hrnetv2_w48,hrnetv2_w64 \
    --batch=8,16,32,64 --json=runs/memory.json
python -m benchmarks.memory --remat --dtype=bfloat16

Nothing is run: `compiled.memory_analysis()` tells what the step allocates beside its arguments
(parameters, optimiser state, batch), so networks that do not fit are told as well. On an
accelerator the largest batch that fits is that whose total is below the device's memory.
"""

import argparse
from pathlib import Path

import jax

from benchmarks.collectives import QUICK
from benchmarks.common import report
from benchmarks.workloads import workload

COLUMNS = {
    "model": "model",
    "batch": "batch",
    "remat": "remat",
    "arguments": "state and batch MiB",
    "temporary": "step MiB",
    "total": "total MiB",
    "per_image": "step MiB / image",
}


def measure(model, size, batch, dtype, remat) -> dict:
    lowered = workload("train", model, size, batch, dtype, remat).lowered
    options = QUICK if jax.default_backend() == "cpu" else None
    plan = lowered.compile(options).memory_analysis()
    mebibytes = 2.0**20
    arguments, temporary = plan.argument_size_in_bytes, plan.temp_size_in_bytes
    outputs = plan.output_size_in_bytes - plan.alias_size_in_bytes  # the new state takes the old's
    return {
        "model": model,
        "batch": batch,
        "remat": str(remat),
        "arguments": arguments / mebibytes,
        "temporary": temporary / mebibytes,
        "total": (arguments + temporary + outputs) / mebibytes,
        "per_image": temporary / batch / mebibytes,
    }


def words(text):
    return text.split(",")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=words, default=[f"hrnetv2_w{n}" for n in (18, 32, 48, 64)])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=words, default=["8", "16", "32"])
    parser.add_argument("--dtype", default="float32", help="float32 or bfloat16")
    parser.add_argument("--remat", action="store_true", help="recompute residual blocks")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = [
        measure(model, arguments.size, int(batch), arguments.dtype, arguments.remat)
        for model in arguments.models
        for batch in arguments.batch
    ]
    report(rows, COLUMNS, arguments.json)


if __name__ == "__main__":
    main()
