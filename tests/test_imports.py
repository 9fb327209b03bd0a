"""The house: every floor imports from those below it only, and nothing goes in circles."""

import ast
import functools
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "hrnet_jax"
# From the ground up. What stands in one line may be imported by the lines below it, and by its
# neighbours as long as no circle comes of it. A module takes the floor of its longest name here.
FLOORS = """
errors
limits files
geometry parts schemes devices tensors
images models
codecs ablations costs
protocols
data rendered published
checkpoints config
torch_weights
inference
evaluation studies.statistics
inspect plans
training
tasks testing
studies
cli
__main__
"""


def modules():
    """{name: path} of every module; a package's is that of its __init__.py."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


@functools.cache
def imports(module):
    """The package's modules that a module imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: write imports in full"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in MODULES else node.module)
    # hrnet_jax itself only has the version, and names that are imported when they are asked for.
    return {name for name in found if name.startswith("hrnet_jax.")} - {module}


def floor(module):
    """The line of FLOORS that a module stands in."""
    parts = module.split(".")[1:]
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        for line, names in enumerate(FLOORS.splitlines()):
            if name in names.split():
                return line
    raise AssertionError(f"{module} has no floor: write it into FLOORS")


@pytest.mark.parametrize("module", [name for name in MODULES if "." in name])
def test_imports_run_downwards(module):
    upwards = [name for name in imports(module) if floor(name) > floor(module)]
    assert not upwards, f"{module} imports {upwards}, which stand above it"


def test_no_circles():
    """Between the parts of one floor too: `a` may not need `b` that needs `a`."""
    part = {name: ".".join(name.split(".")[:2]) for name in MODULES}
    needs = {}
    for name in MODULES:
        if "." in name:
            needs.setdefault(part[name], set()).update(part[n] for n in imports(name))
    done, path = set(), []

    def visit(name):
        assert name not in path, f"a circle: {' -> '.join([*path[path.index(name) :], name])}"
        if name in done:
            return
        path.append(name)
        for other in sorted(needs[name] - {name}):
            visit(other)
        done.add(path.pop())

    for name in sorted(needs):
        visit(name)


def test_no_circle_within_a_part():
    """Modules of one folder neither; a package's __init__.py may gather what its modules make."""
    for start in MODULES:
        seen, todo = set(), list(imports(start)) if "." in start else []
        while todo:
            name = todo.pop()
            assert name != start, f"{start} needs itself, by way of what it imports"
            if name not in seen:
                seen.add(name)
                todo += imports(name)
