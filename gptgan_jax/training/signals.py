"""Ctrl-C and SIGTERM as a wish that the loop grants after the step in hand, on all hosts after the same one."""

import os
import signal
from types import FrameType
from typing import Any

from jax.experimental import multihost_utils


class StopSignals:
    """While this context lasts, the first SIGINT or SIGTERM is only noted; a second SIGINT interrupts at once.

    With several processes a notice to one of them must stop all, after one and the same step. JAX's preemption service
    sees to that: it catches SIGTERM by itself, in each process, and agrees on a step. SIGINT is handed on as SIGTERM.
    """

    number = 0

    def __init__(self, processes: int = 1) -> None:
        """`processes`: how many train this run together."""
        self._processes = processes
        self._asked = -1

    def __enter__(self) -> "StopSignals":
        handlers = {signal.SIGINT: self._note, signal.SIGTERM: self._note}
        if self._processes > 1:
            handlers = {signal.SIGINT: self._hand_on}
        self._interrupted = False
        self._previous: dict[int, Any] = {
            number: signal.signal(number, handler) for number, handler in handlers.items()
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def received(self, step: int) -> bool:
        """Whether the run is to be saved and stopped after a step.

        Args:
            step: the global step in hand. With several processes each must ask after every step, and all get the same
                answer for the same step.
        """
        if self._processes > 1 and step != self._asked:
            self._asked = step
            if multihost_utils.reached_preemption_sync_point(step):
                self.number = signal.SIGTERM
        return self.number != 0

    @property
    def name(self) -> str:
        """The signal's name."""
        return signal.Signals(self.number).name

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.number and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = number

    def _hand_on(self, number: int, frame: FrameType | None) -> None:
        if self._interrupted:
            raise KeyboardInterrupt
        self._interrupted = True
        os.kill(os.getpid(), signal.SIGTERM)
