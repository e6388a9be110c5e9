"""Studies on the smallest grammar, and runs that are made up in place of trained ones."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from reported import sweep
from tiny import COMPARED, write_config

from gptgan_jax.evaluation.results import Column, Evaluation
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.studies.devices import Slot
from gptgan_jax.studies.jobs import Job
from gptgan_jax.studies.study_file import Study, load_study

HIDDEN = {"generator.hidden": [4, 6]}
JUDGES = {
    "judge": {"small": {"discriminator.embedding": 4}, "large": {"discriminator.embedding": 8, "warmup.steps": 2}},
}


def write_study(folder: Path, **changes: Any) -> Path:
    """FOLDER/grid.yaml with its base; None takes a key out."""
    write_config(folder, COMPARED)
    raw: dict[str, Any] = {
        "base": "tiny.yaml",
        "seeds": 2,
        "set": {"adversarial.steps": 2, "warmup.steps": 1},
        "arms": {"reinforce": {}, "longer": {"from_scratch": True, "set": {"likelihood.steps": 6}}},
        "cells": HIDDEN | JUDGES,
    }
    kept = {key: value for key, value in (raw | changes).items() if value is not None}
    path = folder / "grid.yaml"
    path.write_text(yaml.safe_dump(kept, sort_keys=False), encoding="utf-8")
    return path


def study_in(folder: Path, **changes: Any) -> Study:
    return load_study(write_study(folder, **changes))


class Fake:
    """A run that has ended as soon as it began."""

    def __init__(self, status: int | None = 0, reason: str = "") -> None:
        self._status, self._reason = status, reason
        self.stopped = self.killed = False

    def status(self) -> int | None:
        return self._status

    def stop(self) -> None:
        self.stopped = True

    def kill(self) -> None:
        self.killed, self._status = True, -9

    def reason(self) -> str:
        return self._reason


def make_run(job: Job, skill: float) -> None:
    """The folder of a run that was trained and swept: its adversarial column is better than likelihood by `skill`."""
    folder = RunFolder(job.folder)
    folder.path.mkdir(parents=True)
    folder.write_config(job.config)
    columns = ["adversarial"] if job.needs is not None else ["likelihood", "continued"]
    made = sweep(skill, columns)
    (folder.path / "metrics.jsonl").write_text("", encoding="utf-8")
    found = [Column("likelihood", "likelihood/4", "")] if job.needs is None else []
    Evaluation(found, [], {}, [], [], made).save(folder.path)


def runner(skill: Callable[[Job], float], failing: Mapping[str, str] | None = None) -> Callable[[Job, Slot], Fake]:
    """Starts runs that are made at once, but for those whose title is among `failing`, with the reason."""

    def start(job: Job, slot: Slot) -> Fake:
        reason = (failing or {}).get(job.title)
        if reason is not None:
            return Fake(1, reason)
        make_run(job, skill(job))
        return Fake()

    return start
