"""What a study file means: its runs, and what is wrong with it in one line."""

import pytest

import tests.tiny
from hrnet_jax.errors import HRNetError
from hrnet_jax.studies import Study
from hrnet_jax.studies.definition import design_points, expand

FACTORS = {
    "loss": {"mse": {}, "wing": {"train.loss": "adaptive_wing"}},
    "rate": {"low": {"train.learning_rate": 1e-4}, "high": {"train.learning_rate": 1e-2}},
}


def runs_of(study):
    return expand(study, tests.tiny.get_config())


def test_one_at_a_time_and_full():
    study = Study("x", FACTORS)
    assert list(design_points(study)) == ["baseline", "loss=wing", "rate=high"]
    study = Study("x", FACTORS, design="full", baseline={"rate": "high"})
    assert list(design_points(study)) == ["baseline", "rate=low", "loss=wing,rate=low", "loss=wing"]
    study = Study("x", FACTORS, design=[{"loss": "wing", "rate": "high"}])
    assert list(design_points(study)) == ["baseline", "loss=wing,rate=high"]


def test_runs_have_all_of_their_config():
    study = Study("x", FACTORS, seeds=(3, 5), overrides={"train.epochs": 2})
    runs = runs_of(study)
    assert [(r.index, r.point, r.seed) for r in runs] == [
        (0, "baseline", 3),
        (1, "loss=wing", 3),
        (2, "rate=high", 3),
        (3, "baseline", 5),
        (4, "loss=wing", 5),
        (5, "rate=high", 5),
    ]
    assert [run.config.train.loss for run in runs[:3]] == ["mse", "adaptive_wing", "mse"]
    assert [run.config.train.learning_rate for run in runs[:3]] == [1e-4, 1e-4, 1e-2]
    assert {run.config.train.epochs for run in runs} == {2}
    assert runs[4].config.seed == 5 and runs[4].folder == "runs/loss=wing/seed5"


def test_functions_of_a_config():
    def longer(config):
        config.train.epochs *= 2

    def other(config):
        config = config.copy_and_resolve_references()
        config.train.batch_size = 3
        return config

    levels = {"base": {}, "longer": longer, "both": [longer, other, {"train.loss": "masked_mse"}]}
    base, long, both = runs_of(Study("x", {"f": levels}, seeds=1))
    assert (base.config.train.epochs, long.config.train.epochs) == (3, 6)
    train = both.config.train
    assert (train.epochs, train.batch_size, train.loss) == (6, 3, "masked_mse")


def failing(config):
    raise ZeroDivisionError("oh")


@pytest.mark.parametrize(
    "changed, says",
    [
        ({"factors": {}}, "has to have a factor"),
        ({"factors": {"f": {"a/b": {}}}}, "'a/b' names a folder"),
        ({"factors": {"f": {"a": {"train.los": "x"}}}}, 'Did you mean "loss"'),
        ({"factors": {"f": {"a": {"trian.loss": "x"}}}}, 'Did you mean "train"'),
        ({"factors": {"f": {"a": {"train.epochs": "many"}}}}, "f=a: train.epochs = 'many'"),
        ({"factors": {"f": {"a": 5}}}, "no table, ablation, function"),
        ({"factors": {"f": {"a": failing}}}, "f=a: ZeroDivisionError: oh"),
        ({"factors": {"f": {"a": lambda config: 7}}}, "returns int, not a config"),
        ({"factors": {"f": {"a": {}, "b": {}}}}, "f=b gives the same config as baseline"),
        ({"design": "half"}, "unknown design 'half'"),
        ({"design": [{"los": "mse"}]}, "factor 'los': there are loss, rate; did you mean 'loss'"),
        ({"baseline": {"loss": "wings"}}, "level 'wings': there are mse, wing; did you mean"),
        ({"seeds": 0}, "give how many, or different numbers"),
        ({"seeds": (1, 1)}, "give how many, or different numbers"),
        ({"overrides": {"eval": 3}}, "overrides: eval = 3"),
    ],
)
def test_wrong_studies_are_refused(changed, says):
    with pytest.raises(HRNetError) as error:
        runs_of(Study(**({"base": "x", "factors": FACTORS} | changed)))
    assert says in str(error.value) and "\n" not in str(error.value)
