"""A run and its held-out text, loaded once for its table and its sweep, and its models that can be evaluated."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from gptgan_jax.checkpoints.manager import Checkpoints
from gptgan_jax.config import EmbedderName
from gptgan_jax.data.batches import evaluation_batches
from gptgan_jax.data.encoding import TokenisedSplit
from gptgan_jax.errors import UserError
from gptgan_jax.evaluation.candidates import RERANKED, RESIDUAL, START, Candidate, candidates
from gptgan_jax.evaluation.scores import source_log_probs
from gptgan_jax.generation.batch_sizes import rows_at_once
from gptgan_jax.generation.pace import News, paused
from gptgan_jax.generation.texts import Drawing, TextSet, TextWriter, Written, text_set
from gptgan_jax.mixtures.splits import in_proportion
from gptgan_jax.pretrained.hub import is_model
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.runs.held_out import HeldOutText, load_held_out
from gptgan_jax.runs.start import has_start
from gptgan_jax.runs.trained import Writer, load_writer, restore_generator, start_params
from gptgan_jax.scoring.held_out_likelihood import HeldOut, likelihood_of
from gptgan_jax.scoring.judge import Judge, judge_from
from gptgan_jax.scoring.reranked import Reranked
from gptgan_jax.scoring.residual import ResidualModel, restore_networks
from gptgan_jax.scoring.source_likelihood import misspelt
from gptgan_jax.scoring.tasks import Task
from gptgan_jax.tokenization.units import Unit, unit_for
from gptgan_jax.types import Params


class Model(Protocol):
    """A model that can be evaluated: it generates texts and gives their likelihood."""

    def write(self, count: int, drawing: Drawing) -> Written:
        """Generates `count` texts from the run's seed."""
        ...

    def answers(self, asked: TokenisedSplit, drawing: Drawing) -> Written:
        """Generates an answer to each prompt of a split, from the run's seed."""
        ...

    def likelihood(self, split: TokenisedSplit, drawing: Drawing) -> HeldOut:
        """The likelihood of a split under the distribution that `drawing` samples from."""
        ...


class Subject:
    """A run and everything that its evaluation needs, loaded once for its table and its sweep.

    Attributes:
        run: its configuration, tokenizer and network.
        text: the held-out text.
        split: the name of `text.test` in words.
        references, real: two disjoint sets of held-out texts. All texts are compared with the first; the second is real
            text that is scored as if it were samples. They are the test and the validation split; without test text,
            the two halves of the validation split. For a mixture, a part of them in the mixture's proportions.
    """

    def __init__(self, folder: RunFolder, say: Callable[[str], None], embedder: EmbedderName | None = None) -> None:
        """`embedder` replaces that of the configuration."""
        self.folder = folder
        self.embedder = embedder
        self.say = say
        self.run: Writer = load_writer(folder)
        self.text: HeldOutText = load_held_out(folder.path, self.run.generator.vocabulary)
        self.split = {"test": "test", "valid": "validation"}[self.text.split]
        self.references, self.real = self._halves()
        evaluation = self.run.config.evaluation
        self.writer = TextWriter(
            self.run.generator, self.run.tokenizer, self.run.config.data.max_length, evaluation.batch_size
        )
        self.likelihood_on = likelihood_of(self.run.generator)
        self.news = News(say)

    def _halves(self) -> tuple[TokenisedSplit, TokenisedSplit]:
        if self.text.split == "test":
            return in_proportion(self.text.test), in_proportion(self.text.valid)
        order = np.random.default_rng(0).permutation(len(self.text.test))
        middle = (len(order) + 1) // 2
        halves = (self.text.test.subset(np.sort(part)) for part in (order[:middle], order[middle:]))
        first, second = map(in_proportion, halves)
        return first, second

    @cached_property
    def reference_texts(self) -> TextSet:
        return text_set(self.references, self.run.tokenizer)

    @cached_property
    def real_texts(self) -> TextSet:
        return text_set(self.real, self.run.tokenizer)

    @cached_property
    def unit(self) -> Unit:
        """The unit of n-grams; by default that of the tokenizer or of real text."""
        tokenizer, texts = self.run.tokenizer, self.reference_texts.texts
        prompts = self.references.prompt_texts(tokenizer) if self.run.conditional else []
        return unit_for(self.run.config.evaluation.unit, texts, prompts, tokenizer.as_unit, tokenizer.own_unit)

    @cached_property
    def judge(self) -> Judge:
        train, evaluation = self.text.train, self.run.config.evaluation
        return judge_from(
            train.targets,
            f"{len(train)} training texts",
            train.vocabulary,
            train.max_length,
            evaluation.judge,
            self.embedder or evaluation.embedder,
            self.say,
        )

    def task(self, thorough: bool) -> Task | None:
        """Scores the run's answers to the first prompts of the references; None without a task."""
        evaluation = self.run.config.evaluation
        return None if evaluation.task is None else self.task_on(self.references, evaluation.samples, thorough)

    def task_on(self, split: TokenisedSplit, count: int, thorough: bool = False) -> Task:
        """Scores answers to the first `count` prompts of a split, in a run with a task."""
        name = self.run.config.evaluation.task
        assert name is not None
        asked = split.subset(np.arange(min(len(split), count)))
        word_for_word = self.run.config.infilling is not None
        return Task(name, asked, self.text.train, self.run.tokenizer, thorough, self.unit, word_for_word)

    def candidates(self, checkpoints: Checkpoints) -> list[Candidate]:
        """The checkpoints of this run to evaluate."""
        config = self.run.config
        started = is_model(config.init_from) and has_start(self.folder.checkpoints)
        evaluation, resampled_of = config.evaluation, config.objective.residual_candidates
        return candidates(checkpoints, resampled_of, evaluation.choose_by, started, evaluation.best_of)

    def model(self, checkpoints: Checkpoints, candidate: Candidate) -> Model:
        """The candidate, restored.

        Raises:
            UserError: if its checkpoint can't be read.
        """
        config = self.run.config
        if candidate.name == START:
            return GeneratorModel(self, start_params(self.folder.checkpoints, config, self.run.generator))
        length, batch_size = config.data.max_length, config.evaluation.batch_size
        windows = self.text.test.before is not None or self.text.valid.before is not None
        if windows and candidate.name in (RESIDUAL, RERANKED):
            raise UserError(
                f"{candidate.name}: some held-out documents are longer than data.max_length and split, and the "
                "likelihood of the rest of one given its beginning is not known"
            )
        if candidate.name == RESIDUAL:
            networks = restore_networks(checkpoints, candidate.saved, self.run)
            sizes = (length, config.objective.residual_candidates, config.seed, batch_size)
            residual = ResidualModel(networks, self.run.tokenizer, *sizes)
            return _Resampled(GeneratorModel(self, networks.params), residual)
        params = restore_generator(checkpoints, candidate.saved, config, self.run.generator)
        plain = GeneratorModel(self, params)
        if candidate.name != RERANKED:
            return plain
        sizes = (length, config.evaluation.best_of, config.seed, batch_size)
        return _Reranked(plain, Reranked(self.run.generator, params, self.run.tokenizer, *sizes))

    @cached_property
    def misspelt(self) -> list[str]:
        """Held-out texts that are none of their source as the tokenizer spells them; none if the source is unknown."""
        source, splits = self.text.source, {id(one): one for one in (self.text.test, self.text.valid)}
        if source is None or self.run.conditional:
            return []
        tokenizer = self.run.tokenizer
        return [text for one in splits.values() for text in misspelt(text_set(one, tokenizer), source, tokenizer)]

    def source_of(self, texts: TextSet) -> np.ndarray | None:
        """Log-probabilities under the source of the data; None if it is not known.

        They are also unknown if real texts were truncated or split, as the source's probability is that of a whole
        text, or if they are none of its texts as the tokenizer spells them.
        """
        held_out = self.text.test, self.text.valid
        if self.text.source is None or any(one.truncated_targets or one.before is not None for one in held_out):
            return None
        if self.misspelt:
            return None
        return source_log_probs(texts, self.text.source, self.run.tokenizer)


@dataclass(frozen=True, eq=False)
class GeneratorModel:
    """A generator of the run; its texts answer the prompts of the references, if there are any."""

    subject: Subject
    params: Params

    def write(self, count: int, drawing: Drawing) -> Written:
        subject = self.subject
        seed, prompts = subject.run.config.seed, subject.references.first_prompts(count)
        return subject.writer(self.params, seed, count, drawing, prompts, subject.news)

    def answers(self, asked: TokenisedSplit, drawing: Drawing) -> Written:
        seed, prompts = self.subject.run.config.seed, asked.first_prompts(len(asked))
        return self.subject.writer(self.params, seed, len(asked), drawing, prompts, self.subject.news)

    def likelihood(self, split: TokenisedSplit, drawing: Drawing) -> HeldOut:
        subject = self.subject
        logits = split.max_length * split.vocabulary.size
        size = rows_at_once(subject.run.config.evaluation.batch_size, len(split), logits)
        batches = paused(evaluation_batches(split, size), "likelihood", size, len(split), subject.news)
        return subject.likelihood_on(self.params, batches, drawing).of(split.sources)


@dataclass(frozen=True, eq=False)
class _Resampled:
    """The residual model of a generator and a discriminator."""

    plain: GeneratorModel
    residual: ResidualModel

    def write(self, count: int, drawing: Drawing) -> Written:
        return self.residual.write(count, drawing)

    def answers(self, asked: TokenisedSplit, drawing: Drawing) -> Written:
        raise NotImplementedError("a residual model answers no prompts")

    def likelihood(self, split: TokenisedSplit, drawing: Drawing) -> HeldOut:
        return self.residual.likelihood(self.plain.likelihood(split, drawing), split.targets, drawing)


@dataclass(frozen=True, eq=False)
class _Reranked:
    """A generator's likeliest of several texts."""

    plain: GeneratorModel
    reranked: Reranked

    def write(self, count: int, drawing: Drawing) -> Written:
        return self.reranked.write(count, drawing)

    def answers(self, asked: TokenisedSplit, drawing: Drawing) -> Written:
        raise NotImplementedError("best-of-N is not evaluated with prompts: its likelihood differs for every prompt")

    def likelihood(self, split: TokenisedSplit, drawing: Drawing) -> HeldOut:
        return self.reranked.likelihood(self.plain.likelihood(split, drawing), drawing)
