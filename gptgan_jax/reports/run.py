"""The report of one run: report.html, and report.md with its pictures, in the run folder.

Unfinished runs can be reported too: what has not been recorded or measured is left out.
"""

import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptgan_jax.algorithms.guards import SKIPPED
from gptgan_jax.config import Config
from gptgan_jax.config.files import to_yaml
from gptgan_jax.data.holding_out import ALARM
from gptgan_jax.evaluation.candidates import BASELINES, RERANKED, RESIDUAL
from gptgan_jax.evaluation.frontiers import Dominance, best_drawing, dominance
from gptgan_jax.evaluation.memorisation import memorised
from gptgan_jax.evaluation.results import Axes, Evaluation, Sweep
from gptgan_jax.metrics.estimates import REAL
from gptgan_jax.reports.classes import RELIABILITY_ALT, RELIABILITY_FILE, reliability_figure, score_blocks
from gptgan_jax.reports.document import Block, Bullets, Code, Heading, Paragraph, Picture, write_document
from gptgan_jax.reports.figures import discriminator_figure, loss_figure, phases_in
from gptgan_jax.reports.frontier_plots import frontier_figure
from gptgan_jax.reports.tables import area_table, best_table, dominance_table, samples_table, table_of_scores
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.runs.records import read_metrics
from gptgan_jax.scoring.token_scores import notes_on_scores

LOSS_FILE, DISCRIMINATOR_FILE = "loss.png", "discriminator.png"
PICTURES = (LOSS_FILE, DISCRIMINATOR_FILE, RELIABILITY_FILE, "frontier-[0-9].png")
OURS = ("adversarial", RESIDUAL, RERANKED)
ERRORS_NOTE = "± is one standard error over texts."
RESULTS_NOTES = (
    "↓ and ↑ show which direction is better; real: closer to real text is better.",
    "Bold is better than every other checkpoint by more than two combined standard errors.",
)


@dataclass(frozen=True)
class ReportedRun:
    """A run, which may be unfinished.

    Attributes:
        folder: its run folder.
        config: its configuration.
        records: the lines of its metrics.jsonl.
        evaluation: its metrics; if it is not evaluated yet, none, with a note that says so.
    """

    folder: Path
    config: Config
    records: list[dict[str, Any]]
    evaluation: Evaluation


@dataclass(frozen=True)
class Alarm:
    """A sign of trouble in the training at a global step."""

    phase: str
    step: int
    text: str

    def __str__(self) -> str:
        return f"{self.phase}, step {self.step}: {self.text}"


def alarms_in(records: Iterable[Mapping[str, Any]]) -> list[Alarm]:
    """The alarms among the records from `read_metrics`, and one for each phase with skipped steps."""
    skips: dict[str, list[int]] = {}
    found = []
    for record in records:
        if "alarm" in record:
            found.append(Alarm(str(record["phase"]), int(record["step"]), str(record["alarm"])))
        elif SKIPPED in record:
            skips.setdefault(str(record["phase"]), []).append(int(record["step"]))
    for phase, steps in skips.items():
        found.append(Alarm(phase, steps[0], f"{len(steps)} step(s) from here on were skipped: not finite"))
    return sorted(found, key=lambda alarm: alarm.step)


def alarms_of(run: ReportedRun) -> list[str]:
    """Why its metrics are unreliable, what looked wrong during training, and what its checkpoints have memorised of the
    training text."""
    return [*run.evaluation.alarms, *map(str, alarms_in(run.records)), *memorised(run.evaluation)]


def load_reported_run(folder: RunFolder) -> ReportedRun:
    """Reads a run folder.

    Raises:
        UserError: it is no run folder, or its evaluation is damaged.
    """
    config = folder.read_config()
    evaluation = Evaluation.load(folder.path)
    if evaluation is None:
        note = f"Not evaluated yet: gptgan evaluate {shlex.quote(str(folder.path))} measures it."
        evaluation = Evaluation(columns=[], scores=[], shown={}, prompts=[], notes=[note])
    return ReportedRun(folder.path, config, read_metrics(folder.path), evaluation)


def write_run_report(run: ReportedRun) -> Path:
    """Writes report.html, report.md and its PNGs into the run folder, over those of an earlier report.

    Returns: the path of report.html.

    Raises:
        UserError: the folder can't be written.
    """
    title = run.config.name or run.folder.name
    found = alarms_of(run)
    alarms: list[Block] = [Heading("Alarms"), Bullets(tuple(found)) if found else Paragraph("None fired.")]
    blocks = [
        Heading(title, level=1),
        *(alarms if found else []),
        *_results(run.evaluation),
        *_calibration(run.evaluation),
        *_sweep(run.evaluation.sweep),
        *_curves(run.records),
        *_samples(run.evaluation),
        *_scored(run),
        *([] if found else alarms),
        Heading("Configuration"),
        Code(to_yaml(run.config), "yaml"),
        Heading("Reproduce"),
        Code("\n".join([*commands_of(run), f"gptgan report {quoted_folder(run)}"]), "sh"),
    ]
    return write_document(run.folder, title, blocks, PICTURES)


def commands_of(run: ReportedRun) -> list[str]:
    """Shell commands that train the run again under another name, and that evaluate this one."""
    config = shlex.quote(str(RunFolder(run.folder).config_file))
    name = shlex.quote(f"{run.config.name or run.folder.name}-again")
    sweep = " --sweep" if run.evaluation.sweep else ""
    return [f"python train.py {config} --name {name}", f"gptgan evaluate {quoted_folder(run)}{sweep}"]


def quoted_folder(run: ReportedRun) -> str:
    """The run's folder, quoted for a shell."""
    return shlex.quote(str(run.folder))


def evaluated(evaluation: Evaluation) -> str:
    """One line on the checkpoints of the columns, and how each was chosen."""
    return "; ".join(
        f"{one.name}: checkpoint {one.checkpoint}{f' of {one.run}' * bool(one.run)} ({one.chosen})"
        for one in evaluation.columns
    )


def frontier_blocks(sweeps: Mapping[str, Sequence[Sweep]], axes: Axes, number: int) -> list[Block]:
    """The picture of one trade-off, with the signatures of its metrics; empty if no cell is finite."""
    over = "runs" if any(len(runs) > 1 for runs in sweeps.values()) else "texts"
    note = _frontier_note([sweep for runs in sweeps.values() for sweep in runs], axes, over)
    figure = frontier_figure(sweeps, axes, note)
    if figure is None:
        return []
    alt = f"{axes.quality} over {axes.diversity}, by temperature and top-p"
    return [Picture(f"frontier-{number}.png", alt, figure), Paragraph(note, small=True)]


def compared(runs: Sequence[Sweep], axes: Axes) -> list[Dominance]:
    """Models of a discriminator or of reranking, each compared with each baseline, if every run has swept both."""
    swept = set[str].intersection(*({cell.column for cell in run.cells} for run in runs))
    pairs = [(ours, theirs) for ours in OURS for theirs in BASELINES if ours != theirs and {ours, theirs} <= swept]
    return [dominance(runs, axes, ours, theirs) for ours, theirs in pairs]


def dominance_blocks(found: Sequence[Dominance]) -> list[Block]:
    """A table of levels for each pair of metrics, with notes on the comparisons."""
    blocks: list[Block] = []
    for axes in dict.fromkeys((one.axes.quality, one.axes.diversity) for one in found):
        same = [one for one in found if (one.axes.quality, one.axes.diversity) == axes]
        if any(one.rows for one in same):
            blocks.append(dominance_table(same, same[0].axes))
        blocks.append(Paragraph(". ".join(f"{one.ours} against {one.theirs}: {one.note}" for one in same), small=True))
    return blocks


def best_blocks(runs: Sequence[Sweep]) -> list[Block]:
    """The best temperature and top-p by each combined metric, chosen on validation text."""
    units = runs[0].combined
    chosen = {name: drawings for name in units if (drawings := best_drawing(runs, name))}
    if not chosen:
        return []
    signatures = [f"{name}: {runs[0].signatures[name]}" for name in chosen if runs[0].signatures.get(name)]
    below: list[Block] = [Paragraph("Measured with: " + "; ".join(signatures), small=True)] if signatures else []
    return [best_table(chosen, units), *below]


def _results(evaluation: Evaluation) -> list[Block]:
    if not evaluation.columns and not evaluation.scores:
        return [Bullets(tuple(evaluation.notes))] if evaluation.notes else []
    blocks: list[Block] = [Paragraph(f"Evaluated: {evaluated(evaluation)}.")] if evaluation.columns else []
    if evaluation.scores:
        blocks += [Heading("Results"), table_of_scores(evaluation.scores, evaluation.means_something)]
    # The evaluation's own note may explain ± already.
    errors = [] if any(note.startswith(ERRORS_NOTE) for note in evaluation.notes) else [ERRORS_NOTE]
    notes = [note for note in evaluation.notes if not note.startswith(ALARM)]
    return [*blocks, Bullets((*errors, *RESULTS_NOTES, *notes))]


def _calibration(evaluation: Evaluation) -> list[Block]:
    figure = reliability_figure(evaluation.reliability)
    return [] if figure is None else [Heading("Calibration"), Picture(RELIABILITY_FILE, RELIABILITY_ALT, figure)]


def _sweep(sweep: Sweep | None) -> list[Block]:
    if sweep is None:
        return []
    blocks: list[Block] = [Heading("Sweep of temperature and top-p")]
    for number, axes in enumerate(sweep.axes, 1):
        blocks += frontier_blocks({"": [sweep]}, axes, number)
    found = [one for axes in sweep.axes for one in compared([sweep], axes)]
    if found:
        blocks += [
            Heading("Quality at equal diversity", 3),
            Paragraph("A gap is positive if the first is better. An interval needs at least three runs."),
            area_table([("", one) for one in found]),
            *dominance_blocks(found),
        ]
    best = best_blocks([sweep])
    return [*blocks, *([Heading("Best temperature", 3)] if best else []), *best]


def _frontier_note(sweeps: Sequence[Sweep], axes: Axes, over: str) -> str:
    names = (axes.diversity, axes.quality)
    signatures = dict.fromkeys(
        f"{name}: {one.signatures[name]}" for name in names for one in sweeps if name in one.signatures
    )
    values = [
        [cell.test.get(name) for name in names] for sweep in sweeps for cell in sweep.cells if cell.column != REAL
    ]
    lost = sum(any(one is None or one.value is None or not math.isfinite(one.value) for one in both) for both in values)
    left_out = [f"{lost} of {len(values)} cells are not finite and not shown"] if lost else []
    bars = f"bars: one standard error over {over}"
    return "; ".join([*signatures, bars, *left_out])


def _curves(records: Sequence[Mapping[str, Any]]) -> list[Block]:
    phases = phases_in(records)
    pictures = [
        (LOSS_FILE, "Loss over the global step", loss_figure(records, phases)),
        (DISCRIMINATOR_FILE, "Discriminator and generator over the global step", discriminator_figure(records, phases)),
    ]
    drawn: list[Block] = [Picture(name, alt, figure) for name, alt, figure in pictures if figure is not None]
    return [Heading("Curves"), *drawn] if drawn else []


def _samples(evaluation: Evaluation) -> list[Block]:
    if not any(evaluation.shown.values()):
        return []
    line = Paragraph("Samples in a row come from the same PRNG key; real text is not sampled.")
    return [Heading("Samples"), line, samples_table(evaluation.shown, evaluation.prompts)]


def _scored(run: ReportedRun) -> list[Block]:
    """A few samples as the discriminator scores them, token by token."""
    texts = run.evaluation.scored
    if not texts:
        return []
    by = f"Scored by the discriminator of checkpoint {texts[0].checkpoint}; gptgan score does this for any text."
    return [
        Heading("The discriminator, token by token"),
        *score_blocks(texts),
        Paragraph(" ".join([by, *(f"Note: {note}." for note in notes_on_scores(run.config))]), small=True),
    ]
