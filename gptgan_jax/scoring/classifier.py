"""A run's discriminator as a classifier: its best checkpoint, its metrics, and whether text obeys its label."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from gptgan_jax.checkpoints.manager import Checkpoints
from gptgan_jax.checkpoints.retention import CLASS_METRIC
from gptgan_jax.checkpoints.steps import Saved
from gptgan_jax.config import LIKELIHOOD
from gptgan_jax.data.batches import evaluation_batches
from gptgan_jax.data.config import GrammarData
from gptgan_jax.data.encoding import Ragged, TokenisedSplit, unconditional_split
from gptgan_jax.errors import UserError
from gptgan_jax.generation.batch_sizes import rows_at_once
from gptgan_jax.generation.texts import TextSet
from gptgan_jax.metrics.class_scores import Told, classes_told_by
from gptgan_jax.metrics.estimates import Estimate, Figure, share_of
from gptgan_jax.runs.trained import Writer, restore_discriminator
from gptgan_jax.sources.grammar_labels import label_of
from gptgan_jax.types import Params

CLASSIFIER = "classifier"
CHOSEN = "least class error on validation text"


@dataclass(frozen=True, eq=False)
class Classifier:
    """The discriminator of a run with classes, and its parameters."""

    run: Writer
    params: Params

    def tell(self, split: TokenisedSplit) -> Told:
        """The predicted classes of a split's texts, in order, read as in training: after their prompts, if these are no
        labels."""
        size = rows_at_once(self.run.config.evaluation.batch_size, len(split))
        told = classes_told_by(self.run.discriminator)(self.params, evaluation_batches(split, size))
        labels = np.full(len(split), -1) if split.labels is None else split.labels
        return Told(told.log_probs, labels)

    def tell_targets(self, targets: Ragged) -> Told:
        """The same for token ids."""
        vocabulary, longest = self.run.generator.vocabulary, self.run.config.data.max_length
        return self.tell(unconditional_split(targets, vocabulary, longest))


def check_classifies(run: Writer) -> None:
    """Raises UserError if the run's discriminator predicts no classes."""
    if not run.config.classifies:
        raise UserError("this run's discriminator tells no classes; train one with objective.classification.weight")


def choose_classifier(checkpoints: Checkpoints, wanted: str = "best") -> Saved:
    """The checkpoint that a user names; `best` has the lowest class error on validation text.

    Raises:
        UserError: if the discriminator has not learned any classes at that checkpoint.
    """
    best = checkpoints.best_classifier() if wanted == "best" else None
    saved = best or checkpoints.choose("last" if wanted == "best" else wanted)
    if saved.phase in LIKELIHOOD:
        raise UserError(
            f"the discriminator of checkpoint {saved.phase}/{saved.step} has learned nothing yet; train the run further"
        )
    return saved


def load_classifier(checkpoints: Checkpoints, run: Writer, saved: Saved) -> Classifier:
    """Raises UserError if the checkpoint can't be read."""
    return Classifier(run, restore_discriminator(checkpoints, saved, run.config, run.discriminator))


def classifier_or_none(
    checkpoints: Checkpoints, run: Writer, saved: Saved | None, say: Callable[[str], None]
) -> Classifier | None:
    """The run's classifier; None without one (`saved`), or, with a message, if its checkpoint can't be read."""
    try:
        return None if saved is None else load_classifier(checkpoints, run, saved)
    except UserError as error:
        say(f"left out: {error}")
        return None


def class_errors(told: Told) -> dict[str, float]:
    """The recorded metrics of labelled validation texts; NaN if there are none."""
    accuracy, nats = told.accuracy().value, told.nats().value
    return {
        CLASS_METRIC: np.nan if accuracy is None else 1 - accuracy,
        "valid_macro_f1": told.macro_f1_value(),
        "valid_class_nats": np.nan if nats is None else nats,
    }


def class_figures(told: Told, which: str, classes: Sequence[str]) -> list[Figure]:
    """Metrics of the texts that have a label; none if no text has one.

    Args:
        told: the classifier's predictions.
        which: the name of the texts, such as "test".
        classes: the names of the labels.
    """
    told = told.labelled()
    if not len(told):
        return []
    signature = f"{len(told)} labelled {which} texts, {len(classes)} classes"
    error = Estimate(told.calibration_error())
    return [
        Figure("class accuracy", "share", told.accuracy(), signature, "higher"),
        Figure("class macro-F1", "", told.macro_f1(), f"{signature}; those that occur or were predicted", "higher"),
        Figure("class NLL", "nats/text", told.nats(), signature, "lower"),
        Figure("expected calibration error", "share", error, f"{signature}; 15 bins of equal width", "lower"),
    ]


def obedience_figures(
    texts: TextSet, asked: np.ndarray, classifier: Classifier | None, run: Writer, drawn: str
) -> list[Figure]:
    """The share of texts with the requested class: by the classifier and, on the grammar, exactly.

    Args:
        texts: N texts.
        asked: int [N], the requested class of each; -1 for none, and such texts are left out.
        classifier: None if there is none.
        run: the run that generated them.
        drawn: how they were sampled, for the signatures.
    """
    rows = np.flatnonzero(asked >= 0)
    if not len(rows):
        return []
    some, asked = texts.part(rows), asked[rows]
    figures = []
    data = run.config.data
    if isinstance(data, GrammarData) and data.label is not None:
        found = [label_of(text, data.label) for text in some.texts]
        right = np.array([label == run.classes[i] for label, i in zip(found, asked, strict=True)])
        obeyed = f"{drawn}; by the {data.label} of its derivation"
        figures.append(Figure("obeys its label", "share", share_of(right), f"{obeyed}; not if ungrammatical", "higher"))
        parsed = np.array([label is not None for label in found])
        figures.append(Figure("obeys its label, if grammatical", "share", share_of(right[parsed]), obeyed, "higher"))
    if classifier is not None:
        agreed = classifier.tell_targets(some.targets).classes == asked
        by = f"{drawn}; by the run's own classifier"
        figures.append(Figure("obeys its label, as classified", "share", share_of(agreed), by, "real"))
    return figures
