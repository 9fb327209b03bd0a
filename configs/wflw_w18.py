"""The official recipe on WFLW: HRNetV2-W18 at 256 px, 98 points, Adam 1e-4, 60 epochs.

    hrnet-jax data prepare wflw --source=downloads/wflw --output=data/wflw
    hrnet-jax train --config=wflw_w18 --workdir=runs/wflw_w18 \\
        --config.model.init_backbone=hrnetv2_w18_imagenet_pretrained.pth

Published with it (README of the official repository): NME 4.60 % (inter-ocular) on the 2500 test
faces, from ImageNet weights.

`--config=wflw_w18:quicktest` is the same in small, to see that everything runs.
"""

from ml_collections import ConfigDict

from hrnet_jax.config import default_config
from hrnet_jax.protocols import official


def get_config(argument=""):
    config = ConfigDict(default_config())
    config.scheme = "wflw"
    config.protocol = ConfigDict(official("wflw").to_dict())
    config.data.update(
        root="data/wflw",
        train="face_landmarks_wflw_train.csv",
        valid="face_landmarks_wflw_test.csv",
    )
    if argument == "quicktest":
        config.protocol.input_size = 64
        config.data.train_count, config.data.valid_count = 12, 8
        config.train.update(epochs=1, batch_size=4, log_every=1)
    return config
