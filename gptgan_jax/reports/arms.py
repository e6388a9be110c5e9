"""The report of a comparison: its table, the sweeps of all models in one plot, curves, samples and alarms."""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from gptgan_jax.config.files import to_yaml
from gptgan_jax.config.structure import difference
from gptgan_jax.errors import UserError
from gptgan_jax.evaluation.frontiers import dominance
from gptgan_jax.evaluation.results import without_infinities
from gptgan_jax.metrics.estimates import REAL
from gptgan_jax.reports.arms_table import CONTINUED, LIKELIHOOD, ArmsTable, Model
from gptgan_jax.reports.comparison import CURVES_FILE
from gptgan_jax.reports.document import (
    Block,
    Bullets,
    Code,
    Heading,
    Paragraph,
    Picture,
    Table,
    to_markdown,
    write_document,
)
from gptgan_jax.reports.figures import comparison_figure
from gptgan_jax.reports.run import PICTURES, alarms_of, best_blocks, dominance_blocks, frontier_blocks
from gptgan_jax.reports.tables import samples_table
from gptgan_jax.system.atomic_files import write_whole

COMPARISON_FILE = "comparison.json"
# The column of an evaluation with the shown texts of each column of a sweep.
SHOWN = {
    "likelihood": "likelihood",
    "continued": "continued",
    "adversarial": "adversarial, best",
    "residual": "residual",
    "reranked": "reranked",
}


def write_arms(
    models: Sequence[Model],
    seeds: Sequence[int],
    file: Path,
    folder: Path,
    failed: Mapping[str, str],
    cell: str = "",
    command: Sequence[str] = (),
) -> str:
    """Writes report.html, report.md with its PNGs, and comparison.json into a folder.

    Args:
        models: the likelihood's first; all runs have sweeps.
        seeds: of the comparison.
        file: that describes it.
        folder: created if it does not exist.
        failed: why the training of a run failed, by run.
        cell: its name, if the file describes a study and this is one of its cells.
        command: the command that makes all this, as separate arguments.

    Returns: the main table as Markdown, for a terminal.

    Raises:
        UserError: the folder can't be written.
    """
    measured = ArmsTable(models, tuple(seeds))
    table = measured.table()
    title = f"Comparison of {file.stem}" + (f": {cell}" if cell else "")
    alarms, fired = _alarms(models)
    reproduce: list[Block] = [Heading("Reproduce"), Code(shlex.join(command), "sh")] if command else []
    blocks: list[Block] = [
        Heading(title, level=1),
        *([Bullets(tuple(f"FAILED: {run}: {why}" for run, why in failed.items()))] if failed else []),
        *(alarms if fired else []),
        table,
        Bullets(tuple(_notes(measured))),
        *_sweeps(measured),
        *_curves(models),
        *_samples(models),
        *([] if fired else alarms),
        *_configuration(models),
        *reproduce,
    ]
    write_document(folder, title, blocks, (CURVES_FILE, *PICTURES))
    plain = {"file": str(file), **measured.plain(), "failed": dict(failed)}
    try:
        text = json.dumps(without_infinities(plain), indent=1, allow_nan=False, ensure_ascii=False)
        write_whole(folder / COMPARISON_FILE, f"{text}\n".encode())
    except OSError as error:
        raise UserError(f"{folder}: {COMPARISON_FILE} can't be written ({error.strerror})") from None
    return to_markdown([table]).rstrip("\n")


def _notes(measured: ArmsTable) -> list[str]:
    count, axes, sweep = len(measured.seeds), measured.axes, measured.any_sweep
    means = (
        f"Means over {count} seeds ± half the 95 % Student-t interval over seeds; real text ± its standard error."
        if count > 1
        else "One seed: ± is one standard error over texts, without the variation between seeds."
    )
    figures = [name for name in measured.figures() if name in sweep.signatures]
    otherwise = dict.fromkeys(measured.measured_otherwise)
    scratch = ", ".join(model.label for model in measured.models[1:] if model.from_scratch)
    but, too = (f", except {scratch}, trained from scratch", f", and {scratch}") if scratch else ("", "")
    return [
        means,
        "T=1: temperature 1, no top-p. T chosen: the temperature (and top-p) with the lowest "
        f"{measured.combined} on validation text, for each model and seed. All figures are on test text.",
        f"Against likelihood: the difference in {axes.quality} at equal {axes.diversity}, averaged over the range that "
        "the frontiers of both reach in a seed; positive means better than likelihood at any temperature.",
        f"All others start from {LIKELIHOOD}{but}; {CONTINUED}, if present, is trained further from there on real text "
        "only.",
        "Processor seconds: mean over seeds, of all cores, for training after the likelihood phase (in the rows of "
        f"{LIKELIHOOD}{too}: for that training itself), including compilation and validation during training, without "
        "the final evaluation and without GPU time. Updates are the generator's. Texts generated in training are the "
        "generator's; continuations of their prefixes, which rollouts need, are counted at their maximum.",
        "Evaluated: " + "; ".join(_judged(model) for model in measured.models if model.runs) + ".",
        *([f"Left out because measured differently: {', '.join(otherwise)}."] if otherwise else []),
        "Measured with: " + "; ".join(f"{name}: {sweep.signatures[name]}" for name in figures) + ".",
    ]


def _judged(model: Model) -> str:
    """The checkpoint of each seed in the table."""
    name = SHOWN[model.column]
    found = [column for run in model.runs.values() for column in run.evaluation.columns if column.name == name]
    steps = ", ".join(dict.fromkeys(column.checkpoint for column in found))
    return f"{model.label}: {steps}" + (f" ({found[0].chosen})" if found else "")


def _sweeps(measured: ArmsTable) -> list[Block]:
    sweeps = list(measured.sweeps.values())
    blocks: list[Block] = [Heading("Sweeps of temperature and top-p")]
    for number, axes in enumerate(measured.any_sweep.axes, 1):
        blocks += frontier_blocks({"": sweeps}, axes, number)
    others = [model.label for model in measured.models[1:]]
    found = [dominance(sweeps, measured.axes, label, LIKELIHOOD) for label in others]
    if found:
        explained = (
            "At levels of diversity that all seeds reach. A gap is positive if the first is better; its interval is a "
            "bootstrap over seeds and needs at least three."
        )
        blocks += [Heading("Quality at equal diversity", 3), Paragraph(explained), *dominance_blocks(found)]
    return [*blocks, Heading("Best temperature", 3), *best_blocks(sweeps)]


def _curves(models: Sequence[Model]) -> list[Block]:
    # Models such as likelihood and continued likelihood share runs: only the first one shows their curves.
    first = {id(model.runs): model for model in reversed(models)}
    records = {m.label: [run.records for run in m.runs.values()] for m in models if m.runs and first[id(m.runs)] is m}
    figure = comparison_figure(records)
    return [] if figure is None else [Heading("Curves"), Picture(CURVES_FILE, "Curves of all runs", figure)]


def _samples(models: Sequence[Model]) -> list[Block]:
    """Samples of each model's first seed."""
    firsts = {model.label: next(iter(model.runs.items())) for model in models if model.runs}
    columns = {model.label: SHOWN[model.column] for model in models}
    shown = {label: texts for label, (_, run) in firsts.items() if (texts := run.evaluation.shown.get(columns[label]))}
    if not shown:
        return []
    evaluation = next(iter(firsts.values()))[1].evaluation
    if REAL in evaluation.shown:
        shown[REAL] = evaluation.shown[REAL]
    seeds = {seed for seed, _ in firsts.values()}
    keys = "from the same PRNG keys" if len(seeds) == 1 else "from the seed of each run, so rows don't correspond"
    line = Paragraph(f"Samples of each model's first seed, {keys}, and real text.")
    return [Heading("Samples"), line, samples_table(shown, evaluation.prompts)]


def _alarms(models: Sequence[Model]) -> tuple[list[Block], bool]:
    """The alarms of adversarial runs, and those of other runs that make metrics unreliable; whether any fired."""
    lines, any_fired = [], False
    for model in models:
        for seed, run in model.runs.items() if model.column in ("likelihood", "adversarial") else ():
            found = alarms_of(run) if model.column == "adversarial" else run.evaluation.alarms
            any_fired |= bool(found)
            none = ["none fired"] if model.column == "adversarial" else []
            lines += [f"{model.label}, seed {seed}: {alarm}" for alarm in found or none]
    return ([Heading("Alarms"), Bullets(tuple(lines))] if lines else []), any_fired


def _configuration(models: Sequence[Model]) -> list[Block]:
    base = next(iter(models[0].runs.values()))
    firsts = [(model.label, next(iter(model.runs.values())).config) for model in models[1:] if model.runs]
    rows = [(label, line) for label, config in firsts for line in difference(base.config, config)]
    folders = [
        (model.label, ", ".join(str(run.folder) for run in model.runs.values()))
        for model in models
        if model.column != "continued"
    ]
    return [
        Heading("Configuration"),
        Paragraph(f"From {base.folder}:"),
        Code(to_yaml(base.config), "yaml"),
        Paragraph("Keys that differ in the others:"),
        Table(("model", "key: there -> here"), tuple(rows)),
        Paragraph("The run folders, each with its own report:"),
        Table(("model", "folders"), tuple(folders)),
    ]
