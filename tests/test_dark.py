"""DARK: exact on Gaussians, and equal to mmpose's loop over maps, points and OpenCV calls."""

import cv2
import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrnet_jax.codecs import DarkCodec, MsraCodec
from hrnet_jax.codecs.dark import gaussian_kernel

encode = jax.jit(
    lambda codec, points, weights, size: codec.encode(points, weights, size),
    static_argnums=(0, 3),
)
decode = jax.jit(lambda codec, heatmaps: codec.decode(heatmaps), static_argnums=0)


def index_maps(points, sigma, size=64):
    """mmpose's unbiased maps (L, size, size) of points in index coordinates: cell k lies at k."""
    maps = np.zeros((len(points), size, size), np.float32)
    for k, (x, y) in enumerate(points):
        low, high = np.array([x, y]) - 3 * sigma, np.array([x, y]) + 3 * sigma + 1
        if (low < size).all() and (high >= 0).all():
            grid = np.arange(size)
            rows, columns = (
                np.exp(-((grid - y) ** 2) / (2 * sigma**2)),
                np.exp(-((grid - x) ** 2) / (2 * sigma**2)),
            )
            maps[k] = rows[:, None] * columns
    return maps


def decode_one(heatmap, kernel):
    """mmpose's DARK decoding of one map (H, W), in index coordinates, with OpenCV's blur."""
    height, width = heatmap.shape
    y, x = np.unravel_index(np.argmax(heatmap), heatmap.shape)
    if heatmap[y, x] <= 0:
        return np.array([-1.0, -1.0])
    border = (kernel - 1) // 2
    blurred = np.zeros((height + 2 * border, width + 2 * border), np.float32)
    blurred[border:-border, border:-border] = heatmap
    blurred = cv2.GaussianBlur(blurred, (kernel, kernel), 0)[border:-border, border:-border]
    blurred = blurred * (heatmap.max() / blurred.max())
    logs = np.log(np.maximum(blurred, 1e-10)).astype(np.float64)
    if 1 < x < width - 2 and 1 < y < height - 2:
        gradient = 0.5 * np.array(
            [logs[y, x + 1] - logs[y, x - 1], logs[y + 1, x] - logs[y - 1, x]]
        )
        xx = 0.25 * (logs[y, x + 2] - 2 * logs[y, x] + logs[y, x - 2])
        yy = 0.25 * (logs[y + 2, x] - 2 * logs[y, x] + logs[y - 2, x])
        xy = 0.25 * (
            logs[y + 1, x + 1] - logs[y - 1, x + 1] - logs[y + 1, x - 1] + logs[y - 1, x - 1]
        )
        if xx * yy - xy**2 != 0:
            return np.array([x, y]) - np.linalg.solve([[xx, xy], [xy, yy]], gradient)
    return np.array([x, y], float)


@pytest.mark.parametrize(
    ("sigma", "kernel", "limit"), [(2.0, 11, 1e-3), (1.5, 7, 3e-3), (1.0, 3, 0.02)]
)
def test_every_offset_comes_back(sigma, kernel, limit):
    fractions = np.linspace(0, 1, 41)
    offsets = np.stack(np.meshgrid(fractions, fractions), -1).reshape(1, -1, 2)
    codec = DarkCodec(sigma, kernel)
    for corner in ([30, 30], [6, 57]):
        points = (offsets + corner).astype(np.float32)
        decoded, scores = decode(codec, encode(codec, points, np.ones(points.shape[:2]), 64))
        assert np.abs(decoded - points).max() < limit
        assert (np.asarray(scores) > 0.77).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_points_away_from_the_border_come_back(seed):
    points = np.random.default_rng(seed).uniform(6, 58, (1, 98, 2)).astype(np.float32)
    decoded, _ = decode(DarkCodec(), encode(DarkCodec(), points, np.ones((1, 98)), 64))
    assert np.abs(decoded - points).max() < 1e-3


def test_targets_are_mmposes_in_index_coordinates():
    rng = np.random.default_rng(0)
    index = rng.uniform(-12, 76, (200, 2)).astype(np.float32)
    index[:6] = [[-7, 30], [-7.01, 30], [70, 30], [69.9, 30], [30, -7.01], [30, 70]]
    maps = encode(DarkCodec(), index[None] + 0.5, np.ones((1, 200)), 64)[0]
    expected = index_maps(index, 2.0).transpose(1, 2, 0)
    np.testing.assert_allclose(maps, expected, atol=1e-5)
    empty = ~np.asarray(maps).any(axis=(0, 1))
    np.testing.assert_array_equal(empty, ~expected.any(axis=(0, 1)))
    assert empty[[1, 2, 4, 5]].all() and not empty[[0, 3]].any() and empty.sum() > 10


@pytest.mark.parametrize("kernel", [3, 5, 7, 9, 11, 13, 17])
@pytest.mark.parametrize("size", [(64, 64), (24, 33)])
def test_decoding_equals_a_loop_with_opencv(kernel, size):
    rng = np.random.default_rng(kernel)
    count = 120
    tops = rng.uniform(0, 1, (count, 2)) * size[::-1]
    tops[:40] = np.round(tops[:40])  # ties and cells on the border
    y, x = np.mgrid[: size[0], : size[1]]
    distance = (x[..., None] - tops[:, 0]) ** 2 + (y[..., None] - tops[:, 1]) ** 2
    maps = np.exp(-distance / (2 * 2.0**2)) * rng.uniform(0.2, 1.5, count)
    maps = (maps + rng.normal(0, 0.02, maps.shape)).astype(np.float32)
    maps[..., :3] = [0.0, -1.0, 0.0]
    maps[5, 7, 2] = 0.5  # a lone cell
    points, scores = decode(DarkCodec(2.0, kernel), np.stack([maps, maps[::-1]]))
    for batch, flipped in enumerate((maps, maps[::-1])):
        expected = np.stack([decode_one(flipped[..., k], kernel) for k in range(count)])
        np.testing.assert_allclose(points[batch] - 0.5, expected, atol=1e-4)
        np.testing.assert_array_equal(scores[batch], flipped.max(axis=(0, 1)))


@pytest.mark.parametrize("width", range(3, 32, 2))
def test_kernels_are_opencvs(width):
    expected = cv2.getGaussianKernel(width, 0)[:, 0]
    np.testing.assert_allclose(gaussian_kernel(width), expected, atol=1e-12)


def test_a_narrow_map_in_the_border_keeps_its_cell():
    maps = np.zeros((1, 16, 16, 3), np.float32)
    maps[0, 1, 8, 0] = maps[0, 8, 14, 1] = maps[0, 14, 1, 2] = 1
    points, _ = decode(DarkCodec(), maps)
    np.testing.assert_array_equal(points[0], [[8.5, 1.5], [14.5, 8.5], [1.5, 14.5]])


def test_msra_is_mmpose_without_dark():
    """Cell int(m + 0.5), then a quarter cell where 1 < x < W - 1 and 1 < y < H - 1."""
    index = np.array([[10.4, 20.6], [1.2, 30.0], [1.7, 30.3], [62.4, 9.9], [62.6, 9.9]])
    maps = np.asarray(encode(MsraCodec(2.0), index[None] + 0.5, np.ones((1, 5)), 64))
    tops = [np.unravel_index(maps[0, ..., k].argmax(), (64, 64))[::-1] for k in range(5)]
    np.testing.assert_array_equal(tops, (index + 0.5).astype(int))
    maps = maps + np.random.default_rng(0).uniform(0, 0.01, maps.shape).astype(np.float32)
    points, _ = decode(MsraCodec(2.0), maps)
    for k, (x, y) in enumerate(tops):
        shift = np.zeros(2)
        if 1 < x < 63 and 1 < y < 63:
            heat = maps[0, ..., k]
            shift[0] = np.sign(heat[y, x + 1] - heat[y, x - 1])
            shift[1] = np.sign(heat[y + 1, x] - heat[y - 1, x])
        np.testing.assert_allclose(points[0, k] - 0.5, [x, y] + shift / 4, atol=1e-6)
    assert (np.asarray(points)[0, [1, 4]] % 1 == 0.5).all()
