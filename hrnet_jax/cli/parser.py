"""The argument parser that every command shares."""

import argparse

from hrnet_jax.errors import HRNetError


class Parser(argparse.ArgumentParser):
    """Keeps the layout of the examples, and raises HRNetError where argparse prints its usage."""

    def __init__(self, prog: str, description: str, epilog: str):
        super().__init__(
            prog,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message):
        raise HRNetError(f"{message} (see {self.prog} --help)")
