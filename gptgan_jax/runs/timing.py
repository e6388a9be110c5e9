"""The time that each phase of a run took. Not in metrics.jsonl, which must be the same after a resume."""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from gptgan_jax.system.atomic_files import write_whole

TIME_FILE = "training_time.json"


@dataclass(frozen=True)
class TrainingTime:
    """Seconds that a phase took, with its steps, their compilation, and validation.

    Attributes:
        processor: CPU time of all cores together, without a GPU's.
        wall: wall-clock time.
    """

    processor: float
    wall: float


def read_times(folder: Path) -> dict[str, TrainingTime]:
    """Times by phase; empty if nothing readable is recorded, as a missing time is no reason to stop."""
    try:
        raw = json.loads((folder / TIME_FILE).read_text(encoding="utf-8"))
        return {phase: TrainingTime(float(one["processor"]), float(one["wall"])) for phase, one in raw.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


class Stopwatch:
    """The time of one phase, added to its time before an interruption."""

    def __init__(self, folder: Path, phase: str, resumed: bool, active: bool = True) -> None:
        """Starts to measure.

        Args:
            folder: the run folder.
            phase: the phase that now starts or continues.
            resumed: whether the phase made steps before; otherwise its earlier time is dropped.
            active: whether this process writes.
        """
        self._folder, self._phase, self._active = folder, phase, active
        self._before = read_times(folder).get(phase, TrainingTime(0, 0)) if resumed else TrainingTime(0, 0)
        self._processor, self._wall = time.process_time(), time.monotonic()

    def save(self) -> None:
        """Writes training_time.json, all or nothing."""
        if not self._active:
            return
        processor = self._before.processor + time.process_time() - self._processor
        wall = self._before.wall + time.monotonic() - self._wall
        times = read_times(self._folder) | {self._phase: TrainingTime(round(processor, 2), round(wall, 2))}
        content = json.dumps({phase: asdict(one) for phase, one in times.items()})
        write_whole(self._folder / TIME_FILE, f"{content}\n".encode())
