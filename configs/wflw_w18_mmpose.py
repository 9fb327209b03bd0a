"""mmpose's recipe on WFLW: its crop, augmentation, schedule and flip test; whole-cell heatmaps.

    hrnet-jax train --config=wflw_w18_mmpose --workdir=runs/wflw_w18_mmpose \\
        --config.model.init_backbone=hrnetv2_w18_imagenet_pretrained.pth

Published with it (mmpose's tables): NME 4.06 %, pose 6.97, illumination 3.99, occlusion 4.83, blur
4.58, make-up 3.94, expression 4.33; with `--config.train.loss=adaptive_wing` 4.02. mmpose 0.x drew
scale and rotation otherwise (`RECIPES["mmpose0"]`); on how many GPUs of 64 faces each it trained is
not known.

`--config=wflw_w18_mmpose:quicktest` is the same in small, to see that everything runs.
"""

import dataclasses

from ml_collections import ConfigDict

from hrnet_jax.codecs import MsraCodec
from hrnet_jax.config import default_config
from hrnet_jax.images.augment import RECIPES
from hrnet_jax.protocols import mmpose


def get_config(argument=""):
    config = ConfigDict(default_config())
    config.scheme = "wflw"
    config.model.norm_momentum = 0.9
    config.protocol = ConfigDict(mmpose(MsraCodec(2.0)).to_dict())
    config.augment.update(dataclasses.asdict(RECIPES["mmpose1"]))
    config.data.update(
        root="data/wflw",
        train="face_landmarks_wflw_train.csv",
        valid="face_landmarks_wflw_test.csv",
    )
    config.train.update(
        batch_size=64,
        loss="masked_mse",
        learning_rate=2e-3,
        milestones=(40, 55),
        warmup_steps=500,
        warmup_start=0.001,
    )
    if argument == "quicktest":
        config.protocol.input_size = 64
        config.data.train_count, config.data.valid_count = 12, 8
        config.train.update(epochs=1, batch_size=4, log_every=1)
    return config
