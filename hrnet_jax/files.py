"""Writing a file whole or not at all."""

import contextlib
import os
from pathlib import Path

from hrnet_jax.errors import HRNetError


@contextlib.contextmanager
def open_atomically(path: str | Path):
    """Opens a UTF-8 text file for writing that appears under its name only when it is complete.

    The text goes to a temporary file beside it, renamed at the end: a reader never sees half a
    file, and after an error the old file is still there. Folders are made as needed. HRNetError if
    the file cannot be written.
    """
    path = Path(path)
    # Not tempfile: its files are readable by their owner alone, and the rename keeps that.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "w", encoding="utf-8", newline="") as file:
            yield file
        os.replace(temporary, path)
    except OSError as error:
        raise HRNetError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
