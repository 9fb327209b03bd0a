"""What a network costs: parameters and multiply-accumulates, counted without running it."""

import dataclasses
import math

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Costs:
    """Of one image.

    Attributes:
      parameters: how many numbers are trained.
      gmacs: multiply-accumulates of its convolutions and matrix products, in 1e9.
      output: shape of each output, the batch axis left out.
    """

    parameters: int
    gmacs: float
    output: tuple[tuple[int, ...], ...]


def network_costs(model, size: int) -> Costs:
    """The costs of a network of `create_model` on one image of `size` x `size` pixels."""
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    jaxpr, output = jax.make_jaxpr(model.apply, return_shape=True)(variables, images)
    return Costs(
        sum(leaf.size for leaf in jax.tree.leaves(variables["params"])),
        _macs(jaxpr.jaxpr) / 1e9,
        tuple(leaf.shape[1:] for leaf in jax.tree.leaves(output)),
    )


def _macs(jaxpr):
    total = 0
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        out = equation.outvars[0].aval
        if name == "conv_general_dilated":
            # Each output cell sums the kernel without its output-feature axis.
            kernel = equation.invars[1].aval
            features = kernel.shape[params["dimension_numbers"].rhs_spec[0]]
            total += out.size * kernel.size // features
        elif name == "dot_general":
            (contracted, _), _ = params["dimension_numbers"]
            total += out.size * math.prod(equation.invars[0].aval.shape[a] for a in contracted)
        else:
            times = params["length"] if name == "scan" else 1
            inner = [leaf for leaf in jax.tree.leaves(params, is_leaf=_is_jaxpr) if _is_jaxpr(leaf)]
            total += times * sum(_macs(getattr(part, "jaxpr", part)) for part in inner)
    return total


def _is_jaxpr(value):
    return hasattr(value, "eqns")
