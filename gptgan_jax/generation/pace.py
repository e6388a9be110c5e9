"""Progress of long work: reported now and then, at points where it can be stopped."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
Pause = Callable[[str, int, int], None]
"""(what, done, total), called before each batch of a piece of work: it may show that, and may raise to stop it."""
NEWS_SECONDS = 10.0


def unpaused(what: str, done: int, total: int) -> None:
    """Does nothing."""


class News:
    """A `Pause` that reports progress in one line every few seconds, and not at all if the work is done sooner."""

    def __init__(
        self,
        say: Callable[[str], None],
        seconds: float = NEWS_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._say, self._seconds, self._clock = say, seconds, clock
        self._said_at = clock()

    def __call__(self, what: str, done: int, total: int) -> None:
        now = self._clock()
        if not done:  # new work begins
            self._said_at = now
        elif now - self._said_at >= self._seconds:
            self._said_at = now
            self._say(f"{what}: {done:,} of {total:,}")


def paused(batches: Iterable[Item], what: str, size: int, total: int, pause: Pause) -> Iterator[Item]:
    """The same batches, of `size` each and `total` in all; `pause` is called before each one, and at the end."""
    done, iterator = 0, iter(batches)
    while True:
        pause(what, min(done, total), total)
        try:
            batch = next(iterator)
        except StopIteration:
            return
        yield batch
        done += size
