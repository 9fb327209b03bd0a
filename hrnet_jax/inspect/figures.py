"""Pictures of what `hrnet_jax.inspect` finds."""

import matplotlib as mpl
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from hrnet_jax.evaluation.report.figures import FAINT, INK, STYLE
from hrnet_jax.inspect.scores import Scores

_MAP = mpl.colormaps["plasma"]


def overlay(picture: np.ndarray, values: np.ndarray, opacity: float = 0.75) -> np.ndarray:
    """A map laid over its picture: the larger the absolute value, the brighter and less clear.

    Args:
      picture: uint8 (H, W, 3), RGB.
      values: (H, W), or (H, W, 3) whose channels are added up first.

    Returns:
      uint8 (H, W, 3). The 99.5th percentile has the full colour.
    """
    values = np.asarray(values, np.float64)
    values = np.abs(values.sum(axis=-1) if values.ndim == 3 else values)
    share = np.clip(values / max(np.percentile(values, 99.5), 1e-30), 0, 1)
    colours = 255 * _MAP(0.15 + 0.85 * share)[..., :3]
    weight = opacity * np.sqrt(share)[..., None]
    grey = picture.mean(axis=-1, keepdims=True)
    return np.round((1 - weight) * grey + weight * colours).astype(np.uint8)


def lesion_figures(scores: Scores, network) -> dict[str, Figure]:
    """{"lesion": the network with the loss of each part, "lesion_parts": by part of the face}."""
    with mpl.rc_context(STYLE):
        return {
            "lesion": _one(scores, network),
            **({"lesion_parts": _by_facial_part(scores, network)} if scores.scheme.lines else {}),
        }


def _one(scores, network):
    losses = [estimate.mean for estimate in scores.losses()]
    figure = Figure(_size(network), layout="constrained")
    axes = figure.add_subplot()
    norm = _norm(scores, losses)
    _draw(axes, scores.parts, losses, network, norm, labels=True)
    axes.set_title(f"Error added by silencing a part (whole network: {scores.whole.mean():.2f} %)")
    bar = figure.colorbar(ScalarMappable(norm, _MAP), ax=axes, shrink=0.85)
    bar.set_label("NME added (percentage points)")
    bar.outline.set_visible(False)
    return figure


def _by_facial_part(scores, network):
    groups = scores.facial_parts()
    columns = 2
    rows = -(-len(groups) // columns)
    width, height = _size(network)
    figure = Figure((1.6 * width, 0.75 * height * rows), layout="constrained")
    losses = {
        name: [estimate.mean for estimate in scores.losses(points)]
        for name, points in groups.items()
    }
    norm = _norm(scores, *losses.values())
    for number, (name, each) in enumerate(losses.items()):
        axes = figure.add_subplot(rows, columns, number + 1)
        _draw(axes, scores.parts, each, network, norm, labels=False)
        before = scores.whole[:, groups[name]].mean()
        axes.set_title(f"{name} ({before:.2f} % whole)", fontsize=10)
    bar = figure.colorbar(ScalarMappable(norm, _MAP), ax=figure.axes, shrink=0.6)
    bar.set_label("error added (percentage points)")
    bar.outline.set_visible(False)
    return figure


def _norm(scores, *losses):
    """Colours for what is drawn; whole branches, which cost far more, stand beside as numbers."""
    drawn = [k for k, part in enumerate(scores.parts) if part.kind != "branch"]
    return PowerNorm(0.5, vmin=0, vmax=max(1e-9, *(each[k] for each in losses for k in drawn)))


def _size(network):
    return (3.5 + 0.85 * sum(network.backbone.variant.modules) * 1.3, 3.6)


def _draw(axes, parts, losses, network, norm, labels):
    """Blocks as squares, fusion edges as lines, channel groups as bars on the right."""
    variant = network.backbone.variant
    starts, end = _places(variant)
    by_name = dict(zip((part.name for part in parts), losses, strict=True))
    rows = sorted({int(part.name.split()[1]) for part in parts if part.kind == "branch"})
    for k in rows:  # the way through, which is never silent
        first = starts["layer1"] if k == 0 else starts[f"stage{max(k + 1, 2)}_0"] - 1
        axes.plot([first, end + 0.5], [k, k], color=FAINT, linewidth=1, zorder=0)
        if k:
            axes.plot([first - 0.6, first], [k - 1, k], color=FAINT, linewidth=1, zorder=0)
    order = sorted(range(len(parts)), key=lambda i: losses[i])  # what matters most lies on top
    for i in order:
        part, colour = parts[i], _MAP(norm(max(losses[i], 0)))
        words = part.name.split()
        if part.kind == "block":
            place, row, number = words[0], 0, 0
            if place.startswith("layer1"):
                place, number = "layer1", int(place.split("_")[1])
            else:
                row, number = map(int, words[1].removeprefix("branch").split("_"))
            corner = (starts[place] + number - 0.32, row - 0.2)
            axes.add_patch(Rectangle(corner, 0.64, 0.4, color=colour, zorder=3))
        elif part.kind == "edge":
            target, source = map(int, words[2].split("<-"))
            first = starts[words[0]] + variant.blocks - 0.6
            axes.plot([first, first + 1.2], [source, target], color=colour, linewidth=2.2, zorder=2)
        elif part.kind == "channels":
            row, (low, high) = int(words[1]), part.channels
            whole = variant.width * 2**row
            height = 0.7 * (high - low) / whole
            corner = (end + 0.5, row - 0.35 + 0.7 * low / whole)
            axes.add_patch(Rectangle(corner, 0.45, 0.94 * height, color=colour, zorder=3))
    for k in rows:
        text = f"branch {k}: +{by_name[f'branch {k}']:.2f}" if labels else f"{k}"
        axes.text(end + 1.15, k, text, va="center", fontsize=9, color=INK)
    axes.set_xlim(starts["layer1"] - 0.6, end + (4.2 if labels else 1.8))
    axes.set_ylim(max(rows) + 0.6, -0.6)
    axes.set_yticks([])
    names = [name for name in starts if name != "layer1" or variant.layer1_blocks]
    axes.set_xticks([starts[name] for name in names], names, fontsize=7, rotation=30)
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _places(variant):
    """({module: x of its first block}, x where the network ends)."""
    x = max(variant.layer1_blocks, 1) + 1.0
    starts = {"layer1": 0.0}
    for stage, modules in zip((2, 3, 4), variant.modules, strict=True):
        for m in range(modules):
            starts[f"stage{stage}_{m}"] = x
            x += max(variant.blocks, 1) + 0.9
    return starts, x
