"""The progress of a study: a live table of cells, seeds and arms on a terminal, otherwise a line per change."""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

from gptgan_jax.studies.jobs import Job, cell_jobs
from gptgan_jax.studies.pool import Progress, State
from gptgan_jax.studies.study_file import Study
from gptgan_jax.system.terminal import in_columns

REDRAW_SECONDS = 1.0
# A terminal's control sequences: go up that many lines to the line's beginning; clear from here to the end.
_UP, _CLEAR = "\x1b[{}F", "\x1b[0J"
LIVELY = (State.RUNNING, State.FAILED)


class Board:
    """Shows the progress of a study."""

    def __init__(
        self,
        study: Study,
        progress: Mapping[Path, Progress],
        out: TextIO,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`out` is redrawn if it is a terminal; otherwise `say` receives a line for each change."""
        self._study, self._progress, self._out, self._say, self._clock = study, progress, out, say, clock
        self._drawn, self._drawn_at = 0, -REDRAW_SECONDS
        self._live = out.isatty()

    def changed(self, job: Job | None) -> None:
        """Called when a run's state changes, and with None as time passes."""
        if self._live:
            if job is not None or self._clock() >= self._drawn_at + REDRAW_SECONDS:
                self._draw()
        elif job is not None:
            one = self._progress[job.folder]
            count = sum(other.state in (State.DONE, State.FAILED) for other in self._progress.values())
            self._say(f"[{count}/{len(self._progress)}] {job.title}: {shown(one, self._clock())}{because(one)}")

    def _draw(self) -> None:
        size = shutil.get_terminal_size()
        lines = [line[: size.columns - 1] for line in self._fitting(size.lines - 2)]
        up = _UP.format(self._drawn) if self._drawn else ""
        self._out.write(up + _CLEAR + "".join(f"{line}\n" for line in lines))
        self._out.flush()
        self._drawn, self._drawn_at = len(lines), self._clock()

    def _fitting(self, height: int) -> list[str]:
        """The table; if it is too long, only the rows in which something runs or failed."""
        now = self._clock()
        lines = table_lines(self._study, self._progress, now)
        if len(lines) + 1 > height:
            lines = table_lines(self._study, self._progress, now, lively=True)[: max(height - 1, 1)]
        return [*lines, summary(self._progress)]


def table_lines(study: Study, progress: Mapping[Path, Progress], now: float, lively: bool = False) -> list[str]:
    """A row for each cell and seed, a column for each arm; `lively`: only rows in which something runs or failed."""
    rows = []
    names: dict[str, None] = {}
    for cell in study.cells:
        for seed in study.seeds:
            of_arms = {job.arm: progress[job.folder] for job in cell_jobs(cell, seed)}
            names |= dict.fromkeys(of_arms)
            if not lively or any(one.state in LIVELY for one in of_arms.values()):
                rows.append((cell.name, seed, of_arms))
    table = [("cell", "seed", *names)]
    for name, seed, of_arms in rows:
        cells = [shown(of_arms[arm], now) if arm in of_arms else "–" for arm in names]
        table.append((name, str(seed), *cells))
    return in_columns(table, to_the_right=[1])


def summary(progress: Mapping[Path, Progress]) -> str:
    """How many runs are in each state."""
    counts = {state: sum(one.state is state for one in progress.values()) for state in State}
    return f"{len(progress)} runs: " + ", ".join(f"{count} {state.value}" for state, count in counts.items())


def shown(one: Progress, now: float) -> str:
    """A run's state and for how long: `running 2:03`."""
    seconds = one.elapsed(now)
    return one.state.value if seconds is None else f"{one.state.value} {duration(seconds)}"


def because(one: Progress) -> str:
    return f": {one.reason}" if one.reason else ""


def duration(seconds: float) -> str:
    """Minutes and seconds, with hours if there are any: `1:02:03`."""
    minutes, left = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


def failures(jobs: Sequence[Job], progress: Mapping[Path, Progress]) -> list[str]:
    """A line for each failed run: which, and why."""
    failed = [(job, progress[job.folder]) for job in jobs if progress[job.folder].state is State.FAILED]
    return [f"{job.title} failed{because(one)}" for job, one in failed]
