"""Host time per step of the training loop by its form, against the number of devices.

python benchmarks/dispatch.py --devices 1 8

The state has the leaves of the network's (parameters, statistics, Adam's moments), each shrunk to
one number, and the network is replaced by a sum: what remains is the time to hand a step to the
devices, which a large network hides only where it is longer.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

FORMS = {  # flattened optimiser, steps per call
    "naive": (False, 1),
    "flattened": (True, 1),
    "10 steps a call": (False, 10),
    "both": (True, 10),
}
IMAGE, LANDMARKS = 16, 98


class Sum:
    """Stands for a Flax module: heatmaps and statistics that depend on every parameter."""

    def apply(self, variables, images, train, mutable, rngs):
        import jax
        import jax.numpy as jnp

        total = sum(leaf[0] for leaf in jax.tree.leaves(variables["params"]))
        maps = jnp.zeros((len(images), IMAGE // 4, IMAGE // 4, LANDMARKS)) + total
        return maps, {"batch_stats": jax.tree.map(lambda x: x + total, variables["batch_stats"])}


class Repeated:
    """One batch over and over, as an epoch of so many steps."""

    def __init__(self, batch, steps):
        self.batch, self.batch_size, self.steps_per_epoch = batch, len(batch["image"]), steps

    def __call__(self, step):
        return self.batch


def in_turn(batches, first, last):
    return map(batches, range(first, last))


def measure(arguments) -> dict:
    """Milliseconds per step by form, on the devices this process was started with."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax

    from hrnet_jax import create_model
    from hrnet_jax.codecs import UnbiasedCodec
    from hrnet_jax.devices import Devices
    from hrnet_jax.tasks.landmarks import prepare_landmarks
    from hrnet_jax.training.feeds import HostFeed
    from hrnet_jax.training.losses import mean_squared_error
    from hrnet_jax.training.parallel import call_counts, several_steps
    from hrnet_jax.training.state import create_state
    from hrnet_jax.training.step import make_step

    devices = Devices()
    model = create_model(arguments.model, LANDMARKS)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    variables = jax.tree.map(lambda x: jnp.ones(1), shapes)
    rows, steps = devices.count, arguments.steps
    batch = {
        "image": np.zeros((rows, IMAGE, IMAGE, 3), np.uint8),
        "points": np.ones((rows, LANDMARKS, 2), np.float32),
        "weights": np.ones((rows, LANDMARKS), np.float32),
    }
    result = {}
    for name, (flat, steps_per_call) in FORMS.items():
        optimiser = optax.flatten(optax.adam(1e-4)) if flat else optax.adam(1e-4)
        step = make_step(
            Sum(), mean_squared_error, optimiser, prepare=prepare_landmarks(UnbiasedCodec())
        )
        feed = HostFeed(Repeated(batch, steps), in_turn, devices, steps_per_call)
        steps_call = several_steps(step, feed, steps_per_call)
        state = devices.replicate(create_state(variables, optimiser))
        leaves = len(jax.tree.leaves(state))
        times = []
        for _ in range(arguments.repeats + 1):  # the first one compiles
            counts = call_counts(0, steps, steps, steps_per_call)
            start = time.perf_counter()
            for count, _, data in feed.calls(0, counts):
                state, _ = steps_call(state, None, data, np.uint32(0), count)
            jax.block_until_ready(state)
            times.append(1e3 * (time.perf_counter() - start) / steps)
        times = times[1:]
        result[name] = {
            "leaves": leaves,
            "milliseconds": statistics.median(times),
            "lowest": min(times),
            "highest": max(times),
        }
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="hrnetv2_w18", help="whose leaves the state has")
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--steps", type=int, default=50, help="of one measurement")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, help="a JSON file for the numbers")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()

    import jax

    if arguments.inside:
        jax.config.update("jax_num_cpu_devices", arguments.devices[0])
        print(json.dumps(measure(arguments)))
        return
    print(f"{arguments.model}, jax {jax.__version__}, {platform.machine()}, CPU devices")
    print(
        f"{'devices':>7}  {'form':<16} {'leaves':>6} {'ms/step':>8} {'spread':>14} {'of naive':>9}"
    )
    results = {}
    for count in arguments.devices:  # a process for each: the number cannot change in one
        sizes = f"--steps={arguments.steps}", f"--repeats={arguments.repeats}"
        command = [sys.executable, __file__, "--inside", f"--model={arguments.model}", *sizes]
        done = subprocess.run(
            [*command, "--devices", str(count)], check=True, stdout=subprocess.PIPE, text=True
        )
        results[count] = json.loads(done.stdout.splitlines()[-1])
        naive = results[count]["naive"]["milliseconds"]
        for name, row in results[count].items():
            time_ = row["milliseconds"]
            spread = f"{row['lowest']:.2f} - {row['highest']:.2f}"
            print(
                f"{count:>7}  {name:<16} {row['leaves']:>6} {time_:>8.2f} {spread:>14} "
                f"{time_ / naive:>9.2f}"
            )
    if arguments.output:
        result = {"model": arguments.model, "jax": jax.__version__, "devices": results}
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
