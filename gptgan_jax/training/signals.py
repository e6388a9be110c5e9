"""Ctrl-C and SIGTERM as requests that a run follows at a point where it can resume later, the same on all hosts."""

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
"""That saving at the last moment may take."""


class NotFinite(RuntimeError):
    """Numbers were NaN or infinite too often; the message names the step, the phase and the last good checkpoint."""


class Interrupted(BaseException):
    """A signal asked the run to stop; everything is saved. `signal` is its number."""

    def __init__(self, signal: int, message: str) -> None:
        super().__init__(message)
        self.signal = signal


class CutShort(Exception):
    """The run is to be stopped in the midst of an evaluation."""


class StopSignals:
    """While this context lasts, the first SIGINT or SIGTERM is only noted; a second SIGINT interrupts at once.

    The run asks by `received` where it could stop. Where it doesn't come to that in time, as it compiles, the process
    is ended by a second thread; see `Watch`.

    With several processes a notice to one of them must stop all, at one and the same place. JAX's preemption service
    sees to that: it catches SIGTERM by itself, in each process, and agrees on a place. SIGINT is handed on as SIGTERM.

    Attributes:
        number: of the signal that is granted; 0 for none.
        rescue: what to do just before the process is ended: to save what is nowhere saved yet. None: nothing.
    """

    def __init__(self, processes: int = 1, last_words: Callable[[], str] = lambda: "") -> None:
        """`processes`: how many train this run together. `last_words`: from where the run can go on, where the process
        is ended."""
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
            # The service's handler is not Python's. This one writes something, and then calls that.
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
        """Whether the run is to be saved and stopped here.

        With several processes each must ask as often and at the same places, and all get the same answer.
        """
        if self._processes > 1 and not self.number:
            self._places += 1
            if multihost_utils.reached_preemption_sync_point(self._places):
                self.number = signal.SIGTERM
        if self.number:
            self._watch.obeyed()
        return self.number != 0

    def check(self) -> None:
        """Raises CutShort where `received`."""
        if self.received():
            raise CutShort

    def uncut(self) -> AbstractContextManager[None]:
        """What happens in this context, such as a step or the writing of a checkpoint, is brought to its end."""
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
        """In the second thread: saves what there is to save, in time, and says where the run can go on."""
        if self.rescue is not None:
            # In one more thread, as it may have to wait for the main one.
            rescuer = threading.Thread(target=self.rescue, daemon=True)
            rescuer.start()
            rescuer.join(RESCUE_SECONDS)
        return f"stopped by {signal.Signals(number).name} while compiling or evaluating{self._last_words()}"
