"""Heatmap in Heatmap, two stacked hourglasses ("S"), on WFLW.

    hrnet-jax train --config=wflw_hih_s --workdir=runs/wflw_hih_s

Batch, epochs and decay steps are those of HIH's configuration; its training script is not published
and its optimiser not known, so Adam at its base rate of 1e-4 stands in. No figure is published for
these two stacks' weights; `wflw_hih_b.py` has that of four.

`--config=wflw_hih_s:quicktest` is the same in small, to see that everything runs.
"""

import runpy
from pathlib import Path

FOUR_STACKS = Path(__file__).with_name("wflw_hih_b.py")


def get_config(argument=""):
    config = runpy.run_path(str(FOUR_STACKS))["get_config"](argument)
    config.model.name = "hih_s"
    return config
