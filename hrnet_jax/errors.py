"""The exceptions a user meets."""

import signal

_LONGEST = 2000  # characters of a message


class HRNetError(Exception):
    """Bad input: one clear line that names the file, key or value and says what to do.

    The command line prints it as ``error: …`` and exits with status 2. What files and servers wrote
    may stand in it: it is made `printable`.
    """

    def __init__(self, message=""):
        super().__init__(printable(message))


class Stopped(Exception):
    """A signal ended a training run, which is saved: the same command goes on with it.

    The command line prints it and exits with the status of a process that the signal ended: 143 for
    SIGTERM, 130 for SIGINT.
    """

    def __init__(self, name: str, saved: str):
        super().__init__(f"{name}: {saved}")
        self.status = 128 + signal.Signals[name]


def printable(message) -> str:
    r"""One line that a terminal shows as it is: "\x1b" for an escape character, and so on.

    What is not printable by Unicode (control characters, changes of direction, lone surrogates) is
    escaped; line breaks become spaces; beyond 2,000 characters it is cut.
    """
    text = str(message)
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST // 2]} … {text[-_LONGEST // 2 :]}"
    text = " ".join(text.split())
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(character):
    return character if character.isprintable() else ascii(character)[1:-1]
