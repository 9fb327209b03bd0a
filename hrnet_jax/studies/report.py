"""A study's report: one page, its figures beside it, and the tables in four formats."""

import json
from pathlib import Path

import jinja2

from hrnet_jax.evaluation.report.figures import to_inline, to_png, to_svg
from hrnet_jax.files import open_atomically
from hrnet_jax.studies import tables
from hrnet_jax.studies.figures import CAPTIONS, make_figures
from hrnet_jax.studies.results import Results

# Nothing is loaded and nothing runs, whatever a level is called.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def write_report(results: Results, folder: Path, title: str, command: str) -> list[str]:
    """Writes report.html, .md, .csv, .tex, .json and report_figures/ into `folder`.

    Args:
      results: of `hrnet_jax.studies.results.collect`.
      folder: the study's workdir.
      title: of the page.
      command: what made these results, in words that can be typed again.

    Returns:
      The names of the files.
    """
    made_by = f"Made by `{command}`; errors divided by {results.settings['errors divided by']}; "
    made_by += f"{results.settings['faces']}; hrnet_jax {results.settings['version']}."
    drawings = []
    for name, figure in make_figures(results).items():
        svg = to_svg(figure)
        _write(folder / "report_figures" / f"{name}.svg", svg)
        with open_atomically(folder / "report_figures" / f"{name}.png", binary=True) as file:
            file.write(to_png(figure))
        drawings.append((to_inline(svg, figure.axes[0].get_title(loc="left")), CAPTIONS[name]))
    tested = {row.point for row in results.rows if row.p_holm is not None and row.p_holm < 0.05}
    page = _template().render(
        policy=_POLICY,
        title=title,
        results=results,
        columns=tables.columns(results),
        cells=tables.cells(results),
        subsets=tables.subset_cells(results) if results.subsets else None,
        notes=tables.notes(results),
        tested=tested,
        drawings=drawings,
        settings=results.settings | {"command": command},
    )
    files = {
        "report.html": page,
        "report.md": tables.to_markdown(results, title, made_by),
        "report.csv": tables.to_csv(results),
        "report.tex": tables.to_latex(results),
        "report.json": json.dumps(
            {"title": title, "command": command} | tables.to_json(results), indent=1
        ),
    }
    for name, text in files.items():
        _write(folder / name, text)
    return list(files)


def _write(path, text):
    with open_atomically(path) as file:
        file.write(text)


def _template():
    loaders = jinja2.ChoiceLoader(
        [
            jinja2.PackageLoader("hrnet_jax.studies", ""),
            jinja2.PackageLoader("hrnet_jax.evaluation.report", ""),  # its style.css
        ]
    )
    environment = jinja2.Environment(
        loader=loaders,
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("study.html.jinja")
