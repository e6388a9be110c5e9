"""Metrics of a discriminator as a classifier: accuracy, macro-F1, nats and calibration."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import jax
import numpy as np

from gptgan_jax.distributed.hosts import fetched
from gptgan_jax.errors import suggests_names
from gptgan_jax.metrics.estimates import Estimate, jackknife_error, mean_of, share_of
from gptgan_jax.models.discriminators import Discriminator
from gptgan_jax.types import Array, Batch, Params

BINS = 15


@dataclass(frozen=True)
class ReliabilityBin:
    """The texts whose most likely class has a probability in one interval.

    Attributes:
        count: the number of texts.
        confidence: the mean of that probability.
        accuracy: the share of the texts that are of that class.
    """

    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, eq=False)
class Told:
    """The predictions for N texts.

    Attributes:
        log_probs: float64 [N, K], log-probability of each class, in nats.
        labels: int [N], the class of each text; -1 if it has none.
    """

    log_probs: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def classes(self) -> np.ndarray:
        """The most likely class of each text, int [N]."""
        return self.log_probs.argmax(axis=1)

    def labelled(self) -> "Told":
        """The texts that have a label."""
        rows = self.labels >= 0
        return Told(self.log_probs[rows], self.labels[rows])

    # The following need a label for every text.

    def accuracy(self) -> Estimate:
        """The share of texts whose most likely class is the right one."""
        return share_of(self.classes == self.labels)

    def nats(self) -> Estimate:
        """Mean -log-probability of the right class, in nats per text."""
        return mean_of(-self.log_probs[np.arange(len(self)), self.labels])

    def macro_f1(self) -> Estimate:
        """See `macro_f1`; the error is from a jackknife over groups of texts."""
        chosen = self.classes
        error = jackknife_error(lambda rows: macro_f1(chosen[rows], self.labels[rows]), len(self))
        return Estimate(self.macro_f1_value(), error)

    def macro_f1_value(self) -> float:
        """See `macro_f1`; without its error."""
        return macro_f1(self.classes, self.labels)

    def reliability(self) -> list[ReliabilityBin]:
        """See `reliability_bins`."""
        return reliability_bins(np.exp(self.log_probs.max(axis=1)), self.classes == self.labels)

    def calibration_error(self) -> float:
        """See `expected_calibration_error`."""
        return expected_calibration_error(self.reliability())


@suggests_names
def macro_f1(predicted: np.ndarray, labels: np.ndarray) -> float:
    """The mean of F1 = 2 TP / (2 TP + FP + FN) over the classes that occur as labels or predictions.

    Args:
        predicted, labels: int [N].
    """
    scores = []
    for one in np.union1d(predicted, labels):
        right = np.sum((predicted == one) & (labels == one))
        scores.append(2 * right / (np.sum(predicted == one) + np.sum(labels == one)))
    return float(np.mean(scores)) if scores else 0.0


@suggests_names
def reliability_bins(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> list[ReliabilityBin]:
    """Texts by the probability of their most likely class, in intervals of equal width; empty ones are left out.

    Args:
        confidence: float [N], between 0 and 1.
        right: bool [N], whether that class is the right one.
        bins: the number of intervals; each includes its upper end.
    """
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    return [
        ReliabilityBin(int(inside.sum()), float(confidence[inside].mean()), float(right[inside].mean()))
        for one in range(bins)
        if (inside := place == one).any()
    ]


@suggests_names
def expected_calibration_error(bins: Iterable[ReliabilityBin]) -> float:
    """Mean |accuracy - confidence| of the bins, weighted by texts (Naeini et al. 2015; Guo et al. 2017)."""
    bins = list(bins)
    total = sum(one.count for one in bins)
    return sum(one.count * abs(one.accuracy - one.confidence) for one in bins) / total


def classes_told_by(discriminator: Discriminator) -> Callable[[Params, Iterable[Batch]], Told]:
    """A function (params, batches) -> Told, compiled once for the batches' shape.

    Rows of a batch whose target mask is all false are padding and are left out.
    """

    @jax.jit
    def log_probs(params: Params, batch: Batch) -> Array:
        classes = discriminator.scores(params, batch).classes
        if classes is None:
            raise ValueError("this discriminator has no classes")
        return jax.nn.log_softmax(classes, axis=-1)

    def tell(params: Params, batches: Iterable[Batch]) -> Told:
        rows, labels = [], []
        found = ((log_probs(params, batch), batch.target_mask, batch.label) for batch in batches)
        for told, mask, label in fetched(found):
            real = mask.any(axis=1)
            rows.append(told.astype(np.float64)[real])
            labels.append(label[real])
        return Told(np.concatenate(rows), np.concatenate(labels))

    return tell
