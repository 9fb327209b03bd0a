"""Published results, which `published.toml` holds, and the table that puts a run beside them.

They are of the published checkpoints and of methods whose weights this project does not read.
Every figure has its source and its normaliser.
"""

import dataclasses

from hrnet_jax.evaluation.metrics import MEASURES
from hrnet_jax.evaluation.tables import format_measure, format_table, measure_title
from hrnet_jax.published import PUBLISHED, read_data


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """What papers print about a data set.

    Attributes:
      title: of the table.
      sizes: faces in each part, None where no source at hand says it; a run over a split with as
        many faces is measured on that part, and on the first one otherwise.
      measures: printed for the first part beside the NME of all of them.
    """

    title: str
    sizes: dict[str, int | None]
    measures: tuple[str, ...] = ()


_DATA = read_data()
BENCHMARKS = {
    name: Benchmark(
        entry["title"],
        {part: count or None for part, count in entry["sizes"].items()},
        tuple(entry.get("measures", ())),
    )
    for name, entry in _DATA["benchmark"].items()
}


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of a table: {(part, measure): value}, NME and failure rates in percent, AUC 0..1."""

    method: str
    scheme: str
    normaliser: str
    values: dict[tuple[str, str], float]
    source: str


def _by_part(figures):
    """{"NME": …, "NME pose": …, "FR@0.10": …} as {(part, measure): …}."""
    split = [(key.partition(" "), value) for key, value in figures.items()]
    return {(part or "full", measure.lower()): value for (measure, _, part), value in split}


def _checkpoint_row(entry):
    normaliser = "box" if entry.scheme == "aflw" else "inter-ocular"
    method = f"{entry.model}, {entry.name}"
    return Row(method, entry.scheme, normaliser, _by_part(entry.metrics), entry.where)


LITERATURE = tuple(
    Row(**entry | {"values": _by_part(entry["values"])}) for entry in _DATA["literature"]
)
ROWS = (*(_checkpoint_row(e) for e in PUBLISHED.values() if e.scheme), *LITERATURE)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Runs beside published results.

    Attributes:
      title: the data set, the measure and the normaliser.
      columns: headings.
      published, runs: rows of texts; None where there is no figure.
      notes: what a reader must know before comparing.
      sources: methods, and where their figures stand.
    """

    title: str
    columns: list[str]
    published: list[list[str | None]]
    runs: list[list[str | None]]
    notes: list[str]
    sources: list[str]

    def __str__(self):
        lines = [self.title, "", format_table(self.published + self.runs, self.columns), ""]
        return "\n".join([*lines, *self.notes, "sources:", *(f"- {s}" for s in self.sources)])


def compare(results: dict[str, dict]) -> Comparison | None:
    """Puts runs beside what is published for their scheme and normaliser.

    Args:
      results: what metrics.json holds, by the run's name; of one scheme and one normaliser.

    Returns:
      None for a scheme of one's own, or where nothing is published with that normaliser.
    """
    first = next(iter(results.values()))
    benchmark = BENCHMARKS.get(first["scheme"])
    rows = [r for r in ROWS if (r.scheme, r.normaliser) == (first["scheme"], first["normaliser"])]
    if benchmark is None or not rows:
        return None
    whole = next(iter(benchmark.sizes))
    cells = [(part, "nme") for part in benchmark.sizes] + [(whole, m) for m in benchmark.measures]
    titles = [part if m == "nme" else measure_title(m) for part, m in cells]

    def line(name, values):
        texts = [format_measure(m, values.get((part, m))) for part, m in cells]
        return [name, *texts]

    sources = {row.source: [r.method for r in rows if r.source == row.source] for row in rows}
    notes, runs = [], []
    for name, result in results.items():
        part, note = _part_of(result, benchmark)
        notes += [f"{name}: {text}" for text in (note, _other_boxes(result)) if text]
        measured = {part: result, **result["subsets"]}
        values = {(p, m): r[m] for p, r in measured.items() for m in MEASURES}
        runs.append(line(f"this run: {name}" if len(results) == 1 else f"run: {name}", values))
    return Comparison(
        f"{benchmark.title}: NME in percent ({first['normaliser']})",
        ["method", *titles],
        [line(row.method, row.values) for row in rows],
        runs,
        notes,
        [f"{', '.join(methods)}: {source}" for source, methods in sources.items()],
    )


def _part_of(result, benchmark):
    """The part of the benchmark that a run's faces are, and a note if they cannot be."""
    count = result["count"]
    for part, size in benchmark.sizes.items():
        if count == size:
            return part, None
    part, size = next(iter(benchmark.sizes.items()))
    split = result["split"]
    return part, f"{count} faces of {split}, not the {size} of the published column: no comparison"


def _other_boxes(result):
    """A note if the crops were not those of the annotated boxes, as the published ones are."""
    box = result.get("box", {"kind": "landmarks", "jitter": 0})
    if box["kind"] == "landmarks" and not box["jitter"]:
        return None
    moved = f", moved by up to {box['jitter']:g} of their side" if box["jitter"] else ""
    return f"crops by {box['kind']} boxes{moved}, not the published protocol"
