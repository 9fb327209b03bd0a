"""The one exception a user meets."""


class HRNetError(Exception):
    """Bad input: one clear line that names the file, key or value and says what to do.

    The command line prints it as ``error: …`` and exits with status 2.
    """
