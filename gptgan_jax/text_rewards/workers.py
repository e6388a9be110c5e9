"""Processes that call a reward function, each for a part of the texts of a step.

They are started anew (spawn), as a copy of a process that runs JAX may hang. What they give does not depend on how many
there are, if what the function gives for a text does not depend on the texts beside it.
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
"""Parts of a step's texts for each process: who is done early takes another."""


class Workers:
    """A few processes that wait for texts. Not for several threads at once."""

    def __init__(self, call: Call, count: int) -> None:
        """Starts them.

        Args:
            call: the function; of a module that can be imported.
            count: how many processes, at least 1.

        Raises:
            UserError: the function can't be sent to another process.
        """
        self.call = call
        context = multiprocessing.get_context("spawn")
        self.pairs: list[tuple[Any, Connection]] = []
        atexit.register(self.close)
        for i in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(call, theirs), name=f"reward {call.name} {i}", daemon=True)
            try:
                with _on_processors():
                    process.start()
            except Exception as error:
                self.close()
                raise UserError(
                    f"reward {call.name}: workers need a function of a module that can be imported ({error})"
                ) from None
            theirs.close()
            self.pairs.append((process, ours))

    def __call__(self, texts: Texts, timeout: float | None) -> list[Any]:
        """What the function gives for the texts, in their order.

        Raises:
            UserError: what `Call` raises, a process that ended, or that it took longer. The processes are ended then.
        """
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
        """Ends the processes; once is enough."""
        atexit.unregister(self.close)
        pairs, self.pairs = self.pairs, []
        for process, pipe in pairs:
            pipe.close()
            process.kill()
        for process, _ in pairs:
            process.join()


@contextmanager
def _on_processors() -> Iterator[None]:
    """Processes that are started meanwhile leave the accelerators to this one, whatever they import first."""
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
    """What a process does: numbers for texts, until there are no more."""
    # Ctrl-C and SIGTERM come to all processes of a job; the one that trains decides what they mean.
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
