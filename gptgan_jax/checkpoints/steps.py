"""Saved steps on disk: their list and their problems."""

import json
import math
import os
from dataclasses import dataclass

import orbax.checkpoint as ocp
from etils import epath

from gptgan_jax.checkpoints.atomic_save import COMPLETE_FILE, METADATA_FILE, SEALED, noted
from gptgan_jax.checkpoints.checksums import damage
from gptgan_jax.checkpoints.retention import CHOICE_RANK, CLASS_METRIC, METRIC, TASK_METRIC
from gptgan_jax.config import PHASES, Phase
from gptgan_jax.system.atomic_files import FULL

# In a phase's folder: what is being deleted, and what is being replaced.
TRASH, REPLACED = "deleted", "replaced"


class NotSaved(OSError):
    """A checkpoint could not be written; the message says why."""


class Damaged(Exception):
    """A checkpoint differs from what was written; the message names the file."""


@dataclass(frozen=True)
class Saved:
    """A checkpoint: its phase, its global step, and its metrics on validation text.

    Attributes:
        phase, step: which identify it.
        valid_nats: the generator's loss in nats per token; None if it was not measured, like all of the following.
        class_error: the share of labelled texts that the discriminator misclassified.
        task_error: the error of greedy answers; measured if `evaluation.choose_by` needs it.
        choice_rank: another metric for `evaluation.choose_by`, negated if higher is better; infinite if it was NaN.
    """

    phase: Phase
    step: int
    valid_nats: float | None
    class_error: float | None = None
    task_error: float | None = None
    choice_rank: float | None = None

    @property
    def rank(self) -> float | None:
        """The value that ranks the generators of one phase, lowest first; None if nothing was measured."""
        measured = (value for value in (self.choice_rank, self.task_error, self.valid_nats) if value is not None)
        rank = next(measured, math.inf)
        return None if math.isinf(rank) else rank


def finished_steps(folder: str | os.PathLike[str]) -> list[tuple[int, Phase]]:
    """Step and phase of every complete checkpoint, in order of step: found by name, without Orbax."""
    found = []
    for phase in PHASES:
        place = absolute(folder) / phase
        names = [path.name for path in place.iterdir()] if place.is_dir() else []
        steps = [int(name) for name in names if name.isdecimal()]
        if is_remote(folder):  # without a rename, a step has its final name from the beginning
            steps = [step for step in steps if (place / str(step) / COMPLETE_FILE).exists()]
        found += [(step, phase) for step in steps]
    return sorted(found, key=lambda pair: pair[0])


def absolute(folder: str | os.PathLike[str]) -> epath.Path:
    """A folder; local paths are made absolute."""
    name = os.fspath(folder)
    return epath.Path(name if is_remote(name) else os.path.abspath(name))


def is_remote(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder is in a bucket: gs://..."""
    return "://" in os.fspath(folder)


def problem_of(folder: epath.Path, within: str = "") -> str | None:
    """The problem with a checkpoint's files, or with those whose path begins with `within`; None if there is none."""
    try:
        return damage(folder, within)
    except FileNotFoundError:
        pass
    # Checkpoints of earlier versions have no checksums; the metadata of newer ones says that they do.
    try:
        if noted(folder).get(SEALED):
            return "its checksums are missing"
        metrics = folder / "metrics" / "metrics"
        if metrics.exists():
            json.loads(metrics.read_text())
    except (OSError, ValueError, AttributeError):
        return f"{METADATA_FILE} or metrics/metrics is damaged or missing"
    return None


def reason_of(error: BaseException) -> str:
    """An error in one short line."""
    return " ".join(str(error).split())[:160] or type(error).__name__


def cause_of(error: BaseException) -> str:
    """The operating system's message, if an OS error is the cause, below all libraries; else the error's own message.

    Orbax and TensorStore wrap the message in longer ones, not always with its number.
    """
    said = f"{error!r} {error.__cause__!r} {error.__context__!r}"
    known = (os.strerror(number) for number in FULL)
    return next((words for words in known if words in said), reason_of(error))


def saved_of(phase: Phase, step: int, manager: ocp.CheckpointManager) -> Saved:
    try:
        metrics = dict(manager.metrics(step))
    except Exception:  # not measured, or a damaged file, which is then found when the checkpoint itself is read
        metrics = {}
    return Saved(phase, step, *(metrics.get(name) for name in (METRIC, CLASS_METRIC, TASK_METRIC, CHOICE_RANK)))
