"""Ablation studies: a question as a file, its runs in one process, a table that counts the seeds.

    study = Study(base="300w_small", factors={"loss": {"mse": {}, "wing": {"train.loss": …}}})

`hrnet-jax study plan|run|report FILE --workdir=DIR` works on a file whose `get_study()` returns
such an object; docs/studies.md shows one.
"""

from hrnet_jax.studies.definition import Study

__all__ = ["Study"]
