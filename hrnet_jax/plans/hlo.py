"""The text of a compiled program, read: what chips send each other, and the compiler's estimates.

XLA's compiler for TPUs writes its own estimate of cycles beside each operation that it schedules.
Their sum takes no notice of operations that run beside one another, of transfers between chips or
of what memory makes them wait for: an estimate of the compiler's, never a measurement.
"""

import collections
import math
import re
from typing import NamedTuple

KINDS = (
    "all-reduce|all-gather|reduce-scatter|all-to-all|ragged-all-to-all|"
    "collective-permute|collective-broadcast"
)
BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "f64": 8}
# XLA writes such numbers where it has no estimate.
ABSURD = 2**50


class Operation(NamedTuple):
    """One operation of a compiled program.

    Attributes:
      kind: "fusion", "all-reduce", …
      bytes: of its result; of a collective that runs beside others, of its start.
      source: the path of its source, "jit(step)/transpose(jvp(Network))/backbone/conv1/…", or "".
      cycles: the compiler's estimate, 0 where it gives none.
      turns: how often a run of the program makes it: above 1 in a loop.
    """

    kind: str
    bytes: int
    source: str
    cycles: int
    turns: int

    @property
    def backward(self) -> bool:
        """Whether it is of the backward pass."""
        return "transpose(" in self.source


def read_operations(hlo: str) -> list[Operation]:
    """Every operation of a compiled program, those in fusions included, in the text's order."""
    computations, entry = _split(hlo)
    turns = _turns(computations, entry)
    return [
        _read(line, match, turns[name])
        for name, lines in computations.items()
        for line, match in lines
        if turns[name]
    ]


def collectives(operations: list[Operation]) -> list[Operation]:
    """Those that send from chip to chip; of a start and its end, the start, without "-start"."""
    found = []
    for operation in operations:
        kind = operation.kind.removesuffix("-start")
        if re.fullmatch(KINDS, kind):
            found.append(operation._replace(kind=kind))
    return found


def estimated_cycles(operations: list[Operation]) -> int:
    """The compiler's estimates of one run, summed."""
    return sum(operation.cycles * operation.turns for operation in operations)


def cycles_by_module(
    operations: list[Operation], network: str, depth: int = 3
) -> dict[str, tuple[int, int]]:
    """{module: (forward, backward)} cycles of one run, most first.

    Args:
      network: class name of the module that the program applies, under which sources are told.
      depth: names in a module's path. Numbered modules are one, and convolutions and
        normalisations belong to the module around them: "backbone/stage4/branch0" holds every block
        of that branch in every module of stage 4, "backbone" the stem.

    What is not of the network (loss, optimiser, copies) is "other", forward.
    """
    table = collections.defaultdict(lambda: [0, 0])
    for operation in operations:
        if operation.cycles:
            module = module_of(operation.source, network, depth)
            backward = operation.backward and module != "other"
            table[module][backward] += operation.cycles * operation.turns
    return {
        name: (forward, backward)
        for name, (forward, backward) in sorted(table.items(), key=lambda row: -sum(row[1]))
    }


def module_of(source: str, network: str, depth: int) -> str:
    """The module that an operation's source names, its numbers taken off; "other" if of none."""
    path = source.split("/")
    inside = [i for i, name in enumerate(path) if re.search(rf"\b{re.escape(network)}\b", name)]
    if not inside:
        return "other"
    names = []
    for name in path[inside[-1] + 1 : -1]:  # the last is the operation's
        if "(" in name or name in ("checkpoint", "rematted_computation"):
            continue
        if "." in name:  # a method: "stage4_0.fuse" stands in "stage4_0"
            name = name.split(".")[-1]
        if not re.fullmatch(r"(conv|bn)\d*|downsample", name):
            names.append(re.sub(r"_\d+$", "", name))
    return "/".join(names[:depth]) or "network"


def _split(hlo):
    """({computation: [(line, match of an operation)]}, the name of the entry)."""
    computations, entry, current = {}, None, []
    for line in hlo.splitlines():
        if head := re.match(r"(ENTRY )?%?([\w.\-]+) .*\{$", line):
            current = computations.setdefault(head[2], [])
            entry = head[2] if head[1] else entry
        elif match := re.search(r"^ .*? = (.*?) ([a-z][a-z0-9\-]*)\(", line):
            current.append((line, match))
    return computations, entry


def _turns(computations, entry):
    """{computation: how often a run of the program makes it}; a branch counts as taken."""
    turns = collections.Counter({entry: 1})
    names = re.compile(r"%([\w.\-]+)")
    # A computation stands before those that call it.
    for name in reversed(computations):
        for line, match in computations[name]:
            times = turns[name]
            if match[2] == "while":
                known = re.search(r'"known_trip_count":\{"n":"(\d+)"', line)
                times *= int(known[1]) if known else 1
            called = re.findall(
                r"\b(?:calls|to_apply|body|branch_computations|"
                r"true_computation|false_computation)=(\{[^}]*\}|%[\w.\-]+)",
                line,
            )
            for text in called:
                for other in names.findall(text):
                    turns[other] += times
    return turns


def _read(line, match, turns):
    shapes = re.findall(r"\b([a-z]+\d*)\[([\d,]*)\]", match[1])
    size = sum(
        BYTES.get(kind, 0) * math.prod(int(side) for side in sides.split(",") if side)
        for kind, sides in shapes
    )
    source = re.search(r'op_name="([^"]*)"', line)
    cycles = re.search(r'"estimated_cycles":"(\d+)"', line)
    cycles = int(cycles[1]) if cycles else 0
    return Operation(
        match[2], size, source[1] if source else "", cycles if cycles < ABSURD else 0, turns
    )
