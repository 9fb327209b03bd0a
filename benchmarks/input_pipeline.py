"""Samples per second of the input pipeline beside the floor of decoding and one warp, as a table.

    python benchmarks/input_pipeline.py ../shared/data/ytf68 ../shared/data/wflw_mini \\
        --output=input_pipeline.json

A folder holds face_landmarks_*_train.csv in the official columns and images/, or WFLW's original
archives. The floor is one thread that does nothing but cv2.imdecode of the whole file (from memory)
and cv2.warpAffine to the crop, for the same faces with the same random boxes. "Per core" divides by
the processor time of all threads, "elapsed" by the clock's. Of some repeats the best of each
counts, floor and loaders in turn, after one that fills the caches as a first epoch does. With one
worker both columns agree on an idle machine; two threads of one core share it, so that more workers
show less per core there.
"""

import argparse
import json
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np

from hrnet_jax.data import pipeline
from hrnet_jax.data.records import Records, read_csv
from hrnet_jax.evaluation.tables import format_table
from hrnet_jax.files import open_atomically
from hrnet_jax.geometry import crop_matrix, landmark_box
from hrnet_jax.images.augment import Augmentation
from hrnet_jax.protocols import float_protocol, official
from hrnet_jax.schemes import SCHEMES

BATCH = 16
ALL = Augmentation(
    translation=0.04,
    brightness=0.1,
    contrast=0.3,
    colour=0.1,
    grey_probability=0.1,
    blur_probability=0.3,
    occlusion_probability=0.3,
)
PACKAGES = ("numpy", "opencv-python-headless", "pillow", "tensorflow", "tensorflow-cpu")


def read_folder(folder: Path) -> Records:
    """The training faces of a data set; see the module's text for its layouts."""
    lists = list(folder.glob("WFLW_annotations/*/list_98pt_rect_attr_train.txt"))
    if lists:
        rows = [line.split() for line in lists[0].read_text().splitlines()]
        points = np.array([row[:196] for row in rows], np.float64).reshape(-1, 98, 2)
        boxes = [landmark_box(face) for face in points]
        return Records(
            names=tuple(row[-1] for row in rows),
            root=folder / "WFLW_images",
            points=points,
            centers=np.stack([center for center, _ in boxes]),
            sides=np.array([side for _, side in boxes]),
        )
    (path,) = folder.glob("face_landmarks_*_train.csv")
    return read_csv(path, folder / "images")


def floor(batches: pipeline.TrainBatches, steps: int):
    """A function that decodes and warps the faces of the first steps; only that is to be timed."""
    records, protocol = batches.records, batches.protocol
    faces = []
    for step in range(steps):
        epoch, rows = batches.rows(step)
        for row in rows:
            draw = batches.draw(epoch, row)
            side = records.sides[row] * protocol.padding * draw.scale
            size = protocol.input_size
            matrix = crop_matrix(records.centers[row], side, size, draw.rotation)
            faces.append((np.fromfile(records.path(row), np.uint8), matrix, (size, size)))

    def run():
        for data, matrix, size in faces:
            cv2.warpAffine(cv2.imdecode(data, cv2.IMREAD_COLOR), matrix, size)

    return run


def timed(run) -> tuple[float, float]:
    """Processor and elapsed seconds."""
    start = time.process_time(), time.perf_counter()
    run()
    return time.process_time() - start[0], time.perf_counter() - start[1]


def measure(records: Records, protocol, augmentation, loaders, workers, steps, repeats) -> dict:
    """Samples per second {"floor": (per core, elapsed), loader: (…)}, the best of the repeats."""
    scheme = next(s for s in SCHEMES.values() if s.num_landmarks == records.points.shape[1])
    batches = pipeline.TrainBatches(
        records, protocol, augmentation, scheme.flip_permutation, BATCH, 0, drop_last=True
    )
    runs = {"floor": floor(batches, steps)}
    for loader in loaders:
        runs[loader] = lambda loader=loader: list(
            batch["image"][0, 0, 0, 0]
            for batch in pipeline.iterate(loader, batches, 0, steps, workers)
        )
    for run in runs.values():
        run()
    times = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            times[name].append(timed(run))
    return {
        name: [steps * BATCH / best for best in np.min(values, axis=0).tolist()]
        for name, values in times.items()
    }


def describe_machine() -> dict:
    """Processor and versions, for the record."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except ModuleNotFoundError:
            continue
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "hrnet-jax": version("hrnet-jax"),
        **found,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--input-size", type=int, default=256, help="of the crops, default 256")
    parser.add_argument("--steps", type=int, default=32, help=f"batches of {BATCH}, default 32")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--workers", type=int, default=1, help="threads, default 1; 0: all cores")
    parser.add_argument("--loaders", nargs="+", default=list(pipeline.LOADERS))
    parser.add_argument("--output", type=Path, help="a JSON file for the figures")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)  # the loaders have threads of their own
    size = arguments.input_size
    recipes = [
        ("float, official changes", float_protocol(input_size=size), Augmentation()),
        ("float, all changes", float_protocol(input_size=size), ALL),
        ("official", official("300w"), Augmentation()),
    ]
    results, table = [], []
    for folder in arguments.folders:
        records = read_folder(folder)
        for name, protocol, augmentation in recipes:
            speeds = measure(
                records,
                protocol,
                augmentation,
                arguments.loaders,
                arguments.workers,
                arguments.steps,
                arguments.repeats,
            )
            for loader, (core, elapsed) in speeds.items():
                share = core / speeds["floor"][0]
                row = {"data": folder.name, "recipe": name, "loader": loader}
                row |= {"per_core": core, "elapsed": elapsed, "of_floor": share}
                results.append(row)
                cells = [folder.name, name, loader]
                table.append([*cells, f"{core:.0f}", f"{share:.2f}", f"{elapsed:.0f}"])
    columns = ["data", "protocol, augmentation", "loader"]
    print(format_table(table, [*columns, "samples/s per core", "of the floor", "elapsed"]))
    machine = describe_machine()
    print("\n" + ", ".join(f"{key} {value}" for key, value in machine.items()))
    if arguments.output:
        with open_atomically(arguments.output) as file:
            json.dump({"machine": machine, "batch": BATCH, "results": results}, file, indent=1)


if __name__ == "__main__":
    main()
