"""An XProf trace of some steps of a run, in RUN/profile."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import jax

from gptgan_jax.types import PyTree

FOLDER = "profile"


class Profiler:
    """A context manager around the steps of a run; leaving it ends an open trace."""

    def __init__(self, folder: Path, steps: Sequence[int], active: bool = True) -> None:
        """A profiler that has not started.

        Args:
            folder: the run folder.
            steps: the first and the last global step to trace; empty: none.
            active: whether this process writes a trace.
        """
        self._folder = folder / FOLDER
        self._first, self._last = steps if steps and active else (1, 0)
        self._running = False

    def step(self, step: int) -> AbstractContextManager[object]:
        """The context of a global step: starts the trace if it is due, and names the step in it."""
        if not self._first <= step <= self._last:
            return nullcontext()
        if not self._running:
            jax.profiler.start_trace(self._folder)
            self._running = True
        return jax.profiler.StepTraceAnnotation("step", step_num=step)

    def made(self, step: int, result: PyTree) -> None:
        """Ends the trace after its last step; waits for the step's result, so that the devices have finished."""
        if self._running and step >= self._last:
            jax.block_until_ready(result)
            self.close()

    def close(self) -> None:
        """Ends an open trace."""
        if self._running:
            self._running = False
            jax.profiler.stop_trace()

    def __enter__(self) -> "Profiler":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
