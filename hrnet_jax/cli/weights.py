"""`hrnet-jax weights`: the published checkpoints, and fetching one."""

import argparse

from hrnet_jax.cli.parser import Parser, place

EPILOG = """\
examples:
  hrnet-jax weights list
  hrnet-jax weights get imagenet-w18-openmmlab --output=downloads
  hrnet-jax convert downloads/hrnetv2_w18-00eb2006.pth models/imagenet_w18

Few publishers give a direct link; `get` says where to find the others and where to put them.
"""


def main(argv: list[str]) -> int:
    parser = Parser(
        "hrnet-jax weights",
        "List the published checkpoints of the HRNet family, or download one.",
        EPILOG,
    )
    commands = parser.add_subparsers(
        dest="command", metavar="list | get", required=True, parser_class=argparse.ArgumentParser
    )
    commands.add_parser("list", help="names, models, published figures, licences")
    get = commands.add_parser("get", help="download one, or say where it is")
    get.add_argument("name", metavar="NAME", help="a name of `weights list`")
    get.add_argument(
        "--output", type=place, default=".", help="folder for the file (default: this one)"
    )
    arguments = parser.parse_args(argv)

    from hrnet_jax.published import PUBLISHED, fetch

    if arguments.command == "list":
        print("\n".join(table(PUBLISHED.values())))
        return 0

    from tqdm import tqdm

    with tqdm(desc=arguments.name, unit="B", unit_scale=True, disable=None) as bar:

        def progress(done, total):
            bar.total = total
            bar.update(done - bar.n)

        path = fetch(arguments.name, arguments.output, progress, _kind)
    print(f"{path} is there")
    print(f"convert it with: hrnet-jax convert {path} models/{arguments.name}")
    return 0


def _kind(path, model):
    """The kind of checkpoint in a file that has to hold that model."""
    from hrnet_jax.torch_weights import kinds
    from hrnet_jax.torch_weights.torch_file import read_torch_file

    return kinds.recognise(read_torch_file(path), path, model).kind.name


def table(entries) -> list[str]:
    """The lines of `weights list`."""
    rows = [("NAME", "MODEL", "SCHEME", "PUBLISHED", "LINK", "LICENCE")]
    for entry in entries:
        figures = next((f"{key} {value:.2f}" for key, value in entry.metrics.items()), "-")
        link = "direct" if entry.url else entry.where
        licence = entry.licence or "not stated"
        rows.append((entry.name, entry.model, entry.scheme or "-", figures, link, licence))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
