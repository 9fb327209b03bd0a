"""The default configuration of a classifier: every key that its config file may set."""

import copy
import dataclasses

from hrnet_jax import config
from hrnet_jax.data.preprocessing import Preprocessing, RandomCrop

_DEFAULTS = {
    "task": "classification",
    "seed": 0,
    "model": {
        "name": "hrnet_w18_imagenet",
        "num_classes": 1000,
        "dtype": "float32",  # compute dtype; "bfloat16" keeps parameters in float32
        "remat": False,  # recompute residual blocks in the backward pass, to save memory
    },
    "preprocessing": Preprocessing().to_dict(),
    "augment": dataclasses.asdict(RandomCrop()),
    "data": {
        # "folder": root/train/CLASS/*.JPEG; "tfds:NAME": a TensorFlow data set that was prepared
        # under root with --file_format=array_record.
        "source": "folder",
        "root": "data/imagenet",
        "train": "train",  # folders under root, or the names of the splits
        "valid": "val",
        # A file under root with lines "IMAGE CLASS", for pictures that lie in no folder of their
        # class: CLASS is the name of a training class, or its number from 0.
        "valid_labels": "",
        "workers": 0,  # threads that prepare pictures; 0: one for each processor
    },
    # Keys that are not here mean what they mean in `hrnet_jax.config`.
    "train": config.default_config()["train"]
    | {
        "epochs": 100,
        "batch_size": 128,  # over all devices
        "loss": "cross_entropy",
        "optimiser": "sgd",
        "learning_rate": 0.05,
        "momentum": 0.9,
        "nesterov": True,
        "weight_decay": 1e-4,  # as PyTorch's SGD: added to the gradient, of every parameter
        "milestones": (30, 60, 90),  # epochs, 0-based
    },
    "parallel": {"mode": "jit"},  # or "pmap", as in `hrnet_jax.config`
    "eval": {"batch_size": 32},
}


def default_config() -> dict:
    """Returns a fresh copy of the defaults: the official ImageNet recipe of HRNet-W18."""
    return copy.deepcopy(_DEFAULTS)
