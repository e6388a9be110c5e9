"""Processes that call a reward function, each for some of the texts of a step.

They are started afresh (spawn), as a fork of a process that runs JAX may hang. If the function's value for a text does
not depend on the other texts, the result does not depend on the number of processes.
"""

import atexit
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from typing import Any

from gptgan_jax.errors import UserError
from gptgan_jax.text_rewards.calling import Call, Texts, late, shown

PARTS = 4
"""The number of parts of a step's texts per process: a process that finishes early takes another part."""


class Workers:
    """Several processes that wait for texts; after a failure, the next call starts new ones. Not thread-safe."""

    def __init__(self, call: Call, count: int) -> None:
        """Starts the processes.

        Args:
            call: the function; it must be in a module that can be imported.
            count: number of processes, at least 1.

        Raises:
            UserError: the function can't be sent to another process.
        """
        self.call, self.count = call, count
        self.pairs: list[tuple[Any, Connection]] = []
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        atexit.register(self.close)
        for i in range(self.count):
            ours, theirs = context.Pipe()
            name = f"reward {self.call.name} {i}"
            process = context.Process(target=_work, args=(self.call, theirs), name=name, daemon=True)
            try:
                with _on_processors():
                    process.start()
            except Exception as error:
                self.close()
                raise UserError(
                    f"reward {self.call.name}: workers need a function of a module that can be imported ({error})"
                ) from None
            theirs.close()
            self.pairs.append((process, ours))

    def __call__(self, texts: Texts, timeout: float | None) -> list[Any]:
        """The function's values for the texts, in their order.

        Raises:
            UserError: as `Call` does, or a process ended, or it took longer. All processes are then ended.
        """
        if not self.pairs:
            self._start()
        try:
            return self._gathered(texts, timeout)
        except BaseException:
            self.close()
            raise

    def _gathered(self, texts: Texts, timeout: float | None) -> list[Any]:
        until = None if timeout is None else time.monotonic() + timeout
        size = max(-(-len(texts) // (PARTS * len(self.pairs))), 1)
        waiting = [(start, min(start + size, len(texts))) for start in range(0, len(texts), size)][::-1]
        found: list[Any] = [None] * len(texts)
        busy: dict[Connection, tuple[int, int]] = {}
        for _, pipe in self.pairs:
            self._give(pipe, texts, waiting, busy)
        while busy:
            ready: Sequence[Any] = wait(list(busy), None if until is None else max(until - time.monotonic(), 0.0))
            if not ready:
                assert timeout is not None
                raise UserError(late(self.call.name, timeout, texts.texts[slice(*min(busy.values()))]))
            for pipe in ready:
                start, stop = busy.pop(pipe)
                found[start:stop] = self._answer(pipe, texts.texts[start])
                self._give(pipe, texts, waiting, busy)
        return found

    def _give(
        self, pipe: Connection, texts: Texts, waiting: list[tuple[int, int]], busy: dict[Connection, tuple[int, int]]
    ) -> None:
        if waiting:
            start, stop = busy[pipe] = waiting.pop()
            try:
                pipe.send(texts.part(start, stop))
            except OSError:
                raise self._ended(pipe, texts.texts[start]) from None

    def _answer(self, pipe: Connection, first: str) -> list[Any]:
        try:
            good, answer = pipe.recv()
        except (EOFError, OSError):
            raise self._ended(pipe, first) from None
        if not good:
            raise UserError(answer)
        return answer

    def _ended(self, pipe: Connection, text: str) -> UserError:
        process = next(process for process, its in self.pairs if its is pipe)
        process.join(1)
        code = "" if process.exitcode is None else f" (exit status {process.exitcode})"
        return UserError(
            f"reward {self.call.name}: a worker process ended{code} at the texts from {shown(text)} on; its own "
            "message, if it has one, stands above"
        )

    def close(self) -> None:
        """Ends the processes, if there are any."""
        atexit.unregister(self.close)
        pairs, self.pairs = self.pairs, []
        for process, pipe in pairs:
            pipe.close()
            process.kill()
        for process, _ in pairs:
            process.join()


@contextmanager
def _on_processors() -> Iterator[None]:
    """Processes started in this context leave the accelerators to this one, whatever they import first."""
    before = os.environ.get("JAX_PLATFORMS")
    os.environ["JAX_PLATFORMS"] = "cpu"
    try:
        yield
    finally:
        if before is None:
            del os.environ["JAX_PLATFORMS"]
        else:
            os.environ["JAX_PLATFORMS"] = before


def _work(call: Call, pipe: Connection) -> None:
    """The loop of a worker: computes values for texts until the pipe is closed."""
    # All processes of a job receive Ctrl-C and SIGTERM; only the training process acts on them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        try:
            texts = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send((True, call(texts)))
        except UserError as error:
            pipe.send((False, str(error)))
