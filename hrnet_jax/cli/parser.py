"""The argument parser that every command shares."""

import argparse

from hrnet_jax.errors import HRNetError
from hrnet_jax.files import as_path


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

    def add_allow_import(self):
        """--allow-import, for checkpoints of networks with parts of one's own."""
        self.add_argument(
            "--allow-import",
            action="append",
            default=[],
            metavar="PACKAGE",
            help="a package that the checkpoint may import its parts from; may be repeated "
            "(default: it imports nothing)",
        )

    def add_processes(self):
        """The arguments of a job of several processes, for `join_processes`."""
        group = self.add_argument_group("several processes", "one job; see docs/pods.md")
        group.add_argument(
            "--distributed",
            action="store_true",
            help="join the other processes; Cloud TPU, SLURM and Kubernetes tell which",
        )
        group.add_argument("--coordinator", metavar="HOST:PORT", help="elsewhere: process 0's")
        group.add_argument("--processes", type=int, metavar="N", help="elsewhere: how many")
        group.add_argument("--process", type=int, metavar="I", help="elsewhere: this one, from 0")


def place(text: str) -> str:
    """An argument that names a place: HRNetError, before any work, if it cannot be opened."""
    as_path(text)
    return text


def join_processes(arguments) -> None:
    """Joins the job's other processes, where the command line says that there are any."""
    place = arguments.coordinator, arguments.processes, arguments.process
    if arguments.distributed:
        from hrnet_jax.devices import start_processes

        start_processes(*place)
    elif place != (None, None, None):
        raise HRNetError("--coordinator, --processes and --process need --distributed too")
