"""`--config=FILE` and `--config.key=value` on a command line."""

import contextlib
import io
import re
import sys

from hrnet_jax.errors import HRNetError


def split_config(argv: list[str]) -> tuple[object, list[str]]:
    """Takes the `--config…` arguments out of a command line.

    Returns:
      The config (a locked `ml_collections.ConfigDict`; None where no `--config` is given), and the
      other arguments. HRNetError for a missing file, an unknown key (with the nearest one) or a
      value of the wrong type.
    """
    from absl import flags
    from ml_collections import config_flags

    mine = [arg for arg in argv if re.match(r"--config(\.[\w.]+)?(=|$)", arg)]
    rest = [arg for arg in argv if arg not in mine]
    if not mine:
        return None, rest
    for arg in mine:
        if "=" not in arg:
            raise HRNetError(f"write {arg}=VALUE, with the equals sign")
    values = flags.FlagValues()
    holder = config_flags.DEFINE_config_file("config", flag_values=values)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # config_flags prints what it overrides
            values([sys.argv[0], *mine])
            return holder.value, rest
    except HRNetError:
        raise
    except Exception as error:  # a config file is Python: anything can come out of it
        text = " ".join(str(error).split()).strip("'\"") or type(error).__name__
        raise HRNetError(f"{' '.join(mine)}: {text}") from error
