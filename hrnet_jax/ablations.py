"""Networks from networks: pure functions that leave a part of an HRNet out, or put another in.

    small = ablate(create_model("hrnetv2_w18"), "without_fusion(4)", "with_blocks(2)")
    small = with_blocks(2)(without_fusion(4)(create_model("hrnetv2_w18")))        # the same

What a network does not use it does not have: `init` makes no parameters for it. Every ablation is
also a text, which a config (`model.ablations`) or a checkpoint's metadata holds; its arguments are
Python literals, and nothing of a text is run. A function of one's own, from a network to a network,
is "package.module:function", or "package.module:function(2)" where calling it makes that function.
"""

import ast
import dataclasses
import functools
import json
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from hrnet_jax import parts
from hrnet_jax.errors import HRNetError
from hrnet_jax.models import HEADS, Network
from hrnet_jax.models.hrnet import HRNet
from hrnet_jax.models.layers import UPSAMPLES
from hrnet_jax.models.norms import NORMS, adapt_norm

STAGES = (2, 3, 4)


@dataclasses.dataclass(frozen=True)
class Ablation:
    """A function from a network to a network that knows its text.

    Attributes:
      text: what `parse` reads again.
      change: the function; it never changes the network that it is given.
    """

    text: str
    change: Callable = dataclasses.field(compare=False)

    def __call__(self, network: nn.Module) -> nn.Module:
        return _told(self.change(network), self.text)

    def __str__(self) -> str:
        return self.text


def _ablation(make: Callable[..., Callable]) -> Callable[..., Ablation]:
    """Of a function that checks its arguments and returns the change: one that makes `Ablation`."""

    @functools.wraps(make)
    def made(*args, **kwargs):
        change = make(*args, **kwargs)
        words = [*map(_literal, args), *(f"{k}={_literal(v)}" for k, v in kwargs.items())]
        return Ablation(f"{make.__name__}({', '.join(words)})", change)

    return made


def _literal(value):
    """An argument as text: a literal, or the name of an object that stands for itself."""
    return repr(value if isinstance(value, (bool, int, float, tuple)) else parts.describe(value))


@_ablation
def without_fusion(stage: int | tuple[int, ...], edges=None) -> Callable:
    """Leaves edges of the fusion out, in every module of a stage: the branch itself always stays.

    The same as zeroing the scale and bias of an edge's last normalisation.

    Args:
      stage: 2, 3 or 4, or several.
      edges: pairs (i, j), from branch j to branch i, as parameters are named: ((0, 1), (0, 2));
        "up" for all towards higher resolution, "down" for all towards lower; None for all.
    """
    stages = stage if isinstance(stage, tuple) else (stage,)
    _require(bool(stages) and set(stages) <= set(STAGES), f"stage {stage!r}: choose of 2, 3 and 4")
    dropped = []
    for s in stages:
        known = [(i, j) for i in range(s) for j in range(s) if i != j]
        if edges == "up":
            chosen = [(i, j) for i, j in known if j > i]
        elif edges == "down":
            chosen = [(i, j) for i, j in known if j < i]
        else:
            given = known if edges is None else edges
            _require(isinstance(given, (tuple, list)), f"edges {edges!r}: give pairs, 'up', 'down'")
            chosen = [tuple(e) if isinstance(e, (tuple, list)) else e for e in given]
        for edge in chosen:
            _require(edge in known, f"stage {s} has no edge {edge!r}: it has branches 0 to {s - 1}")
        dropped += [(s, *edge) for edge in chosen]

    def change(network):
        old = _hrnet(network, "without_fusion").dropped_edges
        return _with_backbone(network, dropped_edges=tuple(sorted({*old, *dropped})))

    return change


@_ablation
def without_branch(k: int) -> Callable:
    """Leaves branch k (1, 2 or 3; 3 has the lowest resolution) out, with its edges.

    What is left of a branch above a kept one are the convolutions that lead to that one.
    """
    _require(
        k in (1, 2, 3), f"branch {k!r}: choose 1, 2 or 3; the output has branch 0's resolution"
    )

    def change(network):
        backbone = _hrnet(network, "without_branch")
        _require(
            k == 3 or not isinstance(network.head, HEADS["classification"]),
            f"branch {k}: the classification head adds up neighbouring branches; leave out 3",
        )
        dropped = tuple(sorted({*backbone.dropped_branches, k}))
        return _with_backbone(network, dropped_branches=dropped)

    return change


@_ablation
def with_blocks(n: int) -> Callable:
    """n residual blocks on each branch of a module (4 in the regular networks)."""
    _require(_is_count(n, 0), f"{n!r} blocks: give a number from 0 up")
    return functools.partial(_with_variant, what="with_blocks", blocks=n)


@_ablation
def with_modules(stage2: int, stage3: int, stage4: int) -> Callable:
    """So many exchange modules in the three stages (1, 4 and 3 in the regular networks)."""
    modules = (stage2, stage3, stage4)
    _require(all(_is_count(n, 0) for n in modules), f"modules {modules}: give numbers from 0 up")
    return functools.partial(_with_variant, what="with_modules", modules=modules)


@_ablation
def with_norm(norm, **arguments) -> Callable:
    """Another normalisation throughout, head included.

    Args:
      norm: "batch" (`momentum`), "group" (`num_groups`), "none", "frozen" (batch normalisation by
        its running statistics, also in training) and more of `hrnet_jax.models.NORMS`, or one's
        own: a constructor, or "package.module:Name".
      arguments: of it.
    """
    made = parts.bind({"name": norm, **arguments} if arguments else norm, "norm", NORMS)

    def change(network):
        old = network.backbone
        bound = _keywords(old.conv) | _keywords(old.norm)
        dtypes = {k: v for k, v in bound.items() if k in ("dtype", "param_dtype")}
        norm = adapt_norm(made, **dtypes)
        head = network.head.clone(norm=norm) if hasattr(network.head, "norm") else network.head
        return network.clone(backbone=old.clone(norm=norm), head=head)

    return change


@_ablation
def with_upsample(upsample) -> Callable:
    """How the fusion brings lower resolutions up: "bilinear", "nearest", "aligned", or a function.

    The function takes (N, h, w, C) and a size (height, width); also "package.module:Name".
    """
    made = parts.resolve(upsample, "upsample", UPSAMPLES)

    def change(network):
        _hrnet(network, "with_upsample")
        return _with_backbone(network, upsample=made)

    return change


@_ablation
def with_head(head) -> Callable:
    """Another head (a key of `hrnet_jax.models.HEADS`, or one's own), for the same landmarks."""
    made = parts.resolve(head, "head", HEADS)

    def change(network):
        old = network.head
        _require(
            hasattr(old, "num_landmarks"), f"{head}: a classifier has no landmarks to put it on"
        )
        _require(made is not HEADS["classification"], "a landmark network has no classes")
        given = {"num_landmarks": old.num_landmarks}
        for kind in ("conv", "norm"):
            given[kind] = getattr(old, kind, getattr(network.backbone, kind, None))
        return network.clone(head=made(**parts.accepted(made, given)))

    return change


@_ablation
def shared_fusion() -> Callable:
    """One set of fusion parameters for all modules of a stage, those of its first module.

    Running statistics stay each module's own: it sees other features.
    """

    def change(network):
        modules = _hrnet(network, "shared_fusion").variant.modules
        shared = [
            (f"stage{stage}_{m}", f"stage{stage}_0")
            for stage, count in zip(STAGES, modules, strict=True)
            for m in range(1, count)
        ]
        return _with_rules(network, shared=shared)

    return change


@_ablation
def frozen(path: str) -> Callable:
    """Keeps the parameters whose path starts so ("backbone", "backbone/stage4_0") as they are.

    Their gradients are zero, and their batch normalisations use the running statistics, also in
    training; so both stay those that training started from. Decoupled weight decay would still
    shrink them: train with train.weight_decay = 0.
    """
    _require(isinstance(path, str) and bool(path.strip("/")), f"path {path!r}: give part of a path")
    place = tuple(path.strip("/").split("/"))
    return functools.partial(_with_rules, frozen=(place,))


ABLATIONS: dict[str, Callable[..., Ablation]] = {
    made.__name__: made
    for made in (
        without_fusion,
        without_branch,
        with_blocks,
        with_modules,
        with_norm,
        with_upsample,
        with_head,
        shared_fusion,
        frozen,
    )
}


def parse(text: str, allow: parts.Allow = True) -> Callable:
    """The function from a network to a network that a text means.

    Args:
      text: "without_fusion(4)", "package.module:function" or "package.module:function(2)".
      allow: as for `hrnet_jax.parts.resolve`, for functions of one's own.

    Raises:
      HRNetError: no such call, arguments that are no literals, or refused by the function.
    """
    name, bracket, _ = text.partition("(")
    label = f"ablation {text!r:.150}"
    call = _call(f"f{text[len(name) :]}", label) if bracket else None
    made = parts.resolve(name.strip(), "ablation", ABLATIONS, allow=allow)
    if call is None:
        _require(name.strip() not in ABLATIONS, f"{text!r:.150} has no brackets: {name.strip()}(…)")
        return Ablation(text, made)
    try:
        args = [ast.literal_eval(value) for value in call.args]
        kwargs = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
    except (ValueError, TypeError, RecursionError, MemoryError) as error:
        raise HRNetError(f"{label}: its arguments have to be numbers, texts or tuples") from error
    try:
        change = made(*args, **kwargs)
    except HRNetError as error:
        raise HRNetError(f"{label}: {error}") from error
    except Exception as error:  # arguments that it does not take; or the user's own code
        raise HRNetError(f"{label}: {parts.one_line(error)}") from error
    return change if isinstance(change, Ablation) else Ablation(text, change)


def _call(text, label):
    try:
        node = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise HRNetError(f"{label} is no call such as without_fusion(4)") from error
    plain = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    if not plain or any(keyword.arg is None for keyword in node.keywords):
        raise HRNetError(f"{label} is no call such as without_fusion(4)")
    return node


def ablate(network: nn.Module, *ablations, allow: parts.Allow = True) -> nn.Module:
    """The network after the ablations, one after the other: texts, or functions of networks."""
    for ablation in ablations:
        change = parse(ablation, allow) if isinstance(ablation, str) else ablation
        network = change(network)
        if not isinstance(network, nn.Module):
            raise HRNetError(f"ablation {str(ablation)!r:.150} returned no network")
        if not isinstance(change, Ablation):
            network = _told(network, parts.describe(change))
    return network


def _told(network, text):
    """The network whose `specification` tells of one ablation more."""
    if not getattr(network, "specification", ""):
        return network
    told = json.loads(network.specification)
    told["ablations"] = [*told.get("ablations", ()), text]
    return network.clone(specification=json.dumps(told))


@dataclasses.dataclass(frozen=True)
class Carried:
    """What `carry` returns.

    Attributes:
      variables: those of the network, {"params", …}.
      dropped: paths that were there and the network does not have, or has with another shape.
      fresh: paths of the network that keep the values they had.
    """

    variables: dict
    dropped: tuple[str, ...]
    fresh: tuple[str, ...]


def carry(source: Mapping, variables: Mapping) -> Carried:
    """Gives a changed network's fresh `variables` the values that `source` has for them.

    By path and shape: weights of the whole network load into an ablated one.
    """
    old: dict[str, Any] = flatten_dict(dict(source), sep="/")
    new: dict[str, Any] = flatten_dict(dict(variables), sep="/")
    fits = {n for n, leaf in new.items() if n in old and jnp.shape(old[n]) == jnp.shape(leaf)}
    made = {n: jnp.asarray(old[n], leaf.dtype) if n in fits else leaf for n, leaf in new.items()}
    return Carried(
        unflatten_dict(made, sep="/"),
        tuple(sorted(set(old) - fits)),
        tuple(sorted(set(new) - fits)),
    )


class RuledNetwork(Network):
    """A network some of whose parameters are another's, or stay as they are.

    Attributes:
      shared: names of modules by that of the module whose fusion parameters they use.
      frozen: starts of paths.
    """

    shared: tuple[tuple[str, str], ...] = ()
    frozen: tuple[tuple[str, ...], ...] = ()

    def __call__(self, images: jax.Array, train: bool = False, features: bool = False):
        frozen, shared = self.frozen, self.shared

        def call(self, images):
            with nn.intercept_methods(functools.partial(_use_running_averages, frozen)):
                return Network.__call__(self, images, train, features)

        mapped = nn.map_variables(
            call,
            "params",
            functools.partial(_seen_parameters, shared, frozen),
            functools.partial(_own_parameters, shared),
            init=self.is_initializing(),
            mutable=True,
        )
        return mapped(self, images)


def _seen_parameters(shared, frozen, collections):
    """The parameters as the modules see them."""
    flat: dict[tuple, Any] = flatten_dict(collections.get("params", {}))
    for user, owner in shared:
        for path, leaf in list(flat.items()):
            if path[:2] == ("backbone", owner) and path[2].startswith("fuse"):
                flat[("backbone", user, *path[2:])] = leaf
    for path, leaf in flat.items():
        if _within(path, frozen):
            flat[path] = jax.lax.stop_gradient(leaf)
    return {"params": unflatten_dict(flat)}


def _own_parameters(shared, collections):
    """What `init` keeps of the parameters that the modules made; `apply` makes none."""
    if "params" not in collections:
        return collections
    users = {user for user, _ in shared}
    flat = {
        path: leaf
        for path, leaf in flatten_dict(collections["params"]).items()
        if not (path[1] in users and path[2].startswith("fuse"))
    }
    return {"params": unflatten_dict(flat)}


def _use_running_averages(frozen, next_function, args, kwargs, context):
    module = context.module
    if hasattr(module, "use_running_average") and _within(module.path, frozen):
        object.__setattr__(module, "use_running_average", True)  # it was made for this call alone
    return next_function(*args, **kwargs)


def _within(path, starts):
    return any(path[: len(start)] == start for start in starts)


def _with_rules(network, shared=(), frozen=()):
    fields = [f.name for f in dataclasses.fields(network) if f.init and f.name not in _FLAX]
    values = {name: getattr(network, name) for name in fields}
    values["shared"] = (*values.get("shared", ()), *shared)
    values["frozen"] = (*values.get("frozen", ()), *frozen)
    return RuledNetwork(**values)


_FLAX = ("parent", "name")


def _with_variant(network, what, **values):
    variant = dataclasses.replace(_hrnet(network, what).variant, **values)
    return _with_backbone(network, variant=variant)


def _with_backbone(network, **values):
    return network.clone(backbone=network.backbone.clone(**values))


def _hrnet(network, what):
    _require(
        isinstance(network.backbone, HRNet),
        f"{what} is for an HRNet: this backbone is {type(network.backbone).__name__}",
    )
    return network.backbone


def _keywords(norm):
    """The arguments bound to a constructor."""
    return norm.keywords if isinstance(norm, functools.partial) else {}


def _is_count(value, least):
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _require(condition, message):
    if not condition:
        raise HRNetError(message)
