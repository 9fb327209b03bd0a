"""`hrnet-jax data show`: what is on the sheet, and that it lies where it should."""

import numpy as np
import pytest

from hrnet_jax import cli
from hrnet_jax.codecs import DarkCodec, HIHCodec
from hrnet_jax.data.pipeline import TrainBatches
from hrnet_jax.data.records import read_csv
from hrnet_jax.images import read_image
from hrnet_jax.images.augment import Augmentation
from hrnet_jax.inference import samples
from hrnet_jax.protocols import Protocol, float_protocol, mmpose, official
from hrnet_jax.schemes import get_scheme
from tests import tiny

CELL = 192


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return tiny.write_dataset(tmp_path_factory.mktemp("show") / "data")


@pytest.fixture(scope="module")
def config_file(dataset, tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "config.py"
    text = f"    return tiny.get_config({str(dataset)!r})\n"
    path.write_text(f"from tests import tiny\n\n\ndef get_config():\n{text}")
    return path


def show(capsys, *arguments):
    status = cli.main(["data", "show", *map(str, arguments)])
    return status, capsys.readouterr()


def test_a_sheet(capsys, config_file, tmp_path):
    path = tmp_path / "sheet.png"
    command = [config_file, f"--output={path}", "--count=5", "--columns=2", f"--cell={CELL}"]
    status, printed = show(capsys, *command, "--config.augment.flip_probability=1")
    assert status == 0 and "sheet.png" in printed.out
    first = read_image(path)
    assert first.shape == (3 * (CELL + 24 + 8) + 8, 2 * (2 * CELL + 8) + 8, 3)
    reddish = (first[..., 0] > 180) & (first[..., 1] < 90) & (first[..., 2] < 90)
    assert all(reddish[8 + k * (CELL + 32) :][:24].any() for k in range(3))  # "mirrored"
    status, _ = show(capsys, *command, "--step=1", "--config.augment.flip_probability=0")
    assert status == 0 and (read_image(path) != first).mean() > 0.1


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["--count=0"], "--count must lie between 1"),
        (["--cell=9999"], "--cell must lie"),
        (["--config.augment.rotaton=1"], "rotation"),
        (["--config.data.train=absent.csv"], "absent.csv"),
        (["--config.train.batch_size=100", "--config.train.drop_last=True"], "batch_size = 100"),
    ],
)
def test_wrong_arguments(capsys, config_file, tmp_path, arguments, says):
    status, printed = show(capsys, config_file, f"--output={tmp_path / 'a.png'}", *arguments)
    assert status == 2 and printed.err.count("\n") == 1 and says in printed.err
    assert not (tmp_path / "a.png").exists()


def test_wrong_files(capsys, config_file, tmp_path):
    status, printed = show(capsys, config_file, f"--output={tmp_path / 'a.gif'}")
    assert status == 2 and "a.gif" in printed.err
    status, printed = show(capsys, tmp_path / "none.py", f"--output={tmp_path / 'a.png'}")
    assert status == 2 and "no such file" in printed.err


@pytest.mark.parametrize(
    "protocol",
    [
        float_protocol(input_size=64),
        mmpose(DarkCodec(1.5, 11)),
        official("wflw"),
        Protocol("float", HIHCodec(), 64),
    ],
    ids=["float", "mmpose", "official", "hih"],
)
def test_heat_lies_on_its_landmark(protocol):
    """The light on a black crop has its centre where the landmark is drawn."""
    size = protocol.input_size
    cell = 4 * size
    for x, y in ((5.3, 9.8), (7.0, 6.0)):
        whole = protocol.name == "official" or isinstance(protocol.codec, HIHCodec)
        point = np.floor([[x, y]]) if whole else np.array([[x, y]])
        sample = {"points": point.astype(np.float32), "weights": np.ones(1, np.float32)}
        heat = samples._heat(protocol, sample)
        black = np.zeros((cell, cell, 3), np.uint8)
        light = samples._overlay(black, heat, protocol).astype(float).sum(axis=-1)
        rows, columns = np.mgrid[:cell, :cell] + 0.5
        found = np.array([(columns * light).sum(), (rows * light).sum()]) / light.sum()
        expected = protocol.to_crop(point)[0] * cell / size
        expected += 2 * cell / size * isinstance(protocol.codec, HIHCodec)  # its cells' corners
        assert np.abs(found - expected).max() < 0.15 * 4 * cell / size  # of a heatmap cell


def test_sides_are_coloured(dataset):
    """Also in a mirrored face the points of the image's left are blue."""
    records = read_csv(dataset / "face_landmarks_300w_train.csv", dataset / "images", 68)
    scheme = get_scheme("300w")
    augmentation = Augmentation(scale=0, rotation=0, flip_probability=1)
    batches = TrainBatches(
        records, float_protocol(input_size=64), augmentation, scheme.flip_permutation, 4, 0
    )
    picture = np.zeros((200, 200, 3), np.uint8)
    points = np.full((68, 2), np.nan)
    points[[0, 16, 8]] = [[20, 50], [180, 50], [100, 150]]  # ears and chin
    marked = samples._mark_sides(picture, points, scheme)
    assert [tuple(marked[y, x]) for x, y in ((20, 50), (180, 50), (100, 150))] == [
        tuple(colour) for colour in samples._SIDES[[1, 2, 0]]
    ]
    assert samples.draw_sample(batches, scheme, 0, 1, 128).shape == (152, 256, 3)
