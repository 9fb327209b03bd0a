"""Own parts, as objects and as texts in a config: python examples/own_parts.py runs/own_parts"""

import dataclasses
import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp

import hrnet_jax
from hrnet_jax.checkpoints import save_model
from hrnet_jax.cli.configs import load_config


class RMSNorm(nn.Module):  # called with feature maps (N, h, w, C)
    @nn.compact
    def __call__(self, x):
        gain = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        return gain * x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-6)


class ThinHead(nn.Module):  # given the features, and what its fields name of the network's parts
    num_landmarks: int
    conv: nn.Module

    @nn.compact
    def __call__(self, features, train=False):
        return self.conv(self.num_landmarks, (1, 1), name="conv")(features.merged())


@dataclasses.dataclass(frozen=True)
class SoftArgmax:  # targets of points (N, L, 2) in heatmap cells, and points of the outputs
    sharpness: float = 4.0

    def encode(self, points, weights, size):
        return points

    def decode(self, heatmaps):
        n, height, width, count = heatmaps.shape
        share = jax.nn.softmax(self.sharpness * heatmaps.reshape(n, -1, count), axis=1)
        y, x = jnp.mgrid[:height, :width] + 0.5  # a cell's centre
        cells = jnp.stack([x, y], -1).reshape(-1, 2)
        return jnp.einsum("nkl,ka->nla", share, cells), share.max(axis=1)


def distance(outputs, batch):  # a scalar to minimise, and what else the log should have
    points, scores = SoftArgmax().decode(outputs)
    error = batch["weights"][..., None] * abs(points - batch["targets"])
    return error.mean(), {"score": scores.mean()}


def main(workdir, **settings):
    config = load_config("demo").unlock()
    config.protocol.input_size = 64
    config.data.update({"train_count": 320, "valid_count": 40} | settings.pop("data", {}))
    config.train.update({"epochs": 12, "learning_rate": 3e-3} | settings)
    backbone = {"name": "hrnet", "width": 8, "modules": (1, 1, 1), "blocks": 1}
    parts = {"backbone": backbone, "init": "kaiming"}
    model = hrnet_jax.create_model("mine", 68, norm=RMSNorm, head=ThinHead, **parts)
    own = {"model": model, "codec": SoftArgmax(), "loss": distance}
    first = hrnet_jax.train(config, Path(workdir) / "objects", **own)
    config.model.update({"name": "mine", "norm_momentum": None, **parts})
    config.model.update({"norm": "own_parts:RMSNorm", "head": "own_parts:ThinHead"})
    config.protocol.codec = {"name": "own_parts:SoftArgmax", "sharpness": 4.0}
    config.train.loss = "own_parts:distance"
    assert first == hrnet_jax.train(config, Path(workdir) / "texts")

    loaded = hrnet_jax.load(Path(workdir) / "objects", allow_import=["own_parts"])
    path = save_model(Path(workdir) / "mine.safetensors", loaded.variables, loaded.metadata)
    run = hrnet_jax.evaluate(config, path, allow_import=["own_parts"])
    print(f"NME {run.result['nme']:.2f} %, {first['nme']:.2f} % in training")
    return first, run


if __name__ == "__main__":
    import own_parts  # by its name: that stands in the checkpoint

    own_parts.main(*sys.argv[1:])
