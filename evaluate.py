"""`hrnet-jax evaluate` for a clone: see `python evaluate.py --help`."""

import sys

from hrnet_jax.cli import run

if __name__ == "__main__":
    sys.exit(run("evaluate"))
