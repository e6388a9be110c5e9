"""The results of an evaluation, as plain data: made in `final` and `sweep`, saved in evaluation.json for reports."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass

from gptgan_jax.data.encoding import TokenisedSplit
from gptgan_jax.data.holding_out import ALARM, UNSUITED
from gptgan_jax.errors import UserError
from gptgan_jax.generation.texts import TextSet
from gptgan_jax.metrics.class_scores import ReliabilityBin
from gptgan_jax.metrics.error_places import NOWHERE
from gptgan_jax.metrics.estimates import Better, Estimate, Figure
from gptgan_jax.scoring.token_scores import Detector, TokenScore
from gptgan_jax.system.atomic_files import write_whole

EVALUATION_FILE = "evaluation.json"
STRICT = ConfigDict(extra="forbid")


@checked_dataclass(frozen=True, config=STRICT)
class Score:
    """One row of a table: a measurement, by column.

    Attributes:
        name, unit, signature, better: see `Figure`.
        values: by column, such as a checkpoint's name or "real text"; no entry if it was not measured.
    """

    name: str
    unit: str
    signature: str
    better: Better
    values: dict[str, Estimate]


@checked_dataclass(frozen=True, config=STRICT)
class Column:
    """An evaluated checkpoint.

    Attributes:
        name: such as "adversarial, best".
        checkpoint: "phase/step".
        chosen: how it was chosen, in words.
        run: the folder of the run that its values were copied from; empty if they are this run's own.
    """

    name: str
    checkpoint: str
    chosen: str
    run: str = ""


@checked_dataclass(frozen=True, config=STRICT)
class Cell:
    """One sampling setting for one column's generator, with its metrics by name.

    Attributes:
        column: "likelihood", "continued", "adversarial", "reranked" or "residual"; `REAL` for real text, whose
            temperature is 1.
        temperature, top_p: how the texts were sampled.
        valid: metrics against the text that a temperature may be chosen by.
        test: metrics against the text for the report.
    """

    column: str
    temperature: float
    top_p: float
    valid: dict[str, Estimate]
    test: dict[str, Estimate]


@checked_dataclass(frozen=True, config=STRICT)
class Axes:
    """A pair of metrics that trade quality for diversity.

    Attributes:
        quality, diversity: names of metrics in the cells.
        quality_better, diversity_better: which direction is better.
        quality_unit, diversity_unit: their units.
    """

    quality: str
    diversity: str
    quality_better: Literal["lower", "higher"]
    diversity_better: Literal["lower", "higher"]
    quality_unit: str
    diversity_unit: str


@checked_dataclass(frozen=True, config=STRICT)
class Sweep:
    """Temperature x top-p over the generators of one run.

    Attributes:
        cells: all of them, including those of real text.
        axes: the measured trade-offs.
        combined: metrics that fall with better quality and with better diversity, so that a temperature can be chosen
            by them on validation text: their units by name.
        signatures: by the metrics' names.
    """

    cells: list[Cell]
    axes: list[Axes]
    combined: dict[str, str]
    signatures: dict[str, str]


@checked_dataclass(frozen=True, config=STRICT)
class ScoredText:
    """A text of n tokens, scored by a run's discriminator.

    Attributes:
        column: the column that generated it.
        checkpoint: the discriminator's.
        score: of the whole text, a logit.
        start: the score that the first token's change is counted from.
        tokens: the text of each token; the end of text is one of them.
        special: the positions of tokens that are not text.
        scores: of the text up to and including each token, or of its window so far.
        wrong: the position of the first token that the grammar forbids; None if there is none, or none is known.
        window: tokens after which the scores begin anew; 0: never.
    """

    column: str
    checkpoint: str
    score: float
    start: float
    tokens: list[str]
    special: list[int]
    scores: list[float]
    wrong: int | None = None
    window: int = 0


@checked_dataclass(frozen=True, config=STRICT)
class Evaluation:
    """The results of evaluating a run, or a file of texts.

    Attributes:
        columns: what was evaluated, in the order of the tables.
        scores: the table.
        shown: by column, a few texts from equal random keys.
        prompts: the prompts of the shown texts; empty for unconditional text.
        notes: what a reader must know, one line each.
        sweep: if one was made.
        reliability: of the run's classifier on test text; empty if there is none.
        scored: a few texts token by token, if the run has a trained discriminator.
    """

    columns: list[Column]
    scores: list[Score]
    shown: dict[str, list[str]]
    prompts: list[str]
    notes: list[str]
    sweep: Sweep | None = None
    reliability: list[ReliabilityBin] = field(default_factory=list)
    scored: list[ScoredText] = field(default_factory=list)

    @property
    def alarms(self) -> list[str]:
        """The notes to show above the metrics."""
        return [note.removeprefix(ALARM) for note in self.notes if note.startswith(ALARM)]

    @property
    def means_something(self) -> bool:
        """Whether no alarm says that all metrics mean little."""
        return not any(note.startswith(UNSUITED) for note in self.notes)

    def save(self, folder: Path) -> Path:
        """Writes FOLDER/evaluation.json, all or nothing. Infinite values are the strings "inf" and "-inf"."""
        path = folder / EVALUATION_FILE
        text = json.dumps(without_infinities(dataclasses.asdict(self)), indent=1, allow_nan=False)
        write_whole(path, f"{text}\n".encode())
        return path

    @classmethod
    def load(cls, folder: Path) -> "Evaluation | None":
        """Reads the output of `save`; None if there is none.

        Raises:
            UserError: if the file is damaged.
        """
        path = folder / EVALUATION_FILE
        try:
            return TypeAdapter(cls).validate_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (ValidationError, ValueError, OSError) as error:
            reason = " ".join(str(error).split())[:120]
            raise UserError(f"{path} is damaged ({reason}); remove it and run `gptgan evaluate` again") from None


def scored_text(text: TokenScore, column: str, checkpoint: str, wrong: int = NOWHERE) -> ScoredText:
    """A discriminator's scores of a text, as plain data; `wrong` may be `NOWHERE`."""
    return ScoredText(
        column=column,
        checkpoint=checkpoint,
        score=round(text.score, 4),
        start=round(text.start, 4),
        tokens=[piece.text for piece in text.pieces],
        special=[place for place, piece in enumerate(text.pieces) if piece.special],
        scores=[round(float(score), 4) for score in text.scores],
        window=text.window,
        wrong=None if wrong == NOWHERE else wrong,
    )


def scored_samples(detector: Detector, written: Mapping[str, TextSet], asked: TokenisedSplit) -> list[ScoredText]:
    """Texts of the generator from the discriminator's checkpoint, scored token by token; only those with finite scores.

    Args:
        detector: the discriminator.
        written: by column, in order, a few texts.
        asked: the prompts that they answer in turn, if any.
    """
    phase = detector.saved.phase
    column = next((name for name in written if name.startswith(phase)), next(iter(written), ""))
    if not column:
        return []
    scored = detector.score_answers(written[column], asked)
    places = detector.error_places(scored) if detector.knows_errors else [NOWHERE] * len(scored)
    found = (scored_text(one, column, detector.name, at) for one, at in zip(scored, places, strict=True))
    return [text for text in found if np.isfinite([text.score, text.start, *text.scores]).all()]


def table_of(columns: Mapping[str, Sequence[Figure]]) -> list[Score]:
    """The rows of a table, in the order in which the metrics first appear.

    Metrics with the same name share a row, so they must agree in unit, signature and direction.

    Raises:
        ValueError: if they do not, or if one occurs twice in a column.
    """
    rows: dict[str, Score] = {}
    for column, figures in columns.items():
        for figure in figures:
            row = rows.setdefault(
                figure.name, Score(figure.name, figure.unit, figure.signature, figure.better, values={})
            )
            if (row.unit, row.signature, row.better) != (figure.unit, figure.signature, figure.better):
                raise ValueError(f"{figure.name}: {figure} does not belong in a row with {row}")
            if column in row.values:
                raise ValueError(f"{figure.name} is measured twice in {column}")
            row.values[column] = figure.estimate
    return list(rows.values())


def without_infinities(value: Any) -> Any:
    """Plain data with infinite numbers as strings, because JSON has none."""
    if isinstance(value, dict):
        return {name: without_infinities(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_infinities(one) for one in value]
    return str(value) if isinstance(value, float) and math.isinf(value) else value
