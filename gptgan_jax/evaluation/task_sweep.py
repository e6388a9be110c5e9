"""The sweep of a run with a task: each generator greedily and at each temperature.

Every point answers the prompts of both sides: validation text to choose a temperature, and test text for the report.
The trade-off is the usual one: a colder generator is right more often, but gives real text less probability.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from gptgan_jax.errors import UserError
from gptgan_jax.evaluation.results import Axes, Cell, Sweep
from gptgan_jax.generation.texts import Drawing
from gptgan_jax.metrics.estimates import REAL, Estimate, Figure
from gptgan_jax.scoring.tasks import GREEDY, Task

if TYPE_CHECKING:
    from gptgan_jax.evaluation.subject import Model, Subject

NLL, MATCH, ROUGE, ERROR = "held-out NLL", "exact match", "ROUGE-L", "task error"


def sweep_of_task(subject: "Subject", models: "dict[str, Model]") -> Sweep:
    """The grid and greedy answers over some models of a run, by the names of their columns, with real text.

    Raises:
        UserError: if a set of held-out texts has fewer than 2.
    """
    grid = subject.run.config.evaluation.sweep
    valid, test = (subject.task_on(split, grid.samples) for split in (subject.real, subject.references))
    if min(len(valid), len(test)) < 2:
        raise UserError(f"{subject.folder.path}: 1 held-out text is too little for a sweep; hold out more")
    drawings = [GREEDY, *(Drawing(t, 0, top_p) for top_p in grid.top_p for t in grid.temperatures if t > 0)]
    cells: list[Cell] = []
    signatures: dict[str, str] = {}
    for column, model in models.items():
        for drawing in drawings:
            subject.say(f"sweep: {column}, {drawing}")
            chosen_by, reported = (_figures(model, task, drawing) for task in (valid, test))
            cells.append(Cell(column, drawing.temperature, drawing.top_p, _by_name(chosen_by), _by_name(reported)))
            signatures |= {figure.name: figure.signature for figure in reported}
    sides = [_by_name(_right(task.real_figures(task.asked, "", 0), task)) for task in (valid, test)]
    cells.append(Cell(REAL, 1.0, 1.0, *sides))
    by_match = Axes(MATCH, NLL, "higher", "lower", "share", "nats/token")
    by_rouge = Axes(ROUGE, NLL, "higher", "lower", "", "nats/token")
    axes = [by_rouge, by_match] if test.name == "summary" else [by_match]
    return Sweep(cells, axes, {ERROR: ""}, signatures)


def _figures(model: "Model", task: Task, drawing: Drawing) -> list[Figure]:
    """Metrics of a model's answers to the prompts of one side, and its likelihood there."""
    drawn = f"{len(task)} prompts, the run's seed"
    figures = _right(task.figures(model.answers(task.asked, drawing).texts), task)
    if drawing.temperature:
        held_out = model.likelihood(task.asked, drawing).per_token()
        figures.append(Figure(NLL, "nats/token", held_out, f"{len(task)} texts", "lower"))
    return [replace(figure, signature=figure.signature.replace(task.drawn, drawn)) for figure in figures]


def _right(figures: list[Figure], task: Task) -> list[Figure]:
    """The metrics that measure how many answers are right, and one that falls as they rise, to choose by."""
    found = [figure for figure in figures if figure.name in (MATCH, ROUGE)]
    if not found:
        return []
    quality = next(figure for figure in found if figure.name == (ROUGE if task.name == "summary" else MATCH))
    value = quality.estimate.value
    error = Estimate(None if value is None else 1 - value, quality.estimate.error)
    return [*found, Figure(ERROR, "", error, f"1 - {quality.name}", "lower")]


def _by_name(figures: list[Figure]) -> dict[str, Estimate]:
    return {figure.name: figure.estimate for figure in figures}
