"""Reads a pickle as plain data: nothing that the file names is ever imported or called.

A pickle is a program for a stack machine whose instructions include "call any function". The
machine here runs the instructions that build data and knows the few functions of PyTorch files that
make tensors; every other object becomes a `Stub`. A name from Python's standard library that no
weight file needs (`os.system`, `builtins.eval`, …) is refused, since a file that has one is an
attack or no weight file.
"""

import dataclasses
import pickletools
import sys
import warnings
from typing import Any, BinaryIO

# A training checkpoint of an HRNet, with its optimiser, has up to 300,000 instructions. The limit
# bounds time (some seconds) and memory.
_STEP_LIMIT = 1_000_000

# What pickles of state dicts, networks, configs and training logs name: only data types, and the
# functions that rebuild objects. (Stubs stand for these too: they are harmless and expected.)
_DATA_MODULES = frozenset(
    "collections copyreg copy_reg _codecs argparse pathlib datetime decimal enum uuid".split()
)
_DATA_NAMES = frozenset("functools.partial types.SimpleNamespace logging.getLogger".split())
_DATA_BUILTINS = frozenset(
    "object type getattr property set frozenset list tuple dict bytearray bytes str unicode int "
    "long float bool complex slice range xrange min max sum len print".split()
)


class RefusedNameError(ValueError):
    """The pickle names a function or class that no weight file needs."""


@dataclasses.dataclass(frozen=True)
class Global:
    """A class or function, by its dotted name alone."""

    name: str


@dataclasses.dataclass(eq=False)
class Stub:
    """Stands for an object of the class `name`; `state` is what it was built with."""

    name: str
    state: Any = None


@dataclasses.dataclass(frozen=True)
class Storage:
    """A flat array kept outside the pickle: elements `start` … `start + length` of `key`."""

    kind: str  # PyTorch's class name, e.g. "FloatStorage"
    key: str
    length: int
    start: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class Tensor:
    """A view of a storage; offset and strides count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def load_pickle(stream: BinaryIO, storages: dict[str, Storage] | None = None) -> Any:
    """Runs one pickle and returns its value: Python data, `Tensor`, `Global` and `Stub` objects.

    Args:
      stream: an `io.BytesIO` at the start of the pickle; left at the byte behind it. (Not an open
        file: that would set aside whatever length a damaged file asks for.)
      storages: filled with the storages that the pickle mentions, by key.

    Raises:
      RefusedNameError: the pickle names a function or class that no weight file needs.
      ValueError, TypeError, IndexError, KeyError: the pickle is damaged.
    """
    machine = _Machine({} if storages is None else storages)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # odd escapes in damaged texts
        for opcode, argument, _ in pickletools.genops(stream):
            machine.steps += 1
            if machine.steps > _STEP_LIMIT:
                raise ValueError("the pickle is longer than that of any weight file")
            machine.run(opcode.name, argument)
    return machine.stack.pop()


class _Machine:
    """The pickle machine: a stack, the positions of its marks, and a memo."""

    def __init__(self, storages):
        self.storages = storages
        self.stack, self.marks, self.memo = [], [], {}
        self.steps = self.copied = 0

    def run(self, name, argument):
        """Runs the instruction `name` of `pickletools`, with its decoded argument."""
        stack = self.stack
        match name:
            case "BINGET" | "LONG_BINGET" | "GET":
                stack.append(self.memo[argument])
            case "BINPUT" | "LONG_BINPUT" | "PUT":
                if not 0 <= argument <= _STEP_LIMIT:  # indices of equal hash would take for ever
                    raise ValueError("the pickle counts beyond its length")
                self.memo[argument] = stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = stack[-1]
            case "MARK":
                self.marks.append(len(stack))
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[name])
            case "TUPLE":
                stack.append(tuple(self.pop_to_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3" | "EMPTY_TUPLE":
                size = int(name[5]) if name != "EMPTY_TUPLE" else 0
                stack.append(tuple(self.pop_many(size)))
            case "EMPTY_LIST":
                stack.append([])
            case "LIST":
                stack.append(self.pop_to_mark())
            case "APPEND" | "APPENDS":
                items = self.pop_many(1) if name == "APPEND" else self.pop_to_mark()
                if isinstance(stack[-1], list):
                    stack[-1].extend(items)
            case "EMPTY_DICT":
                stack.append({})
            case "DICT":
                stack.append(_fill({}, _pairs(self.pop_to_mark())))
            case "SETITEM" | "SETITEMS":
                items = self.pop_many(2) if name == "SETITEM" else self.pop_to_mark()
                _fill(stack[-1], _pairs(items))
            case "GLOBAL":
                stack.append(_global(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                stack.append(_global(*self.pop_many(2)))
            case "BINPERSID":
                stack.append(self.persistent(stack.pop()))
            case "REDUCE" | "NEWOBJ":
                stack.append(self.call(*self.pop_many(2)))
            case "NEWOBJ_EX":
                function, arguments, _ = self.pop_many(3)
                stack.append(self.call(function, arguments))
            case "INST" | "OBJ":
                arguments = self.pop_to_mark()
                function = arguments.pop(0) if name == "OBJ" else _global(*argument.split(" ", 1))
                stack.append(self.call(function, tuple(arguments)))
            case "BUILD":
                state = stack.pop()
                if isinstance(stack[-1], Stub):
                    stack[-1].state = state
            case "EMPTY_SET":
                stack.append(Stub("builtins.set"))
            case "ADDITEMS":
                self.pop_to_mark()
            case "FROZENSET":
                self.pop_to_mark()
                stack.append(Stub("builtins.frozenset"))
            case "POP":  # also takes a mark away, when that is on top
                if self.marks and self.marks[-1] == len(stack):
                    self.marks.pop()
                else:
                    stack.pop()
            case "POP_MARK":
                self.pop_to_mark()
            case "DUP":
                stack.append(stack[-1])
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "PERSID" | "EXT1" | "EXT2" | "EXT4" | "NEXT_BUFFER" | "READONLY_BUFFER":
                raise ValueError(f"pickle instruction {name} does not occur in weight files")
            case _:  # the rest are numbers, texts and bytes
                stack.append(argument)

    def pop_many(self, count):
        if not 0 <= count <= len(self.stack):
            raise ValueError("the pickle takes more from its stack than it put there")
        start = len(self.stack) - count
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def pop_to_mark(self):
        return self.pop_many(len(self.stack) - self.marks.pop())

    def persistent(self, identity):
        """("storage", class, key, device, length[, view]) or ("module", class, file, source)."""
        if not isinstance(identity, tuple) or len(identity) < 2:
            raise ValueError("it refers to data outside the pickle in an unknown way")
        if identity[0] == "module":  # the source text of a pickled network's class: never used
            return identity[1]
        _, kind, key, _, length, *view = identity
        start = 0
        if view and view[0] is not None:  # PyTorch < 0.4: (own key, start, length) within `key`
            _, start, length = view[0]
        if not (isinstance(kind, Global) and isinstance(key, str)) or not _sizes(start, length):
            raise ValueError("it describes a tensor's storage in an unknown way")
        storage = Storage(kind.name.rpartition(".")[2], key, length, start)
        self.storages[key] = storage
        return storage

    def call(self, function, arguments):
        """What a call gives: a tensor, a dictionary, else a stub. No function is called."""
        name = function.name if isinstance(function, Global) else "?"
        if not isinstance(arguments, tuple):
            raise ValueError("a call in the pickle has no arguments")
        match name:
            case "torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2":
                return _tensor(*arguments[:4])
            case "torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state":
                return arguments[0]
            case "collections.OrderedDict" | "collections.defaultdict":
                pairs = arguments[0] if arguments else []
                if not isinstance(pairs, list):
                    return {}
                self.copied += len(pairs)
                if self.copied > self.steps:  # the same list again and again: a memory bomb
                    raise ValueError("the pickle copies more than it holds")
                return _fill({}, pairs)
            case "copyreg._reconstructor" | "copy_reg._reconstructor":
                return self.call(arguments[0], ())
        return Stub(name)


def _global(module, name):
    if not isinstance(module, str) or not isinstance(name, str):
        raise ValueError("a class in the pickle has no name")
    full = f"{module}.{name}"
    top = module.partition(".")[0]
    if top in ("builtins", "__builtin__", "__builtins__"):
        harmless = full.partition(".")[2] in _DATA_BUILTINS
    else:
        own_class = top not in sys.stdlib_module_names  # of PyTorch or of the network's author
        harmless = own_class or module in _DATA_MODULES or full in _DATA_NAMES
    if not harmless:
        raise RefusedNameError(f"names {ascii(full)[1:-1][:100]}, which no weight file needs")
    return Global(full)


def _pairs(items):
    return zip(items[::2], items[1::2], strict=True)


def _fill(target, pairs):
    """Sets the pairs with a plain key; others cannot be weights (and may be costly to hash)."""
    if isinstance(target, dict):
        for key, value in pairs:
            if isinstance(key, str) or (isinstance(key, int) and abs(key) < 1 << 60):
                target[key] = value
    return target


def _sizes(*values):
    return all(type(value) is int and 0 <= value < 2**63 for value in values)


def _tensor(storage, offset, shape, strides):
    if not (
        isinstance(storage, Storage) and isinstance(shape, tuple) and isinstance(strides, tuple)
    ):
        raise ValueError("it describes a tensor in an unknown way")
    if not len(shape) == len(strides) <= 8 or not _sizes(offset, *shape, *strides):
        raise ValueError("a tensor has an impossible shape")
    return Tensor(storage, offset, shape, strides)
