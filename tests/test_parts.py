"""Parts by name, object and text; what a file may not import."""

import dataclasses
import functools
import json
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ml_collections import ConfigDict

from hrnet_jax import parts
from hrnet_jax.codecs import CODECS, DarkCodec
from hrnet_jax.errors import HRNetError


@dataclasses.dataclass(frozen=True)
class Thing:
    width: int
    sizes: tuple = (1, 2)


def scaled(x, scale=2.0):
    return x * scale


TABLE = {"thing": Thing, "scaled": scaled}
MINE = f"{__name__}:Thing"


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module of the user's that can be imported: `module(name, source)`."""
    monkeypatch.syspath_prepend(str(tmp_path))
    made = []

    def write(name, source):
        (tmp_path / f"{name}.py").write_text(source)
        made.append(name)

    yield write
    for name in made:
        sys.modules.pop(name, None)


def test_the_three_ways():
    assert parts.resolve("thing", "toy", TABLE) is Thing
    assert parts.resolve(MINE, "toy", TABLE) is Thing
    assert parts.resolve(Thing, "toy", TABLE) is Thing
    function = parts.resolve(lambda x: x, "toy", {})
    assert function(3) == 3
    assert parts.resolve(f"{__name__}:Outer.Inner", "toy", {}) is Outer.Inner


class Outer:
    class Inner:
        pass


@pytest.mark.parametrize(
    ("table", "name"),
    [(dict, "thing"), (dict, MINE), (dict, Thing), (ConfigDict, "thing"), (ConfigDict, MINE)],
)
def test_arguments_beside_the_name(table, name):
    made = parts.build(table({"name": name, "width": 3, "sizes": [4, [5]]}), "toy", TABLE)
    assert made == Thing(3, (4, (5,)))
    hash(made)  # a static argument of jit
    assert parts.build(table({"name": name}), "toy", TABLE, width=1) == Thing(1)
    bound = parts.bind(table({"name": "scaled", "scale": 3.0}), "toy", TABLE)
    assert bound(2) == 6


def test_an_object_that_is_there_is_not_called():
    thing = Thing(2)
    assert parts.build(thing, "toy", TABLE, width=5) is thing
    assert parts.build(Thing, "toy", TABLE, width=5) == Thing(5)
    assert parts.build(functools.partial(Thing, sizes=()), "toy", TABLE, width=5) == Thing(5, ())


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("thin", r"^unknown toy 'thin': choose one of thing, scaled, or .*did you mean 'thing'\?$"),
        ("", "^unknown toy ''"),
        ("no_such_package.x:Y", "importing no_such_package.x fails .* on PYTHONPATH"),
        (f"{__name__}:Thng", "there is no 'Thng'; did you mean 'Thing'"),
        (f"{__name__}:Thing.x y", "cannot be imported"),
        (f"{__name__}:", "cannot be imported"),
        (":Thing", "cannot be imported"),
        ("a:b:c", "cannot be imported"),
        (f"{__name__}:test.<locals>.f", "cannot be imported"),
        (f"{__name__}:sys", "is a module"),
        (f"{__name__}:sys.exit", "the whole module before the colon"),
        ({"width": 3}, "not a table with a name"),
        ({"name": "thing", "wdth": 3}, "'thing' has no setting 'wdth': it has width, sizes"),
        ({"name": MINE, "wdth": 3}, "Thing' has no setting 'wdth': it has width, sizes"),
        ({"name": 3, "width": 3}, "toy"),
        ("thing", "'thing' needs width"),
    ],
)
def test_errors_are_one_line(spec, message):
    with pytest.raises(HRNetError, match=message) as caught:
        parts.build(spec, "toy", TABLE)
    assert "\n" not in str(caught.value)


def test_a_part_that_refuses(module):
    module("refusing", "def make(x):\n    raise ValueError('x is\\nbad')\n")
    with pytest.raises(HRNetError, match="'refusing:make': ValueError: x is bad"):
        parts.build({"name": "refusing:make", "x": 1}, "toy", {})
    with pytest.raises(HRNetError, match="'x' is set by the run"):
        parts.build({"name": "refusing:make", "x": 1}, "toy", {}, x=2)
    for source in ("1 / 0", "raise SystemExit", "def"):
        module("broken", source)
        with pytest.raises(HRNetError, match="importing broken fails"):
            parts.resolve("broken:make", "toy", {})
        sys.modules.pop("broken", None)


# Texts from a file


@pytest.mark.parametrize("allow", [False, (), ("other",), ("mod",), ("module_x",)])
def test_a_file_imports_nothing(module, allow, tmp_path):
    module("module", f"open({str(tmp_path / 'ran')!r}, 'w')\ndef make(): pass\n")
    with pytest.raises(HRNetError, match="--allow-import=module$") as caught:
        parts.resolve("module:make", "toy", {}, allow=allow)
    assert "'module:make'" in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists() and "module" not in sys.modules
    assert parts.resolve("module:make", "toy", {"module:make": 7}, allow=allow) == 7  # given


def test_a_file_imports_what_the_allowed_package_defines(module):
    source = (
        "import os, functools\nfrom subprocess import run\nfrom os import system\n"
        "def make(): pass\nBOUND = functools.partial(make)\n"
    )
    module("allowed", source)
    assert callable(parts.resolve("allowed:make", "toy", {}, allow=("allowed",)))
    assert callable(parts.resolve("allowed:BOUND", "toy", {}, allow=("allowed",)))
    for text in ("run", "system", "os", "os.system", "functools.partial", "make.__init__"):
        with pytest.raises(HRNetError, match="allowed"):
            parts.resolve(f"allowed:{text}", "toy", {}, allow=("allowed",))


def test_an_argument_imports_nothing_either():
    spec = {"name": "thing", "width": {"part": "os:system"}}
    with pytest.raises(HRNetError, match="'os:system' is needed"):
        parts.build(spec, "toy", TABLE, allow=False)


@given(st.text(), st.sampled_from([False, ("allowed",)]))
def test_any_text_of_a_file(text, allow):
    try:
        parts.resolve(text, "toy", TABLE, allow=allow)
    except HRNetError as error:
        assert len(str(error)) < 1000
    else:
        assert text in TABLE


# Descriptions


@pytest.mark.parametrize("codec", [kind() for kind in CODECS.values()])
def test_describe_a_codec(codec):
    described = json.loads(json.dumps(parts.describe(codec, CODECS)))
    assert described["name"] in CODECS
    assert parts.build(described, "codec", CODECS) == codec


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (Thing, "thing"),
        ("thing", "thing"),
        (DarkCodec, "hrnet_jax.codecs.dark:DarkCodec"),
        (functools.partial(Thing, 3), {"name": "thing", "width": 3}),
        (
            functools.partial(functools.partial(Thing, sizes=(1,)), width=3),
            {"name": "thing", "sizes": [1], "width": 3},
        ),
        (Thing(3), {"name": "thing", "width": 3, "sizes": [1, 2]}),
        (ConfigDict({"name": "thing", "sizes": (1, 2)}), {"name": "thing", "sizes": [1, 2]}),
    ],
)
def test_describe(part, expected):
    described = parts.describe(part, TABLE)
    assert described == expected and json.loads(json.dumps(described)) == described


def test_describe_and_bind_again():
    norm = functools.partial(nn.GroupNorm, num_groups=2, dtype=jnp.bfloat16, scale_init=scaled)
    described = json.loads(json.dumps(parts.describe(norm, {"group": nn.GroupNorm})))
    assert described["name"] == "group" and described["dtype"] == "bfloat16"
    given = {"group": nn.GroupNorm, f"{__name__}:scaled": scaled}
    made = parts.bind(described, "norm", given, allow=False)().clone(
        scale_init=nn.initializers.ones
    )
    x = jnp.ones((1, 2, 2, 4))
    assert made.apply(made.init(jax.random.key(0), x), x).dtype == jnp.bfloat16
    module = nn.Dense(3)
    assert parts.describe(module)["features"] == 3 and "parent" not in parts.describe(module)


def test_what_has_no_importable_name_is_told():
    class Local:
        pass

    for part in (lambda x: x, Local, Local()):
        described = parts.describe(part)
        with pytest.raises(HRNetError, match="cannot be imported"):
            parts.resolve(described, "toy", {})
        assert parts.resolve(described, "toy", {described: 1}, allow=False) == 1
