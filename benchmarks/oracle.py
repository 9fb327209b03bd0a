"""What each codec costs: the NME of perfect heatmaps on real faces, as a Markdown table.

    python benchmarks/oracle.py ../shared/data/300w/face_landmarks_300w_valid.csv \\
        ../shared/data/300w_pair/test_300w.json ../shared/data/wflw_pair/test_wflw.json

An annotation file is a CSV in the official columns or a COCO-style JSON of mmpose; the images are
not needed. Each annotated face is mapped to its heatmaps, encoded, decoded and mapped back: what is
left is the error of a network that makes no mistake.
"""

import argparse
import functools
import json
from pathlib import Path

import jax
import numpy as np

from hrnet_jax import protocols
from hrnet_jax.codecs import DarkCodec, MsraCodec, UnbiasedCodec
from hrnet_jax.data.records import Records, read_csv
from hrnet_jax.evaluation.metrics import normaliser, summarise
from hrnet_jax.evaluation.scoring import nme_of_records
from hrnet_jax.evaluation.tables import format_table
from hrnet_jax.geometry import sides_of
from hrnet_jax.protocols import Protocol
from hrnet_jax.schemes import SCHEMES, Scheme


def oracle_protocols(scheme: Scheme, input_size: int) -> dict[str, Protocol]:
    """The protocols compared, by what the table calls them."""
    sigma = protocols.official(scheme.name).codec.sigma
    named = {
        "official: whole cells, quarter shift, whole pixels": protocols.official(scheme.name),
        "the same with float landmarks": Protocol("float", MsraCodec(sigma)),
        "mmpose without DARK": protocols.mmpose(MsraCodec(2.0)),
        "HIH": protocols.hih(),
        "DARK in mmpose's index coordinates": protocols.mmpose(DarkCodec(2.0, 11)),
        "float: fitted paraboloid": Protocol("float", UnbiasedCodec(1.5)),
    }
    return {name: Protocol(p.name, p.codec, input_size, p.padding) for name, p in named.items()}


@functools.partial(jax.jit, static_argnums=(0, 3))
def round_trip(codec, points, weights, size):
    """Points (N, L, 2), heatmap pixels, through perfect maps."""
    return codec.decode(codec.encode(points, weights, size))[0]


def oracle(records: Records, protocol: Protocol) -> np.ndarray:
    """The faces' landmarks (N, L, 2), image pixels, as perfect heatmaps would give them."""
    found = []
    for points, center, side in zip(records.points, records.centers, records.sides, strict=True):
        cells, weights = protocol.to_heatmap(points, center, side)
        size = protocol.heatmap_size
        cells = round_trip(protocol.codec, cells[None].astype(np.float32), weights[None], size)
        found.append(protocol.to_image(np.asarray(cells[0], np.float64), center, side))
    return np.stack(found)


def read_annotations(path: Path) -> tuple[Records, Scheme]:
    """The faces of an annotation file, and the scheme with that many landmarks."""
    if path.suffix == ".json":
        content = json.loads(path.read_text())
        faces = content["annotations"]
        names = {image["id"]: image["file_name"] for image in content["images"]}
        records = Records(
            names=tuple(names[face["image_id"]] for face in faces),
            root=path.parent,
            points=np.array([face["keypoints"] for face in faces]).reshape(len(faces), -1, 3)[
                ..., :2
            ],
            centers=np.array([face["center"] for face in faces], np.float64),
            sides=sides_of([face["scale"] for face in faces]),
        )
        return records, _scheme_with(records.points.shape[1])
    records = read_csv(path, path.parent)
    return records, _scheme_with(records.points.shape[1])


def _scheme_with(num_landmarks):
    return next(s for s in SCHEMES.values() if s.num_landmarks == num_landmarks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("annotations", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--input-size", type=int, default=256, help="of the crops, default 256")
    arguments = parser.parse_args()
    table, columns = {}, ["NME %"]
    for path in arguments.annotations:
        records, scheme = read_annotations(path)
        eyes = normaliser(records.points, scheme, records.box_sizes).mean()
        columns.append(f"{path.parent.name}: {len(records)} faces, eyes {eyes:.0f} px apart")
        for name, protocol in oracle_protocols(scheme, arguments.input_size).items():
            nme = summarise(nme_of_records(records, oracle(records, protocol), scheme))["nme"]
            table.setdefault(name, []).append(f"{nme:.3f}")
    print(format_table([[name, *row] for name, row in table.items()], columns))


if __name__ == "__main__":
    main()
