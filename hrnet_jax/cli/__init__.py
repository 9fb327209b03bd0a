"""The command line: `hrnet-jax COMMAND …`, also `python -m hrnet_jax` and the top-level scripts."""

import functools
import importlib
import os
import sys

from hrnet_jax.errors import HRNetError, Stopped, printable

COMMANDS = {
    "data": "prepare a downloaded data set, or look at what training sees of one",
    "train": "train a network from a config",
    "evaluate": "score a checkpoint, or anybody's predictions, against annotations",
    "report": "write one page about evaluations: tables, curves, galleries",
    "convert": "convert PyTorch weights to a checkpoint and back",
    "weights": "list the published checkpoints, or download one",
    "predict": "find landmarks in pictures and draw them; with a classifier, name what they show",
    "study": "plan, run and report an ablation study",
    "lesion": "silence each part of a trained network and draw what it is worth",
    "export": "write a checkpoint as one small file with a model card",
    "demo": "train, evaluate and draw on rendered faces: no download",
}

USAGE = "usage: hrnet-jax COMMAND [ARGUMENTS]\n\ncommands (each has --help):\n" + "\n".join(
    f"  {name:<10} {text}" for name, text in COMMANDS.items()
)


def _until_nobody_reads(function):
    """Ends quietly, with the status of SIGPIPE, where the output's reader is gone (`… | head`)."""

    @functools.wraps(function)
    def wrapped(*arguments):
        try:
            try:
                return function(*arguments)
            finally:  # argparse leaves --help by an exception
                sys.stdout.flush()
        except BrokenPipeError:
            # What Python still holds, and would complain about at its end, goes nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141

    return wrapped


@_until_nobody_reads
def main(argv: list[str] | None = None) -> int:
    """Runs `hrnet-jax`; returns the exit status: 0, or 2 after one line about a bad input."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE)
        return 0 if argv else 2
    if argv[0] == "--version":
        import hrnet_jax

        print(f"hrnet_jax {hrnet_jax.__version__}")
        return 0
    if argv[0] not in COMMANDS:
        print(f"error: unknown command {argv[0]!r}: choose {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    return run(argv[0], argv[1:])


@_until_nobody_reads
def run(command: str, argv: list[str] | None = None) -> int:
    """Runs one command. Bad input ends in one line on stderr and status 2, never a traceback."""
    argv = sys.argv[1:] if argv is None else argv
    module = importlib.import_module(f"hrnet_jax.cli.{command}")
    try:
        return module.main(argv)
    except HRNetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Stopped as stopped:
        print(f"stopped by {stopped}: the same command goes on from there", file=sys.stderr)
        return stopped.status
    except BrokenPipeError:
        raise
    except Exception as error:
        if os.environ.get("HRNET_JAX_DEBUG"):
            raise
        text = printable(f"{type(error).__name__}: {error}")
        hint = "set HRNET_JAX_DEBUG=1 for the traceback"
        print(f"error: unexpected {text[:500]} ({hint})", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
