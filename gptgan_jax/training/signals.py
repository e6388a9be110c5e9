"""Ctrl-C and SIGTERM as a wish that the loop grants after the step in hand."""

import signal
from types import FrameType
from typing import Any


class StopSignals:
    """While this context lasts, the first SIGINT or SIGTERM is only noted; a second SIGINT interrupts at once."""

    number = 0

    def __enter__(self) -> "StopSignals":
        self._previous: dict[int, Any] = {
            number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def received(self) -> bool:
        """Whether a signal came."""
        return self.number != 0

    @property
    def name(self) -> str:
        """The signal's name."""
        return signal.Signals(self.number).name

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.number and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = number
