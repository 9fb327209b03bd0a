"""A study's figures: the forest of differences, learning curves, what accuracy costs."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from hrnet_jax.evaluation.report.figures import INK, SERIES, STYLE
from hrnet_jax.studies.results import Results

CAPTIONS = {
    "forest": "Difference to the baseline, paired by face and seed, with its 95 % interval; left "
    "is better. Filled: different by Holm's correction over the study.",
    "means": "Mean NME of each level with its 95 % interval.",
    "curves": "Validation NME while training: line, the mean over seeds; band, the lowest to the "
    "highest.",
    "cost": "Mean NME with its 95 % interval against multiply-accumulates of one face. The line "
    "joins the levels that no other beats in both.",
}


def make_figures(results: Results) -> dict[str, Figure]:
    """The figures by the name of their file; what the results cannot show is left out."""
    with mpl.rc_context(STYLE):
        made = {"means": _means(results)}
        if any(row.difference for row in results.rows):
            made = {"forest": _forest(results)} | made
        if any(curve.shape[1] > 1 for point in results.points for curve in point.curves):
            made["curves"] = _curves(results)
        if all(row.costs["gmacs"] for row in results.rows) and len(results.rows) > 1:
            made["cost"] = _cost(results)
    return made


def _forest(results):
    rows = [row for row in results.rows if row.difference]
    figure, axes = _rows("Difference to the baseline", [row.point for row in rows])
    for place, row in enumerate(rows):
        found = row.p_holm is not None and row.p_holm < 0.05
        _bar(axes, place, row.difference.estimate, SERIES[0], "full" if found else "none")
    axes.axvline(0, color=INK, linewidth=1)
    axes.set_xlabel("NME less the baseline's (percentage points)")
    return figure


def _means(results):
    figure, axes = _rows("Mean error", [row.point for row in results.rows])
    for place, row in enumerate(results.rows):
        _bar(axes, place, row.estimate, SERIES[0], "full")
    axes.set_xlabel("NME (%)")
    return figure


def _rows(title, names):
    figure = Figure((6.4, 1.4 + 0.34 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(False, axis="y")
    return figure, axes


def _bar(axes, place, estimate, colour, fill):
    axes.plot([estimate.low, estimate.high], [place, place], color=colour, solid_capstyle="butt")
    axes.plot(estimate.mean, place, "o", color=colour, fillstyle=fill, markersize=7)


def _curves(results):
    figure = Figure((6.4, 4.0), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title("Learning curves")
    highest = 0.0
    for number, point in enumerate(results.points):
        steps = point.curves[0][0]
        whole = [curve[1] for curve in point.curves if np.array_equal(curve[0], steps)]
        if not len(steps):
            continue
        colour = SERIES[number % len(SERIES)]
        dashes = ("-", "--", ":", "-.")[number // len(SERIES) % 4]
        low, mean, high = np.min(whole, 0), np.mean(whole, 0), np.max(whole, 0)
        axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.plot(steps, mean, dashes, color=colour, label=point.name)
        highest = max(highest, np.percentile(mean, 80))
    axes.set(xlabel="training steps", ylabel="validation NME (%)", ylim=(0, 1.3 * highest or 1))
    axes.legend(fontsize=8)
    return figure


def _cost(results):
    figure = Figure((6.4, 4.0), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title("Error against cost")
    for row in results.rows:
        x, estimate = row.costs["gmacs"], row.estimate
        axes.plot([x, x], [estimate.low, estimate.high], color=SERIES[0], alpha=0.6)
        axes.plot(x, estimate.mean, "o", color=SERIES[0])
        axes.annotate(row.point, (x, estimate.mean), (6, 4), textcoords="offset points", fontsize=8)
    front = pareto([(row.costs["gmacs"], row.estimate.mean) for row in results.rows])
    axes.plot(*np.array(front).T, color=SERIES[1], linewidth=1.2, zorder=0)
    axes.set(xlabel="GMACs of one face", ylabel="NME (%)")
    axes.margins(x=0.2)
    return figure


def pareto(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Those (cost, error) that no other point beats in both, the cheapest first."""
    front = []
    for cost, error in sorted(points):
        if not front or error < front[-1][1]:
            front.append((cost, error))
    return front
