"""The TensorFlow Datasets builders, offline, on generated downloads."""

import io
import warnings

import numpy as np
import pytest
from PIL import Image

from tests import data_trees

with warnings.catch_warnings():  # TensorFlow and its protocol buffers deprecate themselves
    warnings.simplefilter("ignore")
    tfds = pytest.importorskip("tensorflow_datasets")
    import hrnet_jax.data.tfds as builders
from hrnet_jax.data.prepare import prepare

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def download_aflw(folder):
    names = ["0/a.jpg", "0/b.jpg"]
    for name in names:
        data_trees.picture(folder / "images" / name)
    for split in ("train", "test"):
        data_trees.official_csv(folder / f"face_landmarks_aflw_{split}.csv", names, 19, 50)


DOWNLOADS = {
    "wflw": data_trees.wflw,
    "w300": data_trees.w300,
    "cofw": data_trees.cofw,
    "aflw": download_aflw,
}


@pytest.mark.parametrize("name", DOWNLOADS)
def test_a_builder_gives_the_faces_that_prepare_gives(tmp_path, name):
    manual = tmp_path / "downloads" / "manual" / name
    DOWNLOADS[name](manual)
    builder = tfds.builder(name, data_dir=tmp_path)
    builder.download_and_prepare()
    prepared = prepare(name.replace("w300", "300w"), manual, tmp_path / "out").splits
    assert {split.rpartition("_")[2] for split in prepared} == set(builder.info.splits)
    for split, records in prepared.items():
        decoders = {"image": tfds.decode.SkipDecoding()}
        examples = list(
            tfds.as_numpy(builder.as_dataset(split=split.rpartition("_")[2], decoders=decoders))
        )
        assert len(examples) == len(records)
        rows = {points.tobytes(): row for row, points in enumerate(records.points)}
        for example in examples:
            row = rows.pop(example["points"].tobytes())
            assert example["image_name"].decode() == records.names[row]
            np.testing.assert_array_equal(example["center"], records.centers[row])
            assert example["scale"] == records.scales[row]
            path = tmp_path / "out" / "images" / records.names[row]
            assert example["image"] == path.read_bytes()
            Image.open(io.BytesIO(example["image"])).verify()
            for subset, mask in records.subsets.items():
                assert example["subsets"][subset] == mask[row]
            for feature, column in builder.EXTRAS.items():
                np.testing.assert_array_equal(example[feature], getattr(records, column)[row])


def test_instructions_say_where_to_download():
    for name in builders.__all__:
        text = getattr(builders, name).MANUAL_DOWNLOAD_INSTRUCTIONS
        assert "https://" in text and f"folder {name.lower()}" in text
