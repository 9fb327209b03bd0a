"""Parts of a network or a training run: built-in names, objects, and "package.module:Name" texts.

A part stands in three ways wherever one is asked for: as an object in Python; as a name of a
built-in table; as the text "package.module:Name", which is imported. In a config (or a file's
metadata) arguments stand beside the name: `{"name": "my_package.norms:MyNorm", "groups": 4}`.

    resolve("group", "norm", NORMS)                          the object of that name
    bind({"name": "group", "num_groups": 8}, "norm", NORMS)   with its arguments bound, not called
    build({"name": "dark", "sigma": 1.5}, "codec", CODECS)    called with its arguments
    describe(DarkCodec(1.5), CODECS)     back to {"name": "dark", "sigma": 1.5, "kernel": 11}

Texts of the user's own config or command line may be imported. Those of a file may not, unless the
user names their packages (`allow`): see `resolve`.
"""

import dataclasses
import difflib
import functools
import importlib
import inspect
import types
from collections.abc import Mapping
from typing import Any

import numpy as np

from hrnet_jax.errors import HRNetError

Allow = bool | tuple[str, ...]


def resolve(value, kind: str, table: Mapping[str, Any], *, allow: Allow = True):
    """The part that `value` stands for.

    Args:
      value: a name of `table`, a text "package.module:Name", or the part itself.
      kind: what it is, for messages: "norm".
      table: the built-in parts by name.
      allow: True imports any text. False imports none, and a tuple of packages only what these
        define: for texts from a file.

    Raises:
      HRNetError: an unknown name, a text that may not be imported, or whose import fails.
    """
    if not isinstance(value, str):
        return value
    if value in table:
        return table[value]
    module, colon, path = value.partition(":")
    if not colon:
        near = difflib.get_close_matches(value, table, 1)
        raise HRNetError(
            f"unknown {kind} {value!r:.80}: choose one of {', '.join(table)}, or give your own as "
            f"'package.module:Name'" + (f"; did you mean {near[0]!r}?" if near else "")
        )
    if allow is not True and not _within(module, allow):
        package = module.split(".")[0]
        raise HRNetError(
            f"the {kind} {value!r:.150} is needed, and nothing that a file names is imported "
            f"unasked: give it as load(path, parts={{{value!r:.150}: …}}), or allow its package "
            f"with load(path, allow_import=({package!r:.80},)) or --allow-import={package:.80}"
        )
    names = path.split(".")
    if not all(name.isidentifier() for name in (*module.split("."), *names)):
        raise HRNetError(
            f"{kind} {value!r:.150} cannot be imported: it has to be 'package.module:Name', of "
            f"something at the top of its module; else give the object itself"
        )
    part = _import(module, value, kind)
    for i, name in enumerate(names):
        if i and isinstance(part, types.ModuleType):
            raise HRNetError(f"{kind} {value!r:.150}: write the whole module before the colon")
        try:
            part = getattr(part, name)
        except Exception:  # a module may look its names up in code of its own
            near = difflib.get_close_matches(name, dir(part), 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise HRNetError(f"{kind} {value!r:.150}: there is no {name!r}{hint}") from None
    if isinstance(part, types.ModuleType):
        raise HRNetError(f"{kind} {value!r:.150} is a module: give 'package.module:Name'")
    if allow is not True and hasattr(part, "__qualname__"):
        home = getattr(part, "__module__", None) or "builtins"
        if not _within(home, allow):  # os.system, say, which an allowed module has imported
            raise HRNetError(
                f"the {kind} {value!r:.150} is of the module {home!r}: only what an allowed "
                f"package defines itself is taken from a file"
            )
    return part


def bind(spec, kind: str, table: Mapping[str, Any], *, allow: Allow = True):
    """The part of `spec` with the arguments that stand beside it, not called.

    Args:
      spec: as `resolve` takes it; or a table {"name": one of those, **arguments}.
      kind, table, allow: as for `resolve`.

    Returns:
      The part; with arguments `functools.partial` of it.

    Raises:
      HRNetError: as `resolve`; a table without a name; an argument that the part does not have.
    """
    if not _is_table(spec):
        return resolve(spec, kind, table, allow=allow)
    arguments = dict(spec.items())
    name = arguments.pop("name", None)
    if not isinstance(name, str) and not callable(name):
        raise HRNetError(f"{kind} {str(spec)!r:.150} is not a table with a name")
    part = resolve(name, kind, table, allow=allow)
    arguments = {key: _argument(value, table, allow) for key, value in arguments.items()}
    if not arguments:
        return part
    if not callable(part):
        raise HRNetError(f"{kind} {_text(name)!r:.150} takes no settings")
    check_arguments(part, arguments, f"{kind} {_text(name)!r:.150}")
    return functools.partial(part, **arguments)


def build(spec, kind: str, table: Mapping[str, Any], *, allow: Allow = True, **given) -> Any:
    """Makes the part of `spec`: calls it with the arguments beside it and with `given`.

    An object that is neither text, table, class nor `functools.partial` of one is there already and
    comes back as it is.

    Raises:
      HRNetError: as `bind`; an argument is missing, given twice, or refused by the part itself.
    """
    if not isinstance(spec, (str, type, functools.partial)) and not _is_table(spec):
        return spec
    part = bind(spec, kind, table, allow=allow)
    label = f"{kind} {_text(spec)!r:.150}"
    if isinstance(part, functools.partial):
        for key in given:
            if key in part.keywords:
                raise HRNetError(f"{label}: {key!r} is set by the run, leave it out")
    if not callable(part):
        raise HRNetError(f"{label} is {type(part).__name__} and cannot be called")
    check_arguments(part, given, label, complete=True)
    try:
        return part(**given)
    except HRNetError:
        raise
    except Exception as error:  # the user's code: anything can come out of it
        raise HRNetError(f"{label}: {one_line(error)}") from error


def describe(part, table: Mapping[str, Any] | None = None):
    """What `bind` and `build` make the part of again: a text, or a table with its arguments.

    Args:
      part: an object; a text or table comes back as plain JSON data.
      table: the built-in parts by name.

    Returns:
      JSON data. The name is that of `table`, else "module:Name". A lambda, a function within a
      function or an object with a state of its own has a name that cannot be imported: whoever
      reads it gives the object (`load(path, parts=…)`).
    """
    table = table or {}
    if isinstance(part, str):
        return part
    if _is_table(part):
        return {key: _json(value) for key, value in part.items()}
    for name, entry in table.items():
        if entry is part:
            return name
    if isinstance(part, functools.partial):
        positions = list(inspect.signature(part.func).parameters) if part.args else []
        arguments = dict(zip(positions, part.args, strict=False)) | part.keywords
        inner = describe(part.func, table)
        inner = inner if isinstance(inner, dict) else {"name": inner}
        return inner | {key: _json(value) for key, value in arguments.items()}
    if dataclasses.is_dataclass(part) and not isinstance(part, type):
        fields = [f.name for f in dataclasses.fields(part) if f.init and f.name != "parent"]
        arguments = {key: _json(getattr(part, key)) for key in fields if key != "name"}
        return {"name": describe(type(part), table)} | arguments
    if hasattr(part, "__qualname__"):
        return f"{part.__module__}:{part.__qualname__}"
    return f"{type(part).__module__}:<{type(part).__qualname__}>"


def accepted(part, given: Mapping) -> dict:
    """Those of `given` that the part's signature names and that are not bound to it already."""
    try:
        known = inspect.signature(part).parameters
    except (TypeError, ValueError):  # written in C: Python cannot tell
        return dict(given)
    bound = part.keywords if isinstance(part, functools.partial) else {}
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in known.values())
    return {k: v for k, v in given.items() if (takes_any or k in known) and k not in bound}


def check_arguments(part, arguments: Mapping, label: str, complete: bool = False) -> None:
    """HRNetError, beginning with `label`, for arguments that the part does not take.

    With `complete` also for one that it needs and has not been given.
    """
    try:
        signature = inspect.signature(part)
    except (TypeError, ValueError):  # written in C: Python cannot tell
        return
    kinds = inspect.Parameter
    known = {
        name: parameter
        for name, parameter in signature.parameters.items()
        if parameter.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)
    }
    takes_any = any(p.kind is kinds.VAR_KEYWORD for p in signature.parameters.values())
    for key in arguments:
        if key not in known and not takes_any:
            names = [name for name in known if name not in ("parent", "name")]
            raise HRNetError(f"{label} has no setting {key!r:.80}: it has {', '.join(names)}")
    missing = [n for n, p in known.items() if p.default is kinds.empty and n not in arguments]
    if complete and missing:
        raise HRNetError(f"{label} needs {', '.join(missing)}")


def one_line(error: BaseException) -> str:
    """An exception as one line: its type and message."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _within(module, packages):
    return bool(packages) and any(
        module == package or module.startswith(f"{package}.") for package in packages
    )


def _import(module, value, kind):
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:  # a module is Python: anything can come out of it
        lost = isinstance(error, ModuleNotFoundError) and error.name == module.split(".")[0]
        hint = ": is its folder on PYTHONPATH?" if lost else ""
        raise HRNetError(
            f"{kind} {value!r:.150}: importing {module} fails ({one_line(error)}){hint}"
        ) from error


def _is_table(spec):
    return hasattr(spec, "items") and not isinstance(spec, type)  # also of ml_collections


def _text(spec):
    """The name in a spec, for messages."""
    if _is_table(spec):
        spec = dict(spec.items()).get("name")
    described = describe(spec)
    return described["name"] if isinstance(described, dict) else described


def _json(value):
    """An argument as JSON data; one that is no data as {"part": its description}."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_json(v) for v in value]
    if _is_table(value):
        return {str(key): _json(v) for key, v in value.items()}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.dtype) or isinstance(getattr(value, "dtype", None), np.dtype):
        dtype = np.dtype(getattr(value, "dtype", value))
        if callable(value) or isinstance(value, np.dtype):  # jnp.float32, not an array
            return dtype.name
    return {"part": describe(value)}


def _argument(value, table, allow):
    """The argument that `_json` wrote; lists become tuples, as parts have to be hashable."""
    if isinstance(value, (list, tuple)):
        return tuple(_argument(v, table, allow) for v in value)
    if _is_table(value):
        items = dict(value.items())
        if set(items) == {"part"}:
            return bind(items["part"], "argument", table, allow=allow)
        return {key: _argument(v, table, allow) for key, v in items.items()}
    return value
