"""The small network on 300W at 128 px: what a two-core laptop trains in under 45 minutes.

    hrnet-jax train --config=300w_small --workdir=runs/300w_small

The same network, augmentation and schedule with another codec, to compare them:
`--config=300w_small:official`, `:dark` or `:hih`.
"""

from ml_collections import ConfigDict

from hrnet_jax.codecs import DarkCodec, HIHCodec, OfficialCodec, UnbiasedCodec
from hrnet_jax.config import default_config
from hrnet_jax.protocols import Protocol

SIGMA = 1.5  # heatmap cells
PROTOCOLS = {
    "": Protocol("float", UnbiasedCodec(SIGMA), 128),
    "dark": Protocol("float", DarkCodec(SIGMA, 7), 128),
    "hih": Protocol("float", HIHCodec(SIGMA), 128),
    "official": Protocol("official", OfficialCodec(SIGMA), 128),
}


def get_config(codec=""):
    config = ConfigDict(default_config())
    config.model.name = "hrnetv2_w18_small_v1"
    # With the official 0.99 the running variances, 1 at first and about 1e-4 in the end, take some
    # 2000 steps to become usable in evaluation mode.
    config.model.norm_momentum = 0.9
    config.protocol = ConfigDict(PROTOCOLS[codec].to_dict())
    config.train.loss = "hih" if codec == "hih" else "mse"
    # Measured by the mirrored images' predictions on the copy that RESULTS.md describes; 300W's own
    # files count pixel centres from 1, which would be 1.0.
    config.augment.flip_offset = 2.2
    config.augment.update(scale=0.2, translation=0.04, brightness=0.1, contrast=0.3, colour=0.1)
    config.train.update(
        epochs=90,
        batch_size=16,
        drop_last=True,
        learning_rate=1e-3,
        schedule="cosine",
        warmup_epochs=1.0,
    )
    config.eval.batch_size = 20
    return config
