"""Copies the baselines of a run that took its generator from another run.

A run with `init_from` another run and no likelihood phase has no likelihood column to compare with, but the run that it
started from has. If both were evaluated on the same text in the same way, those columns are valid here too.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from gptgan_jax.config import Config
from gptgan_jax.config.structure import difference
from gptgan_jax.errors import UserError
from gptgan_jax.evaluation.candidates import BASELINES
from gptgan_jax.evaluation.results import Column, Evaluation, Score, Sweep
from gptgan_jax.metrics.estimates import REAL
from gptgan_jax.pretrained.hub import is_model
from gptgan_jax.runs.fingerprint import is_other_start
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.runs.held_out import same_held_out

NOTE = "Baselines: "


def own_columns(evaluation: Evaluation) -> list[Column]:
    """The columns of the run's own checkpoints."""
    return [column for column in evaluation.columns if not column.run]


def with_baselines(evaluation: Evaluation, folder: RunFolder, config: Config, say: Callable[[str], None]) -> Evaluation:
    """The evaluation with the baselines of the run that this one started from: columns, and cells of the sweep.

    Earlier copies are refreshed, or kept if they can't be. A note says which columns were copied, or why none were.

    Args:
        evaluation: of the run.
        folder: of the run.
        config: of the run.
        say: called with one line of progress at a time.
    """
    if config.init_from is None or config.likelihood.steps or is_model(config.init_from):
        return evaluation
    source = RunFolder(Path(config.init_from))
    notes = [note for note in evaluation.notes if not note.startswith(NOTE)]
    try:
        theirs, there = _comparable(folder, config, source)
    except UserError as error:
        if len(own_columns(evaluation)) < len(evaluation.columns):
            return evaluation
        say(f"no baselines: {error}")
        return replace(evaluation, notes=[*notes, f"{NOTE}none; {error}."])
    own = [column.name for column in own_columns(evaluation)]
    copied = [
        replace(column, run=str(source.path))
        for column in theirs.columns
        if column.name in BASELINES and column.name not in own and not column.run
    ]
    names = [column.name for column in copied]
    if not names:
        return replace(evaluation, notes=[*notes, f"{NOTE}none; {source.path} has none to copy."])
    swept = _swept(evaluation.sweep, theirs.sweep, names)
    parts = "figures and sweep" if evaluation.sweep is not None and swept is not evaluation.sweep else "figures"
    *others, last = names
    note = (
        f"{NOTE}{', '.join(others)}{' and ' if others else ''}{last}: {parts} copied from {source.path}, which this "
        f"run started from (its checkpoint {config.init_checkpoint}); evaluated on the same held-out text with the "
        "same settings."
    )
    # Texts in the same row of the samples come from equal random keys.
    shown = {name: theirs.shown[name] for name in names if name in theirs.shown and there.seed == config.seed}
    return replace(
        evaluation,
        columns=[*copied, *own_columns(evaluation)],
        scores=[_joined(score, theirs.scores, names) for score in evaluation.scores],
        shown=shown | {name: texts for name, texts in evaluation.shown.items() if name not in names},
        notes=[*notes, note],
        sweep=swept,
    )


def _comparable(folder: RunFolder, config: Config, source: RunFolder) -> tuple[Evaluation, Config]:
    """The other run's evaluation and configuration.

    Raises:
        UserError: with the reason why it is not comparable with this run's.
    """
    if not source.config_file.is_file():
        raise UserError(f"{source.path}, which this run started from, is not there any more")
    theirs, there = Evaluation.load(source.path), source.read_config()
    if theirs is None:
        raise UserError(f"{source.path}, which this run started from, has not been evaluated; evaluate it, then this")
    if is_other_start(folder.path, config):
        raise UserError(f"{source.path}, which this run started from, has gone on to another checkpoint since")
    changes = [line for line in difference(there, config) if line.startswith("evaluation.")]
    if changes:
        raise UserError(f"{source.path}, which this run started from, is evaluated with other settings ({changes[0]})")
    if not same_held_out(source.path, folder.path):
        raise UserError(f"{source.path}, which this run started from, is evaluated on other text")
    return theirs, there


def _joined(score: Score, theirs: list[Score], names: list[str]) -> Score:
    """A row with the other run's values, if they were measured in the same way."""
    own = {name: value for name, value in score.values.items() if name not in names}
    same = [other for other in theirs if replace(other, values={}) == replace(score, values={})]
    copied = {name: other.values[name] for other in same for name in names if name in other.values}
    return replace(score, values=copied | own)


def _swept(sweep: Sweep | None, theirs: Sweep | None, names: list[str]) -> Sweep | None:
    """The sweep with the other run's cells, if both measured the same things in the same way over the same grid."""
    if sweep is None or theirs is None or replace(sweep, cells=[]) != replace(theirs, cells=[]):
        return sweep
    grids = [{(cell.temperature, cell.top_p) for cell in one.cells if cell.column != REAL} for one in (sweep, theirs)]
    if grids[0] != grids[1]:
        return sweep
    copied = [cell for name in names for cell in theirs.cells if cell.column == name]
    return replace(sweep, cells=[*copied, *(cell for cell in sweep.cells if cell.column not in names)])
