"""The official recipe on 300W: HRNetV2-W18 at 256 px, Adam 1e-4, 60 epochs.

    hrnet-jax data prepare 300w --source=downloads/300w --output=data/300w
    hrnet-jax train --config=300w_w18 --workdir=runs/300w_w18 \\
        --config.model.init_backbone=hrnetv2_w18_imagenet_pretrained.pth

Published with it (README of the official repository): common 2.91, challenge 5.11,
full 3.34, test 3.85 (NME in percent, inter-ocular), from ImageNet weights on the whole of 300W.

`--config=300w_w18:quicktest` is the same in small, to see that everything runs.
"""

from ml_collections import ConfigDict

from hrnet_jax.config import default_config


def get_config(argument=""):
    config = ConfigDict(default_config())  # the defaults are this recipe
    if argument == "quicktest":
        config.protocol.input_size = 64
        config.data.train_count, config.data.valid_count = 12, 8
        config.train.update(epochs=1, batch_size=4, log_every=1)
    return config
