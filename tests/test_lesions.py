"""Silenced parts, by hand on a tiny network; and the command."""

import csv
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hrnet_jax
import tests.tiny
from hrnet_jax.ablations import ablate
from hrnet_jax.checkpoints import save_model
from hrnet_jax.cli import run
from hrnet_jax.errors import HRNetError
from hrnet_jax.inspect.lesions import Lesioned, intact, parts_of, silence
from hrnet_jax.models import normalise_images
from tests.test_ablations import IMAGES, SIZE, silenced, whole  # noqa: F401  a fixture


def close(made, expected):
    scale = np.abs(expected).max()
    np.testing.assert_allclose(made / scale, expected / scale, rtol=0, atol=1e-5)


CROPS = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), np.uint8)


def by_name(parts):
    return {part.name: part for part in parts}


def test_silence_by_zero_is_a_normalisation_of_zero(whole):  # noqa: F811
    model, variables = whole
    parts = parts_of(model, groups=2)
    lesions = intact(model, variables, parts, [CROPS[:1]], "zero")
    apply = jax.jit(Lesioned(model).apply)

    def heatmaps(*chosen):
        made = lesions
        for part in chosen:
            made = silence(made, part)
        return apply({**variables, "lesions": made}, IMAGES)

    close(heatmaps(), model.apply(variables, IMAGES))
    named = by_name(parts)
    for name, site in {
        "stage4_1 edge 0<-3": "stage4_1/fuse0_3",
        "stage4_0 edge 3<-0": "stage4_0/fuse3_0_2",
    }.items():
        expected = model.apply(silenced(variables, [site]), IMAGES)
        close(heatmaps(named[name]), expected)
    # A branch: no edge from it, and nothing to the head.
    branch = model.apply(
        silenced(variables, [s.removeprefix("backbone/") for s in named["branch 3"].sites[:-1]]),
        IMAGES,
        features=True,
    )
    quiet = heatmaps(named["branch 3"])
    assert not np.allclose(quiet, model.apply(variables, IMAGES), atol=1e-3)
    head = model.head.clone(parent=None)
    features = hrnet_jax.models.features.Features([*branch[:3], jnp.zeros_like(branch[3])])
    own = {key: tree["head"] for key, tree in variables.items()}
    close(quiet, head.apply(own, features))
    # A branch's channels together are its view by the head.
    both = heatmaps(*(part for part in parts if part.name.startswith("branch 3 channels")))
    features = features._replace(
        branches=[*model.apply(variables, IMAGES, features=True)[:3], jnp.zeros_like(branch[3])]
    )
    close(both, head.apply(own, features))
    assert apply._cache_size() == 1  # which part is silent is no matter of the program


def test_the_mean_of_one_face_changes_nothing_of_it(whole):  # noqa: F811
    model, variables = whole
    parts = parts_of(model, groups=2)
    lesions = intact(model, variables, parts, [CROPS[:1]])
    for part in parts:
        lesions = silence(lesions, part)
    images = normalise_images(jnp.asarray(CROPS[:1]))
    made = Lesioned(model).apply({**variables, "lesions": lesions}, images)
    close(made, model.apply(variables, images))


def test_the_mean_is_over_all_batches(whole):  # noqa: F811
    model, variables = whole
    parts = parts_of(model, groups=2)
    batches = [CROPS[:1], CROPS[1:]]
    first, second = (intact(model, variables, parts, [batch])["fill"] for batch in batches)
    both = intact(model, variables, parts, batches)["fill"]
    jax.tree.map(lambda a, b, c: close(a, (b + c) / 2), both, first, second)


def test_an_ablated_network_has_fewer_parts(whole):  # noqa: F811
    names = by_name(parts_of(ablate(whole[0], "without_branch(2)", "without_fusion(4, 'up')"), 1))
    assert "branch 2" not in names and "stage4_0 edge 0<-1" not in names
    assert names["branch 3"].sites[-1] == "backbone/2" and "stage3_0 edge 0<-1" in names
    with pytest.raises(HRNetError, match="this backbone is StackedHourglass"):
        parts_of(hrnet_jax.create_model(tests.tiny.HOURGLASS, 5))
    with pytest.raises(HRNetError, match="3 groups of channels: give 1 to 2"):
        parts_of(whole[0], groups=3)


def test_the_command(tmp_path, whole, capsys):  # noqa: F811
    model = hrnet_jax.create_model(tests.tiny.MODEL, 68)
    shapes = jax.eval_shape(model.init, jax.random.key(0), IMAGES)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda x: np.float32(rng.uniform(0.1, 0.5, x.shape)), shapes)
    data = {"model": {"name": tests.tiny.MODEL, "num_landmarks": 68}, "scheme": "300w"}
    config = tests.tiny.get_config()
    path = save_model(tmp_path / "m", variables, data | {"protocol": config.protocol.to_dict()})
    tests.tiny.write_dataset(tmp_path / "data")
    argv = [str(path), "--config=tests/tiny.py", f"--config.data.root={tmp_path / 'data'}"]
    argv += [f"--output={tmp_path / 'out'}", "--groups=2", "--count=5"]
    assert run("lesion", argv) == 0
    assert "whole network: NME" in capsys.readouterr().out
    with open(tmp_path / "out/lesion.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["part"] for row in rows] == [part.name for part in parts_of(model, 2)]
    assert any(float(row["nme_added"]) for row in rows)
    told = json.loads((tmp_path / "out/lesion.json").read_text())
    assert told["faces"] == 5 and told["fill"] == "mean"
    command = [argv[1], argv[2], f"--checkpoint={path}", f"--output={tmp_path / 'eval'}"]
    command += ["--config.data.valid_count=5", f"--config.model.name={tests.tiny.MODEL}"]
    assert run("evaluate", command) == 0
    evaluated = json.loads((tmp_path / "eval/metrics.json").read_text())
    assert told["whole"]["nme"] == pytest.approx(evaluated["nme"], rel=1e-5)
    assert {"lesion.svg", "lesion.png", "lesion_parts.svg"} <= {
        path.name for path in (tmp_path / "out").iterdir()
    }

    assert run("lesion", ["nowhere", *argv[1:]]) == 2
    assert "nowhere: no such file" in capsys.readouterr().err
    assert run("lesion", [str(path), argv[3]]) == 2
    assert "which --config=FILE?" in capsys.readouterr().err
    assert run("lesion", [*argv, "--groups=9"]) == 2
    assert "9 groups of channels" in capsys.readouterr().err
