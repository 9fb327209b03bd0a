"""Time and memory of `convert_torch_weights.py` on a full-size checkpoint, W48 ImageNet by default.

python -m benchmarks.convert [--model=hrnet_w48_imagenet] [--repeats=3] [--output=convert.json]

Writes a .pth with the official names and random weights (needs PyTorch), then runs the command in a
process of its own. The seconds are the whole process's, on the clock and of the processor; its peak
is the highest resident set (VmHWM of Linux). Beside them stands a process that imports the
converter and does nothing.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import common

ROOT = Path(__file__).resolve().parent.parent
WRITE = """
import sys, torch
from hrnet_jax.torch_weights.names import model_table
state = {
    entry.name: torch.randn(entry.shape) if entry.path else torch.zeros((), dtype=torch.int64)
    for entry in model_table(sys.argv[1], 1000)
}
torch.save(state, sys.argv[2])
"""
CONVERT = """
import re, sys, time
from hrnet_jax.cli import run
import hrnet_jax.torch_weights.convert
status = run("convert", sys.argv[1:]) if sys.argv[1:] else 0
peak = re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1]
print(time.process_time(), peak)
sys.exit(status)
"""


def run(code: str, *arguments) -> tuple[float, list[str]]:
    """Runs Python code in a process of its own: (seconds, lines of its output)."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    start = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return time.perf_counter() - start, done.stdout.splitlines()


def measure(*arguments) -> dict:
    """Seconds and peak memory in MB of the command; without arguments, of its imports alone."""
    seconds, lines = run(CONVERT, *arguments)
    processor, peak = lines[-1].split()
    return {"seconds": seconds, "processor": float(processor), "peak": int(peak) * 1024 / 1e6}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="hrnet_w48_imagenet")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", help="a JSON file for the numbers")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "w.pth"
        run(WRITE, arguments.model, source)
        size = source.stat().st_size / 1e6
        for number in range(1, arguments.repeats + 1):
            made, bare = measure(source, Path(folder) / "model"), measure()
            rows.append({"run": f"convert {number}", **made, "ratio": made["peak"] / size})
            rows.append({"run": f"imports {number}", **bare})
    print(f"{arguments.model}: {size:.1f} MB")
    columns = {"run": "run", "seconds": "seconds", "processor": "processor seconds"}
    columns |= {"peak": "peak MB", "ratio": "peak / file"}
    common.report(rows, columns, arguments.output)


if __name__ == "__main__":
    main()
