"""Batches: seeded per sample, restartable, the same from every loader."""

import dataclasses
import shutil

import numpy as np
import pytest
from PIL import Image

from hrnet_jax.data import pipeline
from hrnet_jax.data.records import read_csv
from hrnet_jax.errors import HRNetError
from hrnet_jax.images import ImageCache
from hrnet_jax.images.augment import Augmentation
from hrnet_jax.protocols import float_protocol
from hrnet_jax.schemes import get_scheme
from tests import tiny


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    root = tiny.write_dataset(tmp_path_factory.mktemp("pipeline") / "data", train=11)
    return read_csv(root / "face_landmarks_300w_train.csv", root / "images", 68)


def make(records, **settings):
    settings = {"batch_size": 4, "seed": 3} | settings
    augmentation = Augmentation(translation=0.1, brightness=0.2, occlusion_probability=0.5)
    scheme = get_scheme("300w")
    protocol = float_protocol(input_size=32)
    return pipeline.TrainBatches(
        records, protocol, augmentation, scheme.flip_permutation, **settings
    )


def assert_same(left, right):
    assert left.keys() == right.keys() == {"image", "points", "weights"}
    for key in left:
        np.testing.assert_array_equal(left[key], right[key])


def test_an_epoch_visits_every_face_once(records):
    batches = make(records)
    assert batches.steps_per_epoch == 3
    rows = np.concatenate([batches.rows(step)[1] for step in range(3)])
    assert sorted(rows) == list(range(11))
    assert sorted(np.concatenate([batches.rows(step)[1] for step in range(3, 6)])) == sorted(rows)
    assert list(np.concatenate([batches.rows(step)[1] for step in range(3, 6)])) != list(rows)
    assert [len(batches(step)["image"]) for step in range(3)] == [4, 4, 3]


def test_drop_last_leaves_only_full_batches(records):
    batches = make(records, drop_last=True)
    assert batches.steps_per_epoch == 2
    assert all(len(batches(step)["image"]) == 4 for step in range(4))


def test_batch_depends_on_seed_and_step_only(records):
    assert_same(make(records)(5), make(records)(5))
    assert not np.array_equal(make(records)(5)["image"], make(records, seed=4)(5)["image"])


def test_an_epoch_augments_anew(records):
    batches = make(records)
    first, second = batches.sample(0, 2), batches.sample(1, 2)
    assert not np.array_equal(first["points"], second["points"])


@pytest.mark.parametrize("loader", pipeline.LOADERS)
def test_loaders_give_the_same_batches_from_any_step(records, loader):
    if loader == "tfdata":
        pytest.importorskip("tensorflow", reason="pip install 'hrnet-jax[data]'")
    batches = make(records)
    for start in (0, 4):
        made = list(pipeline.iterate(loader, batches, start, 7, workers=3))
        assert len(made) == 7 - start
        for step, batch in enumerate(made, start):
            assert_same(batch, batches(step))


def test_the_shards_of_all_processes_are_the_batch(records):
    whole = make(records, batch_size=8, drop_last=True)
    parts = [make(records, batch_size=8, drop_last=True, shard=(i, 4)) for i in range(4)]
    for step in (0, 2):
        made = [part(step) for part in parts]
        assert [len(m["image"]) for m in made] == [2, 2, 2, 2]
        assert_same(whole(step), {k: np.concatenate([m[k] for m in made]) for k in made[0]})
    protocol = float_protocol(input_size=32)
    whole = pipeline.EvalBatches(records, protocol, 8)
    parts = [pipeline.EvalBatches(records, protocol, 8, (i, 4)) for i in range(4)]
    for step in range(whole.steps):
        made = [part(step) for part in parts]
        for key in ("image", "mask"):
            together = np.concatenate([m[key] for m in made])
            np.testing.assert_array_equal(whole(step)[key], together)


def test_shards_that_do_not_fit(records):
    with pytest.raises(HRNetError, match="train.batch_size: a batch of 4 .* 3 processes"):
        make(records, drop_last=True, shard=(0, 3))
    with pytest.raises(HRNetError, match="a batch of 3 .* 2 processes.*drop_last"):
        make(records, shard=(0, 2))  # 11 faces leave 3 for the last batch
    with pytest.raises(HRNetError, match="shard 2 of 2"):
        pipeline.EvalBatches(records, float_protocol(input_size=32), 4, (2, 2))


@pytest.mark.parametrize("loader", pipeline.LOADERS)
def test_a_bad_image_is_named(records, loader, tmp_path):
    if loader == "tfdata":
        pytest.importorskip("tensorflow", reason="pip install 'hrnet-jax[data]'")
    bad = dataclasses.replace(records, root=tmp_path)
    with pytest.raises(HRNetError, match=r"train \d+\.png"):
        list(pipeline.iterate(loader, make(bad), 0, 3))


@pytest.mark.parametrize("loader", pipeline.LOADERS)
def test_bad_images_can_be_skipped_and_counted(records, loader, tmp_path):
    """Their places are taken by the same other faces in every run, whatever the loader."""
    if loader == "tfdata":
        pytest.importorskip("tensorflow", reason="pip install 'hrnet-jax[data]'")
    shutil.copytree(records.root, tmp_path / "images")
    spoiled = dataclasses.replace(records, root=tmp_path / "images")
    bad = [records.names[3], records.names[8]]
    (spoiled.root / bad[0]).write_bytes((spoiled.root / bad[0]).read_bytes()[:200])
    (spoiled.root / bad[1]).unlink()
    batches, whole = make(spoiled, skip_bad=True), make(records)
    made = list(pipeline.iterate(loader, batches, 0, 6, workers=2))
    assert sorted(batches.bad) == sorted(bad)
    assert "corrupt or truncated" in batches.bad[bad[0]]
    assert "no such image file" in batches.bad[bad[1]]
    again = make(spoiled, skip_bad=True)
    for step, batch in enumerate(made):
        assert_same(batch, again(step))
        kept = ~np.isin(batches.rows(step)[1], [3, 8])
        for key in batch:
            np.testing.assert_array_equal(batch[key][kept], whole(step)[key][kept])
        assert batch["image"].any(axis=(1, 2, 3)).all()


def test_a_data_set_of_bad_images_stops_all_the_same(records, tmp_path):
    missing = dataclasses.replace(records, root=tmp_path)
    with pytest.raises(HRNetError, match="100 images in a row .*no such image file"):
        make(missing, skip_bad=True)(0)


def test_jpeg_files_are_read_once_as_long_as_they_fit(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    for name in ("a.jpg", "b.jpg"):
        Image.fromarray(image).save(tmp_path / name)
    size = (tmp_path / "a.jpg").stat().st_size
    cache = ImageCache(limit=size + 10)
    first, second = cache(tmp_path / "a.jpg"), cache(tmp_path / "b.jpg")
    assert cache(tmp_path / "a.jpg") is first
    assert cache(tmp_path / "b.jpg") is not second


def test_unknown_loader(records):
    with pytest.raises(HRNetError, match="'dali'.*auto, threads, tfdata"):
        pipeline.iterate("dali", make(records), 0, 1)


def test_eval_batches_are_in_order_and_of_one_size(records):
    batches = pipeline.EvalBatches(records, float_protocol(input_size=32), 4)
    made = [batches(step)["image"] for step in range(batches.steps)]
    assert [len(images) for images in made] == [4, 4, 4]
    crop = batches.protocol.crop(records.image(9), records.centers[9], records.sides[9])
    np.testing.assert_array_equal(made[2][1], crop)
    assert not made[2][3].any()
    masks = [batches(step)["mask"] for step in range(3)]
    np.testing.assert_array_equal(np.concatenate(masks), np.arange(12) < 11)
