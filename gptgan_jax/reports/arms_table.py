"""The main table of a comparison: its models, their metrics over seeds, and their costs."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, stdev
from typing import Any

from gptgan_jax.evaluation.candidates import BASELINES
from gptgan_jax.evaluation.frontiers import chosen_cell, dominance, student
from gptgan_jax.evaluation.results import Axes, Cell, Sweep
from gptgan_jax.evaluation.scores import FRECHET
from gptgan_jax.evaluation.sweep import (
    BLEU,
    FORWARD,
    GRAMMATICAL,
    JS,
    NLL,
    ORACLE,
    ORACLE_SUM,
    REVERSE,
    SELF_BLEU,
)
from gptgan_jax.evaluation.task_sweep import MATCH, ROUGE
from gptgan_jax.metrics.estimates import REAL, Estimate
from gptgan_jax.reports.costs import Cost, cost_of
from gptgan_jax.reports.document import Table
from gptgan_jax.reports.groups import controls_of, measured_with
from gptgan_jax.reports.run import ReportedRun
from gptgan_jax.reports.tables import decimals_of, number
from gptgan_jax.runs.timing import read_times

LIKELIHOOD, CONTINUED = "likelihood", "continued likelihood"
# Depending on what is known of the source of the data: metrics, with their heads in the table and the better direction.
OF_ORACLE = {ORACLE: "NLL_oracle ↓", NLL: "held-out NLL ↓", ORACLE_SUM: "their sum ↓"}
OF_GRAMMAR = {
    NLL: "held-out NLL ↓",
    FORWARD: "forward KL ↓",
    REVERSE: "reverse KL ↓",
    JS: "Jensen-Shannon ↓",
    GRAMMATICAL: "grammatical ↑",
}
OF_TASK = {MATCH: "exact match ↑", ROUGE: "ROUGE-L ↑", NLL: "held-out NLL ↓"}
OF_TEXT = {NLL: "held-out NLL ↓", FRECHET: "Fréchet ↓", BLEU: "BLEU-4 ↑", SELF_BLEU: "Self-BLEU-4 ↓"}


@dataclass(frozen=True)
class Model:
    """A row of the table.

    Attributes:
        label: its name.
        column: of its runs' sweeps: "likelihood", "continued", "adversarial", "residual" or "reranked".
        runs: by seed; failed seeds are missing.
    """

    label: str
    column: str
    runs: Mapping[int, ReportedRun]

    @property
    def from_scratch(self) -> bool:
        """Whether it has its own likelihood training, instead of starting from the likelihood's model."""
        return self.column == "likelihood"


@dataclass(frozen=True)
class Spread:
    """A metric over seeds.

    Attributes:
        value: the mean over the seeds that have one; infinite if one of them is; None if there is none.
        error: half the width of its 95 % t-interval over seeds; with one seed, the standard error over texts.
        by_seed: the value of each seed.
    """

    value: float | None
    error: float | None
    by_seed: tuple[Estimate, ...]

    def shown(self, decimals: int, sign: bool = False) -> str:
        """The value ± its error, and the number of seeds with a value if some have none."""
        known = sum(one.value is not None for one in self.by_seed)
        error = "" if self.error is None else f" ± {number(self.error, decimals)}"
        lacking = f" ({known} of {len(self.by_seed)} seeds)" if 0 < known < len(self.by_seed) else ""
        return number(self.value, decimals, sign) + error + lacking


def spread_of(estimates: Sequence[Estimate]) -> Spread:
    """The mean over seeds with its uncertainty."""
    values = [one.value for one in estimates if one.value is not None]
    infinite = [value for value in values if math.isinf(value)]
    if not values or infinite:
        return Spread(infinite[0] if infinite else None, None, tuple(estimates))
    if len(values) == 1:
        return Spread(values[0], estimates[0].error if len(estimates) == 1 else None, tuple(estimates))
    half = student(len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return Spread(fmean(values), half, tuple(estimates))


@dataclass(frozen=True)
class ArmsTable:
    """Models over seeds, measured in the same way.

    Attributes:
        models: the likelihood's first; all its runs have sweeps.
        seeds: of the comparison.
    """

    models: Sequence[Model]
    seeds: tuple[int, ...]

    @cached_property
    def sweeps(self) -> dict[int, Sweep]:
        """By seed, one sweep with each model as a column, without models that were measured in another way."""
        joined = {}
        for seed in self.seeds:
            first = self._sweep(self.models[0], seed)
            assert first is not None, "likelihood training that failed leaves nothing to compare"
            cells: list[Cell] = []
            for model in self.models:
                sweep = self._sweep(model, seed)
                if sweep is not None and measured_with(sweep) == measured_with(first):
                    own = (cell for cell in sweep.cells if cell.column == model.column)
                    cells += [dataclasses.replace(cell, column=model.label) for cell in own]
            cells += [cell for cell in first.cells if cell.column == REAL]
            joined[seed] = dataclasses.replace(first, cells=cells)
        return joined

    @property
    def measured_otherwise(self) -> list[str]:
        """The labels of models that were swept but are left out for some seed, as they were measured in another way."""
        first = self.models[0]
        return [
            model.label
            for model in self.models
            for seed in self.seeds
            if (sweep := self._sweep(model, seed)) is not None
            and (of_first := self._sweep(first, seed)) is not None
            and measured_with(sweep) != measured_with(of_first)
        ]

    @property
    def any_sweep(self) -> Sweep:
        return self.sweeps[self.seeds[0]]

    @property
    def combined(self) -> str:
        """The metric that chooses a temperature."""
        return next(iter(self.any_sweep.combined))

    @property
    def axes(self) -> Axes:
        """The quality and diversity by which models are compared."""
        return self.any_sweep.axes[0]

    def figures(self) -> dict[str, str]:
        """The metrics in the table, with their heads. Reverse KL is left out if it is infinite, as that says little."""
        quality = self.axes.quality
        of_axes = {ORACLE: OF_ORACLE, GRAMMATICAL: OF_GRAMMAR, MATCH: OF_TASK, ROUGE: OF_TASK}
        measured = self.any_sweep.signatures
        figures = {name: head for name, head in of_axes.get(quality, OF_TEXT).items() if name in measured}
        cells = [cell for sweep in self.sweeps.values() for cell in sweep.cells if cell.top_p == 1]
        finite = all(math.isfinite(cell.test[REVERSE].value or 0) for cell in cells if REVERSE in cell.test)
        return {name: head for name, head in figures.items() if name != REVERSE or finite}

    def at_one(self, label: str, figure: str) -> Spread:
        """A metric on test text of texts sampled at temperature 1."""
        return spread_of([self._of(self._cell_at_one(label, seed), figure) for seed in self.seeds])

    def at_chosen(self, label: str, figure: str) -> Spread:
        """A metric on test text at the temperature and top-p chosen on validation text, separately for each seed."""
        return spread_of([self._of(self._chosen(label, seed), figure) for seed in self.seeds])

    def choices(self, label: str) -> list[Cell]:
        """The cells chosen on validation text, for the seeds that have one."""
        return [cell for seed in self.seeds if (cell := self._chosen(label, seed)) is not None]

    def gap(self, label: str, against: str = LIKELIHOOD) -> Spread:
        """The gain over another model at equal diversity: within each seed, averaged over the range that both reach."""
        found = []
        for seed in self.seeds:
            area = dominance([self.sweeps[seed]], self.axes, label, against).area
            found.append(Estimate(area.value))
        return spread_of(found)

    def cost(self, model: Model) -> tuple[Cost | None, Spread]:
        """The cost of one seed's training, and its processor seconds over seeds."""
        costs = {seed: cost_of(run.config, read_times(run.folder), model.column) for seed, run in model.runs.items()}
        seconds = [costs[seed].processor_seconds if seed in costs else None for seed in self.seeds]
        return next(iter(costs.values()), None), spread_of([Estimate(one) for one in seconds])

    def table(self) -> Table:
        """A row for each model, and one of real text."""
        figures = self.figures()
        labels = [model.label for model in self.models]
        of_figures = [
            *(self._column(f"{head}, T=1", [self.at_one(label, name) for label in labels], name)
              for name, head in figures.items()),
            ["T chosen", *map(self._choices_shown, labels), "–"],
            *(self._column(f"{head}, T chosen", [self.at_chosen(label, name) for label in labels])
              for name, head in figures.items()),
        ]  # fmt: skip
        gaps = [self.gap(label) for label in labels[1:]]
        decimals = decimals_of([gap.value for gap in gaps], whole=False)
        costs = [self.cost(model) for model in self.models]
        short = {NLL: "NLL"}
        head = f"{self.axes.quality} against likelihood at equal {short.get(self.axes.diversity, self.axes.diversity)}"
        columns = [
            ["model", *labels, REAL],
            *of_figures,
            [f"{head} (+: better)", "–", *(gap.shown(decimals, sign=True) for gap in gaps), "–"],
            ["processor seconds", *(number(seconds.value, 1) for _, seconds in costs), "–"],
            ["updates", *("–" if cost is None else f"{cost.updates:,}" for cost, _ in costs), "–"],
            ["texts generated", *("–" if cost is None else _texts_shown(cost) for cost, _ in costs), "–"],
        ]
        heads, *rows = zip(*columns, strict=True)
        return Table(heads, tuple(rows), right=range(1, len(heads)))

    def plain(self) -> dict[str, Any]:
        """All of the table's metrics, also by seed, as plain data."""
        return {
            "seeds": list(self.seeds),
            "chosen_by": self.combined,
            "quality": dataclasses.asdict(self.axes),
            "signatures": self.any_sweep.signatures,
            "figures": self.figures(),
            "models": [self._plain(model) for model in self.models],
        }

    # ---- inside

    def _plain(self, model: Model) -> dict[str, Any]:
        cost, seconds = self.cost(model)
        any_run = next(iter(model.runs.values()), None)
        names = list(self.any_sweep.signatures)
        others = model.label not in (LIKELIHOOD, CONTINUED) and any(one.label == CONTINUED for one in self.models)
        return {
            "model": model.label,
            "from_scratch": model.from_scratch,
            "controls": controls_of(any_run.config) if any_run and model.column not in BASELINES else [],
            "runs": {str(seed): str(run.folder) for seed, run in model.runs.items()},
            "at_temperature_1": {name: dataclasses.asdict(self.at_one(model.label, name)) for name in names},
            "at_chosen": {name: dataclasses.asdict(self.at_chosen(model.label, name)) for name in names},
            "chosen": [{"temperature": one.temperature, "top_p": one.top_p} for one in self.choices(model.label)],
            "against_likelihood": None if model is self.models[0] else dataclasses.asdict(self.gap(model.label)),
            "against_continued": dataclasses.asdict(self.gap(model.label, CONTINUED)) if others else None,
            "processor_seconds": dataclasses.asdict(seconds),
            "updates": cost and cost.updates,
            "texts": cost and cost.texts,
            "continuations": cost and cost.continuations,
        }

    def _sweep(self, model: Model, seed: int) -> Sweep | None:
        return model.runs[seed].evaluation.sweep if seed in model.runs else None

    def _cell_at_one(self, label: str, seed: int) -> Cell | None:
        cells = self.sweeps[seed].cells
        return next((c for c in cells if (c.column, c.temperature, c.top_p) == (label, 1.0, 1.0)), None)

    def _chosen(self, label: str, seed: int) -> Cell | None:
        return chosen_cell(self.sweeps[seed], self.combined, label)

    def _of(self, cell: Cell | None, figure: str) -> Estimate:
        return Estimate(None) if cell is None else cell.test.get(figure, Estimate(None))

    def _column(self, head: str, spreads: Sequence[Spread], real: str | None = None) -> list[str]:
        """A column of the table. Its last cell is the metric `real` of real text, which is the same for every seed."""
        last = spread_of([self._of(self._cell_at_one(REAL, self.seeds[0]), real)] if real else [])
        decimals = decimals_of([one.value for one in (*spreads, last)], whole=False)
        return [head, *(one.shown(decimals) for one in (*spreads, last))]

    def _choices_shown(self, label: str) -> str:
        cells = self.choices(label)
        drawings = sorted({(cell.temperature, cell.top_p) for cell in cells})
        return ", ".join(f"{t:g}" if top_p == 1 else f"{t:g} top-p {top_p:g}" for t, top_p in drawings) or "–"


def _texts_shown(cost: Cost) -> str:
    more = f" + {cost.continuations:,} continuations" if cost.continuations else ""
    return f"{cost.texts:,}{more}"
