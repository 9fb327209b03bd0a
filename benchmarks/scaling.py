"""Predicted step time and efficiency of data-parallel training on many chips (docs/scaling.md).

python -m benchmarks.scaling --step-ms=25,50,100,200 --batch=64

Nothing is measured here: the step time of one chip is given, the rates are the makers'.
"""

import argparse
import json
from pathlib import Path
from typing import NamedTuple

from hrnet_jax.evaluation.tables import format_table
from hrnet_jax.files import open_atomically

CHIPS = (8, 16, 32, 64, 128, 256, 512, 1024)
PARAMETERS = 9_662_528  # W18, 98 landmarks
NORMALISATIONS, CHANNELS = 306, 17_238  # of W18
ROUNDS = 4  # dependent sums a normalisation: mean, variance, and two in the backward pass


class Network(NamedTuple):
    """Bytes per second and chip in one direction, and an assumed latency of one hop in seconds.

    `island` chips are joined at `inside`; islands are joined at `between` (0: there is one island).
    """

    island: int
    inside: float
    between: float
    hop: float


NETWORKS = {
    "TPU v4": Network(4096, 268e9, 0, 1e-6),
    "TPU v5e": Network(256, 200e9, 3.125e9, 1e-6),
    "TPU v5p": Network(6144, 600e9, 0, 1e-6),
    "H100, NVLink + 400G InfiniBand": Network(8, 450e9, 50e9, 5e-6),
}


def all_reduce_seconds(size: float, chips: int, network: Network) -> float:
    """A ring inside an island, then one between islands on each chip's share.

    2 (n - 1) / n of the bytes pass through every chip; each chip of an island carries its share of
    what passes between islands.
    """
    inside = min(chips, network.island)
    seconds = 2 * (inside - 1) / inside * size / network.inside
    islands = -(-chips // network.island)
    if islands > 1:
        seconds += 2 * (islands - 1) / islands * (size / inside) / network.between
    return seconds


def latency_seconds(chips: int, network: Network) -> float:
    """2 log2(n) hops, of a tree up and down."""
    return 2 * (chips - 1).bit_length() * network.hop


def predict(step: float, parameters: int, chips: int, network: Network, overlap: float, syncs: int):
    """(seconds per step, efficiency): `syncs` small reductions wait, gradients partly overlap."""
    latency = latency_seconds(chips, network)
    gradients = all_reduce_seconds(4 * parameters, chips, network) + latency
    total = step + (1 - overlap) * gradients
    if syncs:
        total += all_reduce_seconds(4 * ROUNDS * CHANNELS, chips, network) + syncs * latency
    return total, step / total


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--step-ms", default="25,50,100,200", help="of one chip, measured by you")
    parser.add_argument("--batch", type=int, default=64, help="images per chip")
    parser.add_argument("--parameters", type=int, default=PARAMETERS)
    parser.add_argument("--overlap", type=float, default=0.0, help="share hidden by computing")
    parser.add_argument("--syncs", type=int, default=ROUNDS * NORMALISATIONS, help="small sums")
    parser.add_argument("--local-statistics", action="store_true", help='mode "pmap"')
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    syncs = 0 if arguments.local_statistics else arguments.syncs
    rows = []
    for name, network in NETWORKS.items():
        for milliseconds in map(float, arguments.step_ms.split(",")):
            row = [name, f"{milliseconds:g}"]
            for chips in CHIPS:
                if chips > network.island and not network.between:
                    row.append(None)
                    continue
                seconds, efficiency = predict(
                    milliseconds / 1000,
                    arguments.parameters,
                    chips,
                    network,
                    arguments.overlap,
                    syncs,
                )
                row.append(f"{1000 * seconds:.1f} ({100 * efficiency:.0f} %)")
            rows.append(row)
    columns = ["network", "step ms, 1 chip", *(f"{chips} chips" for chips in CHIPS)]
    print("Predicted step time in ms (efficiency); not measured.")
    print(format_table(rows, columns))
    print(f"Global batch: {', '.join(str(chips * arguments.batch) for chips in CHIPS)} images.")
    if arguments.json:
        with open_atomically(arguments.json) as file:
            json.dump({"arguments": vars(arguments) | {"json": None}, "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()
