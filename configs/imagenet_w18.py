"""HRNet-W18 on ImageNet-1k, as in the official classification code: top-1 76.8, top-5 93.4.

    hrnet-jax train --config=imagenet_w18 --workdir=runs/imagenet_w18 \\
        --config.data.root=/data/imagenet
    hrnet-jax evaluate --config=imagenet_w18 --checkpoint=models/imagenet_w18 \\
        --output=runs/imagenet_eval --config.data.root=/data/imagenet

The recipe is experiments/cls_hrnet_w18_sgd_lr5e-2_wd1e-4_bs32_x100.yaml of HRNet-Image-
Classification with its tools/train.py: SGD with Nesterov momentum 0.9, weight decay 1e-4 on every
parameter, 0.05 times 0.1 at epochs 30, 60 and 90 of 100, four times 32 pictures a step, random
resized crop and mirroring, no label smoothing. There BatchNorm sees the 32 pictures of one GPU,
here all 128. The figures are its README's (errors of 23.2 and 6.6 percent). The other widths have
the same recipe: --config.model.name=hrnet_w32_imagenet. mmpretrain's differs: 256 pictures a step,
rate 0.1, cosine.

`data.root` holds train/CLASS/*.JPEG and val/CLASS/*.JPEG; with --config.data.valid_labels=val.txt,
val/*.JPEG and lines "IMAGE CLASS". `--config=imagenet_w18:tfds` reads TensorFlow
Datasets' imagenet2012, `…:quicktest` shows at 64 px that everything runs.
"""

from ml_collections import ConfigDict

from hrnet_jax.tasks.classification_config import default_config


def get_config(argument=""):
    config = ConfigDict(default_config())
    if argument == "tfds":
        config.data.update(source="tfds:imagenet2012", train="train", valid="validation")
    if argument == "quicktest":
        config.preprocessing.update(input_size=64, resize=74)
        config.train.update(epochs=1, batch_size=8, log_every=1)
    return config
