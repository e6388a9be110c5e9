"""A study from end to end: what `gptgan study FILE` does."""

import dataclasses
import json
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from gptgan_jax.config import Config
from gptgan_jax.data.tokenizers import AnyTokenizer
from gptgan_jax.errors import UserError
from gptgan_jax.runs.experiment import Experiment, load_experiment
from gptgan_jax.runs.fingerprint import tokenizer_digest
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.runs.lock import locked
from gptgan_jax.runs.trained import build_networks
from gptgan_jax.schema.structure import as_plain
from gptgan_jax.studies.board import Board, failures, summary, table_lines
from gptgan_jax.studies.devices import Slot
from gptgan_jax.studies.jobs import Job, cell_jobs, done_of, jobs_of
from gptgan_jax.studies.pool import Child, Pool, Process, Progress, State, progress_before
from gptgan_jax.studies.report import write_report
from gptgan_jax.studies.results import CellResult, Sizes, failed_in, read_cell, runs_in, sizes_in, sizes_of, write_cell
from gptgan_jax.studies.study_file import Cell, Study
from gptgan_jax.system.terminal import in_columns
from gptgan_jax.training.signals import Interrupted
from gptgan_jax.workflows.comparison import check_runs, write_comparison

Say = Callable[[str], None]
Start = Callable[[Job, Slot], Process]
LOGS = "logs"


def run_study(
    study: Study, slots: Sequence[Slot], say: Say, start: Start | None = None, out: TextIO | None = None
) -> tuple[str, Path, list[str]]:
    """Trains and evaluates what is not done yet, one run at a time on each slot, and writes the reports.

    Args:
        study: the study.
        slots: the workers' places.
        say: receives one line of output at a time.
        start: starts a run on a slot; by default in a separate process.
        out: the terminal that shows the progress; by default standard error.

    Returns: the study's table as Markdown, the path of its report, and a line for each failed run.

    Raises:
        UserError: before anything is run: a run is impossible (names its cell), or another process runs this study.
        Interrupted: a signal came; the same study resumes from there.
    """
    jobs = jobs_of(study)
    done = done_of(study, jobs)
    if len(done) < len(jobs):
        check_study(study, done)
        say(f"{study.folder}: {len(study.cells)} cells, {len(jobs)} runs, {len(done)} of them done")
    pool = Pool(jobs, done, slots, start or _child_of(study), lambda job: board.changed(job))
    board = Board(study, pool.progress, out or sys.stderr, say)
    with locked(study.folder, say):
        try:
            pool.run()
        except Interrupted:
            say(summary(pool.progress))
            raise
        return _reported(study, jobs, pool.progress, say)


def report_study(study: Study, say: Say) -> tuple[str, Path, list[str]]:
    """Writes the reports of the finished cells without running anything; returns the same as `run_study`.

    A run that is not done counts as failed, and not as waiting, if it had failed when its cell was reported last.
    """
    jobs = jobs_of(study)
    progress = progress_before(jobs, done_of(study, jobs))
    for cell in study.cells:
        failed = failed_in(cell)
        for job in (job for seed in study.seeds for job in cell_jobs(cell, seed)):
            if job.folder.name in failed and progress[job.folder].state is not State.DONE:
                progress[job.folder] = Progress(State.FAILED, reason=failed[job.folder.name])
    return _reported(study, jobs, progress, say)


def _reported(
    study: Study, jobs: Sequence[Job], progress: Mapping[Path, Progress], say: Say
) -> tuple[str, Path, list[str]]:
    failed = failures(jobs, progress)
    results = collect(study, progress, say)
    waiting = sum(one.state is not State.DONE for one in progress.values()) - len(failed)
    return (*write_report(study, results, failed, waiting), failed)


def _child_of(study: Study) -> Start:
    def start(job: Job, slot: Slot) -> Process:
        name = "_".join(job.folder.relative_to(study.folder).parts)
        return Child(job, slot, study.folder / LOGS / f"{name}.log")

    return start


def collect(study: Study, progress: Mapping[Path, Progress], say: Say = lambda line: None) -> list[CellResult]:
    """The results of the cells without unfinished runs; writes comparisons that are missing or outdated.

    Seeds whose likelihood training failed are left out of their cells, and so are cells without any seed left.
    """
    results = []
    for cell in study.cells:
        jobs = {seed: cell_jobs(cell, seed) for seed in study.seeds}
        states = {job.folder: progress[job.folder] for of in jobs.values() for job in of}
        if any(one.state in (State.WAITING, State.RUNNING) for one in states.values()):
            continue
        seeds = tuple(seed for seed, of in jobs.items() if states[of[0].folder].state is State.DONE)
        fresh = any(one.began is not None for one in states.values())
        result = None if fresh or not seeds else read_cell(cell)
        folders: dict[str, dict[int, RunFolder]] = {}
        for seed in seeds:
            for job in jobs[seed]:
                if states[job.folder].state is State.DONE:
                    folders.setdefault(job.arm, {})[seed] = RunFolder(job.folder)
        failed = {folder.name: one.reason for folder, one in states.items() if one.state is State.FAILED}
        if not seeds:
            write_cell(cell, {}, failed)
        elif result is None or result.runs != runs_in(folders) or result.failed.keys() != failed.keys():
            say(f"report of {cell.name}")
            compared = dataclasses.replace(cell.comparison, seeds=seeds)
            of_seeds = {job.folder.name for seed in seeds for job in jobs[seed]}
            write_comparison(compared, folders, {name: why for name, why in failed.items() if name in of_seeds})
            write_cell(cell, folders, failed)
            result = read_cell(cell)
        if result is not None:
            results.append(result)
    return results


# ---- before anything runs


class Texts:
    """Loads the text of runs; runs that are configured with the same text share it.

    Attributes:
        sizes: parameter counts computed so far.
    """

    def __init__(self, make_stores: bool = True) -> None:
        self.sizes: dict[tuple[Any, ...], Sizes] = {}
        self._make_stores = make_stores
        self._loaded: dict[str, Experiment] = {}

    def __call__(self, config: Config, tokenizer: AnyTokenizer | None = None) -> Experiment:
        """The experiment of a configuration; `tokenizer` is that of its run, if it exists already."""
        plain = as_plain(config)
        asked = {name: plain[name] for name in ("data", "vocab_size")}
        asked |= {name: plain["objective"][name] for name in ("rewards", "classification")}
        if tokenizer is not None:  # what its run started from is not read again
            asked["begun"] = tokenizer_digest(tokenizer)
        else:
            asked |= {name: plain[name] for name in ("tokenizer", "init_from", "init_vocabulary")}
            asked["generator"] = None if config.init_from is None else plain["generator"]
        key = json.dumps(asked, sort_keys=True)
        found = self._loaded.get(key)
        if found is None:
            self._loaded[key] = found = load_experiment(config, tokenizer, make_stores=self._make_stores)
            return found
        networks = build_networks(config, found.tokenizer.vocabulary, found.corpus.classes)
        return dataclasses.replace(found, config=config, generator=networks[0], discriminator=networks[1])


def check_study(study: Study, done: Collection[Path] = (), texts: Texts | None = None) -> None:
    """Raises UserError, naming the cell, if a run that is not trained yet would be refused."""
    load = texts or Texts()
    if RunFolder(study.folder).config_file.exists():
        raise UserError(f"{study.folder} is a run folder; choose another --name for the study")
    mistakes = []
    for cell in study.cells:
        if all(job.folder in done for seed in study.seeds for job in cell_jobs(cell, seed)):
            continue
        where = cell.comparison.where
        try:
            check_runs(cell.comparison, load)
        except UserError as error:
            mistakes.append(str(error if str(error).startswith(where) else error.within(where)))
    if mistakes:
        raise UserError("\n".join(mistakes))


def preview_study(study: Study, slots: Sequence[Slot], texts: Texts | None = None) -> list[str]:
    """What a study would do, in lines: its cells, their players' sizes, and what is done; writes nothing.

    Raises:
        UserError: whatever `run_study` would raise before anything is run.
    """
    jobs = jobs_of(study)
    done = done_of(study, jobs)
    load = texts or Texts(make_stores=False)
    check_study(study, done, load)
    progress = progress_before(jobs, done)
    rows = [("cell", "model", "generator", "discriminator", "steps")]
    for cell in study.cells:
        for job in cell_jobs(cell, study.seeds[0]):
            sizes = _sizes(job, done, cell, load)
            steps = [f"{phase} {count:,}" for phase in ("likelihood", "continued", "warmup", "adversarial")
                     if (count := job.config.steps(phase))]  # fmt: skip
            shared = "" if job.folder.parent == cell.comparison.folder else f" (of {job.folder.parent.name})"
            judge = "–" if sizes.discriminator is None else f"{sizes.discriminator:,}"
            rows.append((cell.name, job.arm, f"{sizes.generator:,}", judge, ", ".join(steps) + shared))
    return [
        *in_columns(rows, to_the_right=[2, 3]),
        "",
        *table_lines(study, progress, 0.0),
        "",
        f"{study.folder}: {len(study.cells)} cells, {len(study.seeds)} seeds; {summary(progress)}",
        f"{len(slots)} at a time, {_shares(slots)}",
        "nothing was written",
    ]


def _sizes(job: Job, done: Collection[Path], cell: Cell, load: Texts) -> Sizes:
    if job.folder in done:
        return sizes_in(RunFolder(job.folder))
    base, config = load(cell.comparison.base), job.config
    trained = bool(config.warmup.steps or config.adversarial.steps)
    key = (config.generator, config.discriminator, config.objective, trained, base.tokenizer.vocabulary)
    if key not in load.sizes:
        load.sizes[key] = sizes_of(config, base.tokenizer.vocabulary, base.corpus.classes)
    return load.sizes[key]


def _shares(slots: Sequence[Slot]) -> str:
    """The workers' shares of the machine, in words."""
    lines = {
        " ".join(f"{name}={value}" for name, value in slot.environment.items())
        or ("all devices" if slot.cores is None else f"core {', '.join(map(str, sorted(slot.cores)))}")
        for slot in slots
    }
    return f"each with {'; '.join(sorted(lines))}"
