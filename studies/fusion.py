"""Is the fusion of stage 4 worth its parameters? A small network, 64 px, a tiny budget.

hrnet-jax study run studies/fusion.py --workdir=runs/fusion --config.data.root=data/300w
"""

from hrnet_jax.ablations import without_fusion
from hrnet_jax.studies import Study


def get_study():
    return Study(
        base="300w_small",
        factors={"fusion": {"whole": {}, "none_in_stage_4": without_fusion(4)}},
        seeds=3,
        overrides={
            "protocol.input_size": 64,
            "data.train_count": 480,
            "train.epochs": 6,
            "train.eval_epochs": 3,
            "train.checkpoint_epochs": 3,
        },
    )
