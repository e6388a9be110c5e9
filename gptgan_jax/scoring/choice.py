"""The metric that chooses a phase's best checkpoint, if `evaluation.choose_by` names one: of samples, or recorded by
the steps."""

import itertools
import json
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from statistics import fmean
from typing import Any

import jax
import numpy as np

from gptgan_jax.algorithms.guards import SKIPPED
from gptgan_jax.config import Config
from gptgan_jax.config.choosing import COMMAND, GRAMMATICAL, JENSEN_SHANNON, Choice
from gptgan_jax.data.batches import evaluation_batches
from gptgan_jax.data.encoding import TokenisedSplit
from gptgan_jax.data.tokenizers import AnyTokenizer
from gptgan_jax.distributed.hosts import told_by_first
from gptgan_jax.errors import UserError
from gptgan_jax.generation.batch_sizes import rows_at_once
from gptgan_jax.generation.pace import Pause
from gptgan_jax.generation.texts import Drawing, TextSet, TextWriter, Written, text_set
from gptgan_jax.metrics.divergences import LogProbs, divergences
from gptgan_jax.metrics.ngrams import distinct_ngrams, distinct_texts, ngram_jensen_shannon
from gptgan_jax.scoring.held_out_likelihood import HeldOut
from gptgan_jax.scoring.source_likelihood import Source, misspelt, source_log_probs
from gptgan_jax.system.commands import Failed, missing_program, number_from
from gptgan_jax.tokenization.units import Unit, unit_for, units_of
from gptgan_jax.types import Params

_FAILED, _FOUND = "failed ", "found "
# A stream of its own: the final table is of other texts than those that chose.
_CHOICE_STREAM = 0xC4


class ChoiceFailed(UserError):
    """`evaluation.choose_command` printed no number."""


class SampleFigure:
    """One metric of samples, measured at the evaluations during training, always with the same random numbers."""

    def __init__(
        self,
        choice: Choice,
        config: Config,
        valid: TokenisedSplit,
        tokenizer: AnyTokenizer,
        source: Source | None,
        writer: TextWriter,
        likelihood: Callable[..., HeldOut],
    ) -> None:
        """Takes the run's configuration, validation text, tokenizer, source of the data, and functions that generate
        and score texts."""
        self.choice = choice
        self._config, self._tokenizer, self._source = config, tokenizer, source
        self._writer, self._likelihood = writer, likelihood
        evaluation = config.evaluation
        self._drawing = Drawing(evaluation.temperature, evaluation.top_k, evaluation.top_p)
        self._count = evaluation.choose_samples
        self._valid = valid.subset(np.arange(min(len(valid), self._count)))

    def check(self) -> None:
        """Raises UserError, before training, if the metric can't be computed."""
        if self.choice.name == COMMAND:
            command = self._config.evaluation.choose_command or ""
            program = missing_program(command)
            if program is not None:
                raise UserError(f"evaluation.choose_command {command!r}: there is no program {program!r}")
        if self.choice.name == JENSEN_SHANNON:
            valid = self._valid
            if valid.truncated_targets or valid.before is not None:
                raise UserError(
                    f"evaluation.choose_by {self.choice.name}: {valid.truncated_targets} validation texts are longer "
                    f"than data.max_length {valid.max_length}, and the source knows whole texts alone; raise it"
                )
            if len(valid) < 2:
                raise UserError(f"evaluation.choose_by {self.choice.name} needs two validation texts")
        if self.choice.name in (GRAMMATICAL, JENSEN_SHANNON) and self._source is not None:
            wrong = misspelt(self._real, self._source, self._tokenizer)
            if wrong:
                raise UserError(
                    f"evaluation.choose_by {self.choice.name}: {len(wrong)} of {len(self._valid)} validation texts are "
                    f"no sentences of the grammar as the tokenizer spells them (such as {wrong[0]!r}); choose another "
                    "tokenizer or figure"
                )

    def measure(self, params: Params, pause: Pause) -> float:
        """The metric of samples of these parameters; NaN if it is undefined.

        Raises:
            ChoiceFailed: the user's command printed no number.
            Exception: whatever `pause` raises, to stop.
        """
        prompts = self._valid.first_prompts(self._count)
        written = self._writer(params, self._config.seed + _CHOICE_STREAM, self._count, self._drawing, prompts, pause)
        texts = written.as_set()
        match self.choice.name:
            case "command":
                return self._by_command(written.texts, pause)
            case "grammatical":
                return float(np.isfinite(self._of_source(texts)).mean())
            case "jensen_shannon":
                return _number(self._jensen_shannon(params, written))
            case "bigram_jensen_shannon":
                return ngram_jensen_shannon(self._words(texts.texts), self._words(self._real.texts), 2)
            case "distinct_1" | "distinct_2" as name:
                return _number(distinct_ngrams(self._words(texts.texts), int(name[-1])).value)
            case "different_texts":
                return _number(distinct_texts(texts.texts).value)
        raise ValueError(f"{self.choice.name!r} is no figure of samples")

    @cached_property
    def _real(self) -> TextSet:
        return text_set(self._valid, self._tokenizer)

    @cached_property
    def _unit(self) -> Unit:
        prompts = self._valid.prompt_texts(self._tokenizer) if self._valid.prompts is not None else []
        tokenizer, asked = self._tokenizer, self._config.evaluation.unit
        return unit_for(asked, self._real.texts, prompts, tokenizer.as_unit, tokenizer.own_unit)

    def _words(self, texts: list[str]) -> list[list[str]]:
        return [list(words) for words in units_of(texts, self._unit)]

    def _of_source(self, texts: TextSet) -> np.ndarray:
        assert self._source is not None
        return source_log_probs(texts, self._source, self._tokenizer)

    @cached_property
    def _source_of_real(self) -> np.ndarray:
        return self._of_source(self._real)

    def _jensen_shannon(self, params: Params, written: Written) -> float | None:
        valid, size = self._valid, self._config.evaluation.batch_size
        size = rows_at_once(size, len(valid), valid.max_length * valid.vocabulary.size)
        nats = self._likelihood(params, evaluation_batches(valid, size), self._drawing).nats
        real = LogProbs(self._source_of_real, -nats)
        samples = LogProbs(self._of_source(written.as_set()), written.log_probs)
        return divergences(real, samples).jensen_shannon.value

    def _by_command(self, texts: list[str], pause: Pause) -> float:
        """Of several processes, only the first runs the command."""
        evaluation = self._config.evaluation
        command = evaluation.choose_command or ""
        asked = self._valid.prompt_texts(self._tokenizer) if self._valid.prompts is not None else []
        rows = ({"text": text} for text in texts)
        if asked:
            rows = ({"prompt": prompt} | row for prompt, row in zip(itertools.cycle(asked), rows, strict=False))
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)

        def look() -> None:
            if jax.process_count() == 1:  # all processes must ask as often whether they are to stop
                pause(COMMAND, 0, len(texts))

        def found() -> str:
            try:
                return f"{_FOUND}{number_from(command, lines, evaluation.choose_timeout, look)!r}"
            except Failed as failure:
                return f"{_FAILED}{failure}"

        said = told_by_first(found)
        pause(COMMAND, len(texts), len(texts))
        if said.startswith(_FAILED):
            raise ChoiceFailed(f"evaluation.choose_command {command!r} {said.removeprefix(_FAILED)}")
        return float(said.removeprefix(_FOUND))


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


class StepMeans:
    """The mean of a metric that a phase's steps record, if checkpoints are chosen by such a metric."""

    def __init__(self, name: str | None, first: int, every: int, earlier: Iterable[Mapping[str, Any]]) -> None:
        """Starts without lines, or with those of a resumed run.

        Args:
            name: of the metric; None if the phase's steps do not record it.
            first: global steps before the phase.
            every: steps between two evaluations.
            earlier: the phase's lines in the records of a resumed run.
        """
        self._name, self._first, self._every = name, first, every
        self._noted: dict[int, float] = {}
        for line in earlier:
            if SKIPPED not in line:
                self.note(line["step"], line)

    def note(self, step: int, line: Mapping[str, Any]) -> None:
        """Adds a step's line of the records, in which a value that was not finite is None."""
        if self._name is not None and self._name in line:
            value = line[self._name]
            self._noted[step] = float("nan") if value is None else float(value)

    def since_last_evaluation(self, step: int) -> float | None:
        """The mean over the lines up to an evaluated step; NaN without any, None if the phase records no such metric.

        Values are those of the records, so that the mean is the same after a resume.
        """
        if self._name is None:
            return None
        before = self._first + (step - self._first - 1) // self._every * self._every
        values = [value for at, value in self._noted.items() if before < at <= step]
        return float(told_by_first(lambda: repr(fmean(values) if values else float("nan"))))
