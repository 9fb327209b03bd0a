"""Gradient of a 3x3 convolution on a CPU: XLA's own and `hrnet_jax.models.cpu_conv`, by shape.

python -m benchmarks.conv_lowering --batch=8 --json=runs/conv_lowering.json

Timed are value and gradients (image and kernel) of one convolution, in turns. The shapes are those
of the four branches of W18, W32 and W48 at 256 px, and of the stem's blocks. "taken" says which
lie within the limits of `cpu_conv.suits`.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.common import interleave, report, summary
from hrnet_jax.models import cpu_conv

SHAPES = [(64, 64)] + [(width << i, 64 >> i) for width in (18, 32, 48) for i in range(4)]
COLUMNS = {
    "channels": "channels",
    "size": "height, width",
    "taken": "taken",
    "xla": "XLA ms",
    "products": "products ms",
    "ratio": "products / XLA",
}


def xla(x, kernel):
    return lax.conv_general_dilated(
        x, kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def measure(channels, size, batch, repeats) -> dict:
    rng = np.random.default_rng(0)
    x, cotangent = (
        jnp.asarray(rng.normal(size=(batch, size, size, channels)), jnp.float32) for _ in range(2)
    )
    kernel = jnp.asarray(rng.normal(size=(3, 3, channels, channels)), jnp.float32)

    def timed(convolve):
        gradient = jax.jit(
            jax.value_and_grad(lambda x, kernel: (convolve(x, kernel) * cotangent).sum(), (0, 1))
        )
        return lambda: jax.block_until_ready(gradient(x, kernel))

    samples = interleave({"xla": timed(xla), "products": timed(cpu_conv.conv3x3)}, repeats)
    row = {name: summary(taken)["ms"] for name, taken in samples.items()}
    taken = cpu_conv.suits(x.shape, channels, (3, 3), x.dtype)
    row |= {"channels": channels, "size": size, "taken": "yes" if taken else "no"}
    return row | {"ratio": row["products"] / row["xla"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = [measure(*shape, arguments.batch, arguments.repeats) for shape in SHAPES]
    report(rows, COLUMNS, arguments.json)


if __name__ == "__main__":
    main()
