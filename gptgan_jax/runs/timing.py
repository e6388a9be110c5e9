"""How long a run's phases took, in its folder: apart from metrics.jsonl, which a resumed run writes as a whole one."""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from gptgan_jax.system.atomic_files import write_whole

TIME_FILE = "training_time.json"


@dataclass(frozen=True)
class TrainingTime:
    """Seconds that a phase took: its steps, their compilation, and the validation on the way.

    Attributes:
        processor: of all cores together; a GPU's time is not in it.
        wall: of a clock.
    """

    processor: float
    wall: float


def read_times(folder: Path) -> dict[str, TrainingTime]:
    """By phase; empty where nothing was recorded, or not readably: a time is no reason to stop."""
    try:
        raw = json.loads((folder / TIME_FILE).read_text(encoding="utf-8"))
        return {phase: TrainingTime(float(one["processor"]), float(one["wall"])) for phase, one in raw.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


class Stopwatch:
    """The time of one phase, added to what it took before it was interrupted."""

    def __init__(self, folder: Path, phase: str, resumed: bool, active: bool = True) -> None:
        """Starts to measure.

        Args:
            folder: of the run.
            phase: that goes on from here.
            resumed: whether the phase made steps before; otherwise its earlier time is forgotten.
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
