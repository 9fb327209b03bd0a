"""Measures which pixel convention a data set's annotations follow, for augment.flip_offset.

python benchmarks/flip_offset.py --config=configs/300w_small.py --checkpoint=300w_small

Mirroring sends a point x to W + flip_offset - x. A network sees pixels only, so what it finds in an
image and in its mirror image is the same place of the face; annotations that count from elsewhere
than the pixels' edges are off by half of flip_offset from it, always to the same side.
"""

import argparse
import dataclasses
import sys

import numpy as np

from hrnet_jax.checkpoints import load
from hrnet_jax.cli.configs import split_config
from hrnet_jax.data.sources import open_split
from hrnet_jax.evaluation.landmarks import predict_records
from hrnet_jax.geometry import flip_points
from hrnet_jax.inference.forward import make_forward
from hrnet_jax.inference.mirror import inter_ocular
from hrnet_jax.protocols import Protocol
from hrnet_jax.schemes import get_scheme


def main():
    config, rest = split_config(sys.argv[1:])
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", required=True)
    loaded = load(parser.parse_args(rest).checkpoint)
    scheme = get_scheme(config.scheme)
    protocol = Protocol.from_dict(loaded.metadata["protocol"])
    records = open_split(config.data, scheme, "valid")
    forward = make_forward(loaded.model, protocol, scheme)

    images = [records.image(i) for i in range(len(records))]
    widths = np.array([image.shape[1] for image in images], float)
    mirrored = dataclasses.replace(
        records,
        pictures=[image[:, ::-1] for image in images],
        centers=np.stack([widths - records.centers[:, 0], records.centers[:, 1]], axis=1),
    )
    found = predict_records(forward, loaded.variables, records, protocol)
    back = predict_records(forward, loaded.variables, mirrored, protocol)
    back = np.stack(
        [
            flip_points(points, width, scheme.flip_permutation)
            for points, width in zip(back, widths, strict=True)
        ]
    )
    middle = (found + back) / 2
    offsets = 2 * (records.points - middle)[..., 0].mean(axis=1)
    error = offsets.std() / len(offsets) ** 0.5
    print(f"flip_offset {offsets.mean():.2f} +- {error:.2f} image pixels, {len(records)} faces")
    shares = offsets / inter_ocular(records.points, scheme)
    error = shares.std() / len(shares) ** 0.5
    print(f"{shares.mean():.5f} +- {error:.5f} inter-ocular distances: export --flip-offset")


if __name__ == "__main__":
    main()
