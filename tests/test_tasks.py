"""`hrnet_jax.train` and `hrnet_jax.evaluate`: settings by command, parts by text and as objects."""

import json
import shutil

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hrnet_jax
from hrnet_jax.checkpoints.training import TrainCheckpoints
from hrnet_jax.cli import run
from hrnet_jax.data.sources import open_annotations
from hrnet_jax.errors import HRNetError
from hrnet_jax.schemes import get_scheme
from hrnet_jax.tasks import make_task
from hrnet_jax.training.losses import mean_squared_error
from hrnet_jax.training.state import create_state
from hrnet_jax.training.step import make_step
from tests import tiny

pytestmark = pytest.mark.usefixtures("quick_compile")
STEPS = 3  # in an epoch


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return tiny.write_dataset(tmp_path_factory.mktemp("tasks") / "data")


@pytest.fixture(scope="module")
def config_file(dataset, tmp_path_factory):
    return tiny.write_config(tmp_path_factory.mktemp("config") / "config.py", dataset)


@pytest.fixture
def trained(config_file, tmp_path, capsys):
    """`trained(**overrides)`: (exit status, lines of log.jsonl, what went to stderr and stdout)."""
    runs = []

    def command(**overrides):
        workdir = tmp_path / str(len(runs))
        runs.append(workdir)
        settings = {"train.epochs": 1, "train.log_every": 1, **overrides}
        arguments = [f"--config.{key}={value}" for key, value in settings.items()]
        status = run("train", [f"--config={config_file}", f"--workdir={workdir}", *arguments])
        shown = capsys.readouterr()
        command.workdir = workdir
        return status, read_log(workdir), shown.err + shown.out

    return command


def read_log(workdir):
    log = workdir / "log.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def losses(lines):
    return [line["loss"] for line in lines if "loss" in line]


# What a config chooses


@pytest.mark.parametrize("most, made", [(2, 2), (4, 4), (0, 6), (99, 6)])
def test_max_steps_ends_a_run_with_its_evaluation(trained, most, made):
    status, lines, _ = trained(**{"train.epochs": 2, "train.max_steps": most})
    assert status == 0 and len(losses(lines)) == made
    assert lines[-1]["step"] == made and "nme" in lines[-1]
    checkpoints = TrainCheckpoints(trained.workdir)
    assert checkpoints.latest_step == made
    checkpoints.close()


OPTIMISERS = {
    "sgd": optax.sgd(1e-3, momentum=0.9),
    "lamb": optax.lamb(1e-3),
    "{'name': 'optax:rmsprop', 'decay': 0.5}": optax.rmsprop(1e-3, decay=0.5),
}


@pytest.mark.parametrize("name", OPTIMISERS)
def test_optimisers_by_name(trained, dataset, tmp_path, name):
    """The command makes the steps of the optax transformation itself."""
    status, by_name, _ = trained(**{"train.optimiser": name, "train.schedule": "constant"})
    config = tiny.get_config(dataset)
    with config.unlocked():
        config.train.update(epochs=1, log_every=1)
    hrnet_jax.train(config, tmp_path / "object", optimiser=OPTIMISERS[name])
    assert status == 0
    np.testing.assert_allclose(losses(by_name), losses(read_log(tmp_path / "object")), rtol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train.optimiser": "adm"}, "adm"),
        ({"train.optimiser": "optax:nothing"}, "there is no 'nothing'"),
        ({"train.optimiser": "{'name': 'adam', 'beta': 1}"}, "'beta'"),
        ({"train.optimiser": "{'b1': 0.5}"}, "not a table with a name"),
        ({"train.optimiser": "optax:sgd", "train.weight_decay": 0.1}, "takes no weight_decay"),
        ({"train.schedule": "cosin"}, "cosin"),
        ({"train.loss": "mes"}, "mes"),
        ({"train.loss": "hih"}, "belong together"),
        ({"train.max_steps": -1}, "train.max_steps = -1"),
        ({"train.profile_steps": -1}, "train.profile_steps = -1"),
        ({"train.loggers": "['tests.test_tasks:LOG']"}, "train.loggers"),
        ({"evaluators": "['tests.test_tasks:Recorder']"}, "has no metrics, every"),
        ({"evaluators": "[{'name': 'a'}]"}, "give a table of name and annotations"),
        ({"evaluators": "[{'name': 'a', 'annotations': 'none.csv'}]"}, "none.csv"),
        ({"best": "pck"}, "best = 'pck': no evaluator gives it; they give nme"),
        ({"data.loader": "dali"}, "unknown data.loader 'dali'"),
    ],
)
def test_what_makes_no_sense_is_told_first(trained, settings, message):
    status, _, shown = trained(**settings)
    errors = [line for line in shown.splitlines() if line.startswith("error:")]
    assert status == 2 and len(errors) == 1 and message in errors[0]
    assert not trained.workdir.exists()


LOG = []


class Recorder:
    """A logger of one's own."""

    def __init__(self, tag="run"):
        self.tag = tag

    def write(self, step, **values):
        LOG.append((self.tag, step, *values))

    def close(self):
        LOG.append((self.tag, "closed"))


def test_loggers(trained):
    LOG.clear()
    tables = "['tests.test_tasks:Recorder', {'name': 'tests.test_tasks:Recorder', 'tag': 'b'}]"
    status, lines, _ = trained(**{"train.loggers": tables})
    mine = [entry[1:] for entry in LOG if entry[0] == "run"]
    assert status == 0 and mine == [entry[1:] for entry in LOG if entry[0] == "b"]
    assert [entry[0] for entry in mine] == [line["step"] for line in lines] + ["closed"]
    assert set(mine[0][1:]) == set(lines[0]) - {"step"}


def test_profile(trained):
    assert trained(**{"train.profile_steps": 1, "train.epochs": 2})[0] == 0
    assert list((trained.workdir / "profile").rglob("*.xplane.pb"))
    assert trained()[0] == 0
    assert not (trained.workdir / "profile").exists()


# Evaluators


class Always:
    """An evaluator of one's own."""

    metrics, every = ("worse",), 1
    calls = 0

    def __call__(self, variables):
        Always.calls += 1
        assert {"params", "batch_stats"} <= set(variables)
        return {"worse": float(Always.calls)}


def test_evaluators_and_the_best_by_any_of_them(trained):
    Always.calls = 0
    sets = [
        {"name": "again", "annotations": "face_landmarks_300w_valid.csv"},
        {"name": "seen", "annotations": "face_landmarks_300w_train.csv", "every": 2},
        "tests.test_tasks:Always",
    ]
    settings = {"evaluators": sets, "best": "worse", "train.epochs": 3, "train.learning_rate": 0.01}
    status, lines, shown = trained(**settings)
    scores = [line for line in lines if "nme" in line]
    assert status == 0 and [line["worse"] for line in scores] == [1, 2, 3]
    assert all(line["again/nme"] == line["nme"] for line in scores)
    assert ["seen/nme" in line for line in scores] == [False, True, True]  # and at the end
    assert "best validation worse 1 at step 3" in shown
    loaded = hrnet_jax.load(trained.workdir)  # the best: of the first epoch
    assert loaded.metadata["provenance"]["step"] == STEPS
    assert loaded.metadata["provenance"]["worse"] == 1


def test_a_face_that_cannot_be_measured_is_left_out(trained, dataset, tmp_path):
    """A validation face without its outer eye corners: the others make the NME."""
    root = tmp_path / "data"
    shutil.copytree(dataset, root)
    path = root / "face_landmarks_300w_valid.csv"
    header, first, *others = path.read_text().splitlines()
    cells = dict(zip(header.split(","), first.split(","), strict=True))
    cells |= dict.fromkeys(("original_36_x", "original_36_y"), "")
    path.write_text("\n".join([header, ",".join(cells.values()), *others]) + "\n")
    status, lines, _ = trained(**{"data.root": root})
    assert status == 0 and np.isfinite(lines[-1]["nme"])


def test_only_the_first_process_of_a_job_logs(dataset, monkeypatch):
    config = tiny.get_config(dataset)
    with config.unlocked():
        config.train.loggers = ("tests.test_tasks:Recorder",)
    assert len(make_task(config).loggers) == 1
    monkeypatch.setattr("hrnet_jax.tasks.settings.is_first_process", lambda: False)
    assert make_task(config).loggers == []


# Objects


class Network(nn.Module):
    """No batch statistics; dropout; a loss of its own beside that of the heatmaps."""

    num_landmarks: int = 68
    dropout: float = 0.0
    penalty: float = 0.0

    @nn.compact
    def __call__(self, images, train=False):
        x = nn.relu(nn.GroupNorm(4)(nn.Conv(8, (4, 4), 4)(images)))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        self.sow("losses", "penalty", self.penalty * jnp.ones(()))
        return nn.Conv(self.num_landmarks, (1, 1))(x)


def test_objects_take_the_places_of_the_configs_parts(dataset, tmp_path):
    config, seen = tiny.get_config(dataset), []

    def loss(outputs, batch):
        seen.append({key: value.shape for key, value in batch.items() if key != "targets"})
        value = jnp.abs(outputs - batch["targets"]).mean()
        return value, {"height": outputs.max()}

    result = hrnet_jax.train(
        config,
        tmp_path / "run",
        model=Network(penalty=0.25),
        loss=loss,
        optimiser=optax.sgd(0.1),
        evaluators=[Always()],
    )
    assert set(result) == {"step", "nme"} and np.isfinite(result["nme"])
    assert seen[0]["points"] == (4, 68, 2) and seen[0]["weights"] == (4, 68)
    lines = read_log(tmp_path / "run")
    assert "height" in lines[0] and "worse" in lines[-1]
    assert losses(lines)[0] > 0.25  # the penalty, which nothing learns
    assert hrnet_jax.train(  # a finished run goes on to its end: nothing is left
        config, tmp_path / "run", model=Network(penalty=0.25), loss=loss, optimiser=optax.sgd(0.1)
    ) == {"step": result["step"], "nme": pytest.approx(result["nme"])}


def test_dropout_draws_by_seed_and_step(dataset, tmp_path):
    def run_losses(name, seed, dropout):
        config = tiny.get_config(dataset)
        with config.unlocked():
            config.seed = seed
            config.train.update(epochs=1, log_every=1)
        hrnet_jax.train(config, tmp_path / name, model=Network(dropout=dropout))
        return losses(read_log(tmp_path / name))

    dropped = run_losses("a", 0, 0.5)
    assert dropped == run_losses("b", 0, 0.5) and dropped != run_losses("c", 0, 0.0)


def test_the_step_is_a_pure_function():
    """Bare, jitted, scanned and mapped it gives the same."""
    model, optimiser = Network(3), optax.sgd(0.1)
    rng = np.random.default_rng(0)
    batches = {
        "input": rng.normal(size=(2, 4, 16, 16, 3)).astype(np.float32),
        "targets": rng.normal(size=(2, 4, 4, 4, 3)).astype(np.float32),
    }
    first, second = (jax.tree.map(lambda x, k=k: x[k], batches) for k in (0, 1))
    state = create_state(model.init(jax.random.key(0), first["input"]), optimiser)
    assert state.batch_stats == {}
    step, key = make_step(model, mean_squared_error, optimiser), jax.random.key(1)

    def close(a, b):
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7)

    bare, metrics = step(state, first, key)
    assert int(bare.step) == 1 and metrics["loss"].shape == ()
    close(jax.jit(step)(state, first, key), (bare, metrics))
    twice, _ = step(bare, second, key)
    scanned, history = jax.lax.scan(lambda s, b: step(s, b, key), state, batches)
    close(scanned, twice)
    assert history["loss"].shape == (2,)
    states = jax.tree.map(lambda x: jnp.stack([x, x]), state)
    mapped, _ = jax.vmap(step, (0, 0, None))(states, batches, key)
    close(jax.tree.map(lambda x: x[0], mapped), bare)


# Evaluation


def test_evaluate_is_what_the_command_writes(dataset, config_file, tmp_path):
    config, workdir, output = tiny.get_config(dataset), tmp_path / "run", tmp_path / "scores"
    hrnet_jax.train(config, workdir)
    before = sorted(tmp_path.rglob("*"))
    scores = hrnet_jax.evaluate(config, workdir, split="train", box_jitter=0.1)
    assert sorted(tmp_path.rglob("*")) == before  # nothing is written unasked
    arguments = [f"--config={config_file}", f"--checkpoint={workdir}", f"--output={output}"]
    assert run("evaluate", [*arguments, "--split=train", "--box-jitter=0.1"]) == 0
    written = json.loads((output / "metrics.json").read_text())
    assert written == {**json.loads(json.dumps(scores.result))}
    assert (output / "report.html").is_file() and (output / "per_image.csv").is_file()
    assert scores.predictions.shape == (12, 68, 2)
    plain = hrnet_jax.evaluate(config, workdir, split="train")
    assert plain.result["nme"] != scores.result["nme"]
    with pytest.raises(HRNetError, match="unknown task 'pose'"):
        hrnet_jax.evaluate(type("Config", (), {"task": "pose"}), workdir)


def test_annotations_of_another_folder(dataset):
    scheme = get_scheme("300w")
    records = open_annotations("face_landmarks_300w_valid.csv", str(dataset), "images", scheme)
    assert len(records) == 6
