"""The official recipe on COFW: HRNetV2-W18 at 256 px, 29 points, Adam 1e-4, 60 epochs.

    hrnet-jax data prepare cofw --source=downloads/cofw --output=data/cofw
    hrnet-jax train --config=cofw_w18 --workdir=runs/cofw_w18 \\
        --config.model.init_backbone=hrnetv2_w18_imagenet_pretrained.pth

Published with it (README of the official repository): NME 3.45 % (inter-ocular), failure rate at
0.10 of 0.20 %, on the 507 test faces, from ImageNet weights.

`--config=cofw_w18:quicktest` is the same in small, to see that everything runs.
"""

from ml_collections import ConfigDict

from hrnet_jax.config import default_config
from hrnet_jax.protocols import official


def get_config(argument=""):
    config = ConfigDict(default_config())
    config.scheme = "cofw"
    config.protocol = ConfigDict(official("cofw").to_dict())
    config.data.update(
        root="data/cofw",
        train="face_landmarks_cofw_train.csv",
        valid="face_landmarks_cofw_test.csv",
    )
    if argument == "quicktest":
        config.protocol.input_size = 64
        config.data.train_count, config.data.valid_count = 12, 8
        config.train.update(epochs=1, batch_size=4, log_every=1)
    return config
