"""Batches on the device: the host's samples, seeded one by one, whatever the number of devices."""

import dataclasses
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hrnet_jax.codecs import MsraCodec
from hrnet_jax.data.device import DeviceBatches, check_memory
from hrnet_jax.data.loose import make_crops
from hrnet_jax.data.pipeline import TrainBatches
from hrnet_jax.data.records import Records
from hrnet_jax.data.sources import render_split
from hrnet_jax.errors import HRNetError, Stopped
from hrnet_jax.images.augment import RECIPES, Augmentation, Draw
from hrnet_jax.protocols import float_protocol, mmpose, official
from hrnet_jax.schemes import get_scheme
from hrnet_jax.tasks import train
from hrnet_jax.training.parallel import Preemption
from tests import tiny

SCHEME = get_scheme("300w")
AUGMENTATION = Augmentation(
    flip_offset=1.0, translation=0.1, contrast=0.3, blur_probability=0.5, occlusion_probability=0.5
)
PROTOCOLS = {
    "float": float_protocol(input_size=64),
    "mmpose": dataclasses.replace(mmpose(MsraCodec(2.0)), input_size=64),
}


def faces():
    """Rendered faces of about 70 px, two of them without all landmarks."""
    records = render_split(11, seed=0, size=128, name="face")
    records.points[2, 5] = records.points[3, 36] = np.nan
    return records


@pytest.fixture(scope="module")
def records():
    return faces()


def make(records, **settings):
    default = {"protocol": PROTOCOLS["float"], "augmentation": AUGMENTATION}
    default |= {"flip_permutation": SCHEME.flip_permutation, "batch_size": 4, "seed": 3}
    return DeviceBatches(records, **{**default, "drop_last": True, **settings})


@pytest.fixture(scope="module")
def made(records):
    """Batches of four, and their compiled function of the step."""
    batches = make(records)
    compiled = jax.jit(batches.batch)
    return batches, lambda step: jax.device_get(compiled(batches.cache, step))


class Fixed:
    """An augmentation that draws what it is told and leaves the pixels."""

    def __init__(self, draw, flip_offset):
        self.given, self.flip_offset = draw, flip_offset

    def draw(self, rng):
        return self.given

    def apply_pixels(self, image, rng):
        return image


def compare(batches, count=24):
    """Zooms of the loose crops, and the differences of image and points from the host's samples."""
    records, protocol, augmentation = batches.records, batches.protocol, batches.augmentation
    place = jax.jit(lambda face, draw: batches.place(face, Draw(**draw)))
    rng = np.random.default_rng(1)
    zooms, images, points = [], [], []
    for k in range(count):
        row, draw = k % len(records), augmentation.draw(rng)
        host = protocol.sample(
            records.image(row),
            *(table[row] for table in (records.points, records.centers, records.sides)),
            Fixed(draw, augmentation.flip_offset),
            SCHEME.flip_permutation,
            rng,
        )
        face = jax.tree.map(lambda array, row=row: array[row], batches.cache)
        image, placed, weights = place(
            face, {key: jnp.float32(value) for key, value in vars(draw).items()}
        )
        np.testing.assert_array_equal(weights, host["weights"])
        zooms.append(float(face["zooms"]))
        images.append(np.abs(np.asarray(image).astype(int) - host["image"]))
        points.append(np.abs(np.asarray(placed) - host["points"]))
    return np.array(zooms), np.array(images), np.array(points)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_same_draw_gives_the_host_s_crop(records, name):
    """Faces with fewer pixels than their loose crop: the host's bytes, but for its fixed point."""
    offset = {"flip_offset": 0.7} if name == "float" else {"flip_offset": -1.0}
    augmentation = dataclasses.replace(AUGMENTATION, **offset)
    protocol = dataclasses.replace(PROTOCOLS[name], input_size=128)
    zooms, images, points = compare(make(records, protocol=protocol, augmentation=augmentation))
    assert (zooms == 1).all()
    assert points.max() < 1e-4
    assert np.median(images) == 0 and np.quantile(images, 0.99) <= 3


def test_large_faces_are_nearly_the_host_s(records):
    """Faces with three times the pixels of the crop: what the area filter and the warp after do."""
    zooms, images, points = compare(make(records, protocol=float_protocol(input_size=32)))
    assert zooms.max() < 0.5
    assert points.max() < 1e-4
    inner = images[:, 2:-2, 2:-2]
    assert np.median(inner) <= 1 and np.quantile(inner, 0.99) <= 20


def cross(shape, center, reach=7.0, width=1.2):
    """A soft white cross about a point, continuous coordinates, 0 … 255."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    x, y = x - center[0], y - center[1]
    lines = [np.exp(-((a / width) ** 2) / 2) * (np.abs(b) < reach) for a, b in ((x, y), (y, x))]
    return np.rint(255 * np.maximum(*lines))


def centroid(plane):
    y, x = np.mgrid[: plane.shape[0], : plane.shape[1]] + 0.5
    plane = plane.astype(float)
    return np.array([(plane * x).sum(), (plane * y).sum()]) / plane.sum()


def test_a_cross_on_a_landmark_stays_on_it():
    """Rendered, warped and found again, at the landmark that the flip makes of it."""
    left, right = SCHEME.normaliser
    rng = np.random.default_rng(0)
    pictures, points = np.zeros((6, 120, 140, 3), np.uint8), np.full((6, 68, 2), np.nan)
    for k in range(6):
        for channel, (landmark, x) in enumerate(((left, 45), (right, 85))):
            points[k, landmark] = [x, 60] + rng.uniform(-3, 3, 2)
            # What a reflection would make of the reach is not seen: whole pixels about the point.
            pictures[k, ..., channel] = cross((120, 140), np.round(points[k, landmark]))
            points[k, landmark] = np.round(points[k, landmark])
    records = Records(
        names=tuple(map(str, range(6))),
        root=None,
        points=points,
        centers=np.full((6, 2), [65.3, 59.6]),
        sides=np.full(6, 80.0),
        pictures=pictures,
    )
    augmentation = Augmentation(translation=0.05)
    batches = make(records, augmentation=augmentation, batch_size=6)
    batch, seen = jax.jit(batches.batch), set()
    for step in range(8):
        made = jax.tree.map(np.asarray, batch(batches.cache, step))
        for image, cells in zip(made["image"], made["points"], strict=True):
            found = [centroid(image[..., channel]) for channel in (0, 1)]
            landmarks = 4 * cells[[left, right]]
            flipped = np.abs(found - landmarks).max() > 10
            assert np.abs(found - landmarks[:: -1 if flipped else 1]).max() < 0.25
            seen.add(flipped)
    assert seen == {True, False}


def test_whole_batches_look_like_the_host_s(records, made):
    """Grey values and landmarks of many augmented samples have the host's means and spreads."""
    _, batch = made
    host = TrainBatches(
        records,
        PROTOCOLS["float"],
        AUGMENTATION,
        SCHEME.flip_permutation,
        4,
        seed=3,
        drop_last=True,
    )
    left, right = [batch(step) for step in range(120)], [host(step) for step in range(120)]
    for key, spread in (("image", 3.0), ("points", 0.3)):
        a, b = (np.concatenate([m[key] for m in part]).astype(float) for part in (left, right))
        assert a.shape == b.shape and left[0][key].dtype == right[0][key].dtype
        assert np.abs(a.mean(axis=0) - b.mean(axis=0)).mean() < spread
        assert np.abs(a.std(axis=0) - b.std(axis=0)).mean() < spread
    shown = [np.mean([m["weights"].mean() for m in part]) for part in (left, right)]
    assert shown[0] == pytest.approx(shown[1], abs=1e-3)


def test_an_epoch_visits_every_face_once(records):
    batches = make(records[:8])
    epochs = [np.concatenate([batches.rows(2 * e + k)[1] for k in (0, 1)]) for e in range(3)]
    assert batches.steps_per_epoch == 2
    assert all(sorted(rows) == list(range(8)) for rows in epochs)
    assert len({tuple(rows) for rows in epochs}) == 3
    assert [int(batches.rows(step)[0]) for step in range(5)] == [0, 0, 1, 1, 2]


def test_a_batch_depends_on_seed_and_step_only(records, made):
    _, batch = made
    again = make(records)
    expected = jax.device_get(jax.jit(again.batch)(again.cache, 6))
    jax.tree.map(np.testing.assert_array_equal, batch(6), expected)
    assert not np.array_equal(batch(5)["image"], batch(6)["image"])
    assert not np.array_equal(again.rows(6)[1], make(records, seed=4).rows(6)[1])


ON_FOUR_DEVICES = """
import jax, re, sys, numpy as np
from tests import test_device as t
records = t.faces()
mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
batches = t.make(records, mesh=mesh)
compiled = jax.jit(batches.batch).lower(batches.cache, 6).compile()
made = compiled(batches.cache, 6)
assert {str(v.sharding.spec[0]) for v in made.values()} == {"data"}, made["image"].sharding
found = set(re.findall("all-gather|all-reduce|all-to-all|collective", compiled.as_text()))
assert not found, found
np.savez(sys.argv[1], **made)
"""


def test_devices_cut_their_own_rows_without_talking(made, tmp_path):
    """Four devices: the bits of one, and a program without a single collective."""
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "4", "JAX_PLATFORMS": "cpu"}
    file = str(tmp_path / "batch.npz")
    subprocess.run([sys.executable, "-c", ON_FOUR_DEVICES, file], env=environment, check=True)
    with np.load(file) as found:
        jax.tree.map(np.testing.assert_array_equal, dict(found), made[1](6))


def test_the_crops_are_stored_and_read_again(records, tmp_path, monkeypatch):
    file = tmp_path / "crops.safetensors"
    first = make(records, file=str(file)).cache
    monkeypatch.setattr(Records, "image", None)  # no picture is opened
    again = make(records, file=str(file)).cache
    jax.tree.map(np.testing.assert_array_equal, first, again)
    for other in (
        make(records[:8], file=str(file)),
        make(records, file=str(file), protocol=PROTOCOLS["mmpose"]),
        make(records, file=str(file), augmentation=RECIPES["hih"]),
    ):
        with pytest.raises(HRNetError, match="crops.safetensors does not hold the crops of these"):
            _ = other.cache
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(HRNetError, match="crops.safetensors is damaged"):
        _ = make(records, file=str(file)).cache


def test_loose_crops_are_whole_pixels_where_they_fit(records):
    protocol = float_protocol(input_size=256)
    crops = make_crops(records, protocol, Augmentation())
    assert (crops["zooms"] == 1).all()
    size = crops["images"].shape[-1]
    assert size < 1.8 * records.sides.max() * protocol.padding  # not what 256 px would take
    x, y = np.rint(crops["anchors"][0] + 0.5 - records.centers[0]).astype(int)  # of the picture
    corner = crops["images"][0][:, max(y, 0) : y + 128, max(x, 0) : x + 128]
    picture = np.moveaxis(records.image(0), -1, 0)[:, max(-y, 0) :, max(-x, 0) :]
    rows, columns = (min(pair) for pair in zip(corner.shape[1:], picture.shape[1:], strict=True))
    np.testing.assert_array_equal(corner[:, :rows, :columns], picture[:, :rows, :columns])


def test_what_it_does_not_do_is_refused(records):
    with pytest.raises(HRNetError, match="device does not go with protocol .official"):
        make(records, protocol=official("300w"))
    with pytest.raises(HRNetError, match="11 faces leave 3 over .* train.drop_last=True"):
        make(records, drop_last=False)
    far = dataclasses.replace(records, sides=records.sides * 100)
    with pytest.raises(HRNetError, match="face_00000: .*its annotated box is wrong"):
        _ = make(far).cache


def test_a_device_without_the_memory_is_refused():
    def device(**stats):
        return SimpleNamespace(memory_stats=lambda: stats or None)

    check_memory(2**40, [device()])  # a CPU does not tell
    check_memory(2**30, [device(bytes_limit=2**31, bytes_in_use=2**30)])
    with pytest.raises(HRNetError, match=r"take 1\.50 GiB, but .* has 1\.00 GiB left"):
        check_memory(3 * 2**29, [device(bytes_limit=2**31, bytes_in_use=2**30)])


def test_the_memory_is_what_the_cache_takes(records):
    batches = make(records)
    assert batches.nbytes == sum(array.nbytes for array in batches.cache.values())


def test_a_large_face_at_the_border_of_its_picture():
    """Black where the box leaves the picture, whose pixels nearest to there may differ."""
    rng = np.random.default_rng(0)
    picture = cv2.GaussianBlur(rng.integers(60, 256, (500, 500, 3), np.uint8), (0, 0), 9)
    records = Records(
        names=("large",),
        root=None,
        points=np.full((1, 68, 2), 100.0),
        centers=np.array([[120.0, 130.0]]),
        sides=np.array([400.0]),
        pictures=picture[None],
    )
    zooms, images, points = compare(make(records, batch_size=1), count=8)
    assert zooms[0] < 0.3
    assert np.quantile(images, 0.95) <= 2 and np.quantile(images, 0.99) <= 30
    assert points.max() < 1e-4


def test_training_stops_and_goes_on_without_its_pictures(tmp_path, monkeypatch):
    root, workdir = tiny.write_dataset(tmp_path / "data"), tmp_path / "run"
    config = tiny.get_config(root)
    config.model.name = tiny.PLAIN
    config.data.update(source="device", cache=str(tmp_path / "crops.safetensors"))
    config.train.update(epochs=2, steps_per_call=3)
    with monkeypatch.context() as patch:
        patch.setattr(Preemption, "requested", lambda self: "SIGTERM")
        with pytest.raises(Stopped, match="saved step 3 of 6"):
            train(config, workdir)
    for picture in (root / "images").glob("train*"):
        picture.unlink()
    assert train(config, workdir)["step"] in (3, 6)
    lines = map(json.loads, (workdir / "log.jsonl").read_text().splitlines())
    losses = {line["step"]: line["loss"] for line in lines if "loss" in line}
    assert list(losses) == [3, 6] and losses[6] < losses[3]
