"""`hrnet-jax data prepare`: a downloaded data set, in the project's layout."""

import argparse

from hrnet_jax.cli.parser import Parser, place

EPILOG = """\
examples:
  hrnet-jax data prepare wflw --source=downloads/wflw --output=data/wflw
  hrnet-jax data prepare 300w --source=downloads/300w --output=data/300w --crop=2.2
  hrnet-jax data prepare custom --source=owls --output=data/owls --scheme=owls.json

--source is a folder with the archives as they were downloaded, or with what was unpacked of them;
docs/data.md says where to get each data set. The same command again goes on where it stopped.
"""
SHOWN = 10  # faces that were left out


def main(argv: list[str]) -> int:
    parser = Parser(
        "hrnet-jax data prepare",
        "Turn a downloaded data set into annotation files in the official columns, and images.",
        EPILOG,
    )
    parser.add_argument("name", metavar="NAME", help="wflw, 300w, cofw, aflw, coco or custom")
    parser.add_argument("--source", required=True, help="folder with the download")
    parser.add_argument("--output", type=place, required=True, help="folder to write")
    parser.add_argument(
        "--crop",
        type=float,
        default=0.0,
        metavar="BOXES",
        help="cut out a picture of every face, this many landmark boxes wide: 2.2 holds all that "
        "the official augmentation sees; by default whole pictures are copied, unchanged",
    )
    parser.add_argument(
        "--scheme", help="landmark scheme (a name or a .json or .toml file) that must fit"
    )
    parser.add_argument(
        "--skip-bad",
        action="store_true",
        help="leave out faces that are wrong, missing or unreadable (the first one stops "
        "otherwise)",
    )
    parser.add_argument(
        "--missing",
        type=_point,
        metavar="X,Y",
        help="coordinates that mean a landmark is not annotated: 0,0, or -1 for -1,-1",
    )
    arguments = parser.parse_args(argv)

    from tqdm import tqdm

    from hrnet_jax.data.prepare import DATA_SETS, prepare
    from hrnet_jax.evaluation.tables import format_table
    from hrnet_jax.schemes import get_scheme

    def progress(pictures, total):
        return tqdm(pictures, desc=arguments.name, total=total, unit="picture", disable=None)

    done = prepare(
        arguments.name,
        arguments.source,
        arguments.output,
        arguments.crop,
        get_scheme(arguments.scheme) if arguments.scheme else None,
        arguments.skip_bad,
        arguments.missing,
        progress,
    )
    module = DATA_SETS[arguments.name]
    rows, agrees = compare(done.splits, module.PUBLISHED)
    shown = ["split", "faces", "published"] if module.PUBLISHED else ["split", "faces"]
    print(format_table([row[: len(shown)] for row in rows], shown))
    if not agrees:
        print("these are not the published sizes: is it a part of the data set?")
    if done.skipped:
        print(f"left out {len(done.skipped)} (all listed in {arguments.output}/skipped.txt):")
        print("\n".join(f"  {text}" for text in done.skipped[:SHOWN]))
    for note in done.notes:
        print(note)
    files = ", ".join(f"{split}.csv" for split in done.splits)
    print(f"written: {arguments.output}/images, {files}")
    if module.CONFIG:
        print(f"use it:  --config={module.CONFIG} --config.data.root={arguments.output}")
    return 0


def _point(text):
    """-1 or 0,0 as (x, y)."""
    words = text.split(",")
    try:
        x, y = map(float, words * 2 if len(words) == 1 else words)
    except ValueError:
        raise argparse.ArgumentTypeError("give an x and a y, as in -1,-1") from None
    return x, y


def compare(splits, published) -> tuple[list[list], bool]:
    """Rows (split or subset, faces, published faces), and whether they agree.

    What is published and missing has no faces; a subset whose size is not known does not count.
    """
    counts = {}
    for split, records in splits.items():
        counts[split, None] = len(records)
        counts |= {(split, name): int(mask.sum()) for name, mask in records.subsets.items()}
    keys = list(counts) + [key for key in published if key not in counts]
    rows = []
    for split, subset in keys:
        label = f"  {subset}" if subset else split
        key = split, subset
        rows.append([label, counts.get(key, 0), published.get(key)])
    return rows, all(counts.get(key) == count for key, count in published.items())
