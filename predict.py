"""`hrnet-jax predict` for a clone: see `python predict.py --help`."""

import sys

from hrnet_jax.cli import run

if __name__ == "__main__":
    sys.exit(run("predict"))
