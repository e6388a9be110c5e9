"""A discriminator's output on texts: its score per token, and the reliability of its classes."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gptgan_jax.evaluation.results import ScoredText
from gptgan_jax.metrics.class_scores import BINS, ReliabilityBin, expected_calibration_error
from gptgan_jax.metrics.error_places import changes
from gptgan_jax.reports.document import LEVELS, Block, Bullets, Coloured, Heading, Paragraph, Picture, Shade, to_html
from gptgan_jax.reports.figures import BLUE, ORANGE, blank_figure, tidied
from gptgan_jax.system.atomic_files import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RELIABILITY_FILE = "reliability.png"
RELIABILITY_ALT = "Accuracy over confidence of the classifier, and how many texts have each confidence"


def write_reliability(beside: Path, bins: Sequence[ReliabilityBin]) -> Path | None:
    """Writes the picture next to a file, as STEM-reliability.png; returns its path, or None without texts."""
    figure = reliability_figure(bins)
    if figure is None:
        return None
    path = beside.with_name(f"{beside.stem}-{RELIABILITY_FILE}")
    write_whole(path, Picture(RELIABILITY_FILE, RELIABILITY_ALT, figure).png)
    return path


def reliability_figure(bins: Sequence[ReliabilityBin]) -> "Figure | None":
    """Accuracy over the probability of the most likely class, above the number of texts; None without texts.

    The points of a calibrated classifier are on the diagonal; below it, the classifier is overconfident.
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


def write_score_page(path: Path, title: str, texts: Sequence[ScoredText], notes: Sequence[str]) -> None:
    """Writes an HTML page of texts whose tokens are coloured by what each adds to the score."""
    below: list[Block] = [Bullets(tuple(notes))] if notes else []
    page = to_html(title, [Heading(title, 1), *below, *score_blocks(texts)])
    write_whole(path, page.encode("utf-8", "replace"))


def score_blocks(texts: Sequence[ScoredText]) -> list[Block]:
    """An explanation of the colours, and the texts; a colour is full at the change that one token in twenty exceeds."""
    if not texts:
        return []
    steps = [changes(np.array(text.scores), text.start, text.window) for text in texts]
    sizes = np.abs(np.concatenate(steps))
    full = float(np.quantile(sizes[np.isfinite(sizes)], 0.95)) if np.isfinite(sizes).any() else 0.0
    full = full or 1.0
    wrong = any(text.wrong is not None for text in texts)
    part = "its window" if any(text.window for text in texts) else "the text"
    explained = (
        f"Each token is coloured by what it adds to the score of {part} before it, a logit: blue where that looks more "
        "like real text with it, orange where less. The steepest fall is framed (in plain text: bold)"
    )
    underlined = "; the first token that the grammar forbids is underlined (struck through)" if wrong else ""
    legend = tuple(Shade(f" {full * level / LEVELS:+.2f} ", level) for level in range(-LEVELS, LEVELS + 1))
    blocks: list[Block] = [Paragraph(f"{explained}{underlined}."), Coloured("change of the score", legend)]
    return blocks + [_coloured(text, step, full) for text, step in zip(texts, steps, strict=True)]


def _coloured(text: ScoredText, steps: np.ndarray, full: float) -> Coloured:
    fall, special = int(steps.argmin()), set(text.special)
    levels = np.nan_to_num(np.round(LEVELS * np.clip(steps / full, -1, 1))).astype(int)
    parts = tuple(
        Shade(
            token,
            int(levels[place]),
            f"{steps[place]:+.2f}, score {text.scores[place]:.2f}",
            place == fall,
            place == text.wrong,
            place in special,
        )
        for place, token in enumerate(text.tokens)
    )
    return Coloured(f"{text.column}, score {text.score:.2f}", parts)
