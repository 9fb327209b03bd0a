"""Heatmap codecs: the official values, and round trips."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrnet_jax.codecs import (
    CODECS,
    OfficialCodec,
    UnbiasedCodec,
    codec_from_dict,
    codec_to_dict,
)
from hrnet_jax.errors import HRNetError

DATA = Path(__file__).parent / "data"
CODEC_KINDS = [OfficialCodec(1.5), UnbiasedCodec(1.5)]

# The codec is static configuration; its hash is that of its fields.
encode = jax.jit(
    lambda codec, points, weights, size: codec.encode(points, weights, size),
    static_argnums=(0, 3),
)
decode = jax.jit(lambda codec, heatmaps: codec.decode(heatmaps), static_argnums=0)


def round_trip(codec, points, size):
    points = np.asarray(points, np.float32)[None]
    decoded, scores = decode(codec, encode(codec, points, np.ones(points.shape[:2]), size))
    return np.asarray(decoded)[0], np.asarray(scores)[0]


@pytest.mark.parametrize("sigma", [1.0, 1.5])
def test_official_targets(sigma):
    reference = np.load(DATA / "official_targets.npz")
    points = reference["points"].astype(np.float32)[None]  # fractional, many beside the border
    targets = encode(OfficialCodec(sigma), points, np.ones((1, 68)), 64)
    assert targets.shape == (1, 64, 64, 68) and targets.dtype == np.float32
    expected = reference[f"target_sigma{sigma}"].transpose(1, 2, 0)
    np.testing.assert_allclose(targets[0], expected, atol=1e-6)


def test_official_peak_beside_the_border_is_one_cell_off():
    cells = np.arange(-1, 9)
    points = np.stack([cells, np.full(10, 20)], axis=-1)
    targets = encode(OfficialCodec(1.5), points[None].astype(np.float32), np.ones((1, 10)), 64)
    peaks = np.argmax(np.asarray(targets)[0, 20], axis=0)
    np.testing.assert_array_equal(peaks, np.where(cells <= 4, cells + 1, cells))


def test_official_decoding():
    # The reference heatmaps keep the 3 x 3 cells about the peak; the others, all lower, are -2.
    reference = np.load(DATA / "official_decode_29.npz")
    heatmaps = reference["heatmaps_29"].transpose(0, 2, 3, 1)
    points, scores = decode(OfficialCodec(1.5), heatmaps)
    np.testing.assert_array_equal(scores, heatmaps.max(axis=(1, 2)))
    empty = np.asarray(scores) <= 0
    assert empty.any()
    np.testing.assert_array_equal(np.asarray(points)[empty], -0.5)
    shift = np.asarray(points)[~empty] % 1
    assert set(np.unique(shift)) <= {0.25, 0.5, 0.75}


def test_official_quarter_shift():
    heatmap = np.zeros((5, 6), np.float32)
    heatmap[2, 3], heatmap[2, 4], heatmap[1, 3] = 1, 0.5, 0.25
    border = np.zeros((5, 6), np.float32)
    border[0, 3], border[0, 4] = 1, 0.5
    ties = np.ones((5, 6), np.float32)
    points, scores = decode(OfficialCodec(), np.stack([heatmap, border, ties], -1)[None])
    np.testing.assert_array_equal(points[0], [[3.75, 2.25], [3.5, 0.5], [0.5, 0.5]])
    np.testing.assert_array_equal(scores[0], [1, 1, 1])


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([1.0, 1.5]), st.integers(0, 2**32 - 1))
def test_official_round_trip_stays_within_two_cells(sigma, seed):
    cells = np.random.default_rng(seed).integers(0, 64, (20, 2))
    points, scores = round_trip(OfficialCodec(sigma), cells, 64)
    # At most one cell for the shifted peak, half for the cell's centre, a quarter for the shift.
    assert np.abs(points - cells).max() <= 1.75
    np.testing.assert_array_equal(scores, 1)


@pytest.mark.parametrize(
    ("sigma", "size", "window"), [(1.0, 64, 5), (1.5, 64, 5), (1.5, 32, 7), (2.0, 32, 5)]
)
def test_unbiased_round_trip_is_exact_up_to_the_border(sigma, size, window):
    points = np.random.default_rng(0).uniform(0, size, (500, 2))
    points[:200, 0] = np.random.default_rng(1).uniform(0, 2, 200)
    points[:4] = [[0, 0], [0, size], [size, 0], [size / 2, 1e-3]]
    decoded, scores = round_trip(UnbiasedCodec(sigma, window), points, size)
    assert np.abs(decoded - points).max() < 3e-4
    inner = (np.abs(points - size / 2) < size / 2 - 2).all(axis=-1)
    assert np.abs(decoded - points)[inner].max() < 1e-5
    assert (scores > 0.5).all() and (scores <= 1).all()


def test_unbiased_decodes_a_little_beyond_the_border():
    points = [[-0.4, 10.0], [32.4, 10.0], [-5.0, 10.0]]
    decoded, _ = round_trip(UnbiasedCodec(1.5), points, 32)
    # One cell from the centre of the highest cell is the limit.
    np.testing.assert_allclose(decoded, [[-0.4, 10], [32.4, 10], [-0.5, 10]], atol=1e-3)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(-30, 30))
def test_unbiased_stays_beside_the_highest_cell_of_any_map(seed, exponent):
    rng = np.random.default_rng(seed)
    heatmaps = rng.standard_normal((1, 7, 9, 30)).astype(np.float32) * np.float32(10.0**exponent)
    points, scores = decode(UnbiasedCodec(), heatmaps)
    y, x = np.unravel_index(heatmaps.reshape(63, 30).argmax(axis=0), (7, 9))
    assert np.isfinite(points).all()
    assert (np.abs(points[0] - np.stack([x, y], -1) - 0.5) <= 1).all()
    np.testing.assert_array_equal(scores, heatmaps.max(axis=(1, 2)))


def test_unbiased_under_noise_beats_the_quarter_shift():
    rng = np.random.default_rng(0)
    points = rng.uniform(1, 31, (1, 300, 2)).astype(np.float32)
    heatmaps = np.asarray(encode(UnbiasedCodec(1.5), points, np.ones((1, 300)), 32))
    heatmaps = heatmaps + rng.normal(0, 0.02, heatmaps.shape).astype(np.float32)
    unbiased, quarter = (
        np.sqrt(np.mean((np.asarray(decode(codec, heatmaps)[0]) - points) ** 2))
        for codec in (UnbiasedCodec(1.5), OfficialCodec(1.5))
    )
    assert unbiased < 0.03 and quarter > 0.1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0, -1.0, 1.0, 1e-40, 3e38])
@pytest.mark.parametrize("codec", CODEC_KINDS)
def test_decoded_points_are_finite_for_every_constant_map(codec, value):
    points, _ = decode(codec, np.full((1, 8, 8, 1), value, np.float32))
    assert np.isfinite(points).all()


def test_a_lone_cell_decodes_to_its_centre():
    heatmap = np.full((1, 8, 8, 1), -1, np.float32)
    heatmap[0, 2, 7, 0] = 0.5
    points, _ = decode(UnbiasedCodec(), heatmap)
    np.testing.assert_allclose(points, [[[7.5, 2.5]]], atol=1e-6)


@pytest.mark.parametrize("codec", CODEC_KINDS)
def test_weight_zero_leaves_the_map_empty(codec):
    points = np.array([[[10, 10], [np.nan, 5], [20, 3]]], np.float32)
    maps = np.asarray(encode(codec, points, np.array([[0, 0, 1]]), 32))
    assert not maps[..., :2].any() and maps[..., 2].max() > 0.7


@pytest.mark.parametrize("codec", CODEC_KINDS)
def test_far_points_leave_the_map_empty(codec):
    points = np.array([[[-500, 10], [10, 1e6], [1000, 1000]]], np.float32)
    np.testing.assert_array_equal(encode(codec, points, np.ones((1, 3)), 32), 0)


@pytest.mark.parametrize("codec", CODEC_KINDS)
def test_float64_stays_float64(codec):
    with jax.enable_x64(True):
        maps = encode(codec, jnp.full((1, 2, 2), 8.3, jnp.float64), jnp.ones((1, 2)), 16)
        points, scores = decode(codec, maps)
        assert maps.dtype == points.dtype == scores.dtype == jnp.float64
    if isinstance(codec, UnbiasedCodec):
        np.testing.assert_allclose(points, 8.3, atol=1e-7)


@pytest.mark.parametrize("codec", CODEC_KINDS)
def test_maps_need_not_be_square(codec):
    heatmaps = np.zeros((2, 5, 12, 1), np.float32)
    heatmaps[:, 3, 10] = 1
    points, _ = decode(codec, heatmaps)
    np.testing.assert_allclose(points, np.full((2, 1, 2), [10.5, 3.5]), atol=1e-6)


@given(
    st.one_of(
        st.builds(OfficialCodec, st.floats(0.1, 10)),
        st.builds(UnbiasedCodec, st.floats(0.1, 10), st.sampled_from([5, 7, 11])),
    )
)
def test_description_round_trip(codec):
    description = json.loads(json.dumps(codec_to_dict(codec)))
    assert codec_from_dict(description) == codec
    assert description["name"] in CODECS


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({"name": "nearest"}, "unknown codec 'nearest'"),
        ({"name": "official", "width": 3}, "no setting 'width'"),
        ({"sigma": 1.5}, "name"),
        ("official", "name"),
        ({"name": ["official"]}, "not a table with a name"),
        ({"name": "official", "sigma": 0}, "sigma 0"),
        ({"name": "official", "sigma": float("nan")}, "sigma nan"),
        ({"name": "official", "sigma": "1.5"}, "sigma '1.5'"),
        ({"name": "official", "sigma": True}, "sigma True"),
        ({"name": "unbiased", "window": 4}, "window 4"),
        ({"name": "unbiased", "window": 3}, "window 3"),
        ({"name": "unbiased", "window": 5.0}, "window 5.0"),
    ],
)
def test_wrong_descriptions(description, message):
    with pytest.raises(HRNetError, match=message):
        codec_from_dict(description)
