"""Draws the validation NME of training runs over their epochs as an SVG.

python benchmarks/curve.py runs/300w_small --output=docs/300w_small.svg
"""

import argparse
import json
from pathlib import Path

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 720, 360, 56, 44, 16, 16
COLOURS = ("#1f6feb", "#d1242f", "#1a7f37", "#8250df")


def read_curve(workdir: Path) -> list[tuple[int, float]]:
    """(epoch, NME in percent) of every evaluation in a workdir's log."""
    lines = map(json.loads, (workdir / "log.jsonl").read_text().splitlines())
    return [(line["epoch"], line["nme"]) for line in lines if "nme" in line]


def draw(curves: dict[str, list[tuple[int, float]]], top: float) -> str:
    """The SVG text; values above `top` percent are cut off."""
    last = max(curve[-1][0] for curve in curves.values())
    low = int(min(nme for curve in curves.values() for _, nme in curve))

    def place(epoch, nme):
        x = LEFT + (WIDTH - LEFT - RIGHT) * epoch / last
        y = TOP + (HEIGHT - TOP - BOTTOM) * (top - min(nme, top)) / (top - low)
        return f"{x:.1f},{y:.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="13" fill="#444">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    for half in range(2 * low, int(2 * top) + 1):
        x, y = place(0, half / 2).split(",")
        parts.append(f'<path d="M{x} {y}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{float(y) + 4}" text-anchor="end">{half / 2}</text>')
    for epoch in range(0, last + 1, 10):
        x = place(epoch, top).split(",")[0]
        y = HEIGHT - BOTTOM + 18
        parts.append(f'<text x="{x}" y="{y}" text-anchor="middle">{epoch}</text>')
    middle = (LEFT + WIDTH) / 2
    label = "validation NME (%, inter-ocular) by epoch"
    parts.append(f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{label}</text>')
    for i, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[i % len(COLOURS)]
        points = " ".join(place(*point) for point in curve)
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
        text = f"{name}: best {min(nme for _, nme in curve):.2f} %"
        y = TOP + 20 * (i + 1)
        parts.append(
            f'<text x="{WIDTH - RIGHT - 8}" y="{y}" text-anchor="end" fill="{colour}">{text}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workdirs", nargs="+", type=Path)
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--top", type=float, default=7.0, help="highest NME shown, percent")
    arguments = parser.parse_args()
    curves = {workdir.name: read_curve(workdir) for workdir in arguments.workdirs}
    arguments.output.write_text(draw(curves, arguments.top))


if __name__ == "__main__":
    main()
