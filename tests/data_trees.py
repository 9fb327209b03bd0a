"""Small data sets in the layouts of the originals, with noise for pictures."""

from pathlib import Path

import h5py
import numpy as np
from PIL import Image

WFLW_FLAGS = [(1, 0, 0, 0, 1, 0), (0, 0, 0, 0, 0, 1), (0, 1, 1, 1, 0, 0)]


def picture(path, size=(60, 50), seed=0) -> Path:
    """Writes noise of (width, height)."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8)).save(path)
    return path


def points(count, seed=0) -> np.ndarray:
    """(count, 2) within a picture, with three decimals."""
    return np.random.default_rng(seed).uniform(12, 38, (count, 2)).round(3)


def wflw_line(name, seed=0, flags=WFLW_FLAGS[0]) -> str:
    coordinates = [f"{value:.6f}" for value in points(98, seed).ravel()]
    return " ".join([*coordinates, "10 11 39 41", *map(str, flags), name])


def wflw(folder) -> Path:
    """Three training faces, two of them in one picture, and two test faces."""
    folder = Path(folder)
    lists = folder / "WFLW_annotations" / "list_98pt_rect_attr_train_test"
    lists.mkdir(parents=True)
    names = {"train": ["0--Parade/a.jpg", "0--Parade/a.jpg", "1--Riot/b.png"]}
    names["test"] = ["1--Riot/c.jpg", "2--Demo/d.jpg"]
    seed = 0
    for split, files in names.items():
        lines = []
        for name, flags in zip(files, WFLW_FLAGS, strict=False):
            seed += 1
            picture(folder / "WFLW_images" / name, seed=seed)
            lines.append(wflw_line(name, seed, flags))
        (lists / f"list_98pt_rect_attr_{split}.txt").write_text("\n".join(lines) + "\n")
    return folder


def pts_text(values, header=True) -> str:
    lines = [f"{x:.3f} {y:.3f}" for x, y in values]
    if header:
        lines = ["version: 1", f"n_points:  {len(values)}", "{", *lines, "}"]
    return "\n".join(lines) + "\n"


W300_FACES = {
    "afw/134212_1": "jpg",
    "helen/trainset/100032540_1": "jpg",
    "lfpw/trainset/image_0001": "png",
    "helen/testset/296814969_3": "jpg",
    "lfpw/testset/image_0001": "png",
    "ibug/image_092 _01": "jpg",
    "300W/01_Indoor/indoor_001": "png",
    "300W/02_Outdoor/outdoor_001": "png",
}


def w300(folder) -> Path:
    """A face for every part of 300W, every second one without a header."""
    folder = Path(folder)
    for seed, (name, suffix) in enumerate(W300_FACES.items()):
        picture(folder / f"{name}.{suffix}", seed=seed)
        (folder / f"{name}.pts").write_text(pts_text(points(68, seed), header=seed % 2 == 0))
    return folder


def cofw(folder, count=3) -> Path:
    """Both .mat files as MATLAB v7.3 lays them out; every second picture is grey."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for split, suffix in (("train", "Tr"), ("test", "T")):
        with h5py.File(folder / f"COFW_{split}_color.mat", "w") as mat:
            rng = np.random.default_rng(7)
            faces = [points(29, seed) for seed in range(count)]
            occluded = rng.integers(0, 2, (count, 29))
            rows = [
                np.concatenate([face[:, 0], face[:, 1], flags])
                for face, flags in zip(faces, occluded, strict=True)
            ]
            mat[f"phis{suffix}"] = np.array(rows).T  # (87, N)
            mat[f"bboxes{suffix}"] = np.tile([[10.0], [11.0], [29.0], [30.0]], count)
            references = mat.create_dataset(f"Is{suffix}", (1, count), h5py.ref_dtype)
            for i in range(count):
                shape = (3, 60, 50) if i % 2 == 0 else (60, 50)  # width before height
                pixels = mat.create_dataset(
                    f"#refs#/{i}", data=rng.integers(0, 256, shape, np.uint8)
                )
                references[0, i] = pixels.ref
    return folder


def official_csv(path, names, num_landmarks, box_size=None) -> Path:
    """An annotation file of the official repository, centres and scales by its rule."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    axes = [f"original_{i}_{axis}" for i in range(num_landmarks) for axis in "xy"]
    header = ["image_name", "scale", *["box_size"] * (box_size is not None), "center_w", "center_h"]
    lines = [",".join(header + axes)]
    for seed, name in enumerate(names):
        face = points(num_landmarks, seed)
        low, high = np.floor(face.min(0)), np.ceil(face.max(0))
        box = [(high - low).max() / 200, *(low + high) / 2]
        if box_size is not None:
            box = [box_size / 200, box_size, 26, 27]
        lines.append(",".join(map(str, [name, *box, *face.ravel()])))
    path.write_text("\n".join(lines) + "\n")
    return path
