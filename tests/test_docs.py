"""What README and the documentation name is there: files, commands, options."""

import argparse
import re
import shlex
from pathlib import Path

import pytest

from hrnet_jax import cli

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    *(ROOT / name for name in ("README.md", "RESULTS.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
SCRIPTS = {"convert_torch_weights.py": "convert", **{f"{c}.py": c for c in cli.COMMANDS}}


COMMAND = re.compile(r"(?:^|\s)(?:hrnet-jax|\S*python (\w+\.py)) (?!COMMAND)(.*)")
MADE = {"site/", "report_figures/", "networks.md", "api.md"}  # by commands


def commands():
    """(page, arguments of `hrnet-jax`) of every command line that is printed in a code block."""
    for page in PAGES:
        for block in re.findall(r"^```\w*\n(.*?)^```", page.read_text(), re.S | re.M):
            block = re.sub(r"\\\n|\n +(?=--)", " ", block)
            for script, rest in COMMAND.findall(block.replace("$JOB_COMPLETION_INDEX", "0")):
                text = re.sub(r"\s#\s.*", "", rest)
                if text.count('"') % 2:  # the end of another program's --command="…"
                    text = text.removesuffix('"')
                if (script and script not in SCRIPTS) or "…" in text or re.search(r"\$[a-z]", text):
                    continue  # another program, or only a part of a command
                yield page.name, ([SCRIPTS[script]] if script else []) + shlex.split(text)


class Parsed(Exception):
    """The arguments were taken."""


@pytest.mark.parametrize(
    ("page", "argv"), [pytest.param(p, a, id=f"{p}: {' '.join(a)[:60]}") for p, a in commands()]
)
def test_every_printed_command_is_taken(page, argv, monkeypatch, capsys):
    """Up to the work: known options, a config that is there, keys that it has."""
    real = argparse.ArgumentParser.parse_args

    def parse(self, arguments=None, namespace=None):
        real(self, arguments, namespace)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("HRNET_JAX_DEBUG", "1")
    try:
        status = cli.main(argv)
    except Parsed:
        return
    assert status == 0, capsys.readouterr().err


def test_there_are_commands_to_try():
    assert len(list(commands())) > 30


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_is_named_exists(page):
    """`data/device.py`, `evaluation/report/`: of the package, or of the repository."""
    there = [path.relative_to(ROOT).as_posix() for path in ROOT.glob("*")]
    for folder in ("hrnet_jax", "docs", "tests", "benchmarks", "configs", "weights", "examples"):
        there += [path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob("*")]
    named = re.findall(r"`([\w./-]+(?:\.py|\.toml|\.md|/))`", page.read_text())
    missing = [
        name
        for name in named
        if name not in MADE
        and not any(f"/{path}".endswith(f"/{name.strip('/')}") for path in there)
    ]
    links = re.findall(r"\]\((?!http|#)([^)#]+)", page.read_text())
    missing += [link for link in links if link not in MADE and not (page.parent / link).exists()]
    assert not missing
