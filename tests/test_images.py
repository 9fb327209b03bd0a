"""Reading image files: every kind becomes RGB, every broken one a single clear line."""

import threading
import warnings

import numpy as np
import pytest
from PIL import Image

from hrnet_jax.errors import HRNetError
from hrnet_jax.images import read_image

RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)


def test_rgb_is_read_as_stored(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    for path in (tmp_path / "a.png", str(tmp_path / "a.png")):
        image = read_image(path)
        np.testing.assert_array_equal(image, RGB)
        assert image.dtype == np.uint8 and image.flags.writeable


@pytest.mark.parametrize("mode", ["L", "1", "RGBA", "LA", "P", "CMYK", "I;16", "I", "F"])
def test_other_modes_become_rgb(tmp_path, mode):
    grey = np.linspace(0, 255, 256, dtype=np.uint8).reshape(16, 16)
    if mode == "I;16":
        image = Image.fromarray(grey.astype(np.uint16) * 257)
    elif mode == "I":
        image = Image.fromarray(grey.astype(np.int32) * 257)
    else:
        image = Image.fromarray(grey).convert(mode)
    assert image.mode == mode
    image.save(tmp_path / "a.tif")
    result = read_image(tmp_path / "a.tif")
    assert result.shape == (16, 16, 3) and result.dtype == np.uint8
    if mode != "1":
        np.testing.assert_allclose(result, np.repeat(grey[..., None], 3, -1), atol=1)


def test_a_palette_with_transparency_is_quiet(tmp_path):
    image = Image.fromarray(RGB).quantize(8)
    image.save(tmp_path / "a.png", transparency=bytes([0, 128, 255, 255, 255, 255, 255, 255]))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert read_image(tmp_path / "a.png").shape == RGB.shape
    assert not caught


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(RGB).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), RGB)
    expected = {
        1: RGB,
        2: RGB[:, ::-1],
        3: RGB[::-1, ::-1],
        4: RGB[::-1],
        5: RGB.transpose(1, 0, 2),
        6: np.rot90(RGB, -1),
        7: RGB[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(RGB),
    }[orientation]
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", upright=True), expected)


def test_a_broken_exif_block_does_not_matter(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff", quality=95)
    upright = read_image(tmp_path / "a.jpg", upright=True)
    np.testing.assert_array_equal(upright, read_image(tmp_path / "a.jpg"))


def _broken(folder):
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    for suffix in ("jpg", "png", "webp", "bmp"):
        Image.fromarray(noise).save(folder / f"whole.{suffix}")
        whole = (folder / f"whole.{suffix}").read_bytes()
        (folder / f"cut.{suffix}").write_bytes(whole[: len(whole) // 2])
        yield folder / f"cut.{suffix}", "corrupt or truncated|not an image"
    spoiled = bytearray((folder / "whole.png").read_bytes())
    spoiled[60:80] = bytes(20)
    (folder / "spoiled.png").write_bytes(spoiled)
    yield folder / "spoiled.png", "corrupt or truncated"
    (folder / "empty.jpg").write_bytes(b"")
    yield folder / "empty.jpg", "empty"
    (folder / "text.jpg").write_text("<html>not found</html>")
    yield folder / "text.jpg", "not an image"
    yield folder / "missing.jpg", "no such image file"
    yield folder, "no such image file"


def test_broken_files_give_one_line_that_names_them(tmp_path):
    for path, message in _broken(tmp_path):
        with pytest.raises(HRNetError, match=message) as caught:
            read_image(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_decompression_bombs_are_refused_and_large_images_are_quiet(tmp_path, monkeypatch):
    Image.fromarray(np.zeros((100, 100, 3), np.uint8)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 6000)  # Pillow warns here, refuses at twice it
    assert read_image(tmp_path / "a.png").shape == (100, 100, 3)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4000)
    with pytest.raises(HRNetError, match="pixels"):
        read_image(tmp_path / "a.png")


def test_many_threads_leave_the_warning_filters_as_they_were(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    before = list(warnings.filters)
    threads = [
        threading.Thread(target=lambda: [read_image(tmp_path / "a.png") for _ in range(20)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before
