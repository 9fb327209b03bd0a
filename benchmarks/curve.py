"""Draws the validation NME of training runs over their epochs as an SVG.

python benchmarks/curve.py runs/300w_small --output=docs/300w_small.svg
"""

import argparse
import json
from pathlib import Path

from matplotlib.figure import Figure


def read_curve(workdir: Path) -> list[tuple[int, float]]:
    """(epoch, NME in percent) of every evaluation in a workdir's log."""
    lines = map(json.loads, (workdir / "log.jsonl").read_text().splitlines())
    return [(line["epoch"], line["nme"]) for line in lines if "nme" in line]


def draw(curves: dict[str, list[tuple[int, float]]], top: float) -> Figure:
    """The figure; values above `top` percent are cut off."""
    figure = Figure((7.2, 3.6), layout="constrained")
    axes = figure.add_subplot(xlabel="epoch", ylabel="validation NME (%, inter-ocular)")
    for name, curve in curves.items():
        best = min(nme for _, nme in curve)
        axes.plot(*zip(*curve, strict=True), label=f"{name}: best {best:.2f} %")
    axes.set_ylim(top=top)
    axes.grid(alpha=0.4)
    axes.legend(frameon=False)
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workdirs", nargs="+", type=Path)
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--top", type=float, default=7.0, help="highest NME shown, percent")
    arguments = parser.parse_args()
    curves = {workdir.name: read_curve(workdir) for workdir in arguments.workdirs}
    draw(curves, arguments.top).savefig(arguments.output)


if __name__ == "__main__":
    main()
