"""The report's figures: error curves, errors on the mean face, against size, pose and subset."""

import functools
import io
import logging
import warnings
from html import escape
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from hrnet_jax.evaluation.baseline import mean_shape
from hrnet_jax.evaluation.metrics import THRESHOLDS, ced, known_mean, normaliser, point_errors
from hrnet_jax.evaluation.pose import yaw_and_roll
from hrnet_jax.evaluation.scoring import Run

# Text and grid have colours of their own, which the page replaces by its theme's (`to_inline`).
INK, FAINT = "#24292e", "#c9d1d8"
# Readable on white and on near-black.
SERIES = ("#2f81f7", "#d9730d", "#2da44e", "#a371f7", "#e0478b", "#1b9aaa")
STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 10,
    "svg.fonttype": "none",  # text stays text: smaller, selectable, in the reader's font
    "svg.hashsalt": "hrnet_jax",  # the same run gives the same file
    "text.parse_math": False,  # a name with dollar signs is no formula
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "savefig.transparent": True,
}
# What stands under a figure, by the first word of its name.
CAPTIONS = {
    "ced": "The share of faces whose NME is at most so large; dotted: the failure thresholds.",
    "landmarks": "Mean distance to the annotation, on the mean face; the three largest are named.",
    "size": "Line: median of bins with equally many faces; band, of one run: their middle half.",
    "yaw": "Line and band as for the size. Positive: the nose turned to the image's right.",
    "roll": "Line and band as for the size. Positive: the head tilted clockwise.",
    "parts": "Mean over the landmarks of each contour.",
    "subsets": "NME of the data set's own subsets.",
}
_SIZE = (4.6, 3.5)  # inches: narrow, so that the text is readable when a phone shows all of it
_SHOWN = 10.0  # percent: where the error curve ends
_LEAST_IN_BIN = 10  # faces


def make_figures(runs: list[Run]) -> dict[str, Figure]:
    """All figures by the name of their file; what the data cannot show is left out."""
    runs = [run.measured() for run in runs]
    with mpl.rc_context(STYLE):
        figures = {"ced": error_curves(runs)}
        for index, run in enumerate(runs):
            name = "landmarks" if len(runs) == 1 else f"landmarks_{index + 1}"
            figures[name] = landmark_errors(run)
        sizes = [run.records.sides for run in runs]
        figures["size"] = errors_against(runs, sizes, "face size", "side of the landmark box (px)")
        axis = figures["size"].axes[0]
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5)))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_locator(NullLocator())
        poses = [yaw_and_roll(run.records.points, run.scheme) for run in runs]
        if poses[0] is not None:
            yaws, rolls = zip(*poses, strict=True)
            label = "yaw estimated from landmarks (degrees)"
            figures["yaw"] = errors_against(runs, yaws, "yaw", label)
            label = "roll estimated from landmarks (degrees)"
            figures["roll"] = errors_against(runs, rolls, "roll", label)
        if runs[0].scheme.lines:
            figures["parts"] = part_errors(runs)
        if any(run.records.subsets for run in runs):
            figures["subsets"] = subset_errors(runs)
    return figures


def error_curves(runs: list[Run]) -> Figure:
    """The cumulative error distribution of every run."""
    figure, axes = _new(f"Cumulative error, {_count(runs)}")
    grid = np.linspace(0, _SHOWN / 100, 501)
    for run, colour in _coloured(runs):
        auc = run.result["auc@0.08"]
        label = f"{_short(run.name)}: AUC@0.08 {auc:.3f}"
        axes.plot(100 * grid, 100 * ced(run.nme, grid), color=colour, label=label)
    for threshold in THRESHOLDS:
        axes.axvline(100 * threshold, color=INK, linewidth=0.8, linestyle=":")
    axes.set(xlim=(0, _SHOWN), ylim=(0, 100), xlabel=f"NME (%, {runs[0].normaliser})")
    axes.set_ylabel("faces with at most this error (%)")
    axes.legend(fontsize=9)
    return figure


def landmark_errors(run: Run) -> Figure:
    """Each landmark's mean error, as colour and size of its dot on the mean face."""
    errors = _landmark_errors(run)
    face = mean_shape(run.records)
    figure, axes = _new(f"Mean error by landmark: {_short(run.name)}")
    for line in run.scheme.lines:
        indices = list(line.points + line.points[:1] * line.closed)
        axes.plot(*face[indices].T, color=INK, alpha=0.35, linewidth=1.0, zorder=1)
    known = np.flatnonzero(np.isfinite(errors))  # the others are annotated nowhere
    area = 8 + 45 * errors[known] / max(errors[known].max(), 1e-9)
    colours = {"c": errors[known], "cmap": "plasma", "vmin": 0}
    places = face[known].T
    dots = axes.scatter(*places, s=area, edgecolors=INK, linewidths=0.4, zorder=2, **colours)
    for index in known[np.argsort(errors[known])[-3:]]:
        text = f"{index}: {errors[index]:.1f}"
        axes.annotate(text, tuple(face[index]), (6, 5), textcoords="offset points", fontsize=8)
    axes.set_aspect("equal")
    axes.invert_yaxis()
    axes.set_axis_off()
    bar = figure.colorbar(dots, ax=axes, shrink=0.85)
    bar.set_label(f"mean error (% of {run.normaliser})")
    bar.outline.set_visible(False)
    return figure


def errors_against(runs: list[Run], values: list[np.ndarray], what: str, label: str) -> Figure:
    """NME against a property of the faces: the median in bins of equally many faces.

    With a single run each face is a dot, and the band holds the middle half of the faces.
    """
    figure, axes = _new(f"Error against {what}")
    for (run, colour), x in zip(_coloured(runs), values, strict=True):
        known = np.isfinite(x)
        if not known.any():
            continue
        x, nme = x[known], 100 * run.nme[known]
        bins = np.array_split(np.argsort(x), np.clip(len(x) // _LEAST_IN_BIN, 1, 12))
        centres = [np.median(x[rows]) for rows in bins]
        low, middle, high = np.array([np.percentile(nme[rows], (25, 50, 75)) for rows in bins]).T
        if len(runs) == 1:  # dots as a picture: thousands of them would be a large file
            axes.scatter(x, nme, s=9, color=colour, alpha=0.35, linewidths=0, rasterized=True)
            axes.fill_between(centres, low, high, color=colour, alpha=0.2, linewidth=0)
        axes.plot(centres, middle, color=colour, marker="o", markersize=4, label=_short(run.name))
    axes.set(xlabel=label, ylabel=f"NME (%, {runs[0].normaliser})")
    axes.set_ylim(bottom=0)
    if len(runs) == 1:  # a few far outliers would press the rest together
        axes.set_ylim(top=1.15 * np.percentile(100 * runs[0].nme, 99) or 1)
    else:
        axes.legend(fontsize=9)
    return figure


def part_errors(runs: list[Run]) -> Figure:
    """Mean error of every contour's landmarks."""
    values = []
    for run in runs:
        errors = _landmark_errors(run)
        values.append([known_mean(errors[list(line.points)]) for line in run.scheme.lines])
    return _bars("Error by part of the face", runs, [x.name for x in runs[0].scheme.lines], values)


def subset_errors(runs: list[Run]) -> Figure:
    """NME of every subset, and of all faces."""
    names = list(dict.fromkeys(name for run in runs for name in run.records.subsets))
    values = []
    for run in runs:
        parts = [run.result] + [run.result["subsets"].get(name, {}) for name in names]
        values.append([part.get("nme") or np.nan for part in parts])
    return _bars("Error by subset", runs, ["all", *names], values)


def _bars(title, runs, names, values):
    """Horizontal bars: a group for each name, a colour for each run; NaN leaves a gap."""
    figure, axes = _new(title)
    places = np.arange(len(names))
    thickness = 0.8 / len(runs)
    for k, (run, colour) in enumerate(_coloured(runs)):
        at = places + (k + 0.5) * thickness - 0.4
        bars = axes.barh(at, values[k], 0.9 * thickness, color=colour, label=_short(run.name))
        labels = [f"{value:.2f}" if np.isfinite(value) else "" for value in values[k]]
        axes.bar_label(bars, labels, padding=3, fontsize=8, color=INK)
    axes.set_yticks(places, map(_short, names))
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.margins(x=0.15)
    axes.set_xlabel(f"mean error (% of {runs[0].normaliser})")
    if len(runs) > 1:
        axes.legend(fontsize=9)
    return figure


def _landmark_errors(run):
    """Mean error of every landmark, percent, float64 (L,); NaN for one that is never annotated."""
    lengths = normaliser(run.records.points, run.scheme, run.records.box_sizes, run.normaliser)
    return 100 * known_mean(point_errors(run.predictions, run.records.points, lengths), axis=0)


def to_svg(figure: Figure) -> str:
    """The figure as the text of an SVG file."""
    return _save(figure, "svg", metadata={"Date": None}).decode()


def to_png(figure: Figure) -> bytes:
    """The figure as a PNG file, on white."""
    return _save(figure, "png", dpi=200, facecolor="white", transparent=False)


def to_inline(svg: str, title: str) -> str:
    """An SVG file's text as an element of an HTML page whose CSS gives --ink and --faint.

    Matplotlib escapes the texts in it; `title`, for those who do not see it, is escaped here.
    """
    element = svg[svg.index("<svg") :].replace(INK, "var(--ink)").replace(FAINT, "var(--faint)")
    return element.replace("<svg", f'<svg role="img" aria-label="{escape(title)}"', 1)


def _save(figure, kind, **options):
    file = io.BytesIO()
    with mpl.rc_context(STYLE), warnings.catch_warnings():
        # A run's name in a script that the font lacks shows boxes in the PNG: no more than that.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure.savefig(file, format=kind, **options)
    return file.getvalue()


def _new(title):
    figure = Figure(_SIZE, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title)
    axes.set_axisbelow(True)
    return figure, axes


def _coloured(runs):
    return [(run, SERIES[i % len(SERIES)]) for i, run in enumerate(runs)]


def _count(runs):
    counts = sorted({len(run.records) for run in runs})
    return f"{' / '.join(map(str, counts))} faces"


@functools.cache
def _short(name, most=28):
    """A name that fits a legend, without control characters, which SVG does not allow."""
    name = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name)
    return name if len(name) <= most else f"…{name[-most + 1 :]}"


# Which fonts Matplotlib finds is no news for the reader of a report.
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
