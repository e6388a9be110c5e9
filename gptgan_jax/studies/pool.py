"""The runs of a study in separate processes, several at a time: started, watched and stopped."""

import enum
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from gptgan_jax.config.files import to_yaml
from gptgan_jax.studies.child import END
from gptgan_jax.studies.devices import Slot
from gptgan_jax.studies.jobs import Job
from gptgan_jax.system import interruptions
from gptgan_jax.training.signals import Interrupted

STOP_SECONDS = 7.5
"""The time that runs have to save themselves; after it they are killed, and what no checkpoint holds is lost."""
LOOK_SECONDS = 0.2
OF_REASON = 300


class State(enum.Enum):
    """The state of a run."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass
class Progress:
    """The progress of a run.

    Attributes:
        state: of the run.
        began, ended: on the pool's clock; None if it did not, or not in this process.
        reason: why it failed.
    """

    state: State = State.WAITING
    began: float | None = None
    ended: float | None = None
    reason: str = ""

    def elapsed(self, now: float) -> float | None:
        """Seconds since it began, or that it took; None if it did not begin."""
        return None if self.began is None else (now if self.ended is None else self.ended) - self.began


def progress_before(jobs: Iterable[Job], done: Collection[Path]) -> dict[Path, Progress]:
    """The progress of each run, by folder, before any is started."""
    return {job.folder: Progress(State.DONE if job.folder in done else State.WAITING) for job in jobs}


class Process(Protocol):
    """A started run."""

    def status(self) -> int | None:
        """The exit status; the negative number of a signal that killed it; None while it runs."""

    def stop(self) -> None:
        """Asks it to save and end."""

    def kill(self) -> None:
        """Kills it."""

    def reason(self) -> str:
        """The last line of its output."""


class Pool:
    """The runs of a study on several slots.

    Attributes:
        progress: of each run, by folder.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        done: Collection[Path],
        slots: Sequence[Slot],
        start: Callable[[Job, Slot], Process],
        changed: Callable[[Job | None], None] = lambda job: None,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """`start` starts a run. `changed` is called with each run whose state changes, and regularly with None."""
        self.progress = progress_before(jobs, done)
        self.clock = clock
        self._jobs, self._slots, self._start = jobs, list(slots), start
        self._changed, self._pause = changed, pause
        self._running: dict[Path, tuple[Job, Slot, Process]] = {}

    def run(self) -> None:
        """Runs everything that is not done; if a run fails, only those that start from it are skipped.

        Raises:
            Interrupted: SIGINT or SIGTERM came; the running runs are saved and stopped.
        """
        with _noted() as notes:
            try:
                while not notes and self._advance():
                    self._changed(None)
                    self._pause(LOOK_SECONDS)
                if notes:
                    interruptions.obeyed()
            finally:
                self._end(notes)
        if notes:
            name = signal.Signals(notes[0]).name
            raise Interrupted(notes[0], f"stopped by {name}; running runs are saved, and the same command resumes them")

    def _advance(self) -> bool:
        """Collects runs that ended and starts those that can start; whether any is running."""
        for job, slot, process in list(self._running.values()):
            status = process.status()
            if status is not None:
                del self._running[job.folder]
                self._slots.append(slot)
                self._ended(job, "" if status == 0 else self._why(status, process))
        for job in self._jobs:
            one = self.progress[job.folder]
            if one.state is not State.WAITING:
                continue
            before = self.progress[job.needs].state if job.needs is not None else State.DONE
            if before is State.FAILED:
                self._ended(job, "the likelihood run that it starts from failed")
            elif before is State.DONE and self._slots:
                slot = self._slots.pop(0)
                one.state, one.began = State.RUNNING, self.clock()
                self._running[job.folder] = job, slot, self._start(job, slot)
                self._changed(job)
        return bool(self._running)

    def _ended(self, job: Job, reason: str) -> None:
        one = self.progress[job.folder]
        one.state, one.reason = State.FAILED if reason else State.DONE, reason
        if one.began is not None:
            one.ended = self.clock()
        self._changed(job)

    def _why(self, status: int, process: Process) -> str:
        said = process.reason()
        if status < 0 or status > 128:
            number = -status if status < 0 else status - 128
            known = number in {int(one) for one in signal.Signals}
            name = signal.Signals(number).name if known else f"signal {number}"
            memory = ", perhaps for lack of memory" if number == signal.SIGKILL else ""
            return f"ended by {name}{memory}"
        return said or f"ended with status {status}"

    def _end(self, notes: Sequence[int]) -> None:
        """Stops what still runs: gracefully, and by force after `STOP_SECONDS` or a second signal."""
        for _, _, process in self._running.values():
            process.stop()
        until, seen = self.clock() + STOP_SECONDS, len(notes)
        while any(process.status() is None for _, _, process in self._running.values()):
            if self.clock() >= until or len(notes) > seen:
                for _, _, process in self._running.values():
                    process.kill()
                break
            self._pause(LOOK_SECONDS)
        for job, _, process in self._running.values():
            one = self.progress[job.folder]
            one.state, one.began = (State.DONE, one.began) if process.status() == 0 else (State.WAITING, None)


@contextmanager
def _noted() -> Any:
    """The signals received in this context."""
    notes: list[int] = []

    def note(number: int, frame: object) -> None:
        notes.append(number)
        interruptions.obeyed()

    previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield notes
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class Child:
    """A run in a separate process, with a log."""

    def __init__(self, job: Job, slot: Slot, log: Path, environment: Mapping[str, str] = os.environ) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gptgan_jax.studies.child"],
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**environment, **slot.environment},
                # Ctrl-C goes only to the study, which then stops its runs.
                start_new_session=True,
            )
        # Before the process counts its cores, as XLA does to create its threads.
        if slot.cores is not None and hasattr(os, "sched_setaffinity"):
            with suppress(OSError):
                os.sched_setaffinity(self._process.pid, slot.cores)
        with suppress(BrokenPipeError):
            self._input.write(f"{to_yaml(job.config)}{END}".encode())
            self._input.flush()

    @property
    def _input(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    def status(self) -> int | None:
        return self._process.poll()

    def stop(self) -> None:
        with suppress(OSError):
            self._process.terminate()

    def kill(self) -> None:
        with suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def reason(self) -> str:
        try:
            lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return ""
        said = [line.strip() for line in lines if line.strip()]
        return said[-1].removeprefix("gptgan: ")[:OF_REASON] if said else ""
