"""The steps that the commands `train` and `compare` share: training, evaluating and reporting a run."""

import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from gptgan_jax.boards import tensorboard, wandb_run
from gptgan_jax.checkpoints.manager import Checkpoints
from gptgan_jax.config import PHASES, Config
from gptgan_jax.data.holding_out import note_line
from gptgan_jax.distributed.hosts import in_all, is_main
from gptgan_jax.errors import UserError
from gptgan_jax.evaluation.final import evaluate_run
from gptgan_jax.evaluation.memorisation import memorised
from gptgan_jax.evaluation.results import Evaluation
from gptgan_jax.evaluation.sweep import sweep_run
from gptgan_jax.reports.comparison import write_comparison
from gptgan_jax.reports.document import HTML_FILE
from gptgan_jax.reports.run import load_reported_run, write_run_report
from gptgan_jax.runs.experiment import load_experiment
from gptgan_jax.runs.fingerprint import check_same_start
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.schema.structure import as_plain, flat
from gptgan_jax.training.full_disk import telling_of_full_disk
from gptgan_jax.training.loop import train
from gptgan_jax.training.phases import owes_evaluation
from gptgan_jax.training.signals import Interrupted
from gptgan_jax.workflows.extension import ExtendedFolder

Say = Callable[[str], None]


def train_run(config: Config, say: Say, extend: bool = False) -> RunFolder:
    """Trains the run that a config describes, or resumes it; returns its folder.

    Args:
        config: of the run.
        say: receives one line of output at a time.
        extend: whether the run exists, and its phases may have been shorter; see `ExtendedFolder`.

    Raises:
        UserError, NotFinite, Interrupted: as in `load_experiment` and `train`. An interrupted run gets a report of
            what it has recorded.
    """
    folder = ExtendedFolder.of(config) if extend else RunFolder.of(config)
    bar = sys.stderr if is_main() else None
    tokenizer = folder.tokenizer_in_all() if folder.check_in_all(config) else None
    experiment = in_all(lambda: load_experiment(config, tokenizer, say, bar))
    for note in experiment.notes:
        say(note_line(note))
    for line in folder.news(config) if isinstance(folder, ExtendedFolder) else ():
        say(line)
    try:
        train(experiment, folder, say)
    except Interrupted:
        if bar is not None and folder.config_file.is_file():
            try:
                say(f"report so far: {write_run_report(load_reported_run(folder))}")
            except (UserError, OSError) as error:  # the message that the run is saved must follow in any case
                say(f"note: there is no report so far: {error}")
        raise
    return folder


def is_finished(folder: RunFolder, config: Config) -> bool:
    """Whether the folder holds this same run, trained to its end.

    Raises:
        UserError: it holds another run, or one that began from another checkpoint than its start has now.
    """
    if not folder.check(config):
        return False
    check_same_start(folder.path, config)
    try:
        with Checkpoints(folder.checkpoints, read_only=True) as checkpoints:
            latest = checkpoints.latest()
    except UserError:  # damaged checkpoints: training again sets them aside
        return False
    steps = sum(config.steps(phase) for phase in PHASES)
    return latest is not None and latest.step >= steps and not owes_evaluation(config, latest)


def judge_run(folder: RunFolder, say: Say, sweep: bool = False) -> Evaluation:
    """Evaluates a run, as far as it is not evaluated yet, and writes its report.

    Args:
        folder: the run folder.
        say: receives one line of output at a time.
        sweep: also sweep temperature and top-p; the report is then only rewritten if something changed.

    Raises:
        UserError: as in `evaluate_run`.
        NotWritten: the disk is full.
    """
    with telling_of_full_disk(folder.path, folder.checkpoints):
        return _judged(folder, say, sweep)


def _judged(folder: RunFolder, say: Say, sweep: bool) -> Evaluation:
    before = Evaluation.load(folder.path) if sweep else None
    evaluation = evaluate_run(folder, say, thorough=False)
    if sweep and evaluation.sweep is None:
        evaluation = sweep_run(folder, say)
    for alarm in [*evaluation.alarms, *memorised(evaluation)] if evaluation != before else ():
        say(f"ALARM: {alarm}")
    if before is None or evaluation != before or not (folder.path / HTML_FILE).exists():
        show_scores(folder, evaluation, say)
        write_run_report(load_reported_run(folder))
    return evaluation


def show_scores(folder: RunFolder, evaluation: Evaluation, say: Say) -> None:
    """Writes the scores of a run to the boards of its records, with the keys of its config."""
    config = folder.read_config()
    scores = {
        f"scores/{score.name}/{column}": estimate.value
        for score in evaluation.scores
        for column, estimate in score.values.items()
        if estimate.value is not None and math.isfinite(estimate.value)
    }
    if config.records.tensorboard:
        tensorboard.write_scores(folder.path / tensorboard.FOLDER, dict(flat(as_plain(config))), scores)
    if config.records.wandb_project is not None:
        try:
            wandb_run.write_scores(folder.path, config.records.wandb_project, scores)
        except UserError as error:
            say(f"note: the scores are only in {folder.path}: {error}")


def compare_runs(folders: Sequence[Path], out: Path) -> Path:
    """Writes the comparison of several runs into a folder; returns the path of its report."""
    return write_comparison([load_reported_run(RunFolder(folder)) for folder in folders], out)
