"""`--config=FILE[:ARGUMENT]` and `--config.key=value` on a command line."""

import ast
import difflib
import functools
import operator
import re
import runpy
import traceback
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from hrnet_jax.errors import HRNetError

_PACKAGE = Path(__file__).resolve().parent.parent


def split_config(argv: list[str]) -> tuple[Any, list[str]]:
    """Takes the `--config…` arguments out of a command line.

    Returns:
      The config (a locked `ml_collections.ConfigDict`; None where no `--config` is given), and the
      other arguments. HRNetError for a missing file, an unknown key (with the nearest one) or a
      value of the wrong type.
    """
    mine = [arg for arg in argv if re.match(r"--config(\.[\w.]+)?(=|$)", arg)]
    rest = [arg for arg in argv if arg not in mine]
    for arg in mine:
        if "=" not in arg:
            raise HRNetError(f"write {arg}=VALUE, with the equals sign")
    files = [arg.removeprefix("--config=") for arg in mine if arg.startswith("--config=")]
    overrides = [arg for arg in mine if not arg.startswith("--config=")]
    if not files:
        if overrides:
            raise HRNetError(f"{overrides[0]} needs --config=FILE too")
        return None, rest
    return override(load_config(files[-1]), overrides), rest


def note_batch_size(argv: list[str], config) -> str:
    """What to know where a command line changes the batch size and not the learning rate."""
    keys = {argument.split("=")[0] for argument in argv}
    if "--config.train.batch_size" not in keys or "--config.train.learning_rate" in keys:
        return ""
    return (
        f"note: train.batch_size={config.train.batch_size} is given, train.learning_rate is not "
        f"and stays {config.train.learning_rate:g}: it may want another one (docs/pods.md)"
    )


def load_config(text: str):
    """Runs get_config() of a config file, with what follows a colon as its argument.

    `text`: the path of a Python file, or the name of a config that ships ("300w_small"), and
    ":argument" where wanted.
    """
    path, *argument = text.split(":", 1)
    path = str(_find_config(path))
    try:  # KeyError: it has no get_config
        return runpy.run_path(path)["get_config"](*argument).lock()
    except HRNetError:
        raise
    except (Exception, SystemExit) as error:  # a config file is Python: anything can come out of it
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == path]
        where = f", line {lines[-1]}" if lines else ""
        raise HRNetError(f"--config={path}{where}: {_one_line(error)}") from error


def shipped_configs() -> dict[str, Path]:
    """The config files that ship with the project, by name."""
    folder = _PACKAGE / "shipped_configs"  # in a wheel
    if not folder.is_dir() and (_PACKAGE.parent / "pyproject.toml").is_file():  # a checkout
        folder = _PACKAGE.parent / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.py"))}


def _find_config(text):
    if Path(text).is_file():
        return text
    shipped = shipped_configs()
    if text in shipped:
        return shipped[text]
    near = difflib.get_close_matches(Path(text).stem, shipped, 1, 0.6)
    hint = f"did you mean {near[0]}? " if near else ""
    raise HRNetError(
        f"--config={text}: no such file, nor a config that ships; {hint}"
        f"Those that ship: {', '.join(shipped) or 'none'}"
    )


def override(config, overrides: list[str]):
    """Applies `--config.key=value` arguments, each of the type that the key has.

    Where the key is a table with a name (a codec, say) the value is another one's name: its own
    settings take the place of the old one's. Arguments for these follow in whatever order.
    """
    parsed = [(arg, *arg.removeprefix("--config.").split("=", 1)) for arg in overrides]
    parsed = [(arg, _SAME.get(key, key), text) for arg, key, text in parsed]
    # A whole table before its keys, and "scheme" before the protocol that depends on it.
    for arg, key, text in sorted(parsed, key=lambda item: (item[1].count("."), item[1] in _OWN)):
        try:
            *parents, name = key.split(".")
            part = functools.reduce(operator.getitem, parents, config)
            if isinstance(part[name], ConfigDict) and "name" in part[name]:
                make = _OWN.get(key, lambda text, config: {"name": text})
                part[name] = ConfigDict(make(text, config)).lock()
            else:
                unset = text == "None" and _is_none_by_default(key)
                value = None if unset else _parse(text, part[name])
                other_type = value is None or isinstance(value, ConfigDict)
                with part.ignore_type() if other_type else nullcontext():
                    part[name] = value
        except (HRNetError, KeyError, TypeError, ValueError) as error:
            raise HRNetError(f"{arg}: {_one_line(error)}") from error
    return config


def _own_codec(name, config):
    from hrnet_jax.codecs import codec_from_dict, codec_to_dict

    return codec_to_dict(codec_from_dict({"name": name}, allow=True))


def _own_protocol(name, config):
    from hrnet_jax.protocols import get_protocol

    return get_protocol(name, config.scheme).to_dict()


_OWN = {"protocol": _own_protocol, "protocol.codec": _own_codec}  # all settings of the named one
_SAME = {"protocol.codec.name": "protocol.codec"}  # no codec has the settings of another


def _is_none_by_default(key):
    from hrnet_jax.config import default_config
    from hrnet_jax.training.workdir import flatten

    return flatten(default_config()).get(key, "") is None


def _parse(text, old):
    """The value that a text means for a key that held `old`.

    A key that holds a name takes a table too, {"name": …, and arguments}, for a part of the user's
    own (`hrnet_jax.parts`).
    """
    if isinstance(old, str) and not text.startswith("{"):
        return text
    if isinstance(old, ConfigDict):
        raise TypeError(f"it has keys of its own: {', '.join(old)}")
    if isinstance(old, bool):
        text = text.capitalize()  # true, as shells and JSON write it
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = text if old is None else None
    if isinstance(old, str):
        if not isinstance(value, dict) or "name" not in value:
            raise TypeError(f"{text[:60]!r} is not a table with a name")
        return ConfigDict(value).lock()
    if old is None:
        return value
    if value is None or isinstance(value, bool) != isinstance(old, bool):
        raise TypeError(f"{text[:60]!r} is not of type {type(old).__name__}")
    return value


def _one_line(error):
    text = f"no key {error.args[0]}" if isinstance(error, KeyError) else str(error)
    return " ".join(text.split()) or type(error).__name__
