"""A profile of some training steps, for TensorBoard or Perfetto."""

import contextlib

import jax

from hrnet_jax.files import local_path

SKIPPED = 3  # calls of the training program before the profile starts: compilation is not a step


class Profile(contextlib.AbstractContextManager):
    """Records `calls` calls of the training program under WORKDIR/profile; 0 records nothing.

    The first calls of a process are left out.
    """

    def __init__(self, workdir, calls: int):
        folder = f"{workdir}/profile"
        self._folder = local_path(folder, "a profile") if calls else folder
        self._calls, self._seen = calls, 0
        self._running = False

    def after(self, metrics) -> None:
        """To be called after each call, with what it returned."""
        self._seen += 1
        if self._calls and self._seen == SKIPPED:
            jax.block_until_ready(metrics)
            jax.profiler.start_trace(self._folder)
            self._running = True
        elif self._running and self._seen == SKIPPED + self._calls:
            jax.block_until_ready(metrics)
            self._stop()

    def __exit__(self, *_):
        if self._running:
            self._stop()

    def _stop(self):
        self._running = False
        jax.profiler.stop_trace()
