"""The report of several runs: how they differ, and their results over the seeds of each configuration."""

import dataclasses
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gptgan_jax.config.files import to_yaml
from gptgan_jax.config.structure import difference
from gptgan_jax.data.holding_out import ALARM
from gptgan_jax.errors import UserError
from gptgan_jax.evaluation.frontiers import Dominance
from gptgan_jax.metrics.estimates import REAL, Estimate
from gptgan_jax.reports.document import Block, Bullets, Code, Heading, Paragraph, Picture, Table, write_document
from gptgan_jax.reports.figures import comparison_figure
from gptgan_jax.reports.groups import Group, groups_of, measured_with, source_of
from gptgan_jax.reports.run import (
    ERRORS_NOTE,
    PICTURES,
    ReportedRun,
    alarms_of,
    best_blocks,
    commands_of,
    compared,
    dominance_blocks,
    frontier_blocks,
    quoted_folder,
)
from gptgan_jax.reports.tables import MARKS, area_table, named, samples_table, spreads_shown
from gptgan_jax.runs.folder import RunFolder

CURVES_FILE = "curves.png"
RESULTS_NOTES = (
    "Each figure is a mean over runs, with its 95 % Student-t interval and the standard deviation (sd) over runs. With "
    "1 run it is the run's own figure ± one standard error over texts, without the variation between seeds.",
    "Real text does not depend on the seed: the mean of the runs' figures ± their standard error over texts.",
    "↓ and ↑ show which direction is better; real: closer to real text is better.",
)
SHARED_NOTE = "Shared: a baseline that several runs copied from the run that they started from counts once."


def write_comparison(runs: Sequence[ReportedRun], folder: Path) -> Path:
    """Writes report.html, report.md and its PNGs into a folder, over those of an earlier comparison.

    Args:
        runs: at least one; runs that differ only in name, seed and places are repeats.
        folder: created if it does not exist; not a run folder, which keeps its own report.

    Returns: the path of report.html.

    Raises:
        ValueError: no runs.
        UserError: the folder is a run folder or can't be written.
    """
    if not runs:
        raise ValueError("a comparison needs at least 1 run")
    if RunFolder(folder).config_file.exists():
        raise UserError(f"{folder} is a run folder and keeps the report of its run; choose another folder")
    groups = groups_of(runs)
    every = [run for group in groups for run in group.runs]
    title = f"Comparison of {len(every)} run{'s' * (len(every) > 1)}"
    figure = comparison_figure({group.label: [run.records for run in group.runs] for group in groups})
    curves: list[Block] = (
        [] if figure is None else [Heading("Curves"), Picture(CURVES_FILE, "Curves of all runs", figure)]
    )
    fired = any(alarms_of(run) for run in every)
    blocks = [
        Heading(title, level=1),
        *(_alarms(groups) if fired else []),
        *_what(groups),
        *_results(groups),
        *_sweeps(groups),
        *curves,
        *_samples(groups),
        *([] if fired else _alarms(groups)),
        *_configuration(groups),
        Heading("Reproduce"),
        Code("\n".join(_commands(every, folder)), "sh"),
    ]
    return write_document(folder, title, blocks, (CURVES_FILE, *PICTURES))


# ---- sections


def _what(groups: Sequence[Group]) -> list[Block]:
    rows = [
        (
            group.label,
            str(len(group.runs)),
            ", ".join(str(run.config.seed) for run in group.runs),
            ", ".join(str(run.folder) for run in group.runs),
        )
        for group in groups
    ]
    notes = [
        f"{group.label}: seed {seed} was trained {count} times; these are no independent repeats"
        for group in groups
        for seed, count in Counter(run.config.seed for run in group.runs).items()
        if count > 1
    ]
    notes += [
        f"{group.label}: its text is not that of {first.label}, though its configuration is: a file behind data has "
        "changed between these runs"
        for group in groups
        if (first := next(one for one in groups if one.config == group.config)) is not group
    ]
    different = Paragraph(
        "ATTENTION: the runs differ in data or tokenizer. Their scores are on different text and can't be compared "
        "directly."
    )
    return [
        *([different] if len(_texts(groups)) > 1 else []),
        Heading("What is compared"),
        Paragraph("A group is named by how its configuration differs from base; its runs differ only in their seeds."),
        Table(("group", "runs", "seeds", "folders"), tuple(rows), right=[1]),
        *([Bullets(tuple(notes))] if notes else []),
    ]


def _text(group: Group) -> tuple[Any, ...]:
    return group.config.data, group.config.tokenizer, group.text


def _texts(groups: Sequence[Group]) -> dict[tuple[Any, ...], str]:
    """The data and tokenizers of the runs, each with the label of the first group that uses it."""
    return {_text(group): group.label for group in reversed(groups)}


def _results(groups: Sequence[Group]) -> list[Block]:
    scores = [score for group in groups for run in group.runs for score in run.evaluation.scores]
    kinds = [kind for kind in dict.fromkeys(column for score in scores for column in score.values) if kind != REAL]
    if not kinds:
        notes = _notes(groups)
        return [Heading("Results"), Bullets(tuple(notes))] if notes else []
    ways: dict[str, set[tuple[str, str]]] = {}
    for score in scores:
        ways.setdefault(score.name, set()).add((score.unit, score.signature))
    apart = [name for name, found in ways.items() if len(found) > 1]
    not_joined = f"The signatures differ: a row for each way of measuring, not joined, of {', '.join(apart)}."
    shared = [SHARED_NOTE] if any(group.shared(kind) for group in groups for kind in kinds) else []
    notes = [*RESULTS_NOTES, *shared, *([not_joined] if apart else []), *_notes(groups)]
    blocks: list[Block] = [Heading("Results"), Bullets(tuple(notes))]
    for kind in kinds:
        blocks += [Heading(kind[0].upper() + kind[1:], 3), _kind_table(groups, kind)]
    return blocks


def _kind_table(groups: Sequence[Group], kind: str) -> Table:
    """Scores of one kind of checkpoint, the groups side by side; a row joins scores with one unit and signature.

    A cell has an estimate for each run, by its source, so that a baseline which several runs copied counts once. Runs
    that were evaluated without this score count as runs without a value.
    """
    rows: dict[tuple[str, ...], dict[str, dict[tuple[str, str], Estimate]]] = {}
    columns: dict[str, bool] = {}
    reals: dict[str, None] = {}
    for group in groups:
        real = REAL if len(_texts(groups)) == 1 else f"{REAL} of {_texts(groups)[_text(group)]}"
        for run in group.runs:
            for score in (score for score in run.evaluation.scores if kind in score.values):
                row = rows.setdefault((score.name, score.unit, MARKS[score.better], score.signature), {})
                columns[group.label] = bool(group.shared(kind))
                row.setdefault(group.label, {}).setdefault(source_of(run, kind), score.values[kind])
                if REAL in score.values:
                    reals[real] = None
                    row.setdefault(real, {})[str(run.folder), ""] = score.values[REAL]
    for (name, *_), row in rows.items():
        for group in (group for group in groups if group.label in row):
            for run in (run for run in group.runs if run.evaluation.scores):
                if not any(score.name == name and kind in score.values for score in run.evaluation.scores):
                    row[group.label].setdefault(source_of(run, kind), Estimate(None))
    names = list(dict.fromkeys(name for name, *_ in rows))
    lines = []
    for (name, unit, mark, signature), row in sorted(rows.items(), key=lambda item: names.index(item[0][0])):
        cells, of_real = ([list(row.get(label, {}).values()) for label in labels] for labels in (columns, reals))
        shown = spreads_shown(cells, of_real, list(columns.values()))
        lines.append((named(name, unit), mark, *shown, signature))
    heads = ("score", "better", *columns, *reals, "measured with")
    return Table(heads, tuple(lines), right=range(2, len(heads) - 1))


def _notes(groups: Sequence[Group]) -> list[str]:
    """Notes of all evaluations, and of some with their folders; without the one on ±, which differs here."""
    runs = [run for group in groups for run in group.runs]
    by_note: dict[str, list[str]] = {}
    for run in runs:
        for note in dict.fromkeys(note for note in run.evaluation.notes if not note.startswith((ERRORS_NOTE, ALARM))):
            by_note.setdefault(note, []).append(str(run.folder))
    return [note if len(of) == len(runs) else f"{', '.join(of)}: {note}" for note, of in by_note.items()]


def _sweeps(groups: Sequence[Group]) -> list[Block]:
    swept = {group.label: sweeps for group in groups if (sweeps := group.sweeps())}
    if not swept:
        return []
    blocks: list[Block] = [Heading("Sweeps of temperature and top-p")]
    if notes := _sweep_notes(groups):
        blocks.append(Bullets(tuple(notes)))
    for number, axes in enumerate(dict.fromkeys(axes for sweeps in swept.values() for axes in sweeps[0].axes), 1):
        blocks += frontier_blocks({label: of for label, of in swept.items() if axes in of[0].axes}, axes, number)
    found = [(group.label, one) for group in groups if group.label in swept for one in _compared(group)]
    if found:
        explained = (
            "A gap is positive if the first is better. Intervals are a bootstrap over runs and need at least three."
        )
        shared = [
            f"{group.label}: {words}; the intervals don't cover the baseline's training"
            for group in groups
            for column in dict.fromkeys(one.theirs for label, one in found if label == group.label)
            if (words := group.shared(column))
        ]
        beside: list[Block] = [Bullets(tuple(shared))] if shared else []
        blocks += [Heading("Quality at equal diversity", 3), Paragraph(explained), *beside, area_table(found)]
    for group in (group for group in groups if group.label in swept):
        levels = dominance_blocks([one for of, one in found if of == group.label])
        best = best_blocks(group.sweeps(once=True))
        blocks += [Heading(f"{group.label}: level by level, and best temperature", 3), *levels, *best]
    return blocks


def _compared(group: Group) -> list[Dominance]:
    """The comparisons over the runs of a group; a note says if a baseline is the same run in several."""
    sweeps = group.sweeps()
    found = [one for axes in sweeps[0].axes for one in compared(sweeps, axes)]
    shared = [group.shared(one.theirs) for one in found]
    return [
        dataclasses.replace(one, note=f"{one.note}; {words}, whose training the intervals don't cover")
        if words
        else one
        for one, words in zip(found, shared, strict=True)
    ]


def _sweep_notes(groups: Sequence[Group]) -> list[str]:
    notes, first = [], None
    for group in groups:
        made = [run for run in group.runs if run.evaluation.sweep is not None]
        kept = group.sweeps()
        if len(kept) < len(made):
            notes.append(
                f"{group.label}: of {len(made)} sweeps only {len(kept)} share axes and signatures and are joined; the "
                "signatures of the others differ"
            )
        if 0 < len(made) < len(group.runs):
            notes.append(f"{group.label}: {len(group.runs) - len(made)} of {len(group.runs)} runs have no sweep")
        if kept:
            first = first or kept[0]
            if measured_with(kept[0]) != measured_with(first):
                notes.append(f"{group.label}: the signatures differ from those of the first group's sweep")
    return notes


def _samples(groups: Sequence[Group]) -> list[Block]:
    """The best adversarial texts of each group's first run with samples, or its last column's if it has none."""
    shown: dict[str, list[str]] = {}
    of: list[ReportedRun] = []
    for group in groups:
        for run in group.runs:
            models = {name: texts for name, texts in run.evaluation.shown.items() if name != REAL and texts}
            if models:
                name = next((name for name in models if name.startswith("adversarial")), list(models)[-1])
                shown[f"{group.label}: {name}"] = models[name]
                of.append(run)
                break
    if not shown:
        return []
    same_prompts = all(run.evaluation.prompts == of[0].evaluation.prompts for run in of)
    prompts = of[0].evaluation.prompts if same_prompts else []
    keys = (
        "from equal keys"
        if len({run.config.seed for run in of}) == 1
        else "from the seed of each run, so rows don't correspond"
    )
    explained = f"Texts of each group's first run that was evaluated, {keys}."
    return [Heading("Samples"), Paragraph(explained), samples_table(shown, prompts)]


def _alarms(groups: Sequence[Group]) -> list[Block]:
    lines = []
    for group in groups:
        for run in group.runs:
            fired = [f"{group.label}, {run.folder}: {alarm}" for alarm in alarms_of(run)]
            lines += fired or [f"{group.label}, {run.folder}: none fired"]
    return [Heading("Alarms"), Bullets(tuple(lines))]


def _configuration(groups: Sequence[Group]) -> list[Block]:
    first, *others = [run for group in groups for run in group.runs]
    rows = [(str(run.folder), line) for run in others for line in difference(first.config, run.config)]
    blocks: list[Block] = [
        Heading("Configuration"),
        Paragraph(f"From {first.folder}:"),
        Code(to_yaml(first.config), "yaml"),
    ]
    if others:
        blocks += [Paragraph("Keys that differ in the others:"), Table(("folder", "key: there -> here"), tuple(rows))]
    return blocks


def _commands(runs: Sequence[ReportedRun], folder: Path) -> list[str]:
    each = [command for run in runs for command in commands_of(run)]
    return [*each, " ".join(["gptgan report", *map(quoted_folder, runs), "--out", shlex.quote(str(folder))])]
