"""Every config file that ships starts after the plain install, without TensorFlow."""

import dataclasses
import shutil
import sys
import tomllib
from pathlib import Path

import pytest

import hrnet_jax
from hrnet_jax.cli import run
from hrnet_jax.cli.configs import load_config, shipped_configs
from hrnet_jax.codecs import DarkCodec, MsraCodec, UnbiasedCodec
from hrnet_jax.data import device, pictures, pipeline
from hrnet_jax.data.records import read_csv, write_csv
from hrnet_jax.errors import HRNetError
from hrnet_jax.protocols import Protocol, float_protocol, hih, mmpose, official
from hrnet_jax.schemes import get_scheme
from tests import test_classification, tiny

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = sorted((ROOT / "configs").glob("*.py"))
REACHED = "the first batch is wanted"


@pytest.fixture
def without_tensorflow(monkeypatch):
    """Python as after `pip install hrnet-jax`, without the extra `data`."""
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # importing it raises ImportError
    monkeypatch.delitem(sys.modules, "hrnet_jax.data.tfdata", raising=False)
    monkeypatch.delattr("hrnet_jax.data.tfdata", raising=False)


@pytest.fixture
def stop_at_the_first_batch(monkeypatch):
    def reached(self, *arguments):
        raise HRNetError(REACHED)

    for owner in (pipeline.TrainBatches, pictures.TrainBatches):
        monkeypatch.setattr(owner, "__call__", reached)
    monkeypatch.setattr(device.DeviceBatches, "batch", reached)


def landmark_data(path, folder):
    scheme = get_scheme(load_config(str(path)).scheme)
    tiny.write_dataset(folder, num_landmarks=scheme.num_landmarks)
    for file in folder.glob("*.csv") if scheme.name == "aflw" else ():
        table = read_csv(file, folder / "images")
        write_csv(file, dataclasses.replace(table, box_sizes=200 * table.scales))
    splits = [f"--config.data.{s}=face_landmarks_300w_{s}.csv" for s in ("train", "valid")]
    counts = [f"--config.data.{split}_count=4" for split in ("train", "valid")]
    return ["--config.model.name=plain", "--config.train.batch_size=4", *splits, *counts]


@pytest.fixture
def chosen(monkeypatch, tmp_path, capsys):
    """The protocol that a command makes its batches with, by its arguments; or what it says."""
    made = []

    def reached(self):
        made.append(self.protocol)
        raise HRNetError(REACHED)

    monkeypatch.setattr(pipeline.TrainBatches, "__post_init__", reached)
    tiny.write_dataset(tmp_path / "data")
    train = ["--config.model.name=plain", "--config.data.loader=threads", f"--workdir={tmp_path}/r"]
    train.append("--config.train.batch_size=4")
    root = f"--config.data.root={tmp_path / 'data'}"

    def choose(*arguments, show="", config="300w_w18:quicktest"):
        made.clear()
        arguments = [argument.replace("@", "--config.protocol") for argument in arguments]
        if show:
            command = ["show", config, f"--output={show}", root, *arguments]
            assert run("data", command) == 2
        else:
            assert run("train", [f"--config={config}", root, *train, *arguments]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return made[0] if made else error

    return choose


@pytest.mark.parametrize(
    ("arguments", "protocol"),
    [
        (["@.codec=msra"], Protocol("official", MsraCodec(), 64)),
        (["@.codec.name=msra"], Protocol("official", MsraCodec(), 64)),
        (["@.codec=msra", "@.codec.sigma=1.25"], Protocol("official", MsraCodec(1.25), 64)),
        (["@.codec.sigma=1.25", "@.codec=msra"], Protocol("official", MsraCodec(1.25), 64)),
        (["@.codec=dark", "@.name=float"], Protocol("float", DarkCodec(), 64)),
        (["@.codec.kernel=7", "@=float", "@.codec=dark"], Protocol("float", DarkCodec(2.0, 7))),
        (["@=float"], float_protocol()),
        (["@=mmpose", "--config.augment.flip_offset=-1"], mmpose(DarkCodec())),
        (["@=hih", "--config.train.loss=hih"], hih()),
        (["@.input_size=64", "@=official"], dataclasses.replace(official("300w"), input_size=64)),
    ],
)
def test_codecs_and_protocols_by_name_have_their_own_settings(chosen, arguments, protocol):
    assert chosen(*arguments) == protocol


def test_a_codec_in_the_place_of_one_with_other_settings(chosen):
    """300w_small's has a `window`, which others have not; and one of the user's own."""
    assert chosen("@.codec=dark", config="300w_small") == Protocol("float", DarkCodec(), 128)
    own = [f"@.codec={__name__}:OwnCodec", "@.codec.radius=2.5"]
    expected = Protocol("float", OwnCodec(radius=2.5), 128)
    assert chosen(*own, config="300w_small", show="sheet.png") == expected


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["@.codec=darc"], "--config.protocol.codec=darc: unknown codec 'darc': choose one of"),
        (["@.codec=no_such:Codec"], "importing no_such fails"),
        (["@.codec=dark"], "codec 'dark' does not go with protocol 'official'"),
        (["@.codec=msra", "@.codec.window=7"], "--config.protocol.codec.window=7: no key"),
        (["@=flaot"], "--config.protocol=flaot: unknown protocol 'flaot': choose one of"),
        (["@=mmpose"], "augment.flip_offset=-1"),
    ],
)
def test_wrong_codecs_and_protocols_by_name(chosen, arguments, says):
    assert says in chosen(*arguments)


def test_evaluate_refuses_settings_of_a_protocol_that_it_does_not_use(tmp_path, capsys):
    tiny.write_dataset(tmp_path / "data")
    command = ["--config=300w_small", "--checkpoint=300w_small", f"--output={tmp_path / 'scores'}"]
    command += [f"--config.data.root={tmp_path / 'data'}", "--config.protocol.codec=dark"]
    assert run("evaluate", command) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "add --protocol=config" in error
    assert not (tmp_path / "scores").exists()


@dataclasses.dataclass(frozen=True)
class OwnCodec(UnbiasedCodec):
    radius: float = 1.0


def class_data(path, folder):
    test_classification.write_pictures(folder)
    return ["--config.model.name=hrnet_tiny_imagenet", "--config.model.num_classes=3"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_starts_without_tensorflow(
    path, tmp_path, capsys, without_tensorflow, stop_at_the_first_batch
):
    argument = ":quicktest" if "quicktest" in path.read_text() else ""
    classifier = "classification_config" in path.read_text()
    data = (class_data if classifier else landmark_data)(path, tmp_path / "data")
    small = ["--config.data.workers=1", f"--config.data.root={tmp_path / 'data'}"]
    arguments = [f"--config={path}{argument}", f"--workdir={tmp_path / 'run'}", *small, *data]
    assert run("train", arguments) == 2
    said = capsys.readouterr()
    assert f"error: {REACHED}" in said.err
    by_threads = "batches by threads: TensorFlow is not installed, nor needed"
    resident = not classifier and load_config(str(path)).data.source == "device"
    assert (by_threads in said.out) == (not classifier and not resident)


def test_tfdata_asked_for_without_tensorflow_is_one_line(tmp_path, capsys, without_tensorflow):
    tiny.write_dataset(tmp_path / "data")
    config = ROOT / "configs/300w_w18.py"
    root = f"--config.data.root={tmp_path / 'data'}"
    loader = "--config.data.loader=tfdata"
    assert run("train", [f"--config={config}", f"--workdir={tmp_path / 'run'}", root, loader]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "TensorFlow is not installed: pip install 'hrnet-jax[data]', or set" in error
    assert not (tmp_path / "run").exists()  # told before any work


def test_auto_is_tfdata_where_tensorflow_is():
    pytest.importorskip("tensorflow", reason="pip install 'hrnet-jax[data]'")
    assert pipeline.choose_loader("auto") == ("tfdata", "batches by tf.data")


def test_a_config_that_ships_goes_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where no configs/ is
    assert sorted(shipped_configs()) == [path.stem for path in CONFIGS]
    assert load_config("300w_small").protocol.codec.name == "unbiased"
    assert load_config("300w_small:dark").protocol.codec.name == "dark"
    with pytest.raises(HRNetError, match="wflw18: no such file.* did you mean wflw_w18\\?"):
        load_config("wflw18")
    with pytest.raises(HRNetError, match="configs/demo.py: no such .* did you mean demo\\?"):
        load_config("configs/demo.py")


def test_a_wheel_finds_its_configs_beside_the_package(tmp_path, monkeypatch):
    """And takes no folder `configs` of another package for its own."""
    package = tmp_path / "site-packages" / "hrnet_jax"
    package.mkdir(parents=True)
    monkeypatch.setattr("hrnet_jax.cli.configs._PACKAGE", package)
    foreign = package.parent / "configs"
    foreign.mkdir()
    (foreign / "demo.py").touch()
    assert shipped_configs() == {}
    shutil.copytree(ROOT / "configs", package / "shipped_configs")
    assert load_config("300w_small:hih").train.loss == "hih"
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    assert wheel["targets"]["wheel"]["force-include"]["configs"] == "hrnet_jax/shipped_configs"


def test_a_batch_size_alone_says_that_the_learning_rate_stays(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("hrnet_jax.tasks.train", lambda *_: {"step": 1, "nme": 2.0})
    command = ["--config=300w_small", f"--workdir={tmp_path}", "--config.train.batch_size=64"]
    assert run("train", command) == 0
    assert "train.batch_size=64 is given, train.learning_rate is not" in capsys.readouterr().out
    assert run("train", [*command, "--config.train.learning_rate=1e-3"]) == 0
    assert run("train", command[:2]) == 0
    assert "note" not in capsys.readouterr().out


def test_what_is_cited_is_this_version():
    assert f"\nversion: {hrnet_jax.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_public_names_are_there_without_being_imported():
    for name in hrnet_jax.__all__:
        assert getattr(hrnet_jax, name)
    assert set(hrnet_jax.__all__) == {*hrnet_jax._EXPORTS, "__version__"}
