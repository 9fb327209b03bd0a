"""`hrnet-jax data`: preparing data sets and looking at them."""

import importlib

from hrnet_jax.errors import HRNetError

COMMANDS = {
    "prepare": "turn a downloaded data set into CSV files and images",
    "show": "draw augmented crops of a config's data set",
}

USAGE = "usage: hrnet-jax data COMMAND [ARGUMENTS]\n\ncommands (each has --help):\n" + "\n".join(
    f"  {name:<10} {text}" for name, text in COMMANDS.items()
)


def main(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE)
        return 0 if argv else 2
    if argv[0] not in COMMANDS:
        raise HRNetError(f"unknown command data {argv[0]!r}: choose {' or '.join(COMMANDS)}")
    return importlib.import_module(f"hrnet_jax.cli.data_{argv[0]}").main(argv[1:])
