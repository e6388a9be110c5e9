"""Ends the process soon after a signal, even if its main thread is busy.

Python runs signal handlers between two bytecodes of the main thread, and while a program compiles or runs on a device
there may be none for minutes. So a second thread is notified of each signal at once, and ends the process if the main
thread hasn't acted on the signal within a few seconds.
"""

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gptgan_jax.system.native_log import terminal

GRACE_SECONDS = 4.0
"""The time that the main thread has to act on a signal."""
AGAIN_SECONDS = 2.0
"""The same after a second Ctrl-C, which nothing can delay."""
RETRY_SECONDS = 0.1
# Bytes written to the pipe besides signal numbers, which go up to 64.
_CLOSE, _SETTLE = 0, 255

_innermost: "Watch | None" = None


class Watch:
    """A context in which SIGINT and SIGTERM end the process unless the main thread acts on them in time.

    The handlers stay the same; a signal without a Python handler is not noticed. Outside of the main thread it does
    nothing. If contexts are nested, the inner one is active.
    """

    def __init__(self, last_act: Callable[[int], str], seconds: float | None = None) -> None:
        """`last_act` is called with the signal's number just before the end, in another thread, and returns the line to
        print. The exit status is 128 + the number. `seconds` is the main thread's time, by default GRACE_SECONDS."""
        self._last_act = last_act
        self._seconds = GRACE_SECONDS if seconds is None else seconds
        self._lock = threading.Lock()
        self._due: float | None = None
        self._number = 0
        self._again = False
        self._uncut, self._uncut_until = 0, 0.0
        self._pipes: dict[int, int | None] = {}
        self._ends: list[int] = []
        self._thread: threading.Thread | None = None
        self._settled = threading.Event()

    def __enter__(self) -> "Watch":
        global _innermost
        if threading.current_thread() is not threading.main_thread():
            return self
        self._bell = self._pipe(None)
        self._outer_bell = signal.set_wakeup_fd(self._bell, warn_on_full_buffer=False)
        self._outer, _innermost = _innermost, self
        self._thread = threading.Thread(target=self._watch, name="signals", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        global _innermost
        if self._thread is None:
            return
        signal.set_wakeup_fd(self._outer_bell)
        _innermost = self._outer
        os.write(self._bell, bytes([_CLOSE]))
        self._thread.join()
        for end in self._ends:
            os.close(end)

    @property
    def pending(self) -> bool:
        """Whether there was a signal that the main thread has not acted on yet."""
        self._settle()
        return self._due is not None

    def notices_of(self, number: int) -> int:
        """A file descriptor: any byte written to it reports a signal that has no Python handler.

        Call it before entering the context.
        """
        return self._pipe(number)

    def obeyed(self, wholly: bool = False) -> None:
        """Called when the main thread acts on the signals so far; `wholly`: the next Ctrl-C counts as the first."""
        self._settle()
        with self._lock:
            self._due = None
            if wholly:
                self._number, self._again = 0, False

    @contextmanager
    def uncut(self) -> Iterator[None]:
        """A context that only a second Ctrl-C interrupts; at its end, the time of the main thread starts again."""
        with self._lock:  # blocks forever if the process is about to end
            self._uncut += 1
        try:
            yield
        finally:
            with self._lock:
                self._uncut -= 1
                self._uncut_until = time.monotonic()

    def _settle(self) -> None:
        """Returns when the second thread has seen all signals so far: Python's handler may be ahead of it."""
        if self._thread is not None:
            self._settled.clear()
            os.write(self._bell, bytes([_SETTLE]))
            self._settled.wait()

    def _pipe(self, number: int | None) -> int:
        """The write end of a new pipe whose bytes are signal numbers, or which always reports this signal."""
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        self._pipes[reading] = number
        self._ends += [reading, writing]
        return writing

    def _watch(self) -> None:
        while True:
            due = self._due
            wait = None if due is None else max(due - time.monotonic(), 0)
            ready = select.select(list(self._pipes), [], [], wait)[0]
            for reading in ready:
                content, number = os.read(reading, 2**16), self._pipes[reading]
                for one in content if number is None else [number]:
                    if one == _CLOSE:
                        return
                    if one == _SETTLE:
                        self._settled.set()
                    else:
                        self._came(one)
            if not ready:
                self._end_if_due()

    def _came(self, number: int) -> None:
        if number not in (signal.SIGINT, signal.SIGTERM):
            return
        with self._lock:
            self._again = self._again or number == self._number == signal.SIGINT
            self._number = number
            self._due = time.monotonic() + (AGAIN_SECONDS if self._again else self._seconds)

    def _end_if_due(self) -> None:
        with self._lock:
            now = time.monotonic()
            if self._due is None or now < self._due:
                return
            if not self._again and self._uncut:
                self._due = now + RETRY_SECONDS
            elif not self._again and now < self._uncut_until + self._seconds:
                self._due = self._uncut_until + self._seconds
            else:
                self._end()

    def _end(self) -> None:
        try:
            line = self._last_act(self._number)
        except BaseException:  # the process has to end in any case
            line = f"stopped by {signal.Signals(self._number).name}"
        # Not through sys.stderr, whose lock the main thread may hold.
        out = terminal()
        before = "\n" if os.isatty(out) else ""
        os.write(out, f"{before}gptgan: {line}\n".encode(errors="replace"))
        os._exit(128 + self._number)


def obeyed() -> None:
    """Called when the main thread has handled the signals so far in a way that does not end the process."""
    if _innermost is not None:
        _innermost.obeyed(wholly=True)


def as_process(command: Callable[[], int]) -> int:
    """Runs a command as the whole process and returns its exit status; Ctrl-C ends it soon."""
    with Watch(lambda number: "interrupted") as watch:
        status = command()
        if watch.pending:
            # Python would wait for threads, such as one that is compiling.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    return status
