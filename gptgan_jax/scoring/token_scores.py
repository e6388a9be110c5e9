"""A run's discriminator on texts, token by token: the score of every prefix, and the likelihood of each token.

On the grammar, where the first wrong token of a text is known, also how often the score finds it (`error_places`).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gptgan_jax.algorithms.compatibility import LOG_ODDS
from gptgan_jax.checkpoints.manager import Checkpoints
from gptgan_jax.checkpoints.steps import Saved
from gptgan_jax.config import LIKELIHOOD, Config
from gptgan_jax.config.estimators import CustomConfig, build_estimator
from gptgan_jax.data.batches import evaluation_batches
from gptgan_jax.data.config import GrammarData
from gptgan_jax.data.encoding import TokenisedSplit, unconditional_split
from gptgan_jax.distributed.hosts import fetched
from gptgan_jax.errors import UserError
from gptgan_jax.generation.batch_sizes import rows_at_once
from gptgan_jax.generation.texts import TextSet
from gptgan_jax.gradients.families import Mediated, without_discriminator
from gptgan_jax.metrics.error_places import (
    LEAST_TEXTS,
    NOWHERE,
    PLACED,
    first_ungrammatical,
    location_figures,
    steepest_fall,
)
from gptgan_jax.metrics.estimates import Figure
from gptgan_jax.models.discriminators import surprisal_of
from gptgan_jax.objectives.discrimination import DIFFERENCES_ONLY
from gptgan_jax.pretrained.hub import is_model
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.runs.records import read_metrics
from gptgan_jax.runs.start import has_start
from gptgan_jax.runs.trained import Writer, restore_discriminator, restore_generator, start_params
from gptgan_jax.sampling.decoding import log_probs
from gptgan_jax.sources.grammar import english_scenes
from gptgan_jax.tokenization.pieces import Piece, piece_reader, whole_words
from gptgan_jax.types import Array, Batch, Params

WHOLE_TEXTS = (
    "this discriminator learned from whole texts (objective.dense false): it never scored the beginning of a "
    "text in training, so only the score at the last token is meaningful"
)
WINDOWS = (
    "windows of {} tokens are scored separately (objective.window): a token's score is that of its window up to "
    "it, and a text's the mean of those at its windows' ends"
)
SURPRISALS = (
    "the discriminator is a language model (discriminator.surprisal): a token's score is its own surprisal in nats, "
    "and a text's the mean of its tokens'"
)
MARGINS = "by objective.pair_loss {} a score is a margin, and no probability can be read off it"
TOO_FEW = f"fewer than {LEAST_TEXTS} texts have a known error: too few to say how often it is found"


@dataclass(frozen=True, eq=False)
class TokenScore:
    """The scores of one text of n tokens, including its end.

    Attributes:
        pieces: the text of each token.
        score: of the whole text, a logit: the one at its last token. The mean of those at windows' ends, where windows
            are judged by themselves; of surprisals the mean of all.
        scores: float64 [n], of the text up to and including each token, or of its window so far, or of the token alone.
        start: the score that the first token's change is counted from: 0 (even odds), or, if the discriminator's loss
            fixes only differences of scores, its score of the empty text.
        log_probs: float64 [n], of each token under the generator, in nats; None without a generator.
        window: tokens after which the scores begin anew, see `window_of_scores`; 0: never.
    """

    pieces: list[Piece]
    score: float
    scores: np.ndarray
    start: float
    log_probs: np.ndarray | None = None
    window: int = 0

    @property
    def fall(self) -> int:
        """The position of the token at which the score falls most, or rises least."""
        return steepest_fall(self.scores, self.start, self.window)

    @property
    def surprise(self) -> int:
        """The position of the least likely token."""
        assert self.log_probs is not None
        return int(self.log_probs.argmin())


@dataclass(frozen=True, eq=False)
class Detector:
    """A run's discriminator, trained to distinguish real from generated text, and the generators to compare it with.

    Attributes:
        run: its configuration, tokenizer and networks.
        saved: the checkpoint.
        params: the discriminator's parameters in that checkpoint.
        writer: the generator's parameters in it.
        likelihood: the parameters of the generator trained by likelihood only: of the best such checkpoint, or those
            that the run started from; None if the run has neither.
    """

    run: Writer
    saved: Saved
    params: Params
    writer: Params
    likelihood: Params | None

    @property
    def name(self) -> str:
        """The checkpoint, in words."""
        return f"{self.saved.phase}/{self.saved.step}"

    @property
    def notes(self) -> list[str]:
        """See `notes_on_scores`."""
        return notes_on_scores(self.run.config)

    @cached_property
    def _read(self) -> Callable[[Iterable[int]], list[Piece]]:
        return piece_reader(self.run.tokenizer)

    @cached_property
    def _score(self) -> Callable[..., Any]:
        discriminator = self.run.discriminator

        @jax.jit
        def score(params: Params, batch: Batch) -> tuple[Array, Array, Array]:
            found = discriminator.scores(params, batch)
            empty = discriminator.scores(params, batch.replace(target_mask=jnp.zeros_like(batch.target_mask)))
            return found.sequence, found.tokens, empty.sequence

        return score

    @cached_property
    def _likely(self) -> Callable[..., Array]:
        generator = self.run.generator
        return jax.jit(lambda params, batch: log_probs(generator, params, batch))

    def score(self, split: TokenisedSplit, generator: Params | None = None) -> list[TokenScore]:
        """Scores each text of a split, in order, with the likelihood of its tokens under a generator's parameters."""
        size = rows_at_once(self.run.config.evaluation.batch_size, len(split), split.max_length * split.vocabulary.size)
        relative = self.run.config.objective.pair_loss in DIFFERENCES_ONLY
        window = window_of_scores(self.run.config)

        def judged() -> Iterable[Any]:
            for batch in evaluation_batches(split, size):
                likely = None if generator is None else self._likely(generator, batch)
                yield *self._score(self.params, batch), likely, batch.target_mask, batch.target

        found = []
        for whole, prefixes, empty, likely, mask, target in fetched(judged()):
            for row in np.flatnonzero(mask.any(axis=1)):
                own = mask[row]
                found.append(
                    TokenScore(
                        self._read(target[row][own].tolist()),
                        float(whole[row]),
                        prefixes[row][own].astype(np.float64),
                        float(empty[row]) if relative else 0.0,
                        None if likely is None else likely[row][own].astype(np.float64),
                        window,
                    )
                )
        return found

    def score_set(self, texts: TextSet, generator: Params | None = None) -> list[TokenScore]:
        """The same for texts without prompts."""
        data, vocabulary = self.run.config.data, self.run.generator.vocabulary
        return self.score(unconditional_split(texts.targets, vocabulary, data.max_length), generator)

    def score_answers(self, texts: TextSet, asked: TokenisedSplit) -> list[TokenScore]:
        """The same for texts that answer the prompts of a split in turn, if it has any."""
        answered = asked.subset(np.arange(len(texts)) % len(asked))
        return self.score(replace(answered, targets=texts.targets, labels=None, answers=None, before=None))

    @property
    def knows_errors(self) -> bool:
        """Whether the first wrong token of a text is known, because the run's data is the unlabelled grammar."""
        data = self.run.config.data
        return isinstance(data, GrammarData) and data.label is None and not self.run.conditional

    def error_places(self, texts: Iterable[TokenScore]) -> list[int]:
        """For each text, the position of the first token that no sentence of the grammar with the same beginning has;
        see `first_ungrammatical`."""
        words, grammar = whole_words(self.run.tokenizer), english_scenes()
        end = self._read(self.run.generator.vocabulary.ends[:1])
        places = []
        for text in texts:
            ended = text.pieces[-1:] == end
            pieces = [piece.text for piece in (text.pieces[:-1] if ended else text.pieces)]
            places.append(first_ungrammatical(pieces, ended, grammar, words))
        return places

    def location_figures(self, texts: TextSet, drawn: str) -> list[Figure]:
        """How often the steepest fall of the score of an ungrammatical text is at its first wrong token, compared with
        chance and with the least likely token under the likelihood model; none if errors are not known.

        Args:
            texts: N of them.
            drawn: how they were sampled, for the signatures.
        """
        if not self.knows_errors:
            return []
        scored = self.score_set(texts, self.likelihood)
        return located(scored, self.error_places(scored), drawn, self.name)


def located(scored: list[TokenScore], places: list[int], which: str, by: str) -> list[Figure]:
    """See `Detector.location_figures`.

    Args:
        scored: N texts, with the likelihood model's log-probabilities if there is one.
        places: the position of the first wrong token of each.
        which: the name of the texts.
        by: the discriminator's checkpoint.
    """
    wrong = [(text, place) for text, place in zip(scored, places, strict=True) if place != NOWHERE]
    likely = all(text.log_probs is not None for text, _ in wrong)
    return location_figures(
        [place for _, place in wrong],
        [len(text.scores) for text, _ in wrong],
        [text.fall for text, _ in wrong],
        [text.surprise for text, _ in wrong] if likely else None,
        f"{which}; discriminator {by}",
        f"{which}; the generator by likelihood alone",
    )


def too_few(figures: Iterable[Figure]) -> bool:
    """Whether the metrics of `located` say nothing, because too few texts are wrong."""
    return any(one.name == PLACED and (one.estimate.value or 0) < LEAST_TEXTS for one in figures)


def notes_on_scores(config: Config) -> list[str]:
    """What a reader of a discriminator's scores must know, one line each."""
    loss, window = config.objective.pair_loss, config.objective.window
    notes = {
        WHOLE_TEXTS: not config.objective.dense,
        WINDOWS.format(window): window,
        SURPRISALS: surprisal_of(config.discriminator) is not None,
        MARGINS.format(loss): not _gives_log_odds(config),
    }
    return [note for note, holds in notes.items() if holds]


def gives_probabilities(config: Config) -> bool:
    """Whether the sigmoid of a score is the probability that a text is real, if half of all texts are."""
    return _gives_log_odds(config) and not config.objective.window


def window_of_scores(config: Config) -> int:
    """The tokens after which scores begin anew: those of a window; 1, where each is of its token alone; 0: never."""
    return config.objective.window or int(surprisal_of(config.discriminator) is not None)


def _gives_log_odds(config: Config) -> bool:
    loss = config.objective.pair_loss
    return loss in LOG_ODDS and loss not in DIFFERENCES_ONLY


def problem_of_discriminator(folder: RunFolder, config: Config) -> str | None:
    """Why a run's discriminator never learns to distinguish real from generated text; None if it does."""
    classification = config.objective.classification
    if classification.weight and not classification.real_fake_weight:
        return "learned labels alone (objective.classification.real_fake_weight 0): its score says nothing"
    estimator, learns = config.objective.estimator, not config.adversarial.freeze_discriminator
    if isinstance(estimator, CustomConfig) and not config.warmup.steps:
        # Only the code of a user's own estimator says whether it has a discriminator, and that code is not run here.
        learns = learns and any("discriminator_loss" in line for line in read_metrics(folder.path))
    elif not isinstance(estimator, CustomConfig):
        built = build_estimator(estimator, config.adversarial.steps)
        if isinstance(built, Mediated):
            return f"is a mediator (objective.estimator {estimator.kind}): it learns next tokens, and no score"
        if without_discriminator(built):
            return f"is not trained: objective.estimator {estimator.kind} needs none"
    if not config.warmup.steps and not (config.adversarial.steps and learns):
        return "was never trained: give it steps with warmup.steps or adversarial.steps"
    return None


def choose_detector(checkpoints: Checkpoints, wanted: str = "best") -> Saved:
    """The checkpoint that a user names; `best` is the best of the adversarial phase, else the last of the warm-up.

    Raises:
        UserError: if there is none, or its discriminator has learned nothing yet.
    """
    saved = None
    if wanted == "best":
        saved = checkpoints.best("adversarial") or checkpoints.best("warmup")
    saved = saved or checkpoints.choose(wanted)
    if saved.phase in LIKELIHOOD:
        raise UserError(
            f"the discriminator of checkpoint {saved.phase}/{saved.step} has learned nothing yet; train the run further"
        )
    return saved


def load_detector(folder: RunFolder, checkpoints: Checkpoints, run: Writer, wanted: str = "best") -> Detector:
    """A run's discriminator, at a checkpoint that `choose_detector` selects.

    Raises:
        UserError: if it has not learned to distinguish real from generated text, or can't be read.
    """
    if problem := problem_of_discriminator(folder, run.config):
        raise UserError(f"{folder.path}: this run's discriminator {problem}")
    saved = choose_detector(checkpoints, wanted)
    params = restore_discriminator(checkpoints, saved, run.config, run.discriminator)
    writer = restore_generator(checkpoints, saved, run.config, run.generator)
    by_likelihood = checkpoints.best("likelihood")
    likelihood: Params | None = None
    if by_likelihood is not None:
        likelihood = restore_generator(checkpoints, by_likelihood, run.config, run.generator)
    elif _starts_by_likelihood(run.config) and has_start(folder.checkpoints):
        likelihood = start_params(folder.checkpoints, run.config, run.generator)
    return Detector(run, saved, params, writer, likelihood)


def detector_or_none(
    folder: RunFolder, checkpoints: Checkpoints, run: Writer, say: Callable[[str], None]
) -> "Detector | None":
    """The run's discriminator if it has learned something; else None, or, with a message, if it can't be read."""
    trained = any(saved.phase not in LIKELIHOOD for saved in checkpoints.all())
    if not trained or problem_of_discriminator(folder, run.config):
        return None
    try:
        return load_detector(folder, checkpoints, run)
    except UserError as error:
        say(f"left out: {error}")
        return None


def _starts_by_likelihood(config: Config) -> bool:
    """Whether the generator that a run starts from was trained by likelihood only, as far as its config says."""
    return is_model(config.init_from) or config.init_checkpoint in LIKELIHOOD
