"""Checkpoints of a run: Orbax, asynchronous, one folder per phase; local or remote (gs://BUCKET/...).

Each phase keeps its latest few and its best by validation. Steps are global over phases, so the latest checkpoint of a
run is the one with the highest step. A step is written under a temporary name, with the checksums of its files, and
completed by one rename: it never exists without its checksums.
"""

import contextlib
import functools
import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint.checkpoint_managers import preservation_policy

from gptgan_jax.checkpoints.atomic_save import SEALED, START, discard_unfinished, noted, sealed_path_class
from gptgan_jax.checkpoints.bases import BASE, Base, WrongBase
from gptgan_jax.checkpoints.retention import kept_checkpoints, metrics_of, rank_of
from gptgan_jax.checkpoints.steps import (
    REPLACED,
    TRASH,
    Damaged,
    NotSaved,
    Saved,
    absolute,
    cause_of,
    finished_steps,
    problem_of,
    reason_of,
    saved_of,
)
from gptgan_jax.config import PHASES, Phase
from gptgan_jax.distributed.hosts import found_by_first, wait_for_all
from gptgan_jax.errors import UserError
from gptgan_jax.models.trees import flat, nested, path_in
from gptgan_jax.types import GanState, Params


class Checkpoints:
    """The checkpoints in a folder, such as RUN/checkpoints. A context manager: leaving it waits for the last save.

    With several processes, all of them open it and call the same methods; the first one writes. A reader acts alone.
    """

    def __init__(
        self, folder: str | os.PathLike[str], keep: int = 2, read_only: bool = False, base: Base | None = None
    ) -> None:
        """`base` is the network that a run adapts: its arrays are not saved again, and a restored state shares them."""
        # Orbax warns about every save without a metric, such as those at a signal, and about errors that we report.
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        self.folder = absolute(folder)
        self._read_only = read_only
        self._managers: dict[Phase, ocp.CheckpointManager] = {}
        self._policy = kept_checkpoints(keep)
        self._base = Base(self.folder / START, alone=read_only) if base is None else base
        self._replacing = False
        self.damaged: list[tuple[Saved, str, epath.Path]] = []

    def all(self) -> list[Saved]:
        """Every checkpoint, by step."""
        found = []
        for phase in PHASES:
            if (self.folder / phase).is_dir():
                manager = self._manager(phase)
                found += [saved_of(phase, step, manager) for step in manager.all_steps()]
        return sorted(found, key=lambda saved: saved.step)

    def latest(self) -> Saved | None:
        """The checkpoint with the highest step."""
        return self.all()[-1] if self.all() else None

    def best(self, phase: Phase) -> Saved | None:
        """The phase's best checkpoint (`Saved.rank`), or its latest if none was measured."""
        return next(iter(self.ranked(phase)), None)

    def ranked(self, phase: Phase) -> list[Saved]:
        """The phase's checkpoints by `Saved.rank`, lowest first, and of equals the earlier first; then those without a
        rank, latest first."""

        def rank(saved: Saved) -> tuple[float, int]:
            return (math.inf, -saved.step) if saved.rank is None else (saved.rank, saved.step)

        return sorted((saved for saved in self.all() if saved.phase == phase), key=rank)

    def best_classifier(self) -> Saved | None:
        """The checkpoint of any phase with the lowest class error on validation text; the earliest of equals."""
        measured = [(saved.class_error, saved.step, saved) for saved in self.all() if saved.class_error is not None]
        return min(measured)[2] if measured else None

    def save(
        self,
        phase: Phase,
        state: GanState,
        valid_nats: float | None,
        class_error: float | None = None,
        task_error: float | None = None,
        choice_rank: float | None = None,
    ) -> None:
        """Starts to save the state, whose arrays may be donated to the next step immediately; see `Saved`.

        Raises:
            NotSaved: this one, or the one before it, can't be written.
        """
        self.wait()
        metrics = metrics_of(valid_nats, class_error, task_error, choice_rank)
        state, metadata = self._base.left_out(state)
        if jax.default_backend() == "cpu":
            # Here a copy to the host may be a view, and the next step overwrites the donated state.
            state = jax.tree.map(jnp.copy, state)
        arguments = ocp.args.StandardSave(state)
        try:
            manager = self._manager(phase)
            self._empty_trash(phase)
            manager.save(int(state.step), args=arguments, metrics=metrics, custom_metadata={SEALED: True} | metadata)
        except Exception as error:
            raise NotSaved(f"checkpoint {self.folder / phase / str(int(state.step))}: {cause_of(error)}") from error

    def choose(self, wanted: str) -> Saved:
        """The checkpoint that a user names: `best`, `last`, a phase (its best) or a step.

        `best` is that of the last phase that trained the generator.

        Raises:
            UserError: if there is none of that name; the message lists the existing ones.
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
        elif wanted.isdecimal() and len(wanted) < 19:  # Python parses at most 4,300 digits
            found = next((saved for saved in reversed(everything) if saved.step == int(wanted)), None)
        if found is None:
            there = ", ".join(f"{saved.phase}/{saved.step}" for saved in everything)
            raise UserError(f"no checkpoint {wanted!r}; give best, last, a phase, or the step of one of {there}")
        return found

    def restore(self, saved: Saved, target: GanState) -> GanState:
        """The saved state, with the structure and shardings of `target` (arrays or shape structs).

        Raises:
            Damaged: a file differs from what was written.
            WrongBase: it leaves out its run's base, which is missing, damaged or different.
            Exception: any error from Orbax.
        """
        self._verify(saved)
        found = self._arrays(saved, flat(target))
        return jax.tree.map_with_path(lambda path, _: found[path_in(path)], target)

    def restore_part(self, saved: Saved, path: tuple[str, ...], target: Params) -> Params:
        """One part of the state, with the structure and shardings of `target`.

        Args:
            saved: the checkpoint.
            path: of the part, such as ("generator", "params").
            target: arrays or shape structs.

        Raises:
            UserError: if the checkpoint can't be read.
        """
        whole = functools.reduce(lambda inner, name: {name: inner}, reversed(path), target)
        try:
            self._verify(saved)
            found = nested(self._arrays(saved, flat(whole)))
        except WrongBase:
            raise
        except Exception as error:
            raise UserError(
                f"checkpoint {self._folder_of(saved)} can't be read ({reason_of(error)}); name another"
            ) from error
        return functools.reduce(lambda tree, name: tree[name], path, found)

    def prune(self) -> None:
        """Deletes checkpoints that the retention rule does not keep: a killed run may have left one too many."""
        for phase in dict.fromkeys(saved.phase for saved in self.all()):
            saved_here = [saved for saved in self.all() if saved.phase == phase]
            infos: list[Any] = [
                SimpleNamespace(
                    step=saved.step,
                    time=None,
                    metrics=metrics_of(saved.valid_nats, saved.class_error, saved.task_error, saved.choice_rank),
                )
                for saved in saved_here
            ]
            kept = self._policy.should_preserve(infos, context=preservation_policy.PreservationContext())
            for saved, keep in zip(saved_here, kept, strict=True):
                if not keep:
                    self._manager(phase).delete(saved.step)
            self._empty_trash(phase)

    @contextlib.contextmanager
    def replacing(self, saved: Saved) -> Iterator[None]:
        """In this context another checkpoint can be saved in place of `saved`, which is deleted once that is complete.

        Otherwise the old one is moved back at the end, or after a kill, when the run resumes.

        Raises:
            NotSaved: the other one can't be written.
        """
        self.wait()
        self._move(saved.phase, self._folder_of(saved), self.folder / saved.phase / REPLACED / str(saved.step))
        self._replacing = True
        try:
            yield
        finally:
            try:
                self.wait()
            finally:
                self._replacing = False
                self._settle_replaced(saved.phase)

    def set_aside(self, saved: Saved) -> epath.Path:
        """Moves an unreadable checkpoint out of the way of a new one with the same step; returns its new place."""
        aside = self.folder / "unreadable" / f"{saved.phase}-{saved.step}"
        number = 1
        while aside.exists():
            aside, number = aside.parent / f"{saved.phase}-{saved.step}-{number}", number + 1
        self._move(saved.phase, self._folder_of(saved), aside)
        return aside

    def _move(self, phase: Phase, folder: epath.Path, to: epath.Path) -> None:
        """Moves a checkpoint out of, or back into, the folder in which Orbax looks for checkpoints."""
        self._together("checkpoint about to be moved")
        if jax.process_index() == 0:
            to.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(to)
        self._together("checkpoint moved")
        if phase in self._managers:
            self._managers.pop(phase).close()

    def _settle_replaced(self, phase: Phase) -> None:
        """Deletes a checkpoint that was to be replaced if another one is in its place; otherwise moves it back."""
        replaced = self.folder / phase / REPLACED
        for aside in sorted(replaced.iterdir()) if replaced.is_dir() else ():
            if (int(aside.name), phase) not in finished_steps(self.folder):
                if jax.process_index() == 0 and (place := self.folder / phase / aside.name).exists():
                    place.rmtree()  # half written, where there is no rename
                self._move(phase, aside, self.folder / phase / aside.name)
        self._together("replaced checkpoints settled")
        if jax.process_index() == 0:
            replaced.rmtree(missing_ok=True)

    def wait(self) -> None:
        """Waits until all saves are on disk.

        Raises:
            NotSaved: a save can't be written. Raised only once: the failed save is then abandoned.
        """
        for phase, manager in list(self._managers.items()):
            try:
                manager.wait_until_finished()
            except Exception as error:
                # A manager keeps raising the same error; a new one starts from what is on disk.
                self._managers.pop(phase)
                if jax.process_index() == 0:
                    discard_unfinished(self.folder / phase)
                raise NotSaved(f"the latest checkpoint of {self.folder / phase}: {cause_of(error)}") from error

    def close(self) -> None:
        """Waits for the last save; raises as `wait` does."""
        self.wait()
        for phase, manager in self._managers.items():
            manager.close()
            self._empty_trash(phase)
        self._managers.clear()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.close()
        except NotSaved:
            if kind is None:  # otherwise the first error is reported
                raise

    def _together(self, name: str) -> None:
        """Waits for all processes, if several of them write."""
        if not self._read_only:
            wait_for_all(name)

    def _verify(self, saved: Saved) -> None:
        """Raises Damaged if a file of the checkpoint differs from what was written."""
        if problem := found_by_first(lambda: problem_of(self._folder_of(saved)), self._read_only):
            raise Damaged(problem)

    def _folder_of(self, saved: Saved) -> epath.Path:
        return self.folder / saved.phase / str(saved.step)

    def _arrays(self, saved: Saved, wanted: Mapping[str, Any]) -> dict[str, jax.Array]:
        """Arrays of a checkpoint by path; `wanted`, arrays or shape structs, has the sharding of each."""
        folder = self._folder_of(saved)
        with ocp.PyTreeCheckpointer() as reader:
            written = reader.metadata(folder / "default").item_metadata.tree
            item = jax.tree.map_with_path(lambda path, _: wanted.get(path_in(path), ocp.PLACEHOLDER), written)
            restore = ocp.checkpoint_utils.construct_restore_args(item)
            arguments = ocp.args.PyTreeRestore(item=item, restore_args=restore)
            found = flat(reader.restore(folder / "default", args=arguments))
        found = {path: x for path, x in found.items() if path in wanted}
        left_out = {path: x for path, x in wanted.items() if path not in found}
        return found | self._base.completing(left_out, noted(folder).get(BASE), folder)

    def _check_small_files(self, phase: Phase) -> None:
        """Sets aside checkpoints with damaged metrics: Orbax reads all metrics on opening, and would fail."""
        for folder in sorted((self.folder / phase).iterdir(), key=lambda path: path.name):
            if not folder.name.isdecimal():
                continue
            problem = problem_of(folder, within="metrics/")
            if problem and self._read_only:
                raise UserError(
                    f"checkpoint {folder} is damaged: {problem}; `gptgan train` on this run sets it aside"
                ) from None
            if problem:
                saved = Saved(phase, int(folder.name), None)
                self.damaged.append((saved, problem, self.set_aside(saved)))

    def _empty_trash(self, phase: Phase) -> None:
        """Deletes the files of removed checkpoints. Removal only renames them, so that none is ever half deleted."""
        if not self._read_only and jax.process_index() == 0:
            (self.folder / phase / TRASH).rmtree(missing_ok=True)

    def _manager(self, phase: Phase) -> ocp.CheckpointManager:
        if phase not in self._managers:
            if (self.folder / phase).is_dir():
                # Where there is no folder, processes that see its creation at different times need not synchronise.
                if not (self._read_only or self._replacing) and (self.folder / phase / REPLACED).is_dir():
                    self._settle_replaced(phase)
                self._check_small_files(phase)
                self._empty_trash(phase)
            options = ocp.CheckpointManagerOptions(
                preservation_policy=self._policy,
                best_fn=rank_of,
                best_mode="min",
                read_only=self._read_only,
                cleanup_tmp_directories=not self._read_only,
                temporary_path_class=sealed_path_class(self.folder),
                todelete_subdir=TRASH,
            )
            self._managers[phase] = ocp.CheckpointManager(self.folder / phase, options=options)
        return self._managers[phase]


def restore_latest_readable(
    checkpoints: Checkpoints, target_of: Callable[[Phase], GanState], say: Callable[[str], None]
) -> tuple[Phase, GanState] | None:
    """The latest readable checkpoint; later ones are set aside, each with a line that says so.

    Returns:
        its phase and state; None if there is no checkpoint at all.

    Raises:
        UserError: if there are checkpoints but none can be read, or their base can't.
    """
    unreadable: list[tuple[Saved, str]] = []
    for saved in reversed(checkpoints.all()):
        try:
            state = checkpoints.restore(saved, target_of(saved.phase))
        except WrongBase:
            raise
        except Exception as error:
            unreadable.append((saved, reason_of(error)))
            continue
        damaged = [*checkpoints.damaged, *((bad, reason, checkpoints.set_aside(bad)) for bad, reason in unreadable)]
        for bad, reason, aside in damaged:
            say(f"checkpoint {bad.phase}/{bad.step} can't be read ({reason}); moved to {aside}, using the one before")
        checkpoints.prune()
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
