"""Heatmap in Heatmap: targets with the published slips, decoding with and without its mask."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrnet_jax.codecs import HIHCodec
from hrnet_jax.codecs.hih import HIHMaps, decimal_size

encode = jax.jit(
    lambda codec, points, weights, size: codec.encode(points, weights, size),
    static_argnums=(0, 3),
)
decode = jax.jit(lambda codec, maps: codec.decode(maps), static_argnums=0)


def published_targets(point, size=64, cells=8):
    """Both targets of one point in heatmap pixels, after the description in FACTS 4.5."""
    cell = np.clip(np.floor(point), 0, size - 1)
    heatmap = _paste(size, np.trunc(cell - 4.5), np.trunc(cell + 4.5) + 1, 10, 5, 1.5)
    decimal = (point - cell) * cells
    return heatmap, _paste(cells, np.round(decimal - 3), np.round(decimal + 3) + 1, 7, 3, 1.0)


def _paste(size, first, end, width, peak, sigma):
    """The part of a width x width Gaussian that lies on a map, its corner at `first`."""
    canvas = np.zeros((size + 80, size + 80), np.float32)
    y, x = np.mgrid[:width, :width] - peak
    x0, y0 = first.astype(int) + 40
    canvas[y0 : y0 + width, x0 : x0 + width] = np.exp(-(x**2 + y**2) / (2 * sigma**2))
    x1, y1 = end.astype(int) + 40
    canvas[:, x1:] = canvas[y1:] = 0
    return canvas[40 : 40 + size, 40 : 40 + size]


def test_targets_are_the_published_ones():
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 64, (150, 2)).astype(np.float32)
    points[:60] = rng.uniform(0, 6, (60, 2))
    points[60:90] = np.round(points[60:90] * 16) / 16  # halves of a decimal cell, and whole cells
    points[90:94] = [[0, 0], [64, 64], [63.99, 0.01], [4, 5]]
    maps = encode(HIHCodec(), points[None], np.ones((1, 150)), 64)
    assert maps.heatmaps.shape == (1, 1, 64, 64, 150)
    assert maps.decimal_heatmaps.shape == (1, 8, 8, 150)
    for k, point in enumerate(points):
        heatmap, decimal = published_targets(point)
        np.testing.assert_allclose(maps.heatmaps[0, 0, ..., k], heatmap, atol=1e-6)
        np.testing.assert_allclose(maps.decimal_heatmaps[0, ..., k], decimal, atol=1e-6)


def test_a_point_at_the_far_edge_of_its_cell_shows_only_a_flank():
    points = np.array([[[20.96, 30.3], [20.96, 30.97]]], np.float32)
    decimal = np.asarray(encode(HIHCodec(), points, np.ones((1, 2)), 64).decimal_heatmaps)
    np.testing.assert_allclose(decimal.max(axis=(1, 2)), [[np.exp(-0.5), np.exp(-1)]], rtol=1e-6)
    decoded, _ = decode(HIHCodec(), encode(HIHCodec(), points, np.ones((1, 2)), 64))
    np.testing.assert_allclose(decoded, [[[20.875, 30.25], [20.875, 30.875]]])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_round_trip_within_an_eighth(seed, masked):
    points = np.random.default_rng(seed).uniform(5, 64, (2, 200, 2)).astype(np.float32)
    codec = HIHCodec(masked=masked)
    decoded, scores = decode(codec, encode(codec, points, np.ones((2, 200)), 64))
    assert np.abs(decoded - points).max() <= 0.125 + 1e-5
    np.testing.assert_array_equal(scores, 1)


def test_round_trip_bias():
    points = np.random.default_rng(0).uniform(5, 64, (1, 20000, 2)).astype(np.float32)
    decoded, _ = decode(HIHCodec(), encode(HIHCodec(), points, np.ones((1, 20000)), 64))
    assert np.mean(decoded - points) == pytest.approx(-0.0078, abs=0.0005)


def test_masked_decoding_drops_what_is_not_positive():
    heatmaps = np.full((1, 2, 16, 16, 3), -1.0, np.float32)
    decimals = np.full((1, 8, 8, 3), -2.0, np.float32)
    heatmaps[0, 0, 1, 1] = 9  # the first stack does not count
    heatmaps[0, 1, 9, 4] = [1, 1, -0.5]
    decimals[0, 2, 6] = [1, -1, 1]
    outputs = HIHMaps(heatmaps, decimals)
    points, scores = decode(HIHCodec(), outputs)
    np.testing.assert_array_equal(points, np.full((1, 3, 2), [4.75, 9.25]))
    np.testing.assert_array_equal(scores, [[1, 1, -0.5]])
    masked, _ = decode(HIHCodec(masked=True), outputs)
    np.testing.assert_array_equal(masked, [[[4.75, 9.25], [4, 9], [0.75, 0.25]]])


def test_points_outside_and_without_weight():
    points = np.array([[[-3, 70], [np.nan, 5], [30, 1e9]]], np.float32)
    maps = encode(HIHCodec(), points, np.array([[1, 0, 1]]), 64)
    assert not np.asarray(maps.heatmaps)[..., 1].any()
    assert not np.asarray(maps.decimal_heatmaps)[..., 1].any()
    decoded, _ = decode(HIHCodec(), maps)
    np.testing.assert_allclose(decoded[0, [0, 2]], [[1, 63.875], [30, 63.875]])


def test_decimal_maps_have_the_heads_size():
    assert {size: decimal_size(size) for size in (8, 16, 20, 32, 64, 96)} == {
        8: 1,
        16: 2,
        20: 3,
        32: 4,
        64: 8,
        96: 12,
    }
