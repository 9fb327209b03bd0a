"""Where the time of a training step or forward pass goes, by kind of operation.

python -m benchmarks.profile_step --mode=train --model=hrnetv2_w18 --batch=8

Every operation of the compiled program is timed by `jax.profiler` over a few runs. Counted is the
shortest time of each (robust where other work shares the processor), on the thread that runs it;
operations run beside each other on several cores, so the sum is more than the wall time.
"""

import argparse
import collections
import gzip
import json
import re
import tempfile
from pathlib import Path

import jax

from benchmarks.common import report
from benchmarks.workloads import MODES, workload

COLUMNS = {"kind": "kind of operation", "count": "count", "ms": "thread ms", "share": "share %"}
TOP_COLUMNS = {"ms": "thread ms", "kind": "kind", "operation": "operation", "shape": "result"}

_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (\([^=]*?\)|\S+) ([\w\-]+)\(")
_CALLED = re.compile(r"(?:calls|to_apply)=%?([\w.\-]+)")
_WINDOW = re.compile(r"window=\{size=(\d+)")
_MOVES = {"copy", "transpose", "pad", "slice", "concatenate", "reverse", "broadcast", "reshape"}
_MOVES |= {"parameter", "bitcast", "constant", "dynamic-slice", "dynamic-update-slice", "iota"}


def operation_times(run, steps: int) -> dict[str, float]:
    """Milliseconds of every operation of the program that `run` executes, by its name in HLO."""
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            for _ in range(steps):
                run()
        [path] = Path(folder).rglob("*.trace.json.gz")
        with gzip.open(path) as file:
            events = json.load(file)["traceEvents"]
    shortest = {}
    for event in events:
        name = event.get("args", {}).get("hlo_op")
        if name and event["ph"] == "X":
            shortest[name] = min(shortest.get(name, float("inf")), event["dur"] / 1000)
    return shortest


def operation_kinds(hlo: str) -> dict[str, tuple[str, str]]:
    """(kind, shape of the result) of every instruction in the text of a compiled program."""
    bodies, lines, computation = collections.defaultdict(list), {}, None
    for line in hlo.splitlines():
        if match := _COMPUTATION.match(line):
            computation = match[1]
        elif match := _INSTRUCTION.match(line):
            bodies[computation].append(line)
            lines[match[1]] = line
    return {
        name: (_kind(line, bodies), _INSTRUCTION.match(line)[2]) for name, line in lines.items()
    }


def _kind(line, bodies):
    called = _CALLED.search(line)
    body = bodies.get(called[1], []) if called else []
    inner = body or [line]
    codes = {_INSTRUCTION.match(text)[3] for text in inner}
    if "convolution" in codes:
        text = next(text for text in inner if " convolution(" in text)
        if _WINDOW.search(text) and int(_WINDOW.search(text)[1]) > 7:
            return "convolution, weight gradient"
        backward = "transpose(" in (re.search(r'op_name="([^"]*)"', text) or [""])[0]
        return "convolution, input gradient" if backward else "convolution, forward"
    if "dot" in codes or "custom-call" in codes:
        return "matrix product"
    if codes & {"reduce", "reduce-window"}:
        return "reduction"
    return "data movement" if codes <= _MOVES else "elementwise"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mode", choices=MODES, default="train")
    parser.add_argument("--model", default="hrnetv2_w18")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--dtype", default="float32", help="float32 or bfloat16")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--top", type=int, default=20, help="single operations listed")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    work = workload(
        arguments.mode, arguments.model, arguments.size, arguments.batch, arguments.dtype
    )
    compiled = work.lowered.compile()
    run = work.start(compiled)
    run()
    times, kinds = operation_times(run, arguments.steps), operation_kinds(compiled.as_text())
    operations = [
        {"operation": name, "ms": ms, "kind": kinds[name][0], "shape": kinds[name][1]}
        for name, ms in times.items()
        if name in kinds
    ]
    operations.sort(key=lambda row: -row["ms"])
    total = sum(row["ms"] for row in operations)
    sums = collections.defaultdict(list)
    for row in operations:
        sums[row["kind"]].append(row["ms"])
    rows = [
        {"kind": kind, "count": len(ms), "ms": sum(ms), "share": 100 * sum(ms) / total}
        for kind, ms in sorted(sums.items(), key=lambda item: -sum(item[1]))
    ]
    report(rows, COLUMNS, arguments.json)
    report(operations[: arguments.top], TOP_COLUMNS)


if __name__ == "__main__":
    main()
