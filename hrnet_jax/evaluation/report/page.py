"""The report's HTML page: one file that needs nothing else, no network and no script."""

import base64
from html import escape
from importlib import resources
from pathlib import Path

from hrnet_jax.errors import HRNetError
from hrnet_jax.evaluation.benchmarks import compare
from hrnet_jax.evaluation.metrics import MEASURES
from hrnet_jax.evaluation.report.figures import (
    CAPTIONS,
    make_figures,
    to_inline,
    to_png,
    to_svg,
)
from hrnet_jax.evaluation.report.gallery import Shot, make_galleries
from hrnet_jax.evaluation.scoring import Run
from hrnet_jax.evaluation.tables import format_measure, measure_title
from hrnet_jax.files import open_atomically
from hrnet_jax.images import write_image
from hrnet_jax.inference.drawing import contact_sheet

# Nothing is loaded and nothing runs, whatever a file name or a metrics.json says.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_WIDTH = 4  # galleries' columns


def write_report(runs: list[Run], path: str | Path) -> Path:
    """Writes the page about runs, and its figures and galleries beside it.

    Args:
      runs: at least one; of one scheme, normaliser and AUC rule, or HRNetError says what differs.
      path: of the page. Figures go to a folder called like it: report.html, report_figures/ced.svg,
        ced.png, …, gallery_worst.png, ….

    Returns:
      The path of the folder with the figures.
    """
    path = Path(path)
    if not runs:
        raise HRNetError("a report needs an evaluation")
    for what in ("scheme", "normaliser", "auc_rule"):
        found = dict.fromkeys(run.result[what] for run in runs)
        if len(found) > 1:
            raise HRNetError(
                f"runs of different {what} cannot be compared ({', '.join(found)}): "
                f"evaluate them alike"
            )
    folder = path.with_name(f"{path.stem}_figures")
    drawings = []
    for name, figure in make_figures(runs).items():
        svg = to_svg(figure)
        _write(folder / f"{name}.svg", svg.encode())
        _write(folder / f"{name}.png", to_png(figure))
        title = escape(figure.axes[0].get_title(loc="left"), quote=True)
        drawings.append((to_inline(svg, title), CAPTIONS[name.split("_")[0]]))

    galleries = []
    for index, run in enumerate(runs):
        shots, problems = make_galleries(run)
        galleries.append(_galleries(run, shots, problems, alone=len(runs) == 1))
        for kind, pictures in shots.items():
            number = "" if len(runs) == 1 else f"_{index + 1}"
            sheet = contact_sheet([shot.picture for shot in pictures], _WIDTH)
            write_image(folder / f"gallery_{kind}{number}.png", sheet)

    body = [_header(runs), _tables(runs), _section("Figures", _figures(drawings))]
    body += [*galleries, _section("How these numbers were made", _protocols(runs)), _footer(runs)]
    _write(path, _document(_title(runs), "\n".join(body)).encode())
    return folder


def _write(path, content):
    with open_atomically(path, binary=True) as file:
        file.write(content)


def _document(title, body):
    style = resources.files(__package__).joinpath("style.css").read_text(encoding="utf-8")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{escape(title)}</title>
<style>
{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


def _title(runs):
    names = ", ".join(run.name for run in runs)
    return f"Landmark evaluation: {names}"


def _header(runs):
    first = runs[0].result
    splits = ", ".join(dict.fromkeys(str(run.result["split"]) for run in runs))
    lines = [
        f"<h1>{escape(_title(runs))}</h1>",
        f'<p class="quiet">{first["scheme"]} scheme, {runs[0].scheme.num_landmarks} landmarks · '
        f"{escape(splits)} · errors in percent of {escape(_divisor(first))}</p>",
    ]
    for protocol in dict.fromkeys(_protocol_in_short(run.result["protocol"]) for run in runs):
        lines.append(f'<p class="quiet">Protocol: {escape(protocol)}</p>')
    if len({run.records.names for run in runs}) > 1:
        lines.append('<p class="note">The runs were measured on different faces.</p>')
    if len(runs) == 1:
        tiles = [("faces", first["count"])]
        tiles += [(measure_title(m), format_measure(m, first[m])) for m in MEASURES]
        cells = (
            f'<div class="tile"><b>{value}</b><span>{name}</span></div>' for name, value in tiles
        )
        lines.append(f'<div class="tiles">{"".join(cells)}</div>')
    return "\n".join(lines)


def _protocol_in_short(protocol):
    if not isinstance(protocol, dict):
        return "not known, the predictions came from a file"
    codec = protocol.get("codec")
    codec = codec.get("name") if isinstance(codec, dict) else codec
    flip = "on" if protocol.get("flip_test") else "off"
    name, size = protocol.get("name"), protocol.get("input_size")
    return f"{name}, {size} px crops, {codec} codec, flip test {flip}"


def _divisor(result):
    return f"{result['normaliser']} ({result['normaliser_length']})"


def _tables(runs):
    rows = []
    for name in ["all", *dict.fromkeys(name for run in runs for name in run.records.subsets)]:
        for run in runs:
            if part := run.result if name == "all" else run.result["subsets"].get(name):
                values = [format_measure(m, part[m]) for m in MEASURES]
                label = f"{name}, {run.name}" if len(runs) > 1 else name
                rows.append([label, part["count"], *values])
    titles = ["faces", "count", *map(measure_title, MEASURES)]
    parts = []
    if len(rows) > 1:
        rule = runs[0].auc_rule
        parts.append(_section("Results", _table(titles, rows, caption=f"AUC by the {rule} rule")))
    comparison = compare({run.name: run.result for run in runs})
    if comparison:
        notes = "".join(f'<p class="note">{escape(note)}</p>' for note in comparison.notes)
        rows = comparison.published + comparison.runs
        table = _table(comparison.columns, rows, comparison.title, len(comparison.runs))
        items = "".join(f"<li>{escape(source)}</li>" for source in comparison.sources)
        sources = f'<details class="quiet"><summary>Sources</summary><ul>{items}</ul></details>'
        parts.append(_section("Beside published results", notes + table + sources))
    return "\n".join(parts)


def _table(titles, rows, caption, highlighted=0):
    """A table whose last `highlighted` rows are the runs'; cells are escaped, None is a dash."""
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    lines = []
    for index, row in enumerate(rows):
        cells = "".join(f"<td>{'–' if c is None else escape(str(c))}</td>" for c in row)
        mark = ' class="run"' if index >= len(rows) - highlighted else ""
        lines.append(f"<tr{mark}>{cells}</tr>")
    return (
        f'<div class="scroll"><table><caption>{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _figures(drawings):
    figures = "\n".join(
        f'<figure class="card">{svg}<figcaption>{escape(caption)}</figcaption></figure>'
        for svg, caption in drawings
    )
    return f'<div class="figures">{figures}</div>'


def _galleries(run, shots: dict[str, list[Shot]], problems, alone):
    title = "Faces" if alone else f"Faces of {run.name}"
    if not shots:
        reason = problems[0] if problems else "no faces"
        text = f"The images are not here, so there is no gallery ({reason}); --images=FOLDER."
        return _section(title, f'<p class="note">{escape(text)}</p>')
    parts = [
        '<p class="quiet"><span class="key truth"></span>annotation'
        '<span class="key prediction"></span>prediction</p>'
    ]
    if problems:
        text = f"{len(problems)} images could not be read: {problems[0]}"
        parts.append(f'<p class="note">{escape(text)}</p>')
    for kind, faces in shots.items():
        items = "\n".join(map(_shot, faces))
        parts.append(f'<h3>{kind.capitalize()}</h3><div class="gallery">{items}</div>')
    return _section(title, "\n".join(parts))


def _shot(shot):
    data = base64.b64encode(shot.jpeg()).decode()
    name = escape(shot.name, quote=True)
    return (
        f'<figure><img src="data:image/jpeg;base64,{data}" alt="{name}" loading="lazy">'
        f"<figcaption><b>{shot.nme:.2f} %</b> {name.rpartition('/')[2]}</figcaption></figure>"
    )


def _protocols(runs):
    """One column for each run, one row for each setting."""
    described = [dict(_settings(run)) for run in runs]
    keys = dict.fromkeys(key for settings in described for key in settings)
    rows = []
    for key in keys:
        values = "".join(f'<td class="text">{escape(d.get(key, "–"))}</td>' for d in described)
        rows.append(f"<tr><td>{escape(key)}</td>{values}</tr>")
    names = "".join(f'<th class="text">{escape(run.name)}</th>' for run in runs)
    return (
        f'<div class="scroll"><table><thead><tr><th></th>{names}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _settings(run):
    """(name, text) of everything that a result depends on."""
    result = run.result
    yield "faces", str(result["count"])
    yield "errors divided by", _divisor(result)
    yield "AUC", f"{result['auc_rule']} rule on the cumulative error curve"
    for key in ("split", "box", "model", "dtype", "checkpoint", "predictions", "version"):
        if key in result:
            yield key, _text(result[key])
    protocol = result["protocol"]
    for key, value in (protocol if isinstance(protocol, dict) else {}).items():
        yield f"protocol: {key}", _text(value)


def _text(value):
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(part)}" for key, part in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "not known" if value is None else str(value)


def _section(title, content):
    return f"<section><h2>{escape(title)}</h2>\n{content}\n</section>"


def _footer(runs):
    return f"<footer>hrnet_jax {escape(runs[0].result['version'])}</footer>"
