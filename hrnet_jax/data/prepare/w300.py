"""300W (Sagonas et al., ICCVW 2013): 68 points; 3148 training, 689 validation, 600 test faces.

Its parts are told by their folders: `afw`, `helen/trainset` and `lfpw/trainset` are for training,
`helen/testset` and `lfpw/testset` are the common and `ibug` the challenging faces of the full
validation set, `01_Indoor` and `02_Outdoor` are the private test set. Every picture has a `.pts`
file beside it. Its coordinates count pixels from 1 and are used as they are: whether those of the
official CSV files are the same or one less could not be established.
"""

from pathlib import PurePosixPath

from hrnet_jax.data.prepare import official_files
from hrnet_jax.data.prepare.faces import DataSet, Faces, Pictures, Problems
from hrnet_jax.data.prepare.pts import picture_beside, read_pts
from hrnet_jax.data.prepare.source import Source
from hrnet_jax.errors import HRNetError

WHERE = """\
afw.zip, helen.zip, ibug.zip, lfpw.zip and 300w.zip (the private test set; join its parts:
cat 300w.zip.00* > 300w.zip) from https://ibug.doc.ic.ac.uk/resources/300-W/ and
https://ibug.doc.ic.ac.uk/resources/facial-point-annotations/,
as they are or unpacked (or the official face_landmarks_300w_*.csv beside the pictures)."""
NUM_LANDMARKS = 68
PUBLISHED = {
    ("face_landmarks_300w_train", None): 3148,
    ("face_landmarks_300w_valid", None): 689,
    ("face_landmarks_300w_valid", "common"): 554,
    ("face_landmarks_300w_valid", "challenge"): 135,
    ("face_landmarks_300w_test", None): 600,
}
CONFIG = "configs/300w_w18.py"

# Folders (from the innermost on) -> split and subset.
_PARTS = {
    ("afw",): ("train", None),
    ("helen", "trainset"): ("train", None),
    ("lfpw", "trainset"): ("train", None),
    ("helen", "testset"): ("valid", "common"),
    ("lfpw", "testset"): ("valid", "common"),
    ("ibug",): ("valid", "challenge"),
    ("01_indoor",): ("test", "indoor"),
    ("02_outdoor",): ("test", "outdoor"),
}
_SUBSETS = {"train": (), "valid": ("common", "challenge"), "test": ("indoor", "outdoor")}


def read(source: Source, problems: Problems) -> DataSet:
    """The folders of `.pts` files, or else the official repository's CSV files."""
    annotations = [(name, _part(name)) for name in source.ending(".pts")]
    if all(part is None for _, part in annotations):
        return official_files.read(source, problems, "300w", WHERE)
    splits = {split: Faces(problems) for split in _SUBSETS}
    files = {}
    for name, part in annotations:
        if part is None:
            continue
        split, subset, depth = part
        with problems.guard():
            points = read_pts(source, name, NUM_LANDMARKS)
            found = picture_beside(source, name)
            picture = "/".join(PurePosixPath(found).parts[depth:])
            if picture in files:
                raise HRNetError(
                    f"{source.place(name)}: {picture} is annotated twice: leave one of the copies"
                )
            subsets = [] if subset is None else [subset]
            splits[split].add(source.place(name), picture, points, subsets=subsets)
            files[picture] = found
    return DataSet(
        {
            f"face_landmarks_300w_{split}": faces.records(str(source.folder), _SUBSETS[split])
            for split, faces in splits.items()
            if len(faces)
        },
        Pictures(source, files),
    )


def _part(name):
    """(split, subset, depth of its folder) of a file, by the innermost folders that tell it."""
    folders = tuple(folder.lower() for folder in PurePosixPath(name).parts[:-1])
    for depth in reversed(range(len(folders))):
        for part, (split, subset) in _PARTS.items():
            if folders[depth : depth + len(part)] == part:
                return split, subset, depth
    return None
