"""Finds the network in what people save around it: wrappers, prefixes, averages, several at once.

Where a network begins is told by its own names: one of them, the anchor, ends in a name that every
network of the family has; what stands before it is the prefix of the whole.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from hrnet_jax.errors import HRNetError
from hrnet_jax.torch_weights import kinds

_ANCHORS = ("transition1.0.0.weight", "pre_conv.0.conv.weight")
# What PyTorch puts into names where a module is wrapped; no network here has parts of these names.
_WRAPPED = re.compile(
    r"(?<![^.])(module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)
_EMA = re.compile(r"(?<![a-z])ema(?![a-z])")  # model_ema, params_ema, ema.module., …


@dataclasses.dataclass(frozen=True)
class Group:
    """Tensors that a file holds together.

    Attributes:
      keys: of the dictionaries on the way to them.
      about: the same in words, with the classes of pickled modules.
      tensors: by name; whatever stands for a tensor.
    """

    keys: tuple[str, ...]
    about: tuple[str, ...]
    tensors: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Network:
    """A network in a group.

    Attributes:
      label: what to call it with --key, say.
      tensors: by their name in the network; `beside`: how many others the group has.
      about: where it lay, in words.
      rank: 0 for one that can be converted, 1 for one with a backbone to start from, 2 for another
        one of the family, 3 for what is none.
    """

    label: str
    tensors: Mapping[str, Any]
    beside: int
    about: tuple[str, ...]
    rank: int


def choose(path, groups: list[Group], key: str | None = None) -> Network | None:
    """The network that is meant: the only one, the one with `key`, else the one averaged by EMA.

    The rule for EMA is timm's, which evaluates by it. None if there is no network of the family.

    Raises:
      HRNetError: several could be meant, or none is called `key`; the message lists them.
    """
    found = [network for group in groups for network in _networks(path, group)]
    best = min((network.rank for network in found), default=None)
    found = _distinct([network for network in found if network.rank == best])
    labels = [network.label or "the file itself" for network in found]
    shown = ", ".join(ascii(label)[1:-1][:80] for label in labels[:8])
    if key is not None:
        named = [network for network in found if network.label == key]
        named = named or [network for network in found if key in re.split("[/.]", network.label)]
        if len(named) != 1:
            raise HRNetError(f"{path}: --key={key} names none of its networks: {shown or 'none'}")
        return named[0]
    if len(found) < 2:
        return found[0] if found else None
    averaged = [network for network in found if _EMA.search(network.label)]
    if len(averaged) != 1:
        raise HRNetError(f"{path} holds {len(found)} networks ({shown}): choose one with --key=")
    about = f"of {len(found)} networks ({shown}) the averaged one; another with --key="
    return dataclasses.replace(averaged[0], about=(*averaged[0].about, about))


def clean_names(path, tensors: Mapping[str, Any]) -> dict[str, str]:
    """{name without what wrapped modules put in: name}, in the order of the tensors."""
    names = {}
    for name in tensors:
        clean = _WRAPPED.sub("", name)
        if clean in names:
            raise HRNetError(f"{path} has two tensors for {ascii(clean)[1:-1][:150]}")
        names[clean] = name
    return names


def _networks(path, group):
    """The networks of a group, each with its head where that lies beside the backbone."""
    if not any(name.endswith(_ANCHORS) for name in group.tensors):
        return
    names = clean_names(path, group.tensors)
    for anchor in _ANCHORS:
        for name in names:
            if name != anchor and not name.endswith(f".{anchor}"):
                continue
            prefix = name.removesuffix(anchor)
            options = [prefix]
            if prefix.endswith("backbone."):  # OpenMMLab's networks have their head beside it
                options.insert(0, prefix.removesuffix("backbone."))
            made = [_network(group, names, option) for option in options]
            # One that can be converted, else the whole by its name: a body-pose network, say.
            fits = [network for most in (0, 2) for network in made if network.rank <= most]
            yield (fits or made)[0]


def _network(group, names, prefix):
    inside = {name[len(prefix) :]: raw for name, raw in names.items() if name.startswith(prefix)}
    kind = kinds.find_kind(inside)
    rank = 3 if kind is None else 0 if kind.head else 1 if kind.left_behind else 2
    first, raw = next(iter(inside.items()))
    about, before = group.about, raw[: len(raw) - len(first)]
    if prefix or all(name.startswith("module.") for name in group.tensors):
        about = (*about, f'names start with "{ascii(before)[1:-1][:80]}"')
    label = "/".join([*group.keys, *([prefix.rstrip(".")] if prefix else [])])
    tensors = {name: group.tensors[raw] for name, raw in inside.items()}
    return Network(label, tensors, len(group.tensors) - len(tensors), about, rank)


def _distinct(networks):
    """Without those that are the same tensors as an earlier one: saved twice, under two keys."""
    kept = {}
    for network in networks:
        kept.setdefault(tuple(map(_identity, network.tensors.values())), network)
    return list(kept.values())


def _identity(tensor):
    storage = getattr(tensor, "storage", None)
    return id(tensor) if storage is None else (storage.key, storage.start, tensor.offset)
