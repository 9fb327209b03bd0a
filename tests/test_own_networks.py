"""Networks of other parts than the published ones: trained, scored, used and loaded by command."""

import json

import jax
import numpy as np
import pytest

import hrnet_jax
from hrnet_jax.checkpoints import load, save_model
from hrnet_jax.cli import run
from hrnet_jax.errors import HRNetError
from hrnet_jax.models.norms import GroupNorm
from hrnet_jax.protocols import float_protocol
from hrnet_jax.tasks.landmarks import build_model
from tests import tiny
from tests.test_tasks import Network

pytestmark = pytest.mark.usefixtures("quick_compile")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return tiny.write_dataset(tmp_path_factory.mktemp("own") / "data")


@pytest.fixture
def command(dataset, tmp_path, capsys):
    """`command(name, *arguments)`: (exit status, what it said)."""
    config = tiny.write_config(tmp_path / "config.py", dataset)

    def call(name, *arguments):
        place = [f"--config={config}"] if name in ("train", "evaluate") else []
        status = run(name, [*place, *map(str, arguments)])
        shown = capsys.readouterr()
        return status, shown.err + shown.out

    return call


def errors(shown):
    return [line for line in shown.splitlines() if line.startswith("error:")]


def test_another_norm_and_an_ablation_from_training_to_a_released_file(command, dataset, tmp_path):
    workdir, released = tmp_path / "run", tmp_path / "mine.safetensors"
    parts = ["--config.model.norm={'name': 'group', 'num_groups': 2}"]
    parts.append("--config.model.ablations=['without_fusion(2)']")
    name = f"--config.model.name={tiny.MODEL}"
    once = ["--config.train.epochs=1", "--config.train.batch_size=6"]
    assert command("train", f"--workdir={workdir}", name, *parts, *once)[0] == 0
    about = ["--data=blobs", "--terms=none", "--command=train"]
    assert command("export", workdir, released, *about)[0] == 0
    loaded = load(released)
    assert "batch_stats" not in loaded.variables
    assert loaded.metadata["model"]["norm"] == {"name": "group", "num_groups": 2}
    assert loaded.metadata["model"]["ablations"] == ["without_fusion(2)"]
    assert loaded.scheme.name == "300w" and loaded.protocol == float_protocol(1.5, 32)
    images = np.full((1, 32, 32, 3), 128, np.uint8)
    assert loaded.model.apply(loaded.variables, loaded.normalise(images)).shape == (1, 8, 8, 68)

    output = tmp_path / "scores"
    assert command("evaluate", f"--checkpoint={released}", f"--output={output}", name)[0] == 0
    result = json.loads((output / "metrics.json").read_text())
    assert result["nme"] == loaded.metadata["provenance"]["nme"]
    picture = dataset / "images" / "valid 0.png"
    arguments = [picture, f"--checkpoint={released}", "--box=4,4,40,40", f"--output={tmp_path}"]
    assert command("predict", *arguments)[0] == 0
    (image,) = json.loads((tmp_path / "landmarks.json").read_text())["images"]
    assert len(image["faces"][0]["landmarks"]) == 68


def test_a_checkpoint_imports_nothing_unasked(command, tmp_path):
    workdir = tmp_path / "run"
    head = "--config.model.head={'name': 'tests.test_own_parts:Mean', 'gain': 2.0}"
    assert command("train", f"--workdir={workdir}", head, "--config.train.epochs=1")[0] == 0
    scored = ["evaluate", f"--checkpoint={workdir}", f"--output={tmp_path / 'scores'}", head]
    status, shown = command(*scored)
    (error,) = errors(shown)
    assert status == 2 and "--allow-import=tests" in error
    assert not (tmp_path / "scores").exists()
    assert command(*scored, "--allow-import=tests")[0] == 0
    with pytest.raises(HRNetError, match="imports nothing|unasked"):
        load(workdir)
    assert load(workdir, allow_import=("tests",)).model.head.gain == 2.0


def test_a_network_given_as_an_object(dataset, tmp_path):
    config = tiny.get_config(dataset)
    hrnet_jax.train(config, tmp_path, model=Network(dropout=0.25))
    with pytest.raises(HRNetError, match="tests.test_tasks:Network"):
        load(tmp_path)
    for given in ({"parts": {"tests.test_tasks:Network": Network}}, {"allow_import": ["tests"]}):
        loaded = load(tmp_path, **given)
        assert loaded.model.dropout == 0.25 and set(loaded.variables) == {"params"}
    with pytest.raises(HRNetError, match="holds .*Network.*the config asks for .*plain"):
        hrnet_jax.evaluate(config, tmp_path, allow_import=["tests"])


@pytest.mark.parametrize(
    ("model", "momentum"),
    [({"name": "hih_tiny"}, 0.9), ({"name": tiny.MODEL}, 0.99), ({"norm_momentum": 0.5}, 0.5)],
)
def test_momentum_is_the_models_own_unless_set(dataset, model, momentum):
    config = tiny.get_config(dataset)
    with config.unlocked():
        config.model.update(model)
    scheme = hrnet_jax.schemes.get_scheme("300w")
    built = build_model(config, scheme, float_protocol())
    assert built.head.norm.keywords["momentum"] == momentum


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["model.norm=grup"], "did you mean"),
        (["model.name=None"], "unknown model 'None'"),
        (["train.epochs=None"], "'None' is not of type int"),
        (["model.norm=group", "model.norm_momentum=0.9"], "model.norm_momentum is for batch"),
        (["model.norm={'name': 'group', 'groups': 2}"], "no setting 'groups'"),
        (["model.upsample=cubic"], "cubic"),
        (["model.ablations=['without_fusion(9)']", f"model.name={tiny.MODEL}"], "stage"),
        (["model.ablations=['without_everything']"], "without_everything"),
        (["model.backbone=nowhere:Thing"], "nowhere"),
    ],
)
def test_parts_that_are_not_there(command, tmp_path, settings, message):
    settings = [f"--config.{setting}" for setting in settings]
    status, shown = command("train", f"--workdir={tmp_path / 'run'}", *settings)
    (error,) = errors(shown)
    assert status == 2 and message in error and not (tmp_path / "run").exists()


def test_a_file_opens_no_other_file(tmp_path):
    scheme = tmp_path / "scheme.json"
    scheme.write_text("{}")
    model = hrnet_jax.create_model(tiny.PLAIN, 5, norm=GroupNorm)
    variables = model.init(jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32))
    about = {"model": hrnet_jax.models.describe_model(model), "scheme": str(scheme)}
    path = save_model(tmp_path / "m.safetensors", variables, about)
    with pytest.raises(HRNetError, match="names the landmark scheme"):
        hrnet_jax.Predictor(path)
