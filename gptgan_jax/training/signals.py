"""Ctrl-C and SIGTERM as requests to stop, which a run follows where it can resume later, the same on all hosts."""

import faulthandler
import os
import signal
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import FrameType
from typing import Any

from jax.experimental import multihost_utils

from gptgan_jax.system.interruptions import Watch

RESCUE_SECONDS = 4.0
"""Time limit for saving just before the process ends."""


class NotFinite(RuntimeError):
    """Numbers were NaN or infinite too often; the message names the step, the phase and the last good checkpoint."""


class Interrupted(BaseException):
    """A signal asked the run to stop; everything is saved. `signal` is its number."""

    def __init__(self, signal: int, message: str) -> None:
        super().__init__(message)
        self.signal = signal


class CutShort(Exception):
    """A signal interrupted an evaluation."""


class StopSignals:
    """In this context the first SIGINT or SIGTERM is only noted; a second SIGINT interrupts at once.

    The run calls `received` wherever it can stop. If it doesn't get there in time, because it compiles, a second thread
    ends the process; see `Watch`.

    With several processes, a signal to one of them must stop all at the same place. JAX's preemption service catches
    SIGTERM in each process and agrees on the place. SIGINT is passed on as SIGTERM.

    Attributes:
        number: the signal that the run follows; 0: none.
        rescue: called just before the process is ended, to save what is not saved yet; None: nothing.
    """

    def __init__(self, processes: int = 1, last_words: Callable[[], str] = lambda: "") -> None:
        """`processes`: how many train this run together. `last_words`: from where the run can resume, for the message
        if the process is ended."""
        self.number = 0
        self.rescue: Callable[[], None] | None = None
        self._processes = processes
        self._last_words = last_words
        self._places = 0
        self._interrupted = False
        self._watch = Watch(self._last_act)

    def __enter__(self) -> "StopSignals":
        handlers = {signal.SIGINT: self._note, signal.SIGTERM: self._note}
        if self._processes > 1:
            handlers = {signal.SIGINT: self._hand_on}
            # The service's handler is not a Python one. `faulthandler` notifies the watch, and then calls that handler.
            faulthandler.register(signal.SIGTERM, self._watch.notices_of(signal.SIGTERM), all_threads=False, chain=True)
        self._watch.__enter__()
        self._previous: dict[int, Any] = {
            number: signal.signal(number, handler) for number, handler in handlers.items()
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        if self._processes > 1:
            faulthandler.unregister(signal.SIGTERM)
        self._watch.__exit__()

    def received(self) -> bool:
        """Whether the run must be saved and stopped here.

        With several processes, each must call this equally often and at the same places; all get the same answer.
        """
        if self._processes > 1 and not self.number:
            self._places += 1
            if multihost_utils.reached_preemption_sync_point(self._places):
                self.number = signal.SIGTERM
        if self.number:
            self._watch.obeyed()
        return self.number != 0

    def check(self) -> None:
        """Raises CutShort if `received`."""
        if self.received():
            raise CutShort

    def uncut(self) -> AbstractContextManager[None]:
        """A context whose work, such as a step or saving a checkpoint, is completed in spite of a signal."""
        return self._watch.uncut()

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

    def _last_act(self, number: int) -> str:
        """In the second thread: calls `rescue`, within its time limit, and returns the last message."""
        if self.rescue is not None:
            # In a third thread, as it may have to wait for the main one.
            rescuer = threading.Thread(target=self.rescue, daemon=True)
            rescuer.start()
            rescuer.join(RESCUE_SECONDS)
        return f"stopped by {signal.Signals(number).name} while compiling or evaluating{self._last_words()}"
