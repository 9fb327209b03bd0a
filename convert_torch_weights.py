"""`hrnet-jax convert` for a clone: see `python convert_torch_weights.py --help`."""

import sys

from hrnet_jax.cli import run

if __name__ == "__main__":
    sys.exit(run("convert"))
