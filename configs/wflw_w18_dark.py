"""mmpose's recipe with DARK on WFLW: continuous heatmaps and distribution-aware decoding.

    hrnet-jax train --config=wflw_w18_dark --workdir=runs/wflw_w18_dark \\
        --config.model.init_backbone=hrnetv2_w18_imagenet_pretrained.pth

Published with it (mmpose's tables): NME 3.98 %, pose 6.98, illumination 3.96, occlusion 4.78, blur
4.56, make-up 3.89, expression 4.29; on how many GPUs of 64 faces each it trained is not known.

`--config=wflw_w18_dark:quicktest` is the same in small, to see that everything runs.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

from hrnet_jax.codecs import DarkCodec, codec_to_dict

MMPOSE = Path(__file__).with_name("wflw_w18_mmpose.py")


def get_config(argument=""):
    config = runpy.run_path(str(MMPOSE))["get_config"](argument)
    config.protocol.codec = ConfigDict(codec_to_dict(DarkCodec(2.0, kernel=11)))
    return config
