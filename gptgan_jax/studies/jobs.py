"""The runs of a study: the list of them, what each waits for, and which are done."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gptgan_jax.config import Config
from gptgan_jax.errors import UserError
from gptgan_jax.evaluation.results import Evaluation
from gptgan_jax.reports.arms_table import LIKELIHOOD
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.studies.study_file import Cell, Study
from gptgan_jax.workflows.run import is_finished


@dataclass(frozen=True)
class Job:
    """A run, trained and swept by one process.

    Attributes:
        folder: the run folder, which identifies the run.
        cell: the name of the first cell that needs the run.
        arm: `Arm.label`, or "likelihood".
        seed: of the run.
        config: of the run.
        needs: the folder of the likelihood run that it starts from; None if it starts from no run.
    """

    folder: Path
    cell: str
    arm: str
    seed: int
    config: Config
    needs: Path | None = None

    @property
    def title(self) -> str:
        return f"{self.cell}; seed {self.seed}; {self.arm}"


def cell_jobs(cell: Cell, seed: int) -> list[Job]:
    """The runs of one seed of a cell, its likelihood run first."""
    compared = cell.comparison
    base = compared.base_config(seed)
    start = RunFolder.of(base).path
    jobs = [Job(start, cell.name, LIKELIHOOD, seed, base)]
    for arm in compared.arms:
        config = compared.arm_config(arm, seed)
        needs = None if arm.from_scratch else start
        jobs.append(Job(RunFolder.of(config).path, cell.name, arm.label, seed, config, needs))
    return jobs


def jobs_of(study: Study) -> list[Job]:
    """Every run once, in the order in which they are started: all cells of a seed before the next seed."""
    jobs: dict[Path, Job] = {}
    for seed in study.seeds:
        for cell in study.cells:
            for job in cell_jobs(cell, seed):
                jobs.setdefault(job.folder, job)
    return list(jobs.values())


def is_done(job: Job) -> bool:
    """Whether the run is trained to its end and its sweep is done.

    Raises:
        UserError: its folder holds another run.
    """
    folder = RunFolder(job.folder)
    if not is_finished(folder, job.config):
        return False
    evaluation = Evaluation.load(job.folder)
    return evaluation is not None and evaluation.sweep is not None


def done_of(study: Study, jobs: Iterable[Job]) -> set[Path]:
    """The folders of the runs that are done.

    Raises:
        UserError: a folder holds another run; names the cell.
    """
    done = set()
    for job in jobs:
        try:
            if is_done(job):
                done.add(job.folder)
        except UserError as error:
            raise error.within(f"{study.file}: cell {job.cell}: {job.arm}, seed {job.seed}") from None
    return done
