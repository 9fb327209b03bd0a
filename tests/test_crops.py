"""Crops: the official one against the reference, the affine one by where things land."""

import json

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrnet_jax.errors import HRNetError
from hrnet_jax.geometry import apply_affine, crop_matrix
from hrnet_jax.images import read_image
from hrnet_jax.images.crops import affine_crop, official_crop

# --- the official crop ---------------------------------------------------------------------------


@pytest.mark.parametrize("case", range(6))
def test_official_crops_of_photographs(shared, case):
    reference = np.load(shared / "reference/outputs/official_crops.npz")
    what = json.loads(str(reference["cases"]))[case]
    image = read_image(shared / "data" / what["file"])
    crop = official_crop(image, what["center"], what["scale"], 256, what["rotation_deg"])
    difference = np.abs(crop.astype(int) - reference[f"crop_{case}"])
    assert (difference <= 1).mean() >= 0.999
    assert difference.max() <= 3


def _stretched(image):
    image = image.astype(float)
    low, high = image.min(), image.max()
    return np.floor((image - low) * 255 / (high - low) + 0.5)


def _resize_weights(n_in, n_out):
    """(n_out, n_in): the antialiased triangle filter, written out."""
    step = n_in / n_out
    reach = max(step, 1)
    centre = (np.arange(n_out)[:, None] + 0.5) * step
    weights = np.maximum(0, 1 - np.abs(np.arange(n_in) + 0.5 - centre) / reach)
    return weights / weights.sum(axis=1, keepdims=True)


def _resized(image, height, width):
    rows, columns = (_resize_weights(*n) for n in zip(image.shape, (height, width), strict=False))
    return np.einsum("ih,jw,hwc->ijc", rows, columns, image, optimize=True)


def test_official_crop_is_a_stretched_and_resized_cut():
    image = np.random.default_rng(0).integers(40, 200, (90, 110, 3), np.uint8)
    # Box of 80 px at (51, 47): its corner is trunc(51 - 40 - 80 / 64) + 1 = 10, and 6.
    crop = official_crop(image, (51, 47), 80 / 200, 64)
    expected = _resized(_stretched(image[6:86, 10:90]), 64, 64)
    assert np.abs(crop - expected).max() <= 1.5  # two roundings


def test_official_crop_counts_black_surroundings_in_the_stretch():
    image = np.full((100, 100, 3), 100, np.uint8)
    image[50, 20] = 200
    crop = official_crop(image, (10, 50), 64 / 200, 64)
    # The corner of the 64 px box lies at trunc(10 - 32 - 1) + 1 = -22.
    assert not crop[:, :22].any()
    assert crop[0, 22, 0] == 128 and crop[32, 42, 0] == 255


def test_official_crop_of_a_large_box_shrinks_the_image_first():
    image = np.random.default_rng(1).integers(0, 256, (300, 301, 3), np.uint8)
    crop = official_crop(image, (150, 150), 160 / 200, 64)  # 2.5 times the crop
    small = np.round(_resized(image.astype(float), 120, 120))
    cut = _stretched(small[28:92, 28:92])  # corner at trunc(60 - 32 - 1) + 1 = 28
    assert np.abs(crop - cut).max() <= 4  # roundings, stretched twice


def _official_dot(rotation):
    image = np.zeros((200, 200, 3), np.uint8)
    image[58:63, 138:143] = 255
    crop = official_crop(image, (100, 100), 120 / 200, 128, rotation)
    matrix = crop_matrix((100, 100), 120, 128, rotation)
    return _centroid(crop), apply_affine(matrix, [140.5, 60.5])


@pytest.mark.parametrize("rotation", [0, 25, -25, 90])
def test_official_crop_turns_as_the_points_do(rotation):
    found, mapped = _official_dot(rotation)
    assert np.abs(found - mapped).max() < 1.5  # whole-pixel corners: within about one pixel


def test_official_crop_of_odd_boxes():
    image = np.random.default_rng(0).integers(1, 256, (20, 30, 3), np.uint8)
    black = np.zeros((64, 64, 3))
    np.testing.assert_array_equal(official_crop(image, (500, 500), 0.2, 64), black)
    np.testing.assert_array_equal(official_crop(image, (500, 500), 0.2, 64, 20), black)
    np.testing.assert_array_equal(official_crop(image, (15, 10), 1e6, 64), black)
    for rotation in (0, 10):  # 4 px: no margin to cut away
        assert official_crop(image, (15, 10), 4 / 200, 64, rotation).shape == (64, 64, 3)
    with pytest.raises(HRNetError, match="too small"):
        official_crop(image, (15.5, 10.5), 0.2 / 200, 64)
    with pytest.raises(HRNetError, match="box"):
        official_crop(image, (np.nan, 10), 0.2, 64)


# --- the affine crop -----------------------------------------------------------------------------


def _blob(shape, center, sigma):
    """A white Gaussian blob whose centre is `center` in continuous coordinates."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    values = 255 * np.exp(-((x - center[0]) ** 2 + (y - center[1]) ** 2) / (2 * sigma**2))
    return np.repeat(np.rint(values)[..., None], 3, axis=-1).astype(np.uint8)


def _centroid(image):
    weights = image[..., 0].astype(float)
    y, x = np.mgrid[: weights.shape[0], : weights.shape[1]] + 0.5
    return np.array([(weights * x).sum(), (weights * y).sum()]) / weights.sum()


@pytest.mark.parametrize("rotation", [0.0, 17.0, -90.0, 150.0])
@pytest.mark.parametrize("zoom", [0.1, 0.25, 0.4, 0.6, 0.74, 0.76, 1.0, 1.7, 4.0])
def test_affine_crop_puts_a_dot_where_its_coordinates_go(zoom, rotation):
    size = 96
    side = size / zoom
    extent = int(1.2 * side) + 10
    center = np.array([extent / 2 + 0.3, extent / 2 - 0.7])
    dot = center + [0.13 * side, -0.17 * side]
    image = _blob((extent, extent + 3), dot, max(2.0, 2.5 / zoom))
    matrix = crop_matrix(center, side, size, rotation)
    found = _centroid(affine_crop(image, matrix, size))
    assert np.abs(found - apply_affine(matrix, dot)).max() < 0.1


def test_affine_crop_of_the_whole_image_is_the_image():
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    np.testing.assert_array_equal(affine_crop(image, crop_matrix((32, 32), 64, 64), 64), image)
    shifted = affine_crop(image, crop_matrix((42, 30), 64, 64), 64)
    np.testing.assert_array_equal(shifted[2:, :54], image[:62, 10:])
    assert not shifted[:2].any() and not shifted[:, 54:].any()


@pytest.mark.parametrize("zoom", [0.1, 0.3, 0.55])
def test_affine_crop_does_not_alias(zoom):
    image = np.zeros((700, 700, 3), np.uint8)
    image[::2, ::2] = image[1::2, 1::2] = 255  # the finest chessboard
    crop = affine_crop(image, crop_matrix((350, 350), 64 / zoom, 64, 10), 64)
    limit = 0.02 if zoom < 0.5 else 0.25
    assert np.abs(crop / 127.5 - 1).mean() < limit


@settings(max_examples=50, deadline=None)
@given(
    st.tuples(st.floats(-200, 300), st.floats(-200, 300)),
    st.floats(0.5, 2000),
    st.floats(-180, 180),
)
def test_affine_crop_agrees_with_a_warp_of_the_whole_image(center, side, rotation):
    image = cv2.GaussianBlur(
        np.random.default_rng(0).integers(0, 256, (80, 120, 3), np.uint8), (0, 0), 2
    )
    matrix = crop_matrix(center, side, 48, rotation)
    crop = affine_crop(image, matrix, 48)
    assert crop.shape == (48, 48, 3) and crop.dtype == np.uint8
    if side < 48:  # no shrinking: cutting the region first must not change a pixel much
        index = matrix.copy()
        index[:, 2] += index[:, :2] @ [0.5, 0.5] - 0.5
        whole = cv2.warpAffine(image, index, (48, 48), flags=cv2.INTER_LINEAR)
        # OpenCV rounds positions to 1/32 px, differently for the two origins.
        assert np.abs(crop.astype(int) - whole).mean() < 2


def test_affine_crop_outside_is_black_and_mirrored_views_work():
    image = np.full((20, 30, 3), 9, np.uint8)
    assert not affine_crop(image, crop_matrix((500, 0), 40, 32), 32).any()
    assert not affine_crop(image, crop_matrix((1e12, 0), 40, 32), 32).any()
    assert affine_crop(image[:, ::-1], crop_matrix((15, 10), 10, 32), 32).all()


def test_wrong_images_and_matrices():
    matrix = crop_matrix((5, 5), 10, 32)
    for image in (np.zeros((9, 9)), np.zeros((9, 9, 4), np.uint8), np.zeros((0, 9, 3), np.uint8)):
        with pytest.raises(HRNetError, match="image must be"):
            affine_crop(image, matrix, 32)
        with pytest.raises(HRNetError, match="image must be"):
            official_crop(image, (5, 5), 0.1, 32)
    with pytest.raises(HRNetError, match="no inverse"):
        affine_crop(np.zeros((9, 9, 3), np.uint8), np.zeros((2, 3)), 32)
