"""The network in what people save around it: wrappers, prefixes, averages, several at once."""

import zipfile

import numpy as np
import pytest

from hrnet_jax.checkpoints import load
from hrnet_jax.cli import run
from hrnet_jax.errors import HRNetError
from hrnet_jax.models.variants import VARIANTS
from hrnet_jax.torch_weights.convert import load_backbone
from hrnet_jax.torch_weights.names import face_table
from hrnet_jax.torch_weights.torch_file import read_weight_file
from tests import tiny  # noqa: F401 (adds the tiny network)
from tests.seeded import seeded_array
from tests.torch_writer import torch_bytes

TABLE = face_table(VARIANTS["tiny"], 68)
COUNTED = np.zeros((), np.int64)


def network(salt="a", prefix=""):
    return {prefix + e.name: seeded_array(e.name, e.shape, salt) for e in TABLE}


WRAPPINGS = {
    "plain": lambda net: net,
    "state_dict": lambda net: {"state_dict": net, "epoch": 3},
    "params_ema": lambda net: {"params_ema": net},
    "model_state": lambda net: {"model_state": net, "optimizer": {"lr": 0.1}},
    "weights": lambda net: {"weights": net},
    "nested": lambda net: {"checkpoint": {"model": {"state_dict": net}}},
}
PREFIXES = (
    "",
    "module.",
    "model.",
    "net.",
    "_orig_mod.",
    "module._orig_mod.",
    "model.module.",
    "lit.model.net.",
    "backbone.",  # a whole network that its owner calls so, its head inside
    "model.backbone.",
)


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_found_below_any_key_and_behind_any_prefix(tmp_path, wrapping, prefix):
    path = tmp_path / "w.pth"
    path.write_bytes(torch_bytes(WRAPPINGS[wrapping](network(prefix=prefix))))
    file = read_weight_file(path)
    assert file.tensors.keys() == {entry.name for entry in TABLE} and file.beside == 0
    np.testing.assert_array_equal(file.tensors["conv1.weight"], network()["conv1.weight"])


def test_what_lies_beside_is_counted_and_left(tmp_path, capsys):
    extra = {"n_averaged": COUNTED, "criterion.weight": np.ones(3, np.float32)}
    for prefix in ("model.", "module."):
        path = tmp_path / f"{prefix}pth"
        path.write_bytes(torch_bytes({"state_dict": network(prefix=prefix) | extra}))
        assert run("convert", [str(path), str(tmp_path / prefix), f"--model={tiny.MODEL}"]) == 0
        provenance = load(tmp_path / prefix).metadata["provenance"]
        assert provenance["tensors_ignored"] >= 2
        _, report = load_backbone(path, VARIANTS["tiny"])
        assert report["ignored"] >= 2


def test_the_average_is_taken_unless_another_is_named(tmp_path, capsys):
    path = tmp_path / "both.pth"
    path.write_bytes(torch_bytes({"model": network("a"), "model_ema": network("b")}))
    raw, average = (network(salt)["conv1.weight"] for salt in "ab")
    for arguments, expected in (([], average), (["--key=model"], raw)):
        command = [str(path), str(tmp_path / "out"), f"--model={tiny.MODEL}", *arguments]
        assert run("convert", command) == 0
        kernel = load(tmp_path / "out").variables["params"]["backbone"]["conv1"]["kernel"]
        np.testing.assert_array_equal(np.transpose(kernel, (3, 2, 0, 1)), expected)
    assert "averaged one" in capsys.readouterr().out
    assert run("convert", [str(path), str(tmp_path / "no"), "--key=teacher"]) == 2
    assert "--key=teacher names none of its networks: model, model_ema" in capsys.readouterr().err


def test_two_that_may_both_be_meant(tmp_path, capsys):
    path = tmp_path / "gan.pth"
    path.write_bytes(torch_bytes(network("a", "student.") | network("b", "teacher.")))
    with pytest.raises(HRNetError, match=r"2 networks \(student, teacher\): choose one with --key"):
        read_weight_file(path)
    np.testing.assert_array_equal(
        read_weight_file(path, "teacher").tensors["conv1.weight"], network("b")["conv1.weight"]
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!doctype html><title>Sign in</title>", "is a web page"),
        (b"\n<html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b"\x1f\x8b\x08" + bytes(60), "compressed with gzip"),
        (b"\x89HDF\r\n\x1a\n" + bytes(60), "is an HDF5 file"),
    ],
)
def test_other_files_are_named(tmp_path, content, message):
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    with pytest.raises(HRNetError, match=message):
        read_weight_file(path)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (["m/code/__torch__.py", "m/constants.pkl", "m/data.pkl"], "is a TorchScript program"),
        (["weights.npy"], "archive of NumPy arrays"),
        (["run/best.pth", "run/log.txt"], "with .run/best.pth. in it: unpack it"),
    ],
)
def test_other_archives_are_named(tmp_path, members, message):
    path = tmp_path / "w.pth"
    with zipfile.ZipFile(path, "w") as archive:
        for member in members:
            archive.writestr(member, b"")
    with pytest.raises(HRNetError, match=message):
        read_weight_file(path)
