"""Results as tables that read well in a terminal and in Markdown."""

from hrnet_jax.evaluation.metrics import MEASURES


def format_table(rows: list[list], columns: list[str]) -> str:
    """Lays out rows of cells as a Markdown table with aligned columns.

    Cells are shown by `str`, None as "-"; a column of numbers is aligned right.
    """
    cells = [["-" if cell is None else str(cell) for cell in row] for row in rows]
    widths = [max(3, *map(len, column)) for column in zip(columns, *cells, strict=True)]
    numeric = [all(map(_is_number, column)) for column in zip(*cells, strict=True)]
    numeric = numeric or [False] * len(columns)

    def line(row):
        texts = zip(row, widths, numeric, strict=True)
        return f"| {' | '.join(f'{t:>{w}}' if n else f'{t:<{w}}' for t, w, n in texts)} |"

    rule = ["-" * (w - 1) + ":" if n else "-" * w for w, n in zip(widths, numeric, strict=True)]
    return "\n".join(map(line, [columns, rule, *cells]))


def metrics_table(metrics: dict) -> str:
    """The table of a `summarise` or metrics.json dictionary: all faces, then each subset."""
    rows = []
    for name, part in {"all": metrics, **metrics["subsets"]}.items():
        values = [format_measure(measure, part[measure]) for measure in MEASURES]
        rows.append([name, part["count"], *values])
    return format_table(rows, ["faces", "count", *map(measure_title, MEASURES)])


def describe_missing(metrics: dict) -> str:
    """What metrics.json says of landmarks that are not annotated; "" where all are."""
    if "landmarks_not_annotated" not in metrics:
        return ""
    return (
        f"{metrics['landmarks_not_annotated']} landmarks of {metrics['faces_partly_annotated']} "
        f"faces are not annotated and count nowhere; {metrics['faces_not_measured']} faces lack "
        "those that errors are divided by and are not measured"
    )


def measure_title(measure: str) -> str:
    """The heading of a column of one of `metrics.MEASURES`, with its unit."""
    return measure.upper() if measure.startswith("auc") else f"{measure.upper()} %"


def format_measure(measure: str, value: float | None) -> str | None:
    """A value of one of `metrics.MEASURES` with the digits that papers print."""
    if value is None:
        return None
    return f"{value:.4f}" if measure.startswith("auc") else f"{value:.2f}"


def _is_number(text):
    return text == "-" or text.replace(".", "", 1).lstrip("-").isdigit()
