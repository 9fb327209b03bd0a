"""What the devices of a training step send each other, read from its compiled program.

python benchmarks/collectives.py --model=hrnetv2_w18 --devices=8 --mode=jit
"""

import argparse
import json
from pathlib import Path

from hrnet_jax.plans.hlo import collectives, read_operations

# For programs of which the text or the plan is read and that never run: quick machine code.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def compiled_step(arguments) -> tuple[str, int]:
    """The text of a training step that is compiled but never run, and its parameters' bytes."""
    import jax
    import jax.numpy as jnp
    import optax

    from hrnet_jax import create_model
    from hrnet_jax.codecs import UnbiasedCodec
    from hrnet_jax.devices import Devices
    from hrnet_jax.models.cpu_conv import jit
    from hrnet_jax.tasks.landmarks import prepare_landmarks
    from hrnet_jax.training.losses import mean_squared_error
    from hrnet_jax.training.state import create_state
    from hrnet_jax.training.step import make_step

    devices, size, landmarks = Devices(), arguments.size, arguments.landmarks
    model, optimiser = create_model(arguments.model, landmarks), optax.adam(1e-4)
    pure = make_step(
        model,
        mean_squared_error,
        optimiser,
        prepare=prepare_landmarks(UnbiasedCodec()),
        accumulate=arguments.accumulate,
        mesh=devices.mesh,
        mode=arguments.mode,
    )

    step = jit(lambda state, batch: pure(state, batch, jax.random.key(0)), donate_argnums=0)

    def make(key):
        return create_state(model.init(key, jnp.zeros((1, size, size, 3))), optimiser)

    def on_devices(spec, tree):
        sharding = jax.NamedSharding(devices.mesh, spec)
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree
        )

    state = on_devices(jax.P(), jax.eval_shape(make, jax.random.key(0)))
    rows = devices.count * arguments.accumulate
    batch = {
        "image": jax.ShapeDtypeStruct((rows, size, size, 3), jnp.uint8),
        "points": jax.ShapeDtypeStruct((rows, landmarks, 2), jnp.float32),
        "weights": jax.ShapeDtypeStruct((rows, landmarks), jnp.float32),
    }
    batch = on_devices(jax.P("data"), batch)
    hlo = step.lower(state, batch).compile(QUICK).as_text()
    return hlo, sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state.params))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="hrnetv2_w18")
    parser.add_argument("--landmarks", type=int, default=98)
    parser.add_argument("--devices", type=int, default=8, help="CPU devices to compile for")
    parser.add_argument("--mode", default="jit", choices=("jit", "pmap"))
    parser.add_argument("--size", type=int, default=64, help="of the images; changes no collective")
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--output", type=Path, help="a JSON file for the numbers")
    arguments = parser.parse_args()

    import jax

    jax.config.update("jax_num_cpu_devices", arguments.devices)
    hlo, parameter_bytes = compiled_step(arguments)
    table = {}
    for collective in collectives(read_operations(hlo)):
        purpose = "backward" if collective.backward else "forward"
        row = table.setdefault(f"{collective.kind}, {purpose}", [0, 0])
        row[0] += 1
        row[1] += collective.bytes
    title = f"{arguments.model}, {arguments.mode} mode, {arguments.devices} devices"
    print(f"{title}: parameters {parameter_bytes / 1e6:.2f} MB (jax {jax.__version__})")
    for name, (count, size) in sorted(table.items()):
        print(f"{name:<28} {count:>5} operations {size / 1e6:>9.3f} MB per step")
    if arguments.output:
        rows = {name: {"operations": row[0], "bytes": row[1]} for name, row in table.items()}
        settings = {key: value for key, value in vars(arguments).items() if key != "output"}
        result = settings | {"jax": jax.__version__, "parameter_bytes": parameter_bytes} | rows
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
