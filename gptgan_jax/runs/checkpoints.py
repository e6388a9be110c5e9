"""Checkpoints of a run: Orbax, asynchronous, one folder a phase.

Each phase keeps its latest few and its best by validation. Steps are global over phases, so the latest checkpoint of a
run is the one with the highest step.
"""

import functools
import json
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from gptgan_jax.config import PHASES, Phase
from gptgan_jax.errors import UserError
from gptgan_jax.types import GanState, Params

METRIC = "valid_nats_per_token"


@dataclass(frozen=True)
class Saved:
    """A checkpoint: its phase, its global step, and the validation loss in nats a token where it was measured."""

    phase: Phase
    step: int
    valid_nats: float | None


class Checkpoints:
    """The checkpoints under RUN/checkpoints. A context manager: leaving it waits for the last save."""

    def __init__(self, folder: Path, keep: int = 2, read_only: bool = False) -> None:
        # Orbax warns of every save that carries no metric, which is every save at a signal.
        logging.getLogger("absl").setLevel(logging.ERROR)
        self.folder = folder.absolute()
        self._keep = keep
        self._read_only = read_only
        self._managers: dict[Phase, ocp.CheckpointManager] = {}
        self.damaged: list[tuple[Saved, str, Path]] = []

    def all(self) -> list[Saved]:
        """Every checkpoint, by step."""
        found = []
        for phase in PHASES:
            if (self.folder / phase).is_dir():
                manager = self._manager(phase)
                found += [Saved(phase, step, _metric(manager, step)) for step in manager.all_steps()]
        return sorted(found, key=lambda saved: saved.step)

    def latest(self) -> Saved | None:
        """The checkpoint with the highest step."""
        return self.all()[-1] if self.all() else None

    def best(self, phase: Phase) -> Saved | None:
        """The phase's checkpoint of least validation loss; its latest where none was measured."""
        return next(iter(self.ranked(phase)), None)

    def ranked(self, phase: Phase) -> list[Saved]:
        """The phase's checkpoints by validation loss, least first; then those without one, latest first."""

        def rank(saved: Saved) -> tuple[float, int]:
            return (math.inf, -saved.step) if saved.valid_nats is None else (saved.valid_nats, saved.step)

        return sorted((saved for saved in self.all() if saved.phase == phase), key=rank)

    def save(self, phase: Phase, state: GanState, valid_nats: float | None) -> None:
        """Starts to write the state, whose arrays may be donated to the next step right after."""
        metrics = None if valid_nats is None else {METRIC: valid_nats}
        if jax.default_backend() == "cpu":
            # There a copy to the host may be a view, and the next step writes over the donated state.
            state = jax.tree.map(jnp.copy, state)
        self._manager(phase).save(int(state.step), args=ocp.args.StandardSave(state), metrics=metrics)

    def choose(self, wanted: str) -> Saved:
        """The checkpoint that a user names: `best`, `last`, a phase (its best) or a step.

        `best` is that of the last phase that trained the generator.

        Raises:
            UserError: where there is none of that name; the message lists what there is.
        """
        everything = self.all()
        if not everything:
            raise UserError(f"{self.folder} holds no checkpoint yet; the first is saved after evaluation.every steps")
        found: Saved | None = None
        if wanted == "best":
            found = self.best("adversarial") or self.best("continued") or self.best("likelihood") or everything[-1]
        elif wanted == "last":
            found = everything[-1]
        elif wanted in PHASES:
            found = self.best(wanted)
        elif wanted.isdecimal() and len(wanted) < 19:  # Python reads no more than 4,300 digits
            found = next((saved for saved in reversed(everything) if saved.step == int(wanted)), None)
        if found is None:
            there = ", ".join(f"{saved.phase}/{saved.step}" for saved in everything)
            raise UserError(f"no checkpoint {wanted!r}; give best, last, a phase, or the step of one of {there}")
        return found

    def restore(self, saved: Saved, target: GanState) -> GanState:
        """The state as it was, in the structure and shardings of `target` (arrays or shape structs).

        Raises:
            Exception: whatever Orbax finds wrong with it.
        """
        return self._manager(saved.phase).restore(saved.step, args=ocp.args.StandardRestore(target))

    def restore_part(self, saved: Saved, path: tuple[str, ...], target: Params) -> Params:
        """One part of the state alone, in the structure and shardings of `target`.

        Args:
            saved: the checkpoint.
            path: of the part, such as ("generator", "params").
            target: arrays or shape structs.

        Raises:
            UserError: where the checkpoint can't be read.
        """
        item = functools.reduce(lambda inner, name: {name: inner}, reversed(path), target)
        try:
            arguments = ocp.args.PyTreeRestore(
                item=item,
                restore_args=ocp.checkpoint_utils.construct_restore_args(item),
                partial_restore=True,
            )
            restored = self._manager(saved.phase).restore(saved.step, args=arguments)
        except Exception as error:
            raise UserError(
                f"checkpoint {self.folder / saved.phase / str(saved.step)} can't be read "
                f"({' '.join(str(error).split())[:160]}); name another"
            ) from error
        return functools.reduce(lambda tree, name: tree[name], path, restored)

    def set_aside(self, saved: Saved) -> Path:
        """Moves a checkpoint that can't be read out of the way of a new one with its step, and says where to."""
        aside = self.folder / "unreadable" / f"{saved.phase}-{saved.step}"
        aside.parent.mkdir(parents=True, exist_ok=True)
        number = 1
        while aside.exists():
            aside, number = aside.with_name(f"{saved.phase}-{saved.step}-{number}"), number + 1
        (self.folder / saved.phase / str(saved.step)).rename(aside)
        if saved.phase in self._managers:
            self._managers.pop(saved.phase).close()
        return aside

    def wait(self) -> None:
        """Returns when everything that was saved is on disk."""
        for manager in self._managers.values():
            manager.wait_until_finished()

    def close(self) -> None:
        for manager in self._managers.values():
            manager.close()
        self._managers.clear()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_metrics(self, phase: Phase) -> None:
        """Orbax reads every checkpoint's metrics when it opens a folder, and one damaged file would fail them all."""
        for file in sorted((self.folder / phase).glob("*/metrics/metrics")):
            try:
                json.loads(file.read_text(encoding="utf-8"))
            except ValueError:
                saved = Saved(phase, int(file.parts[-3]), None)
                if self._read_only:
                    raise UserError(
                        f"{file} is damaged; `gptgan train` on this run sets its checkpoint aside"
                    ) from None
                self.damaged.append((saved, "its metrics file is damaged", self.set_aside(saved)))

    def _manager(self, phase: Phase) -> ocp.CheckpointManager:
        if phase not in self._managers:
            self._check_metrics(phase)
            latest = preservation_policy.LatestN(self._keep)
            best = preservation_policy.BestN(
                get_metric_fn=_value_of, reverse=True, n=1, keep_checkpoints_without_metrics=False
            )
            options = ocp.CheckpointManagerOptions(
                preservation_policy=preservation_policy.AnyPreservationPolicy([latest, best]),
                best_fn=_value_of,
                best_mode="min",
                read_only=self._read_only,
            )
            self._managers[phase] = ocp.CheckpointManager(self.folder / phase, options=options)
        return self._managers[phase]


def restore_latest_readable(
    checkpoints: Checkpoints, target_of: Callable[[Phase], GanState], say: Callable[[str], None]
) -> tuple[Phase, GanState] | None:
    """The latest checkpoint that can be read; those after it are set aside, each with a line that says so.

    Returns:
        its phase and state; None where there is no checkpoint at all.

    Raises:
        UserError: where there are checkpoints and none can be read.
    """
    unreadable: list[tuple[Saved, str]] = []
    for saved in reversed(checkpoints.all()):
        try:
            state = checkpoints.restore(saved, target_of(saved.phase))
        except Exception as error:
            unreadable.append((saved, " ".join(str(error).split())[:160]))
            continue
        damaged = [*checkpoints.damaged, *((bad, reason, checkpoints.set_aside(bad)) for bad, reason in unreadable)]
        for bad, reason, aside in damaged:
            say(f"checkpoint {bad.phase}/{bad.step} can't be read ({reason}); moved to {aside}, using the one before")
        return saved.phase, state
    reasons = [reason for _, reason in unreadable] + [reason for _, reason, _ in checkpoints.damaged]
    if reasons:
        raise UserError(
            f"{checkpoints.folder}: none of its {len(reasons)} checkpoints can be read ({reasons[0]}); "
            "start anew under another --name, or remove the run folder"
        )
    return None


def state_bytes(state: Any) -> int:
    """Size of a state's arrays (or shape structs) in bytes."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))


def _value_of(metrics: Any) -> float:
    return metrics[METRIC]


def _metric(manager: ocp.CheckpointManager, step: int) -> float | None:
    try:
        return manager.metrics(step)[METRIC]
    except Exception:  # not measured, or a damaged file: then the checkpoint itself is judged when it is read
        return None
