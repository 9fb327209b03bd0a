"""The exceptions a user meets."""

import signal


class HRNetError(Exception):
    """Bad input: one clear line that names the file, key or value and says what to do.

    The command line prints it as ``error: …`` and exits with status 2.
    """


class Stopped(Exception):
    """A signal ended a training run, which is saved: the same command goes on with it.

    The command line prints it and exits with the status of a process that the signal ended: 143 for
    SIGTERM, 130 for SIGINT.
    """

    def __init__(self, name: str, saved: str):
        super().__init__(f"{name}: {saved}")
        self.status = 128 + signal.Signals[name]
