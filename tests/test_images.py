"""Reading image files: every kind becomes RGB, every broken one a single clear line."""

import sys
import threading
import warnings

import numpy as np
import pytest
from PIL import Image

from hrnet_jax.errors import HRNetError
from hrnet_jax.images import decode_image, formats, jpeg, read_image

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


# Of what is stored, for each EXIF orientation: the picture as one looks at it.
UPRIGHT = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_exif_orientation(tmp_path, suffix, orientation):
    stored = np.repeat(np.repeat(RGB, 8, 0), 8, 1)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"jpg": {"quality": 100, "subsampling": 0}, "webp": {"lossless": True}}.get(
        suffix, {}
    )
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(stored).save(path, exif=exif, **options)
    atol = 9 if suffix == "jpg" else 0
    np.testing.assert_allclose(read_image(path).astype(int), stored, atol=atol)
    expected = UPRIGHT[orientation](stored)
    np.testing.assert_allclose(read_image(path, upright=True).astype(int), expected, atol=atol)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_deflate", "jpeg"])
def test_compressed_tiff_is_turned_once(tmp_path, compression):
    stored = np.repeat(np.repeat(RGB, 8, 0), 8, 1)
    Image.fromarray(stored).save(tmp_path / "a.tif", compression=compression, tiffinfo={0x0112: 6})
    atol = 90 if compression == "jpeg" else 0
    upright = read_image(tmp_path / "a.tif", upright=True).astype(int)
    np.testing.assert_allclose(upright, np.rot90(stored, -1), atol=atol)
    np.testing.assert_allclose(read_image(tmp_path / "a.tif").astype(int), stored, atol=atol)


GREY = np.linspace(0, 1, 256, dtype=np.float64).reshape(16, 16)
DEEP = {
    "8 bits in 16": np.rint(GREY * 255).astype(np.uint16),
    "12 bits in 16": np.rint(GREY * 4095).astype(np.uint16),
    "16 bits": np.rint(GREY * 65535).astype(np.uint16),
    "8 bits in int32": np.rint(GREY * 255).astype(np.int32),
    "16 bits in int32": np.rint(GREY * 65535).astype(np.int32),
    "31 bits": np.rint(GREY * (2**31 - 1)).astype(np.int32),
    "float to 1": GREY.astype(np.float32),
    "float to 255": (GREY * 255).astype(np.float32),
    "float to 65535": (GREY * 65535).astype(np.float32),
    "float beyond": (GREY * 1e6).astype(np.float32),
}


@pytest.mark.parametrize("suffix", ["tif", "png"])
@pytest.mark.parametrize("kind", DEEP)
def test_deep_grey_keeps_its_shades(tmp_path, kind, suffix):
    if suffix == "png" and DEEP[kind].dtype != np.uint16:
        pytest.skip("PNG has 16 bits at most")
    Image.fromarray(DEEP[kind]).save(tmp_path / f"a.{suffix}")
    result = read_image(tmp_path / f"a.{suffix}")
    np.testing.assert_allclose(result, np.repeat(GREY[..., None] * 255, 3, -1), atol=1)


def test_floats_that_are_none_are_black(tmp_path):
    grey = GREY.astype(np.float32)
    grey[0] = (np.nan, np.inf, -np.inf, -3) * 4
    Image.fromarray(grey).save(tmp_path / "a.tif")
    result = read_image(tmp_path / "a.tif")
    assert not result[0].any()
    np.testing.assert_allclose(result[1:, :, 0], GREY[1:] * 255, atol=1)


@pytest.mark.parametrize("suffix", ["heic", "avif"])
def test_heic_and_avif_with_what_reads_them(tmp_path, suffix):
    heif = pytest.importorskip("pillow_heif", reason="the extra heif is not installed")
    stored = np.zeros((64, 96, 3), np.uint8)
    stored[:32, :48] = (250, 30, 30)
    stored[32:, 48:] = (30, 30, 250)
    heif.register_heif_opener()
    Image.fromarray(stored).save(tmp_path / f"a.{suffix}", quality=95)
    (tmp_path / f"a.{suffix}").rename(tmp_path / "photo.jpg")  # the content counts
    np.testing.assert_allclose(read_image(tmp_path / "photo.jpg").astype(int), stored, atol=90)


def test_heic_without_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "a.jpg").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    with pytest.raises(HRNetError, match=r"a HEIC picture: pip install 'hrnet-jax\[heif\]'"):
        read_image(tmp_path / "a.jpg")


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
        for upright in (False, True):
            with pytest.raises(HRNetError, match=message) as caught:
                read_image(path, upright)
            assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_pictures_beyond_the_limits_are_refused_undecoded(tmp_path, monkeypatch):
    for suffix in ("png", "jpg", "gif", "tif", "webp", "bmp"):
        Image.new("RGB", (100, 100)).save(tmp_path / f"a.{suffix}")
    monkeypatch.setattr(formats, "PICTURE_PIXELS", 10_000)
    monkeypatch.setattr(jpeg, "PICTURE_PIXELS", 10_000)
    assert read_image(tmp_path / "a.png").shape == (100, 100, 3)
    monkeypatch.setattr(formats, "PICTURE_PIXELS", 9_999)
    monkeypatch.setattr(jpeg, "PICTURE_PIXELS", 9_999)
    for suffix in ("png", "jpg", "gif", "tif", "webp", "bmp"):
        with pytest.raises(HRNetError, match="million pixels"):
            read_image(tmp_path / f"a.{suffix}")


def test_a_jpeg_of_endless_scans_is_refused(tmp_path):
    Image.new("RGB", (2000, 1500), (90, 60, 30)).save(tmp_path / "a.jpg", progressive=True)
    assert read_image(tmp_path / "a.jpg").shape == (1500, 2000, 3)
    data = (tmp_path / "a.jpg").read_bytes()
    start = data.rindex(b"\xff\xda")
    (tmp_path / "a.jpg").write_bytes(data[:start] + data[start:-2] * 1000 + data[-2:])
    with pytest.raises(HRNetError, match="3.0 million pixels .* times"):
        read_image(tmp_path / "a.jpg")


# One file of every format that Pillow hands to another program or that is simply not on the list,
# and how they begin. None of it may run: PostScript's loop would never end.
FOREIGN = {
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n{} loop\n",
    "PostScript in DOS": b"\xc5\xd0\xd3\xc6\x20\0\0\0\x40\0\0\0" + bytes(20) + b"%!PS\n{} loop\n",
    "PDF": b"%PDF-1.4\n",
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "HTML": b"<!DOCTYPE html><html>",
    "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40),
    "video": b"\0\0\0\x20ftypisom" + bytes(40),
    "Photoshop": b"8BPS\0\x01" + bytes(40),
    "LFS": b"version https://git-lfs.github.com/spec/v1\n",
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_other_formats_start_no_program(tmp_path, kind):
    events = []
    watched = ("subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.spawn")
    watching = [True]  # a hook cannot be taken out again
    sys.addaudithook(lambda name, _: watching and name.startswith(watched) and events.append(name))
    Image.init()  # all that Pillow knows, as another library may have asked for
    for name in ("photo.jpg", "photo.eps", "photo.png"):
        (tmp_path / name).write_bytes(FOREIGN[kind])
        for read in (read_image, lambda path: decode_image(path.read_bytes(), str(path))):
            with pytest.raises(HRNetError, match="not an image") as caught:
                read(tmp_path / name)
            assert str(tmp_path / name) in str(caught.value)
    watching.clear()
    assert not events


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
