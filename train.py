"""`hrnet-jax train` for a clone: see `python train.py --help`."""

import sys

from hrnet_jax.cli import run

if __name__ == "__main__":
    sys.exit(run("train"))
