"""Protocols: the official landmarks, and that crop, points and way back agree."""

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrnet_jax.codecs import (
    CODECS,
    DarkCodec,
    HIHCodec,
    MsraCodec,
    OfficialCodec,
    UnbiasedCodec,
    codec_to_dict,
)
from hrnet_jax.errors import HRNetError
from hrnet_jax.geometry import crop_matrix
from hrnet_jax.images.augment import RECIPES, Augmentation
from hrnet_jax.protocols import FloatProtocol, Protocol, float_protocol, mmpose, official
from hrnet_jax.schemes import get_scheme

DATA = Path(__file__).parent / "data"
MIRROR = Augmentation(scale=0, rotation=0, flip_probability=1)


def test_official_landmarks_and_nme():
    reference = np.load(DATA / "official_decode_29.npz")
    protocol = official("cofw")
    points, _ = protocol.codec.decode(reference["heatmaps_29"].transpose(0, 2, 3, 1))
    # The padding is in there already.
    sides = 200 * (reference["scale_29"].astype(np.float64) / protocol.padding)
    landmarks = np.stack(
        [
            protocol.to_image(*face)
            for face in zip(points, reference["center_29"], sides, strict=True)
        ]
    )
    np.testing.assert_array_equal(landmarks, reference["landmarks_29"])
    truth = reference["truth_29"].astype(np.float64)
    distance = np.linalg.norm(landmarks - truth, axis=-1).mean(axis=-1)
    eyes = np.linalg.norm(truth[:, 8] - truth[:, 9], axis=-1)
    np.testing.assert_allclose(distance / eyes, reference["nme_29"], atol=1e-6)


@pytest.mark.parametrize(("scheme", "sigma"), [("300w", 1.0), ("wflw", 1.5), ("aflw", 1.5)])
def test_official_settings(scheme, sigma):
    assert official(scheme) == Protocol("official", OfficialCodec(sigma), 256, 1.25, False)
    assert official(scheme).heatmap_size == 64


def test_official_points_are_truncated_and_weighted():
    # Box of 64 px at (32, 32) with padding 1: heatmap pixels are image pixels.
    protocol = Protocol("official", OfficialCodec(), padding=1.0)
    points = np.array([[10.7, 20.2], [-0.6, 5.0], [-3.2, 0.0], [5.0, -2.0], [np.nan, 3.0]])
    cells, weights = protocol.to_heatmap(points, (32, 32), 64)
    np.testing.assert_array_equal(cells[:4], [[10, 20], [0, 5], [-3, 0], [5, -2]])
    np.testing.assert_array_equal(weights, [1, 1, 0, 0, 0])
    assert np.isfinite(cells).all()
    # Back in the image v becomes trunc(v) + 1.
    np.testing.assert_array_equal(
        protocol.to_image([[10.5, 20.75], [-0.5, -0.5]], (32, 32), 64), [[11, 21], [1, 1]]
    )


def test_float_points_stay_continuous():
    protocol = float_protocol()
    points = np.array([[10.7, 20.2], [500.0, -30.0], [np.nan, 3.0], [np.inf, 3.0]])
    cells, weights = protocol.to_heatmap(points, (40, 50), 80, 20)
    np.testing.assert_array_equal(weights, [1, 1, 0, 0])
    np.testing.assert_array_equal(cells[2:], 0)
    matrix = crop_matrix((40, 50), 80 * 1.25, 64, 20)
    np.testing.assert_allclose(cells[0], matrix[:, :2] @ points[0] + matrix[:, 2])


@settings(deadline=None)
@given(
    st.sampled_from(["float", "mmpose"]),
    st.tuples(st.floats(-500, 2000), st.floats(-500, 2000)),
    st.floats(10, 2000),
    st.sampled_from([64, 128, 256]),
)
def test_continuous_round_trip(name, center, side, input_size):
    protocol = Protocol(name, UnbiasedCodec(), input_size)
    points = np.random.default_rng(0).uniform(-500, 2000, (10, 2))
    cells, _ = protocol.to_heatmap(points, center, side)
    np.testing.assert_allclose(protocol.to_image(cells, center, side), points, atol=1e-6)


@settings(max_examples=30)
@given(
    st.tuples(st.floats(0, 500), st.floats(0, 500)), st.floats(100, 600), st.integers(0, 2**32 - 1)
)
def test_official_round_trip_stays_within_half_a_cell_and_two_pixels(center, side, seed):
    protocol = official("300w")
    points = center + np.random.default_rng(seed).uniform(-side / 2, side / 2, (10, 2))
    cells, _ = protocol.to_heatmap(points, center, side)
    back = protocol.to_image(cells + 0.5, center, side)
    # trunc(v) + 1 is within one pixel of v, two where v is negative.
    assert np.abs(back - points).max() <= protocol.padding * side / 64 / 2 + 2


def _picture(points, shape=(150, 180)):
    """White dots at `points` (continuous coordinates) on black."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    image = np.zeros(shape)
    for px, py in points:
        image += 255 * np.exp(-((x - px) ** 2 + (y - py) ** 2) / 8)
    return np.repeat(image.clip(0, 255)[..., None], 3, axis=-1).astype(np.uint8)


def _distances_to_dots(sample, stride=4, reach=4):
    """For each mapped point the distance to the dot near it in the crop, crop pixels."""
    grey = sample["image"][..., 0].astype(float)
    y, x = np.mgrid[: grey.shape[0], : grey.shape[1]] + 0.5
    for px, py in sample["points"] * stride:
        near = grey * (np.hypot(x - px, y - py) < reach * 2)
        yield np.hypot((near * x).sum() / near.sum() - px, (near * y).sum() / near.sum() - py)


DOTS = np.array([[60.3, 40.8], [120.1, 44.6], [91.5, 75.2], [70.0, 110.9], [112.4, 108.2]])
SWAP = np.array([1, 0, 2, 4, 3])
BOX = ((90.0, 75.0), 100.0)


@pytest.mark.parametrize("seed", range(4))
def test_float_sample_shows_its_points(seed):
    protocol = float_protocol(input_size=128)
    augmentation = Augmentation(flip_probability=0.5, translation=0.05)
    rng = np.random.default_rng(seed)
    sample = protocol.sample(_picture(DOTS), DOTS, *BOX, augmentation, SWAP, rng)
    assert sample["image"].shape == (128, 128, 3) and sample["image"].dtype == np.uint8
    assert sample["points"].dtype == sample["weights"].dtype == np.float32
    assert sample["center"].dtype == np.float64 and isinstance(sample["side"], float)
    assert max(_distances_to_dots(sample)) < 0.3
    np.testing.assert_array_equal(sample["weights"], 1)


@pytest.mark.parametrize("seed", range(4))
def test_mmpose_sample_shows_its_points(seed):
    """With everything counted in index coordinates: half a pixel less than continuous ones."""
    dots = DOTS - 0.5  # where mmpose would annotate them
    augmentation = RECIPES["mmpose1"]
    box, rng = (np.array(BOX[0]) - 0.5, BOX[1]), np.random.default_rng(seed)
    sample = mmpose(DarkCodec()).sample(_picture(DOTS), dots, *box, augmentation, SWAP, rng)
    # heatmap pixel p -> index p - 0.5 -> crop index 4 (p - 0.5) -> continuous crop pixel + 0.5
    sample["points"] = sample["points"] - 0.5 + 0.5 / 4
    assert max(_distances_to_dots(sample)) < 0.3


def test_mmpose_crop_is_opencvs_three_point_affine():
    image = np.random.default_rng(0).integers(0, 256, (150, 180, 3), np.uint8)
    center, box, angle = np.array([88.5, 71.0]), 100 * 1.25, np.deg2rad(25)
    up = box / 2 * np.array([np.sin(angle), -np.cos(angle)])
    source = np.stack([center, center + up, center + up + [up[1], -up[0]]]).astype(np.float32)
    target = np.array([[128, 128], [128, 0], [0, 0]], np.float32)
    matrix = cv2.getAffineTransform(source, target)
    expected = cv2.warpAffine(image, matrix, (256, 256), flags=cv2.INTER_LINEAR)
    crop = mmpose(DarkCodec()).crop(image, center, 100, 25)
    assert np.mean(crop != expected) < 1e-3 and np.abs(crop - expected.astype(int)).max() < 10
    # A point of the image lies at a quarter of its crop index, in heatmap pixels half a one more.
    cells, _ = mmpose(DarkCodec()).to_heatmap([[100.0, 80.0]], center, 100, 25)
    np.testing.assert_allclose(cells[0], matrix @ [100, 80, 1] / 4 + 0.5, atol=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_official_sample_shows_its_points(seed):
    rng = np.random.default_rng(seed)
    sample = official("300w").sample(_picture(DOTS), DOTS, *BOX, Augmentation(), SWAP, rng)
    np.testing.assert_array_equal(sample["points"], np.trunc(sample["points"]))
    sample["points"] = sample["points"] + 0.5  # a whole cell stands for its centre
    assert max(_distances_to_dots(sample, reach=6)) < 5  # half a cell diagonal, and two pixels


@pytest.mark.parametrize("protocol", [official("wflw"), float_protocol()])
def test_mirrored_sample(protocol):
    image, points, width = _picture(DOTS), DOTS, 180
    center, side = (85.0, 75.0), 100.0
    mirrored = protocol.sample(image, points, center, side, MIRROR, SWAP, np.random.default_rng(0))
    other = points[SWAP] * [-1, 1] + [width, 0]
    by_hand = protocol.sample(image[:, ::-1].copy(), other, (width - 85.0, 75.0), side)
    assert mirrored.keys() == by_hand.keys()
    for key in by_hand:
        np.testing.assert_array_equal(mirrored[key], by_hand[key], err_msg=key)
    np.testing.assert_array_equal(image, _picture(DOTS))  # inputs are left alone
    assert center == (85.0, 75.0)


def test_same_seed_same_sample_and_nothing_random_without_augmentation():
    protocol = float_protocol(input_size=64)
    augmentation = Augmentation(brightness=0.2, blur_probability=0.5, occlusion_probability=0.5)
    first, second = (
        protocol.sample(_picture(DOTS), DOTS, *BOX, augmentation, SWAP, np.random.default_rng(7))
        for _ in range(2)
    )
    for key in first:
        np.testing.assert_array_equal(first[key], second[key])
    plain = protocol.sample(_picture(DOTS), DOTS, *BOX)
    np.testing.assert_array_equal(plain["center"], BOX[0])
    assert plain["side"] == BOX[1]
    np.testing.assert_array_equal(plain["image"], protocol.crop(_picture(DOTS), *BOX))


def test_five_hundred_rotated_boxes_leave_no_official_crop_without_its_shape():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (40, 60, 3), np.uint8)
    protocol = Protocol("official", OfficialCodec(), input_size=32)
    permutation = get_scheme("300w").flip_permutation
    points = rng.uniform(0, 40, (68, 2))
    for _ in range(500):
        center, side = rng.uniform(-20, 80, 2), rng.uniform(4, 400)
        sample = protocol.sample(image, points, center, side, Augmentation(), permutation, rng)
        assert sample["image"].shape == (32, 32, 3)


@dataclasses.dataclass(frozen=True)
class OwnCodec:
    """A codec of the user's own, which says nothing of itself."""

    radius: float = 3.0

    def encode(self, points, weights, size):
        raise AssertionError

    def decode(self, heatmaps):
        raise AssertionError


@dataclasses.dataclass(frozen=True)
class OwnWholeCodec(OwnCodec):
    whole_cells = True
    flip_test = False


OWN = f"{__name__}:OwnCodec"


class RotatedProtocol(FloatProtocol, name="rotated"):
    """A protocol of the user's own."""

    def crop(self, image, center, side, rotation=0.0):
        return super().crop(image, center, side, rotation + 90)


@given(
    st.sampled_from(["official", "float", "mmpose", "rotated"]),
    st.one_of(
        st.builds(OwnCodec, st.floats(0.5, 4)),
        st.builds(OfficialCodec, st.floats(0.5, 4)),
        st.builds(UnbiasedCodec, st.floats(0.5, 4)),
        st.builds(DarkCodec, st.floats(0.5, 4), st.sampled_from([3, 11])),
        st.builds(MsraCodec, st.floats(0.5, 4)),
        st.builds(HIHCodec, st.floats(0.5, 4), masked=st.booleans()),
    ),
    st.integers(3, 200),
    st.floats(0.1, 3),
    st.booleans(),
    st.booleans(),
)
def test_description_round_trip(name, codec, quarter, padding, flip_test, flip_shift):
    flip_test &= not isinstance(codec, HIHCodec)
    if (name == "official") != isinstance(codec, OfficialCodec):
        name = "official" if isinstance(codec, OfficialCodec) else "float"
    protocol = Protocol(name, codec, 4 * quarter, padding, flip_test, flip_shift)
    stored = json.loads(json.dumps(protocol.to_dict()))
    read = Protocol.from_dict(stored, own={OWN: OwnCodec})
    assert read == protocol and type(read) is type(protocol)
    assert hash(read) == hash(protocol)


@pytest.mark.parametrize("name", ["official", "float", "mmpose"])
@pytest.mark.parametrize("codec", [*(kind() for kind in CODECS.values()), OwnWholeCodec()])
def test_a_codec_goes_only_with_a_protocol_that_gives_its_points(name, codec):
    """Round trip through the codec: what is refused loses half a cell or more."""
    made_for = {"official": OfficialCodec | MsraCodec | OwnWholeCodec}
    fits = isinstance(codec, made_for.get(name, UnbiasedCodec | DarkCodec | MsraCodec | HIHCodec))
    if fits:
        assert Protocol(name, codec).codec == codec
        return
    with pytest.raises(HRNetError, match=f"codec .* does not go with protocol '{name}'") as caught:
        Protocol(name, codec)
    assert "\n" not in str(caught.value)
    with pytest.raises(HRNetError, match="does not go with protocol"):
        Protocol.from_dict(
            official("wflw").to_dict() | {"name": name, "codec": codec_to_dict(codec)}, allow=True
        )


def test_a_codec_that_cannot_be_averaged_refuses_the_flip_test():
    for codec, name in ((HIHCodec(), "float"), (OwnWholeCodec(), "official")):
        with pytest.raises(HRNetError, match="flip_test does not go with codec"):
            Protocol(name, codec, flip_test=True)
    assert Protocol("float", OwnCodec(), flip_test=True).flip_test


def test_a_codec_of_the_users_own_is_stored_by_its_name():
    protocol = Protocol("float", OwnCodec(2.0), 128)
    stored = json.loads(json.dumps(protocol.to_dict()))
    assert stored["codec"] == {"name": OWN, "radius": 2.0}
    assert Protocol.from_dict(stored, allow=True) == protocol
    assert Protocol.from_dict(stored, allow=(__name__.split(".")[0],)) == protocol
    assert Protocol.from_dict(stored, own={OWN: OwnCodec}) == protocol
    with pytest.raises(HRNetError, match=f"codec '{OWN}' is needed, and nothing that a file names"):
        Protocol.from_dict(stored)  # a file imports nothing by itself
    with pytest.raises(HRNetError, match="has no encode nor decode"):
        Protocol.from_dict(stored | {"codec": {"name": "fractions:Fraction"}}, allow=True)


def test_the_old_name_of_sample_tells_the_new_one():
    with pytest.raises(HRNetError, match=r"now Protocol.sample, .* a side in pixels"):
        float_protocol().prepare(_picture(DOTS), DOTS, (90.0, 75.0), 0.5)


def test_a_protocol_of_the_users_own():
    protocol = Protocol("rotated", UnbiasedCodec(), 64)
    assert isinstance(protocol, RotatedProtocol)
    assert dataclasses.replace(protocol, codec=DarkCodec()) == Protocol("rotated", DarkCodec(), 64)
    plain = Protocol("float", UnbiasedCodec(), 64)
    assert isinstance(plain, FloatProtocol) and plain != protocol
    np.testing.assert_array_equal(
        protocol.crop(_picture(DOTS), *BOX), plain.crop(_picture(DOTS), *BOX, rotation=90)
    )
    with pytest.raises(HRNetError, match="'float' is not the name of a RotatedProtocol"):
        RotatedProtocol("float", UnbiasedCodec())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "mine"}, "unknown protocol 'mine'"),
        ({"input_size": 250}, "input_size 250"),
        ({"input_size": 256.0}, "input_size 256.0"),
        ({"padding": 0}, "padding 0"),
        ({"padding": "wide"}, "padding 'wide'"),
        ({"flip_test": "yes"}, "flip_test 'yes'"),
        ({"flip_shift": 1}, "flip_shift 1"),
        (
            {"name": "float", "flip_test": True, "codec": {"name": "hih"}},
            "flip_test does not go with codec 'hih'",
        ),
        ({"name": "float"}, "codec 'official' does not go with protocol 'float'"),
        ({"codec": {"name": "dark", "kernel": 4}}, "kernel 4"),
        ({"codec": {"name": "dark", "window": 4}}, "codec 'dark' has no setting 'window'"),
        ({"codec": {"name": 3}}, "codec {'name': 3}"),
        ({"codec": {"name": "hih", "decimal_sigma": 1.5}}, "decimal_sigma 1.5"),
        ({"colour": 1}, "no setting 'colour'"),
        ({"codec": {"name": "mine"}}, "unknown codec 'mine'"),
        ({"codec": None}, "codec None"),
    ],
)
def test_wrong_descriptions(change, message):
    with pytest.raises(HRNetError, match=message):
        Protocol.from_dict({**official("wflw").to_dict(), **change})


def test_a_protocol_stored_before_flip_shift_existed():
    description = float_protocol(flip_test=True).to_dict()
    del description["flip_shift"]
    assert Protocol.from_dict(description) == float_protocol(flip_test=True)


def test_incomplete_descriptions():
    with pytest.raises(HRNetError, match="no 'codec'"):
        Protocol.from_dict({"name": "float"})
    with pytest.raises(HRNetError, match="not a table"):
        Protocol.from_dict("official")
    with pytest.raises(HRNetError, match="unknown landmark scheme"):
        official("lfw")
