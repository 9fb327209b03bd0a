"""JPEG files by OpenCV and in parts: the pixels, and the refusals, that Pillow gives."""

import io
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from PIL import Image

from hrnet_jax import images
from hrnet_jax.codecs import MsraCodec
from hrnet_jax.errors import HRNetError
from hrnet_jax.images import jpeg
from hrnet_jax.images.augment import RECIPES
from hrnet_jax.protocols import float_protocol, mmpose, official

PROTOCOLS = {"float": float_protocol(), "mmpose": mmpose(MsraCodec()), "official": official("wflw")}
SWAP = np.array([1, 0])


def picture(height=333, width=470):
    """Shapes and a little noise, with edges at every angle, to compress like a photograph."""
    y, x = np.mgrid[:height, :width]
    waves = [
        np.sin(x / 9 + k) * np.cos(y / (7 + k)) + (np.hypot(x - 200, y - 150) < 90)
        for k in range(3)
    ]
    noise = np.random.default_rng(0).normal(0, 4, (height, width, 3))
    return np.clip(100 + 60 * np.stack(waves, axis=-1) + noise, 0, 255).astype(np.uint8)


def encode(image, **options):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", **{"quality": 90} | options)
    return file.getvalue()


def pillow(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.mark.parametrize(
    "options",
    [
        {"subsampling": "4:2:0"},
        {"subsampling": "4:2:2"},
        {"subsampling": "4:4:4", "quality": 100},
        {"restart_marker_rows": 1},
        {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"},
    ],
    ids=["420", "422", "444", "restarts", "turned"],
)
@pytest.mark.parametrize("grey", [False, True])
def test_plain_files_have_pillows_pixels(tmp_path, options, grey):
    image = picture()
    data = encode(image[..., 0] if grey else image, **options)
    assert jpeg.read_shape(data) == image.shape[:2]
    np.testing.assert_array_equal(jpeg.decode(data, image.shape[:2]), pillow(data))
    (tmp_path / "a.jpg").write_bytes(data)
    np.testing.assert_array_equal(images.read_image(tmp_path / "a.jpg"), pillow(data))


def test_photographs_have_pillows_pixels(shared):
    for pattern in ("wflw_mini/WFLW_images/*/*.jpg", "300w/images/*.jpg", "ytf68/images/*.jpg"):
        paths = sorted((shared / "data").glob(pattern))
        for path in paths[:: len(paths) // 8]:
            np.testing.assert_array_equal(images.read_image(path), pillow(path.read_bytes()))


def test_other_kinds_are_left_to_pillow(tmp_path):
    cmyk = io.BytesIO()
    Image.fromarray(picture()).convert("CMYK").save(cmyk, "JPEG")
    png = io.BytesIO()
    Image.fromarray(picture()).save(png, "PNG")
    for data in (cmyk.getvalue(), encode(picture(), progressive=True), png.getvalue(), b"\xff\xd8"):
        assert jpeg.read_shape(data) is None
    (tmp_path / "a.jpg").write_bytes(cmyk.getvalue())
    np.testing.assert_array_equal(images.read_image(tmp_path / "a.jpg"), pillow(cmyk.getvalue()))


def test_whatever_pillow_refuses_is_refused(tmp_path):
    """Files cut and spoiled at random: no pixels where Pillow has none, and the same otherwise."""
    whole, rng, refused = encode(picture()), np.random.default_rng(0), 0
    path = tmp_path / "a.jpg"
    for trial in range(60):
        data, at = bytearray(whole), int(rng.integers(2, len(whole) - 400))
        if trial % 3 == 0:
            data = data[:at]
        elif trial % 3 == 1:
            data[at : at + 300] = rng.integers(0, 256, 300, dtype=np.uint8).tobytes()
        else:
            data[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        try:
            expected = pillow(bytes(data))
        except Exception:
            refused += 1
            with pytest.raises(images.ImageError, match="a.jpg"):
                images.read_image(path)
        else:
            np.testing.assert_array_equal(images.read_image(path), expected)
    assert refused > 20


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_file_gives_the_crop_of_its_picture(tmp_path, name):
    """Mirrored or not; exact wherever the crop does not shrink the picture to a half."""
    (tmp_path / "a.jpg").write_bytes(encode(picture()))
    image = images.read_image(tmp_path / "a.jpg")
    file = images.open_image(tmp_path / "a.jpg")
    assert isinstance(file, images.Encoded) and file.shape == image.shape
    points = np.array([[180.0, 140], [260, 150]])
    for seed in range(12):
        side = np.random.default_rng(seed).uniform(40, 280)
        samples = [
            PROTOCOLS[name].sample(
                of, points, (210, 160), side, RECIPES["hih"], SWAP, np.random.default_rng(seed)
            )
            for of in (image, file)
        ]
        np.testing.assert_array_equal(samples[0]["image"], samples[1]["image"])


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("factor", [2, 4, 8])
def test_reduced_pixels_are_means(tmp_path, factor, mirrored):
    """Of an odd size, so that the last block of pixels reaches beyond the picture."""
    (tmp_path / "a.jpg").write_bytes(encode(picture(), subsampling="4:4:4", quality=95))
    image = images.read_image(tmp_path / "a.jpg").astype(float)
    file = images.open_image(tmp_path / "a.jpg")
    if mirrored:
        image, file = images.mirror(image), images.mirror(file)
    pixels, origin, used = images.region(file, (61, 45), (411, 301), factor)
    assert (
        used == factor
        and (origin <= (61, 45)).all()
        and (origin > (61 - factor, 45 - factor)).all()
    )
    height, width = (factor * side for side in pixels.shape[:2])
    x, y = np.maximum(origin, 0)
    part = image[y : y + height, x : x + width]
    means = part.reshape(height // factor, factor, width // factor, factor, 3).mean((1, 3))
    assert np.abs(pixels - means).mean() < 1


def test_reduced_crops_are_close(shared):
    """Faces of photographs at 96 pixels: what the float protocol's shortcut changes.

    The crops of these data are 1.4 times larger than those that were measured at 64.
    """
    differences = []
    for path in sorted((shared / "data" / "300w" / "images").glob("*.jpg"))[:400:20]:
        image, file = images.read_image(path), images.open_image(path)
        center, side = np.array(image.shape[1::-1]) / 2, min(image.shape[:2]) / 1.25
        crops = [float_protocol(input_size=96).crop(of, center, side, 20) for of in (image, file)]
        differences.append(np.abs(crops[0].astype(float) - crops[1]))
    assert 0 < np.mean(differences) < 1.5 and np.percentile(differences, 99) < 10


@pytest.mark.parametrize("name", PROTOCOLS)
def test_windows_have_the_pixels_of_the_whole(tmp_path, name, monkeypatch):
    pytest.importorskip("tensorflow", reason="pip install 'hrnet-jax[data]'")
    from hrnet_jax.data import tfdata

    windows = []

    def decode_window(*arguments):
        windows.append(arguments)
        return tfdata.decode_window(*arguments)

    for subsampling in ("4:2:0", "4:2:2", "4:4:4"):
        (tmp_path / "a.jpg").write_bytes(encode(picture(600, 800), subsampling=subsampling))
        opened = [images.open_image(tmp_path / "a.jpg", how) for how in (None, decode_window)]
        for seed in range(8):
            rng = np.random.default_rng(seed)
            center, side = rng.uniform([0, 0], [800, 600]), rng.uniform(40, 200)
            samples = [
                PROTOCOLS[name].sample(
                    file,
                    np.ones((2, 2)),
                    center,
                    side,
                    RECIPES["official"],
                    SWAP,
                    np.random.default_rng(seed),
                )
                for file in opened
            ]
            np.testing.assert_array_equal(samples[0]["image"], samples[1]["image"])
    assert len(windows) > 12


def test_a_window_of_a_damaged_file_names_it(tmp_path):
    data = bytearray(encode(picture(600, 800)))
    table = data.index(b"\xff\xc4")  # of the Huffman code
    data[table + 5 : table + 21] = bytes([255] * 16)
    (tmp_path / "a.jpg").write_bytes(data)
    file = images.open_image(tmp_path / "a.jpg", lambda *_: None)
    with pytest.raises(HRNetError, match="a.jpg: the image is corrupt"):
        float_protocol().crop(file, (400, 500), 40)


def test_pictures_of_50_megapixels_fit_in_memory(tmp_path):
    """Four threads crop from one each, with room for three decoded ones at most."""
    pytest.importorskip("resource", reason="not on Windows")
    Image.new("RGB", (8000, 6300), (90, 120, 60)).save(tmp_path / "a.jpg")
    script = f"""
        import resource
        from concurrent.futures import ThreadPoolExecutor
        import numpy as np
        from hrnet_jax.images import open_image
        from hrnet_jax.protocols import float_protocol
        protocol = float_protocol()
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: np.zeros(1), range(8)))  # threads reserve room of their own
            used = 1024 * int(open("/proc/self/status").read().split("VmSize:")[1].split()[0])
            resource.setrlimit(resource.RLIMIT_AS, (used + 700 * 10**6,) * 2)
            def crop(side):
                return protocol.crop(open_image({str(tmp_path / "a.jpg")!r}), (4000, 3000), side)
            crops = list(pool.map(crop, [200, 4000, 200, 4000]))
        assert all(np.abs(crop.astype(int) - (90, 120, 60)).max() < 6 for crop in crops)
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True
    )
    if "/proc/self/status" in result.stderr:
        pytest.skip("no /proc here")
    assert result.returncode == 0, result.stderr
