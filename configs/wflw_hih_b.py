"""Heatmap in Heatmap, four stacked hourglasses ("B"), on WFLW.

    hrnet-jax train --config=wflw_hih_b --workdir=runs/wflw_hih_b

Published for it (its log, WFLW.pth): NME 4.08 %, pose 6.87, expression 4.06, illumination 4.35,
make-up 3.86, occlusion 4.85, blur 4.67, decoded as `hrnet-jax evaluate` does with
`--protocol=config --config.protocol.codec.masked=True`, on crops that were padded with the help of
the ground truth. Batch, epochs and decay steps are those of HIH's configuration; its training
script is not published and its optimiser not known, so Adam at its base rate of 1e-4 stands in.

`--config=wflw_hih_b:quicktest` is the same in small, to see that everything runs.
"""

import dataclasses

from ml_collections import ConfigDict

from hrnet_jax.config import default_config
from hrnet_jax.images.augment import RECIPES
from hrnet_jax.protocols import hih


def get_config(argument=""):
    config = ConfigDict(default_config())
    config.scheme = "wflw"
    config.model.name = "hih_b"
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
