"""`python -m hrnet_jax` is the console script `hrnet-jax`."""

import sys

from hrnet_jax.cli import main

if __name__ == "__main__":
    sys.exit(main())
