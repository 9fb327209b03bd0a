"""What `make demo` trains: a narrow network on rendered faces, from nothing to drawn landmarks.

hrnet-jax train --config=demo --workdir=runs/demo
"""

from ml_collections import ConfigDict

from hrnet_jax.config import default_config
from hrnet_jax.protocols import float_protocol


def get_config():
    config = ConfigDict(default_config())
    config.model.name = "hrnetv2_w18_small_v1"
    config.model.norm_momentum = 0.9
    config.protocol = ConfigDict(float_protocol(sigma=1.5, input_size=96).to_dict())
    config.data.update(source="synthetic", train_count=1200, valid_count=200, size=160)
    config.train.update(
        epochs=8,
        batch_size=16,
        drop_last=True,
        learning_rate=1e-3,
        schedule="cosine",
        warmup_epochs=0.5,
    )
    config.eval.batch_size = 20
    return config
