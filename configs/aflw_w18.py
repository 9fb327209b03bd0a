"""The official recipe on AFLW: HRNetV2-W18 at 256 px, 19 points, Adam 2e-4, 60 epochs.

    hrnet-jax data prepare aflw --source=downloads/aflw --output=data/aflw
    hrnet-jax train --config=aflw_w18 --workdir=runs/aflw_w18 \\
        --config.model.init_backbone=hrnetv2_w18_imagenet_pretrained.pth

Published with it (README of the official repository): NME 1.57 % on the 4386 test faces and 1.46 %
on the 1314 frontal ones, of the box size, from ImageNet weights.

`--config=aflw_w18:quicktest` is the same in small, to see that everything runs.
"""

from ml_collections import ConfigDict

from hrnet_jax.config import default_config
from hrnet_jax.protocols import official


def get_config(argument=""):
    config = ConfigDict(default_config())
    config.scheme = "aflw"
    config.protocol = ConfigDict(official("aflw").to_dict())
    config.data.update(
        root="data/aflw",
        train="face_landmarks_aflw_train.csv",
        valid="face_landmarks_aflw_test.csv",
    )
    config.train.learning_rate = 2e-4
    if argument == "quicktest":
        config.protocol.input_size = 64
        config.data.train_count, config.data.valid_count = 12, 8
        config.train.update(epochs=1, batch_size=4, log_every=1)
    return config
