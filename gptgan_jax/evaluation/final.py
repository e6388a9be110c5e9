"""Evaluates each phase's best checkpoint of a run folder, and real text alike, and writes evaluation.json."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from gptgan_jax.checkpoints.manager import Checkpoints
from gptgan_jax.config import EmbedderName
from gptgan_jax.data.encoding import TokenisedSplit
from gptgan_jax.errors import UserError
from gptgan_jax.evaluation.candidates import Candidate
from gptgan_jax.evaluation.inherited import own_columns, with_baselines
from gptgan_jax.evaluation.memorisation import TrainingText
from gptgan_jax.evaluation.results import Column, Evaluation, Sweep, scored_samples, table_of
from gptgan_jax.evaluation.scores import (
    FRECHET,
    Ruler,
    judge_figures,
    likelihood_figures,
    reward_figures,
    source_figures,
    text_figures,
)
from gptgan_jax.evaluation.subject import Model, Subject
from gptgan_jax.generation.texts import Drawing, TextSet, text_set
from gptgan_jax.metrics.class_scores import ReliabilityBin
from gptgan_jax.metrics.divergences import LogProbs
from gptgan_jax.metrics.estimates import REAL, Figure
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.scoring.classifier import (
    CLASSIFIER,
    Classifier,
    class_figures,
    classifier_or_none,
    obedience_figures,
)
from gptgan_jax.scoring.held_out_likelihood import HeldOut
from gptgan_jax.scoring.judge import Judge
from gptgan_jax.scoring.tasks import GREEDY
from gptgan_jax.scoring.token_scores import Detector, detector_or_none
from gptgan_jax.tokenization.units import unit_notes

# If at least this share of held-out texts is in the training text, the signatures say so.
LABELLED_SHARE = 0.01


def evaluate_run(
    folder: RunFolder, say: Callable[[str], None], thorough: bool = True, embedder: EmbedderName | None = None
) -> Evaluation:
    """Scores the run's checkpoints and real text, adds baselines (`with_baselines`) and writes evaluation.json.

    Args:
        folder: of the run.
        say: called with one line of progress at a time.
        thorough: train models for the metrics that need them. Otherwise these are left out, and an earlier evaluation
            of the same checkpoints is reused.
        embedder: replaces the one in the run's configuration.

    Raises:
        UserError: if no checkpoint of a generator has been saved yet, or none can be read.
    """
    with Checkpoints(folder.checkpoints, read_only=True) as checkpoints:
        subject = Subject(folder, say, embedder)
        chosen = subject.candidates(checkpoints)
        if not chosen:
            raise UserError(f"{folder.path} has no checkpoint of a trained generator yet; train it further")
        earlier = Evaluation.load(folder.path)
        same = earlier is not None and own_columns(earlier) == [candidate.as_column() for candidate in chosen]
        if earlier is not None and same and not thorough:
            evaluation = with_baselines(earlier, folder, subject.run.config, say)
            if evaluation != earlier:
                evaluation.save(folder.path)
            return evaluation
        evaluation = _evaluate(subject, checkpoints, chosen, thorough)
    if earlier is not None and same and _by_one_embedder(earlier.sweep, evaluation):
        evaluation = replace(evaluation, sweep=earlier.sweep)
    evaluation = with_baselines(evaluation, folder, subject.run.config, say)
    evaluation.save(folder.path)
    return evaluation


def _by_one_embedder(sweep: Sweep | None, evaluation: Evaluation) -> bool:
    """Whether the distances of an earlier sweep and of the table, if both have some, use the same embedder."""
    of_table = {score.name: score.signature for score in evaluation.scores}
    of_sweep = {} if sweep is None else sweep.signatures
    ends = [some[FRECHET].rpartition("; ")[2] for some in (of_table, of_sweep) if FRECHET in some]
    return len(set(ends)) < 2


class _Measure:
    """Every metric of a column, computed in the same way for all columns."""

    def __init__(
        self, subject: Subject, judge: Judge | None, classifier: Classifier | None, detector: Detector | None
    ) -> None:
        self.subject, self.classifier, self.detector = subject, classifier, detector
        self.text, self.run = subject.text, subject.run
        evaluation = self.run.config.evaluation
        self.drawing = Drawing(evaluation.temperature, evaluation.top_k, evaluation.top_p)
        self.real = subject.real_texts.part(slice(0, evaluation.samples))
        self.count = len(self.real)
        if self.count < 2:
            raise UserError(f"{subject.folder.path}: {self.count} held-out text is too little; hold out more")
        self.drawn = f"{self.count} texts, {self.drawing}, the run's seed"
        training = TrainingText(self.text.copied, self.text.train.targets)
        references, paired = subject.reference_texts, self.run.conditional
        self.ruler = Ruler(references, training, judge, unit=subject.unit, paired=paired)
        self.task = subject.task(thorough=judge is not None)
        self.test = text_set(self.text.test, self.run.tokenizer)
        self.source_of_test = None if self.run.conditional else subject.source_of(self.test)
        self.held_out_on = f"{len(self.test)} {subject.split} texts, T={self.text.test.max_length}, {self.drawing}"
        in_training = float(self.text.copied(self.test.texts).mean())
        # Not with prompts: an answer may be right for many of them.
        if in_training >= LABELLED_SHARE and not self.run.conditional:
            self.held_out_on += f", {100 * in_training:.0f} % OF THEM IN THE TRAINING TEXT"

    def model(self, model: Model) -> tuple[list[Figure], TextSet]:
        """The scores of a model, and its texts."""
        written = model.write(self.count, self.drawing)
        held_out = model.likelihood(self.text.test, self.drawing)
        figures = self._figures(written.as_set(), held_out, written.log_probs)
        figures += self._obedience(written.as_set(), self.subject.references)
        if self.task is not None:
            figures += self.task.figures(model.write(len(self.task), GREEDY).texts)
            figures += self.task.drawn_figures(written.as_set(), self.drawn, self.ruler.seed)
        if self.detector is not None and not self.subject.misspelt:
            figures += self.detector.location_figures(written.as_set(), self.drawn)
        return figures, written.as_set()

    def _obedience(self, texts: TextSet, asked_by: TokenisedSplit) -> list[Figure]:
        """How well texts obey their prompts, if these are labels; the texts answer a split's prompts in turn."""
        if not self.run.config.label_prompts or asked_by.labels is None:
            return []
        asked = np.resize(asked_by.labels, len(texts))
        return obedience_figures(texts, asked, self.classifier, self.run, self.drawn)

    def real_text(self) -> list[Figure]:
        """The scores of real text; its likelihood is under its own source."""
        held_out = None
        if self.source_of_test is not None:
            held_out = HeldOut(-self.source_of_test, np.diff(self.test.targets.offsets))
        figures = self._figures(self.real, held_out, None) + self._obedience(self.real, self.subject.real)
        if self.task is not None:
            figures += self.task.real_figures(self.subject.real, self.drawn, self.ruler.seed)
        return figures

    def _figures(self, samples: TextSet, held_out: HeldOut | None, log_probs: np.ndarray | None) -> list[Figure]:
        """Without `log_probs`, the samples come from the source."""
        figures: list[Figure] = []
        if held_out is not None:
            targets = self.test.targets
            ends = np.isin(targets.tokens[targets.offsets[1:] - 1], self.run.generator.vocabulary.ends)
            figures += likelihood_figures(held_out, self.test.texts, self.held_out_on, ends, self.subject.unit)
        if self.source_of_test is not None and held_out is not None and self.text.source is not None:
            of_samples = self.subject.source_of(samples)
            assert of_samples is not None
            figures += source_figures(
                samples,
                self.text.source,
                LogProbs(self.source_of_test, -held_out.nats),
                LogProbs(of_samples, of_samples if log_probs is None else log_probs),
                self.drawn,
                self.held_out_on,
            )
        figures += text_figures(samples, self.ruler, self.drawn) + judge_figures(samples, self.ruler, self.drawn)
        return figures + reward_figures(samples, self.subject.run.config.objective.rewards, self.drawn)


def _evaluate(subject: Subject, checkpoints: Checkpoints, chosen: list[Candidate], thorough: bool) -> Evaluation:
    run, say = subject.run, subject.say
    of_classes = next((candidate.saved for candidate in chosen if candidate.name == CLASSIFIER), None)
    classifier = classifier_or_none(checkpoints, run, of_classes, say)
    detector = detector_or_none(subject.folder, checkpoints, run, say)
    measure = _Measure(subject, subject.judge if thorough else None, classifier, detector)
    reliability: list[ReliabilityBin] = []
    columns: dict[str, list[Figure]] = {}
    texts: dict[str, list[str]] = {}
    written: dict[str, TextSet] = {}
    evaluated: list[Column] = []
    for candidate in chosen:
        say(f"evaluating {candidate.name}: checkpoint {candidate.as_column().checkpoint}")
        if candidate.name == CLASSIFIER:
            if classifier is not None:
                told = classifier.tell(subject.text.test)
                columns[candidate.name] = class_figures(told, subject.split, run.classes)
                reliability = told.labelled().reliability()
                evaluated.append(candidate.as_column())
            continue
        try:
            model = subject.model(checkpoints, candidate)
        except UserError as error:
            say(f"left out: {error}")
            continue
        columns[candidate.name], samples = measure.model(model)
        texts[candidate.name] = samples.texts
        written[candidate.name] = samples.part(slice(0, run.config.evaluation.shown))
        evaluated.append(candidate.as_column())
    if not evaluated:
        raise UserError(f"{subject.folder.path}: none of its checkpoints can be read")
    if measure.task is not None:
        columns |= measure.task.baselines(measure.drawn, measure.ruler.seed)
    columns[REAL] = measure.real_text()
    # The real text shown next to an answer is the real answer to the same prompt.
    texts[REAL] = subject.reference_texts.texts if run.conditional else measure.real.texts
    shown = run.config.evaluation.shown
    first = subject.references.subset(np.arange(min(shown, len(subject.references))))
    prompts = first.prompt_texts(run.tokenizer) if run.conditional else []
    return Evaluation(
        columns=evaluated,
        scores=table_of(columns),
        shown={name: some[:shown] for name, some in texts.items()},
        prompts=[prompts[i % len(prompts)] for i in range(shown)] if prompts else [],
        notes=[*_notes(subject), *subject.text.notes],
        reliability=reliability,
        scored=[] if detector is None else scored_samples(detector, written, subject.references),
    )


def _notes(subject: Subject) -> list[str]:
    halves = "the validation split" if subject.text.split == "test" else "the other half of the validation split"
    references = "the test split" if subject.text.split == "test" else "half of the validation split"
    return [
        f"± is one standard error over texts. Samples are drawn from the run's seed, {subject.run.config.seed}.",
        f"References are {references}. Real text is {halves}, scored as if it were samples; if its source is known, "
        "its held-out NLL is that of the source itself, the lowest that any model can reach.",
        *unit_notes(subject.run.config.evaluation.unit, subject.unit),
        *_misspelt_note(subject),
    ]


def _misspelt_note(subject: Subject) -> list[str]:
    if not subject.misspelt:
        return []
    held_out = {id(one): len(one) for one in (subject.text.test, subject.text.valid)}
    return [
        f"{len(subject.misspelt)} of {sum(held_out.values())} held-out texts are no sentences of the grammar as the "
        f"tokenizer spells them (such as {subject.misspelt[0]!r}), so what is measured by the grammar is left out."
    ]
