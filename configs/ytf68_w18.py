"""The official recipe (that of 300W) on 68-point YouTube Faces frames.

    hrnet-jax train --config=ytf68_w18 --workdir=runs/ytf68_w18

`--config=ytf68_w18:quicktest` is the same in small, to see that everything runs.
"""

from ml_collections import ConfigDict

from hrnet_jax.config import default_config


def get_config(argument=""):
    config = ConfigDict(default_config())
    config.data.update(
        root="data/ytf68",
        train="face_landmarks_ytf68_train.csv",
        valid="face_landmarks_ytf68_test.csv",
    )
    if argument == "quicktest":
        config.protocol.input_size = 64
        config.data.train_count, config.data.valid_count = 12, 8
        config.train.update(epochs=1, batch_size=4, log_every=1)
    return config
