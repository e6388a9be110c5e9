"""The runs in a folder, one per line: their state, their progress, and how good they are."""

import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from gptgan_jax.checkpoints.retention import METRIC
from gptgan_jax.config import PHASES, Config
from gptgan_jax.errors import UserError
from gptgan_jax.evaluation.results import EVALUATION_FILE
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.runs.lock import is_locked
from gptgan_jax.runs.records import METRICS_FILE, read_metrics
from gptgan_jax.system.terminal import in_columns

UNITS = (("d", 86400.0), ("h", 3600.0), ("min", 60.0), ("s", 1.0))


class Listed(NamedTuple):
    """A run in the list.

    Attributes:
        name: its folder, relative to the listed one.
        state: "running", "finished" (evaluated), "trained" (but not evaluated), "stopped" or "unreadable".
        phase: the last that made a step, or a dash.
        steps: those made, of all in the config.
        validation: the lowest validation loss in nats per token, or a dash.
        age: the time since it last recorded something.
    """

    name: str
    state: str
    phase: str
    steps: str
    validation: str
    age: str


def list_runs(folder: Path) -> list[Listed]:
    """The runs in a folder and in folders below it, the most recently active first.

    Raises:
        UserError: no such folder, or no run in it.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name one that holds runs, such as runs")
    found = []
    for parent, folders, files in os.walk(folder):
        if "config.yaml" in files:
            folders.clear()  # a run has none inside
            path = Path(parent)
            found.append(
                (_touched(path), _listed(path, path.name if path == folder else str(path.relative_to(folder))))
            )
    if not found:
        raise UserError(f"{folder}: there is no run in it; gptgan train makes one")
    return [one for _, one in sorted(found, key=lambda pair: -pair[0])]


def as_table(rows: Sequence[Listed]) -> str:
    """The list with aligned columns, numbers to the right."""
    header = Listed("run", "state", "phase", "step", "validation", "age")
    return "\n".join(in_columns([header, *rows], to_the_right=(3, 4, 5)))


def _listed(path: Path, name: str) -> Listed:
    run, age = RunFolder(path), _age(time.time() - _touched(path))
    try:
        config, records = run.read_config(), read_metrics(path)
    except UserError:
        return Listed(name, "unreadable", "-", "-", "-", age)
    steps = [record for record in records if "alarm" not in record]
    made = int(steps[-1]["step"]) if steps else 0
    total = _total(config)
    losses = [value for record in steps if (value := record.get(METRIC)) is not None]
    if is_locked(path):
        state = "running"
    elif made < total:
        state = "stopped"
    else:
        state = "finished" if (path / EVALUATION_FILE).is_file() else "trained"
    validation = f"{min(losses):.4f}" if losses else "-"
    return Listed(name, state, steps[-1]["phase"] if steps else "-", f"{made:,}/{total:,}", validation, age)


def _total(config: Config) -> int:
    return sum(config.steps(phase) for phase in PHASES)


def _touched(path: Path) -> float:
    """The time at which a run last recorded something, in seconds since 1970."""
    times = [(path / "config.yaml").stat().st_mtime]
    for file in (METRICS_FILE, EVALUATION_FILE):
        with contextlib.suppress(OSError):
            times.append((path / file).stat().st_mtime)
    return max(times)


def _age(seconds: float) -> str:
    unit, size = next(((unit, size) for unit, size in UNITS if seconds >= size), UNITS[-1])
    return f"{max(seconds, 0) / size:.0f} {unit}"
