"""The report's HTML page: one file that needs nothing else, no network and no script.

The page is `page.html.jinja`, which escapes what it is given: names of runs, files, landmark
schemes and settings come from users and from files of others.
"""

import base64
from importlib import resources
from pathlib import Path

import jinja2

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
from hrnet_jax.evaluation.report.gallery import make_galleries
from hrnet_jax.evaluation.scoring import Run
from hrnet_jax.evaluation.tables import describe_missing, format_measure, measure_title
from hrnet_jax.files import as_path, open_atomically
from hrnet_jax.images import write_image
from hrnet_jax.inference.drawing import contact_sheet

PACKAGE = "hrnet_jax.evaluation.report"
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
    path = as_path(path)
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
        inline = to_inline(svg, figure.axes[0].get_title(loc="left"))
        drawings.append((inline, CAPTIONS[name.split("_")[0]]))

    galleries = []
    for index, run in enumerate(runs):
        shots, problems = make_galleries(run)
        title = "Faces" if len(runs) == 1 else f"Faces of {run.name}"
        galleries.append({"title": title, "shots": shots, "note": _gallery_note(shots, problems)})
        for kind, pictures in shots.items():
            number = "" if len(runs) == 1 else f"_{index + 1}"
            sheet = contact_sheet([shot.picture for shot in pictures], _WIDTH)
            write_image(folder / f"gallery_{kind}{number}.png", sheet)

    first = runs[0].result
    page = _template().render(
        policy=_POLICY,
        style=resources.files(PACKAGE).joinpath("style.css").read_text("utf-8"),
        title=f"Landmark evaluation: {', '.join(run.name for run in runs)}",
        names=[run.name for run in runs],
        scheme=runs[0].scheme,
        splits=", ".join(dict.fromkeys(str(run.result["split"]) for run in runs)),
        divisor=_divisor(first),
        protocols=dict.fromkeys(_protocol_in_short(run.result["protocol"]) for run in runs),
        different_faces=len({run.records.names for run in runs}) > 1,
        tiles=_tiles(first) if len(runs) == 1 else [],
        result_titles=["faces", "count", *map(measure_title, MEASURES)],
        results=_results(runs),
        auc_rule=runs[0].auc_rule,
        comparison=compare({run.name: run.result for run in runs}),
        drawings=drawings,
        galleries=galleries,
        settings=_settings_by_key(runs),
        version=first["version"],
    )
    _write(path, page.encode())
    return folder


def _write(path, content):
    with open_atomically(path, binary=True) as file:
        file.write(content)


def _template():
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(PACKAGE, ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["base64"] = lambda data: base64.b64encode(data).decode()
    return environment.get_template("page.html.jinja")


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


def _tiles(result):
    """(name, value) of the figures that stand large at the top."""
    measures = [(measure_title(m), format_measure(m, result[m])) for m in MEASURES]
    return [("faces", result["count"]), *measures]


def _results(runs):
    """Rows of the table of all faces and every subset, a row for each run."""
    rows = []
    for name in ["all", *dict.fromkeys(name for run in runs for name in run.records.subsets)]:
        for run in runs:
            if part := run.result if name == "all" else run.result["subsets"].get(name):
                values = [format_measure(m, part[m]) for m in MEASURES]
                label = f"{name}, {run.name}" if len(runs) > 1 else name
                rows.append([label, part["count"], *values])
    return rows


def _gallery_note(shots, problems):
    if not shots:
        reason = problems[0] if problems else "no faces"
        return f"The images are not here, so there is no gallery ({reason}); --images=FOLDER."
    return f"{len(problems)} images could not be read: {problems[0]}" if problems else ""


def _settings_by_key(runs):
    """The text of every setting, a list with one for each run."""
    described = [dict(_settings(run)) for run in runs]
    keys = dict.fromkeys(key for settings in described for key in settings)
    return {key: [settings.get(key, "–") for settings in described] for key in keys}


def _settings(run):
    """(name, text) of everything that a result depends on."""
    result = run.result
    yield "faces", str(result["count"])
    yield "errors divided by", _divisor(result)
    yield "AUC", f"{result['auc_rule']} rule on the cumulative error curve"
    if text := describe_missing(result):
        yield "annotation", text
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
