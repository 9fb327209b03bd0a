"""`hrnet-jax train`: train a network from a config."""

from hrnet_jax.cli.configs import note_batch_size, split_config
from hrnet_jax.cli.parser import Parser, join_processes, place
from hrnet_jax.errors import HRNetError

EPILOG = """\
examples:
  hrnet-jax train --config=300w_small --workdir=runs/300w_small
  hrnet-jax train --config=300w_w18 --workdir=runs/300w \\
      --config.data.root=/data/300w --config.train.batch_size=64
  hrnet-jax train --config=300w_small --workdir=runs/dark \\
      --config.protocol.codec=dark --config.protocol.codec.kernel=7
  hrnet-jax train --config=imagenet_w18 --workdir=runs/imagenet

The same command again goes on where the run in --workdir stopped, to the same bits; SIGTERM and
Ctrl-C save first. A protocol (official, float, mmpose, hih) and its codec (official, unbiased,
dark, msra, hih) are chosen by name and come with their own settings, which further arguments
change. Every key of the config can be set by --config.KEY=VALUE: see hrnet_jax/config.py (of a
classifier: hrnet_jax/tasks/classification_config.py).
"""


def main(argv: list[str]) -> int:
    parser = Parser(
        "hrnet-jax train",
        "Train a network from a config.",
        EPILOG,
    )
    parser.add_argument("--config", metavar="FILE", help="a Python file with get_config()")
    parser.add_argument(
        "--workdir", type=place, required=True, help="folder of checkpoints and logs"
    )
    parser.add_processes()
    config, rest = split_config(argv)
    arguments = parser.parse_args(rest)
    if not arguments.workdir:
        raise HRNetError("--workdir= is empty: give a folder")
    if config is None:
        raise HRNetError("which --config=FILE? For example --config=300w_small")
    join_processes(arguments)
    from hrnet_jax.devices import is_first_process
    from hrnet_jax.tasks import train
    from hrnet_jax.training.logs import words

    if (note := note_batch_size(argv, config)) and is_first_process():
        print(note)
    best = train(config, arguments.workdir)
    if is_first_process():
        step = best.pop("step")
        ((metric, value),) = best.items()
        score = (
            "no evaluation"
            if value is None
            else " ".join(("best validation", *words(metric, value)))
        )
        print(f"{score} at step {step}: {arguments.workdir}")
    return 0
