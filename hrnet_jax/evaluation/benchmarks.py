"""Published results as data, and the table that puts a run beside them.

The figures of published checkpoints are in `hrnet_jax.published`; here are those of methods
whose weights this project does not read. Every figure has its source and its normaliser.
"""

import dataclasses

from hrnet_jax.evaluation.metrics import MEASURES
from hrnet_jax.evaluation.tables import format_measure, format_table, measure_title
from hrnet_jax.published import PUBLISHED


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


# Sizes as the data sets' authors give them.
BENCHMARKS = {
    "wflw": Benchmark(
        "WFLW test",
        {
            "full": 2500,
            **dict.fromkeys(("pose", "expression", "illumination", "make-up", "occlusion", "blur")),
        },
        ("fr@0.10", "auc@0.10"),
    ),
    "300w": Benchmark("300W", {"full": 689, "common": 554, "challenge": 135, "test": 600}),
    "cofw": Benchmark("COFW test", {"full": 507}, ("fr@0.10",)),
    "aflw": Benchmark("AFLW", {"full": 4386, "frontal": 1314}),
}


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of a table: {(part, measure): value}, NME and failure rates in percent, AUC 0..1."""

    method: str
    scheme: str
    normaliser: str
    values: dict[tuple[str, str], float]
    source: str


def _nme(**parts):
    return {(part.replace("_", "-"), "nme"): value for part, value in parts.items()}


def _full(**measures):
    names = {"fr": "fr@0.10", "auc": "auc@0.10"}
    return {("full", names[name]): value for name, value in measures.items()}


_ADNET = "README of github.com/huangyangyu/ADNet (Huang et al., ICCV 2021)"
_SPIGA = "README of github.com/andresprados/SPIGA (Prados-Torreblanca et al., BMVC 2022)"
_STAR = "paperswithcode.com/paper/star-loss-reducing-semantic-ambiguity-in-1 (CVPR 2023)"
_HIH = "README of github.com/starhiking/HeatmapInHeatmap (Lan et al., 2021)"

# ADNet's README has a table of 300W too; its heading says inter-pupil, but its figures for LAB are
# those that LAB's own page gives without saying so, and STAR's two sets contradict it: left out.
LITERATURE = (
    Row(
        "AWing",
        "wflw",
        "inter-ocular",
        _nme(
            full=4.36,
            pose=7.38,
            expression=4.58,
            illumination=4.32,
            make_up=4.27,
            occlusion=5.19,
            blur=4.96,
        ),
        _ADNET,
    ),
    Row(
        "ADNet",
        "wflw",
        "inter-ocular",
        _nme(
            full=4.14,
            pose=6.96,
            expression=4.38,
            illumination=4.09,
            make_up=4.05,
            occlusion=5.06,
            blur=4.79,
        ),
        _ADNET,
    ),
    Row(
        "SPIGA",
        "wflw",
        "inter-ocular",
        _nme(
            full=4.060,
            pose=7.141,
            expression=4.457,
            illumination=4.004,
            make_up=3.809,
            occlusion=4.952,
            blur=4.650,
        )
        | _full(fr=2.080, auc=0.60558),
        _SPIGA,
    ),
    Row("STAR", "wflw", "inter-ocular", _nme(full=4.02) | _full(fr=2.32, auc=0.605), _STAR),
    Row("HIH", "300w", "inter-ocular", _nme(full=3.09), _HIH),
    Row("SPIGA", "300w", "inter-ocular", _nme(full=2.994, common=2.587, challenge=4.662), _SPIGA),
    Row("STAR", "300w", "inter-ocular", _nme(full=2.87, common=2.52, challenge=4.32), _STAR),
    Row("STAR", "300w", "inter-pupil", _nme(full=4.03, common=3.5, challenge=6.22), _STAR),
    Row("HIH", "cofw", "inter-ocular", _nme(full=3.21), _HIH),
    Row("STAR", "cofw", "inter-ocular", _nme(full=3.21), _STAR),
    Row("AWing", "cofw", "inter-pupil", _nme(full=4.94) | _full(fr=0.99), _ADNET),
    Row("ADNet", "cofw", "inter-pupil", _nme(full=4.68) | _full(fr=0.59), _ADNET),
    Row("STAR", "cofw", "inter-pupil", _nme(full=4.62), _STAR),
)


def _checkpoint_row(entry):
    """A published checkpoint's figures: "NME", "NME pose", "FR@0.10" … become table cells."""
    values = {}
    for key, value in entry.metrics.items():
        measure, _, part = key.partition(" ")
        values[part or "full", measure.lower()] = value
    normaliser = "box" if entry.scheme == "aflw" else "inter-ocular"
    return Row(f"{entry.model}, {entry.name}", entry.scheme, normaliser, values, entry.where)


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
