"""`hrnet-jax data show`: a contact sheet of what training sees."""

from hrnet_jax.cli.configs import load_config, override
from hrnet_jax.cli.parser import Parser, place
from hrnet_jax.errors import HRNetError

EPILOG = """\
examples:
  hrnet-jax data show 300w_small --output=crops.png --config.data.root=/data/300w
  hrnet-jax data show wflw_w18 --count=32 --step=100 --output=crops.png

Each face is shown twice: its augmented crop with the landmarks, and the heatmaps that the network
is to learn from it, their maximum over the landmarks. Of a mirror pair the point that lies on the
image's left of an upright face is blue, the other one orange: colours on the wrong sides mean wrong
flip pairs. --step is that of a training run with the same config and seed.
"""

_MOST = 256  # faces on a sheet


def main(argv: list[str]) -> int:
    parser = Parser("hrnet-jax data show", "Draw augmented crops of a config's data set.", EPILOG)
    parser.add_argument("config", metavar="CONFIG", help="a Python file with get_config()")
    parser.add_argument(
        "--output", type=place, required=True, metavar="FILE", help="the sheet, .png or .jpg"
    )
    parser.add_argument("--count", type=int, default=16, help="faces, default 16")
    parser.add_argument("--step", type=int, default=0, help="training step, from 0 (default)")
    parser.add_argument("--columns", type=int, default=4, help="faces in a row, default 4")
    parser.add_argument("--cell", type=int, default=320, help="side of a picture, pixels")
    parser.add_argument("--config.KEY=VALUE", dest="_", help="another value of a config's key")
    overrides = [argument for argument in argv if argument.startswith("--config.")]
    arguments = parser.parse_args([argument for argument in argv if argument not in overrides])
    limits = {"count": (1, _MOST), "step": (0, 10**9), "columns": (1, _MOST), "cell": (64, 1024)}
    for name, (low, high) in limits.items():
        if not low <= getattr(arguments, name) <= high:
            raise HRNetError(f"--{name} must lie between {low} and {high}")
    if not arguments.output.endswith((".png", ".jpg")):
        raise HRNetError(f"--output={arguments.output}: give a .png or .jpg file")
    config = override(load_config(arguments.config), overrides)

    from hrnet_jax.images import write_image

    sheet = draw_sheet(config, arguments.count, arguments.step, arguments.columns, arguments.cell)
    write_image(arguments.output, sheet)
    print(f"written: {arguments.output}, {sheet.shape[1]} x {sheet.shape[0]} pixels")
    return 0


def draw_sheet(config, count: int, step: int, columns: int, cell: int):
    """The sheet as uint8 (H, W, 3), RGB: `count` faces from training step `step` on."""
    from hrnet_jax.config import plain
    from hrnet_jax.data.pipeline import TrainBatches
    from hrnet_jax.data.sources import open_split
    from hrnet_jax.images.augment import Augmentation
    from hrnet_jax.inference.samples import draw_sample, tile
    from hrnet_jax.protocols import Protocol
    from hrnet_jax.schemes import get_scheme

    scheme = get_scheme(config.scheme)
    batches = TrainBatches(
        open_split(config.data, scheme, "train"),
        Protocol.from_dict(plain(config.protocol), allow=True),
        Augmentation(**plain(config.augment)),
        scheme.flip_permutation,
        config.train.batch_size,
        config.seed,
        config.train.drop_last,
        skip_bad=config.data.skip_bad,
    )
    if not batches.steps_per_epoch:
        raise HRNetError(f"train.batch_size = {config.train.batch_size} leaves no batch")
    faces: list[tuple[int, int]] = []
    while len(faces) < count:
        epoch, rows = batches.rows(step)
        faces += [(epoch, row) for row in rows.tolist()]
        step += 1
    return tile([draw_sample(batches, scheme, *face, cell) for face in faces[:count]], columns)
