"""Heatmap in Heatmap, two stacked hourglasses ("S"), on WFLW.

    hrnet-jax train --config=wflw_hih_s --workdir=runs/wflw_hih_s

Batch, epochs and decay steps are those of HIH's configuration; its training script is not published
and its optimiser not known, so Adam at its base rate of 1e-4 stands in. No figure is published for
these two stacks' weights; `wflw_hih_b.py` has that of four.

`--config=wflw_hih_s:quicktest` is the same in small, to see that everything runs.
"""

import dataclasses

from ml_collections import ConfigDict

from hrnet_jax.config import default_config
from hrnet_jax.images.augment import RECIPES
from hrnet_jax.protocols import hih


def get_config(argument=""):
    config = ConfigDict(default_config())
    config.scheme = "wflw"
    config.model.name = "hih_s"
    config.model.norm_momentum = 0.9
    config.protocol = ConfigDict(hih().to_dict())
    config.augment.update(dataclasses.asdict(RECIPES["hih"]))
    config.data.update(
        root="data/wflw",
        train="face_landmarks_wflw_train.csv",
        valid="face_landmarks_wflw_test.csv",
    )
    config.train.loss = "hih"
    if argument == "quicktest":
        config.protocol.input_size = 64
        config.data.train_count, config.data.valid_count = 12, 8
        config.train.update(epochs=1, batch_size=4, log_every=1)
    return config
