"""Times BLEU-2..5 and Self-BLEU-2..5 of a set of texts: gptgan_jax.metrics.ngrams against NLTK.

    python -m benchmarks.bleu --texts 10000 --references 10000 --nltk 20
    python -m benchmarks.bleu --texts 5000 --references 5000 --file captions.txt
    python -m benchmarks.bleu --file poems.txt --unit character

Needs NLTK (`pip install nltk`). NLTK scores only the first texts, one at a time, and its time is extrapolated to all.
It gets the four orders in one call, so that it counts n-grams once for all of them.
"""

import argparse
import platform
import time
from collections.abc import Callable
from pathlib import Path

import nltk
import numpy as np
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

from benchmarks.machine import hardware
from gptgan_jax.metrics.ngrams import Words, bleu, self_bleu
from gptgan_jax.sources.grammar import english_scenes
from gptgan_jax.tokenization.units import plural, units_of

ORDERS = (2, 3, 4, 5)
WEIGHTS = [(1 / n,) * n for n in ORDERS]
REPEATS = 3


def main() -> None:
    options = parse_options()
    texts, references = load(options)
    share = min(options.nltk, len(texts))

    def nltk_bleu() -> list[list[float]]:
        return [of_nltk(references, text) for text in texts[:share]]

    def nltk_self_bleu() -> list[list[float]]:
        return [of_nltk([*texts[:i], *texts[i + 1 :]], texts[i]) for i in range(share)]

    def check(ours: dict[int, np.ndarray], theirs: list[list[float]]) -> float:
        """The largest difference, at most 1e-9."""
        difference = np.abs(np.stack([ours[n][:share] for n in ORDERS], axis=1) - theirs).max()
        if not difference <= 1e-9:
            raise SystemExit(f"the values differ from NLTK's by {difference:.3g}")
        return float(difference)

    apart = max(check(bleu(texts, references), nltk_bleu()), check(self_bleu(texts), nltk_self_bleu()))

    runs: list[Callable[[], object]] = [
        lambda: bleu(texts, references),
        nltk_bleu,
        lambda: self_bleu(texts),
        nltk_self_bleu,
    ]
    taken = np.array([[seconds(run) for run in runs] for _ in range(REPEATS)])  # interleaved
    ours_bleu, nltk_part_bleu, ours_self, nltk_part_self = np.median(taken, axis=0)

    words = sum(map(len, texts)) / len(texts)
    source = options.file or "grammar"
    print(
        f"{len(texts)} texts of {words:.1f} {plural(options.unit)} on average, {len(references)} references, {source}"
    )
    print(f"largest difference from NLTK over {share} texts: {apart:.1e}; medians of {REPEATS} interleaved repeats\n")
    print(f"| figure | gptgan_jax, all texts | NLTK, {share} texts | NLTK, all texts (extrapolated) | ratio |")
    print("|---|---:|---:|---:|---:|")
    rows = [
        ("BLEU-2..5", ours_bleu, nltk_part_bleu),
        ("Self-BLEU-2..5", ours_self, nltk_part_self),
        ("both", ours_bleu + ours_self, nltk_part_bleu + nltk_part_self),
    ]
    for name, ours, part in rows:
        whole = part * len(texts) / share
        print(f"| {name} | {ours:.2f} s | {part:.2f} s | {whole:,.0f} s | {whole / ours:,.0f} |")
    print(f"\n{hardware()}; Python {platform.python_version()}, NumPy {np.__version__}, NLTK {nltk.__version__}")


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=10_000, help="how many texts are scored")
    parser.add_argument("--references", type=int, default=10_000, help="against how many")
    parser.add_argument("--nltk", type=int, default=20, help="how many of the texts NLTK scores")
    parser.add_argument("--file", type=Path, help="one text a line; without it, sentences of the built-in grammar")
    parser.add_argument("--unit", choices=["word", "character"], default="word", help="of the n-grams")
    options = parser.parse_args()
    if options.texts < 2 or options.references < 1 or options.nltk < 1:
        parser.error("needs at least two texts, one reference and one text for NLTK")
    return options


def load(options: argparse.Namespace) -> tuple[list[Words], list[Words]]:
    """The first lines as texts, others as references; in a short file some are both, which does not affect the time."""
    texts, references = options.texts, options.references
    if options.file is None:
        lines = english_scenes().sample(np.random.default_rng(0), texts + references)
    else:
        lines = options.file.read_text(encoding="utf-8").splitlines()
    if len(lines) < max(texts, references):
        raise SystemExit(f"{options.file} has {len(lines)} lines, fewer than {texts} texts or {references} references")
    units: list[Words] = [*units_of(lines, options.unit)]
    first = min(texts, len(units) - references)
    return units[:texts], units[first : first + references]


def of_nltk(references: list[Words], text: Words) -> list[float]:
    return sentence_bleu(references, text, weights=WEIGHTS, smoothing_function=SmoothingFunction().method1)


def seconds(run: Callable[[], object]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
