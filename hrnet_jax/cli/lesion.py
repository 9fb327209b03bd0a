"""`hrnet-jax lesion`: what each part of a trained network is worth."""

import csv
import json
from pathlib import Path

from hrnet_jax.cli.configs import split_config
from hrnet_jax.cli.parser import Parser, place
from hrnet_jax.errors import HRNetError
from hrnet_jax.files import as_path

EPILOG = """\
example:
  hrnet-jax lesion runs/300w --config=300w_small --output=runs/300w/lesion

silences each branch, fusion edge, residual block and group of channels in turn, and scores the
config's validation faces, without the flip test. Writes lesion.csv, lesion.json, and the network
drawn with what each part is worth, as lesion.svg and .png, by part of the face as lesion_parts.
"""
MEAN_FACES = 256  # training faces whose mean output fills a silent part


def main(argv: list[str]) -> int:
    parser = Parser("hrnet-jax lesion", "What each part of a trained network is worth.", EPILOG)
    parser.add_argument("checkpoint", type=place, help="a workdir, a converted or a released model")
    parser.add_argument("--config", metavar="FILE", help="whose faces to use")
    parser.add_argument("--output", type=place, required=True, help="folder for the results")
    parser.add_argument(
        "--fill",
        default="mean",
        choices=("mean", "zero"),
        help="what a silent part puts out: its mean over training faces, or zero (default: mean)",
    )
    parser.add_argument(
        "--groups", type=int, default=4, help="groups of channels in a branch (default: 4)"
    )
    parser.add_argument("--count", type=int, default=0, help="faces to score (default: all)")
    config, rest = split_config(argv)
    parser.add_allow_import()
    arguments = parser.parse_args(rest)
    if config is None:
        raise HRNetError("which --config=FILE? It names the faces to score")
    if arguments.count < 0:
        raise HRNetError(f"--count={arguments.count}: give how many faces, or 0 for all")
    scores, network, about = measure(config, arguments)
    write(scores, network, about, as_path(arguments.output))
    show(scores)
    print(f"written: lesion.csv, lesion.json and lesion.svg in {arguments.output}")
    return 0


def measure(config, arguments):
    """(scores, network, what the numbers depend on)."""
    from tqdm import tqdm

    from hrnet_jax.checkpoints import load
    from hrnet_jax.data.sources import describe_split, open_split
    from hrnet_jax.inspect import scores
    from hrnet_jax.inspect.lesions import parts_of
    from hrnet_jax.protocols import official
    from hrnet_jax.schemes import get_scheme

    loaded = load(arguments.checkpoint, allow_import=arguments.allow_import)
    scheme = get_scheme(config.scheme)
    if loaded.metadata["model"].get("num_landmarks") != scheme.num_landmarks:
        raise HRNetError(
            f"{arguments.checkpoint} holds {loaded.metadata['model']}, which does not find the "
            f"{scheme.num_landmarks} landmarks of {scheme.name}"
        )
    protocol = loaded.protocol or official(scheme.name)
    parts = parts_of(loaded.model, arguments.groups)
    records, training = (open_split(config.data, scheme, split) for split in ("valid", "train"))
    records = records[: arguments.count] if arguments.count else records
    made = scores.measure(
        loaded.model,
        loaded.variables,
        parts,
        protocol,
        scheme,
        records,
        training[:MEAN_FACES],
        arguments.fill,
        config.eval.batch_size,
        lambda parts: tqdm(parts, "silencing", unit="part"),
    )
    about = {
        "checkpoint": str(arguments.checkpoint),
        "model": loaded.metadata["model"],
        "protocol": protocol.to_dict() | {"flip_test": False},
        "split": describe_split(config.data, "valid"),
        "faces": len(records),
        "fill": arguments.fill,
        "mean_faces": min(MEAN_FACES, len(training)),
        "errors_divided_by": made.divisor,
    }
    return made, loaded.model, about


def write(scores, network, about, output: Path) -> None:
    """lesion.csv, lesion.json and the figures, each file whole or not."""
    import hrnet_jax
    from hrnet_jax.evaluation.report.figures import to_png, to_svg
    from hrnet_jax.files import open_atomically
    from hrnet_jax.inspect.figures import lesion_figures

    groups = scores.facial_parts()
    overall = scores.losses()
    by_group = {name: scores.losses(points) for name, points in groups.items()}
    with open_atomically(output / "lesion.csv") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["kind", "part", "nme_added", "low", "high", *groups])
        for i, (part, loss) in enumerate(zip(scores.parts, overall, strict=True)):
            grown = [by_group[name][i].mean for name in groups]
            writer.writerow([part.kind, part.name, loss.mean, loss.low, loss.high, *grown])
    whole = {
        "nme": float(scores.whole.mean()),
        **{name: float(scores.whole[:, points].mean()) for name, points in groups.items()},
    }
    with open_atomically(output / "lesion.json") as file:
        content = {"version": hrnet_jax.__version__, **about, "whole": whole}
        json.dump(content, file, indent=1)
    for name, figure in lesion_figures(scores, network).items():
        with open_atomically(output / f"{name}.svg") as file:
            file.write(to_svg(figure))
        with open_atomically(output / f"{name}.png", binary=True) as file:
            file.write(to_png(figure))


def show(scores, most: int = 8) -> None:
    """Prints the branches, and the parts that are worth most."""
    from hrnet_jax.evaluation.tables import format_table

    pairs = list(zip(scores.parts, scores.losses(), strict=True))
    branches = [pair for pair in pairs if pair[0].kind == "branch"]
    others = [pair for pair in pairs if pair[0].kind != "branch"]
    others = sorted(others, key=lambda pair: -pair[1].mean)[:most]
    rows = [
        [part.kind, part.name, f"{loss.mean:.2f}", f"{loss.low:.2f} to {loss.high:.2f}"]
        for part, loss in [*branches, *others]
    ]
    print(f"whole network: NME {scores.whole.mean():.2f} % of {scores.divisor}")
    print(format_table(rows, ["kind", "silent part", "NME added", "95 %, other faces"]))
