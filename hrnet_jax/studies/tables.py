"""The table of a study as rows of cells, and as Markdown, CSV, LaTeX and JSON."""

import csv
import dataclasses
import io
import math
import re

from hrnet_jax.evaluation.tables import format_table
from hrnet_jax.studies.results import COSTS, Results, Row

COLUMNS = (
    "level",
    "seeds",
    "NME %",
    "sd",
    "95 % interval",
    "difference",
    "95 % interval",
    "p",
    "p, Holm",
)
COST_COLUMNS = {
    "parameters": ("parameters, M", 1e-6, 2),
    "gmacs": ("GMACs", 1, 3),
    "step_ms": ("ms a step", 1, 0),
}


def known_costs(results: Results) -> list[str]:
    """Those of `COSTS` that some row has."""
    return [key for key in COSTS if any(row.costs[key] is not None for row in results.rows)]


def columns(results: Results) -> list[str]:
    """The headings of `cells`."""
    return [*COLUMNS, *(COST_COLUMNS[key][0] for key in known_costs(results))]


def cells(results: Results) -> list[list[str | None]]:
    """The main table as texts: a row for each point; None where there is nothing to say."""
    return [_row(row) + [_cost(row, key) for key in known_costs(results)] for row in results.rows]


def _row(row: Row):
    mean, difference = row.estimate, row.difference
    text = [row.point, str(mean.seeds), f"{mean.mean:.2f}", _number(mean.sd), _interval(mean)]
    if difference is None:
        return text + [None] * 4
    delta = difference.estimate
    change = f"{delta.mean:+.2f}"
    return [*text, change, _interval(delta, "+"), _p(difference.p), _p(row.p_holm)]


def subset_cells(results: Results) -> tuple[list[str], list[list[str | None]]]:
    """(headings, rows) of the subsets: the mean, and the difference to the baseline in brackets."""
    names = list(results.rows[0].subsets)
    rows = []
    for row in results.rows:
        parts = []
        for name in names:
            mean, difference = row.subsets[name]
            text = f"{mean.mean:.2f}"
            if difference is not None:
                delta = difference.estimate
                text += f" ({delta.mean:+.2f}, {_interval(delta, '+')})"
            parts.append(text)
        rows.append([row.point, *parts])
    counts = [f"{name} ({int(results.subsets[name].sum())})" for name in names]
    return ["level", *counts], rows


def notes(results: Results) -> list[str]:
    """What a reader has to know beside the table."""
    lines = []
    tested = [
        (row.point, row.p_holm, row.difference)
        for row in results.rows
        if row.p_holm is not None and row.difference is not None
    ]
    if max(row.estimate.seeds for row in results.rows) == 1:
        lines.append(
            "One seed each: there is no noise between seeds to compare a difference with. The "
            "intervals are over the faces alone, say how sure one is about these very networks, "
            "and find differences where there are none; so no p is given."
        )
    elif tested:
        found = [point for point, p_holm, _ in tested if p_holm < 0.05]
        seeds = min(difference.estimate.seeds for _, _, difference in tested)
        lines.append(
            f"{len(found)} of {len(tested)} levels differ from the baseline (Holm, 5 % over the "
            f"whole study)" + (f": {', '.join(found)}." if found else ".")
        )
        lines.append(
            "Intervals count other seeds and other faces (Student's t over the seeds, bootstrap "
            "over the faces). Exact permutation of the seeds' signs: p "
            + ", ".join(f"{_p(change.p_permutation)} {point}" for point, _, change in tested)
            + f"; with {seeds} seeds it cannot be below {2.0 ** (1 - seeds):g}."
        )
    done = sum(row.estimate.seeds for row in results.rows)
    if done < results.runs:
        lines.append(f"{done} of {results.runs} runs are done, {len(results.failures)} failed.")
    return lines + [f"Failed: {name}: {text}" for name, text in results.failures.items()]


def to_markdown(results: Results, title: str, made_by: str) -> str:
    """The report as Markdown: for a README, or results of one's own."""
    parts = [f"# {title}", "", made_by, "", format_table(cells(results), columns(results)), ""]
    parts += [f"{line}\n" for line in notes(results)]
    if results.rows[0].subsets:
        headings, rows = subset_cells(results)
        parts += ["", format_table(rows, headings)]
    return "\n".join(parts) + "\n"


def to_csv(results: Results) -> str:
    """One line a point, with all digits: percent, and the unit of the cost's name."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    fields = ("mean", "sd", "low", "high")
    heads = [*(f"nme_{f}" for f in fields), *(f"difference_{f}" for f in fields)]
    writer.writerow(["level", "seeds", *heads, "p", "p_permutation", "p_holm", *COSTS])
    for row in results.rows:
        mean, difference = row.estimate, row.difference
        delta = difference.estimate if difference else None
        writer.writerow(
            [row.point, mean.seeds]
            + [getattr(mean, f) for f in fields]
            + [getattr(delta, f) if delta else None for f in fields]
            + [difference.p if difference else None]
            + [difference.p_permutation if difference else None, row.p_holm]
            + [row.costs[key] for key in COSTS]
        )
    return file.getvalue()


def to_latex(results: Results) -> str:
    """The main table as a `tabular` with booktabs' rules."""
    heads, rows = columns(results), cells(results)
    lines = [
        f"\\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}",
        "\\toprule",
        " & ".join(map(_escaped, heads)) + r" \\",
        "\\midrule",
        *(" & ".join(_escaped(c or "--") for c in row) + r" \\" for row in rows),
        "\\bottomrule",
        "\\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def to_json(results: Results) -> dict:
    """Everything of the tables as JSON data."""
    return {
        "settings": results.settings,
        "faces": results.faces,
        "runs": results.runs,
        "failures": results.failures,
        "rows": [dataclasses.asdict(row) for row in results.rows],
        "notes": notes(results),
    }


def _escaped(text):
    return re.sub(r"([&%$#_{}])", r"\\\1", text.replace("\\", "").replace("–", "--"))


def _cost(row, key):
    _, factor, digits = COST_COLUMNS[key]
    value = row.costs[key]
    return None if value is None else f"{value * factor:.{digits}f}"


def _interval(estimate, sign=""):
    return f"{estimate.low:{sign}.2f} to {estimate.high:{sign}.2f}"


def _number(value):
    return None if value is None else f"{value:.2f}"


def _p(p):
    """Two digits; below what the draws can tell, "<"."""
    if p is None:
        return None
    return "<0.001" if p < 1e-3 else f"{p:.{max(2, 1 - math.floor(math.log10(p)))}f}"
