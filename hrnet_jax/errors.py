"""The exceptions a user meets."""


class HRNetError(Exception):
    """Bad input: one clear line that names the file, key or value and says what to do.

    The command line prints it as ``error: …`` and exits with status 2.
    """


class Stopped(Exception):
    """SIGTERM ended a training run, which is saved: the same command goes on with it.

    The command line prints it and exits with status 143, as a process that SIGTERM ended.
    """
