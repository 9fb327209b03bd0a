"""What a study is: a base config, factors with named levels, a design, seeds, and a baseline."""

import copy
import dataclasses
import difflib
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hrnet_jax.ablations import Ablation
from hrnet_jax.config import plain
from hrnet_jax.errors import HRNetError

DESIGNS = ("one-at-a-time", "full")
ABLATIONS = "model.ablations"
_NAME = re.compile(r"[A-Za-z0-9][\w.+-]*")  # a name is also a folder's


@dataclasses.dataclass(frozen=True)
class Study:
    """A question to a training recipe.

    Attributes:
      base: the config that every run starts from: a file or the name of one that ships, with
        ":argument" where wanted, or a config itself.
      factors: {factor: {level: change}}. A change is a table of config keys and values
        ({"train.loss": "adaptive_wing"}), an ablation (`hrnet_jax.ablations.without_fusion(4)`, or
        its text "without_fusion(4)"), a function that changes the config it is given or returns
        another, or a list of these. {} changes nothing.
      design: "one-at-a-time": the baseline, and every other level of one factor with the rest as in
        the baseline; "full": all combinations; or a list of {factor: level}, the rest as there.
      seeds: how many (0, 1, …), or which.
      baseline: {factor: level}, what the others are compared with: where not named, a factor's
        first level.
      overrides: config keys and values for every run.
    """

    base: Any
    factors: Mapping[str, Mapping[str, Any]]
    design: str | Sequence[Mapping[str, str]] = "one-at-a-time"
    seeds: int | Sequence[int] = 3
    baseline: Mapping[str, str] = dataclasses.field(default_factory=dict)
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """One training run of a study.

    Attributes:
      index: from 0, of `--index`.
      point: where it stands in the design, in words and as a folder's name: "baseline", or
        "loss=wing,norm=group", the factors that differ from the baseline.
      levels: {factor: level}.
      seed: the config's.
      config: all of it.
    """

    index: int
    point: str
    levels: dict[str, str]
    seed: int
    config: Any = dataclasses.field(repr=False)

    @property
    def name(self) -> str:
        return f"{self.point}, seed {self.seed}"

    @property
    def folder(self) -> str:
        """Within the study's workdir."""
        return f"runs/{self.point}/seed{self.seed}"


BASELINE = "baseline"


def expand(study: Study, base) -> list[Run]:
    """The runs of a study, the seeds outermost: one of them done for all levels is a table already.

    Args:
      base: the config that `study.base` names, an unlocked or locked `ml_collections.ConfigDict`.

    Raises:
      HRNetError: an unknown level, a change that a config does not take, two points of the design
        with the same config.
    """
    if not isinstance(study, Study):
        raise HRNetError(f"get_study() gives {type(study).__name__}, not hrnet_jax.studies.Study")
    seeds = _seeds(study.seeds)
    points = design_points(study)
    configs = {}
    for point, levels in points.items():
        config = copy.deepcopy(base)
        label = f"study, {point}"
        config = _change(config, study.overrides, "study, overrides")
        for factor, level in levels.items():
            config = _change(config, study.factors[factor][level], f"study, {factor}={level}")
        for other, known in configs.items():
            if plain(known) == plain(config):
                raise HRNetError(f"{label} gives the same config as {other}: leave one out")
        configs[point] = config
    runs = []
    for seed in seeds:
        for point, levels in points.items():
            config = copy.deepcopy(configs[point])
            with config.unlocked():
                config.seed = seed
            runs.append(Run(len(runs), point, levels, seed, config.lock()))
    return runs


def design_points(study: Study) -> dict[str, dict[str, str]]:
    """{point: {factor: level}}, the baseline first; HRNetError names what is unknown."""
    factors = study.factors
    if not isinstance(factors, Mapping) or not factors:
        raise HRNetError("study: factors = {factor: {level: change}} has to have a factor")
    for factor, levels in factors.items():
        if not isinstance(levels, Mapping) or not levels:
            raise HRNetError(f"study: factor {factor!r} has to be {{level: change}}")
        for name in (factor, *levels):
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                raise HRNetError(
                    f"study: {name!r} names a folder too: use letters, digits and . + - _ alone"
                )
    first = {factor: next(iter(levels)) for factor, levels in factors.items()}
    baseline = first | _levels(study.baseline, factors, "baseline")
    if isinstance(study.design, str):
        if study.design not in DESIGNS:
            raise HRNetError(
                f"study: unknown design {study.design!r}: choose {' or '.join(DESIGNS)}, or list "
                "tables {factor: level}"
            )
        if study.design == "full":
            points = [
                dict(zip(factors, chosen, strict=True))
                for chosen in itertools.product(*factors.values())
            ]
        else:
            points = [{f: level} for f, levels in factors.items() for level in levels]
    else:
        points = [_levels(point, factors, "design") for point in study.design]
    named = {}
    for levels in [baseline, *(baseline | point for point in points)]:
        other = [f"{f}={level}" for f, level in levels.items() if level != baseline[f]]
        named[",".join(other) or BASELINE] = levels
    return named


def _levels(chosen, factors, where):
    if not isinstance(chosen, Mapping):
        raise HRNetError(f"study: {where} has {chosen!r:.80} in place of {{factor: level}}")
    for factor, level in chosen.items():
        for name, known, what in (
            (factor, factors, "factor"),
            (level, factors.get(factor, ()), "level"),
        ):
            if name not in known:
                near = difflib.get_close_matches(str(name), known, 1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise HRNetError(
                    f"study: {where} names the {what} {name!r}: there are {', '.join(known)}{hint}"
                )
    return dict(chosen)


def _seeds(seeds: Any) -> tuple[int, ...]:
    if type(seeds) is int and seeds > 0:
        return tuple(range(seeds))
    given = list(seeds) if isinstance(seeds, Sequence) else []
    if not given or not all(type(seed) is int for seed in given) or len(set(given)) < len(given):
        raise HRNetError(f"study: seeds = {seeds!r:.80}: give how many, or different numbers")
    return tuple(given)


def _change(config, change, label):
    """The config after a change of `Study.factors`: the same object, or what it returned."""
    if isinstance(change, (str, Ablation)):
        with config.unlocked():
            config.model.ablations = (*config.model.ablations, str(change))
    elif isinstance(change, Mapping):
        for key, value in change.items():
            _set(config, key, value, label)
    elif isinstance(change, Sequence):
        for part in change:
            config = _change(config, part, label)
    elif callable(change):
        return _called(change, config, label)
    else:
        raise HRNetError(
            f"{label}: {change!r:.80} is no table, ablation, function, or list of them"
        )
    return config


def _set(config, key, value, label):
    """Sets a dotted key; HRNetError with the nearest one if there is none, or another type's."""
    *parents, name = str(key).split(".")
    if key == ABLATIONS:
        value = (*config.model.ablations, *((value,) if isinstance(value, str) else value))
    try:
        part = config
        for parent in parents:
            part = part[parent]
        part[name] = value
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        raise HRNetError(
            f"{label}: {key} = {value!r:.80}: {' '.join(str(text).split())}"
        ) from error


def _called(change: Callable, config, label):
    try:
        changed = change(config)
    except HRNetError:
        raise
    except Exception as error:  # the user's own code: anything can come out of it
        raise HRNetError(f"{label}: {type(error).__name__}: {error}") from error
    if changed is not None and type(changed) is not type(config):
        raise HRNetError(f"{label}: the function returns {type(changed).__name__}, not a config")
    return config if changed is None else changed
