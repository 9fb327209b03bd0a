"""The default configuration, as plain nested dicts: every key a config file may set.

Config files (`configs/*.py`) wrap these in an `ml_collections.ConfigDict` and change what their
experiment is about; the library itself reads attributes only, so any object with them will do.
"""

import copy
import dataclasses
import json

from hrnet_jax.images.augment import Augmentation
from hrnet_jax.protocols import official

_DEFAULTS = {
    "seed": 0,
    "scheme": "300w",  # landmark scheme (hrnet_jax.schemes): points, flip pairs, normaliser
    "model": {
        "name": "hrnetv2_w18",
        "dtype": "float32",  # compute dtype; "bfloat16" keeps parameters and statistics in float32
        # Parts as in `hrnet_jax.create_model`; None is what the name means.
        "head": None,
        "backbone": None,
        "conv": None,
        "norm": None,  # "batch", "group", "layer", "none", or of one's own
        "norm_momentum": None,  # of batch normalisation, Flax's: 1 - PyTorch's
        "init": None,  # "official" or "kaiming"
        "upsample": None,  # how lower resolutions are brought up: "bilinear" or "nearest"
        "ablations": (),  # texts that change the network: "without_fusion(4)" (hrnet_jax.ablations)
        "remat": False,  # recompute residual blocks in the backward pass, to save memory
        "init_backbone": "",  # an ImageNet (or face) checkpoint in a PyTorch format
    },
    # Crop geometry, codec and flip test (hrnet_jax.protocols.Protocol).
    "protocol": official("300w").to_dict(),
    # Random changes of the training faces (hrnet_jax.images.augment.Augmentation).
    "augment": dataclasses.asdict(Augmentation()),
    "data": {
        # "csv": annotations in the official columns; "synthetic": rendered faces; "device": csv
        # whose faces are kept and augmented on the device (hrnet_jax.data.device).
        "source": "csv",
        "root": "data/300w",
        "images": "images",  # folder of the images, under root
        "train": "face_landmarks_300w_train.csv",
        "valid": "face_landmarks_300w_valid.csv",
        "train_count": 0,  # 0: every row; "synthetic": number of faces to render
        "valid_count": 0,
        "size": 0,  # "synthetic": side of the rendered pictures in pixels
        "seed": 0,  # "synthetic": which faces are rendered
        # "threads", or "tfdata", which needs TensorFlow: the same batches; "auto": what is there.
        "loader": "auto",
        "skip_bad": False,  # True: another face takes the place of one whose image is damaged
        "workers": 0,  # batches prepared at once; 0: one for each processor
        "cache": "",  # "device": a file that keeps its crops for the next start, made if not there
    },
    "train": {
        "epochs": 60,
        "max_steps": 0,  # above 0: stop there, though the epochs are not over
        "batch_size": 16,  # over all devices; another one wants another learning_rate: docs/pods.md
        "drop_last": False,  # True leaves out the last, smaller batch of an epoch
        # What can be of the user's own is a name, "package.module:Name", or a table of one of these
        # as "name" and of arguments (hrnet_jax.parts).
        "loss": "mse",  # hrnet_jax.training.losses: "masked_mse", "adaptive_wing", "hih"
        "optimiser": "adam",  # or "sgd", "lamb", "optax:lion" (hrnet_jax.training.optimisers)
        "learning_rate": 1e-4,
        "schedule": "step",  # "step": times gamma at each milestone; "cosine": to 0; "constant"
        "milestones": (30, 50),  # epochs, 0-based
        "gamma": 0.1,
        "warmup_epochs": 0.0,  # linear, before the schedule; or in steps:
        "warmup_steps": 0,
        "warmup_start": 0.0,  # the fraction of learning_rate that it starts from
        "weight_decay": 0.0,  # of "adam" decoupled (AdamW); "sgd" adds it to the gradient
        "accumulate": 1,  # parts that a batch is taken in, one after the other, to save memory
        "ema_decay": 0.0,  # above 0: evaluate and keep a moving average of the network
        "flatten_optimiser": False,  # Adam's moments as two vectors: less host time per step
        "steps_per_call": 1,  # training steps in one call of the program: for accelerators
        "log_every": 10,  # steps
        "checkpoint_epochs": 1,
        "eval_epochs": 1,
        "loggers": (),  # objects with write(step, **values) and close(), beside log.jsonl
        "profile_steps": 0,  # above 0: WORKDIR/profile holds a trace of so many calls
    },
    # "jit": BatchNorm over the whole batch; "pmap": over each device's part of it, as PyTorch's
    # DataParallel (hrnet_jax.training.step).
    "parallel": {"mode": "jit"},
    "eval": {"batch_size": 8},
    # Further sets of faces to measure: {"name": "common", "annotations": "common.csv", "every": 5};
    # or evaluators of the user's own. hrnet_jax.tasks.landmarks.
    "evaluators": (),
    "best": "",  # the value whose lowest marks the best checkpoint: "common/nme"; "": "nme"
}


def default_config() -> dict:
    """Returns a fresh copy of the defaults: the official 300W recipe at full size."""
    return copy.deepcopy(_DEFAULTS)


def plain(config) -> dict:
    """A config (or a part of it) as plain dicts, lists and numbers, as JSON would hold it."""
    return json.loads(config.to_json() if hasattr(config, "to_json") else json.dumps(config))
