"""The picture of a classifier's calibration."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gptgan_jax.metrics.class_scores import BINS, ReliabilityBin, expected_calibration_error
from gptgan_jax.reports.document import Picture
from gptgan_jax.reports.figures import BLUE, ORANGE, blank_figure, tidied
from gptgan_jax.system.atomic_files import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RELIABILITY_FILE = "reliability.png"
RELIABILITY_ALT = "Accuracy over confidence of the classifier, and how many texts have each confidence"


def write_reliability(beside: Path, bins: Sequence[ReliabilityBin]) -> Path | None:
    """Writes the picture beside a file, as STEM-reliability.png; its path, or None for no texts."""
    figure = reliability_figure(bins)
    if figure is None:
        return None
    path = beside.with_name(f"{beside.stem}-{RELIABILITY_FILE}")
    write_whole(path, Picture(RELIABILITY_FILE, RELIABILITY_ALT, figure).png)
    return path


def reliability_figure(bins: Sequence[ReliabilityBin]) -> "Figure | None":
    """Accuracy over the probability of the most likely class, and below it how many texts; None for no texts.

    A classifier whose probabilities are right is on the diagonal; below it, it is too sure of itself.
    """
    if not bins:
        return None
    figure = blank_figure(5.2)
    upper, lower = tidied(figure.subplots(2, 1, sharex=True, height_ratios=[3, 1]))
    confidence = [one.confidence for one in bins]
    upper.plot([0, 1], [0, 1], color="0.5", linestyle="--", linewidth=1, label="probabilities that are right")
    ece = expected_calibration_error(bins)
    label = f"the classifier; expected calibration error {ece:.3f}"
    upper.plot(confidence, [one.accuracy for one in bins], color=BLUE, marker="o", label=label)
    upper.set_ylabel("accuracy (share)")
    upper.set_ylim(-0.02, 1.02)
    upper.legend(loc="best", framealpha=0.9)
    lower.bar(confidence, [one.count for one in bins], width=0.6 / BINS, color=ORANGE)
    lower.set_ylabel("texts")
    lower.set_xlabel("probability of the most likely class")
    lower.set_xlim(0, 1.02)
    return figure
