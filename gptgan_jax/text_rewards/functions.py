"""The built-in reward functions. Each takes N texts and returns N numbers; higher is better."""

import functools
import re
from collections.abc import Sequence
from typing import Literal

from gptgan_jax.errors import UserError
from gptgan_jax.metrics.exact_match import exact_match
from gptgan_jax.metrics.ngrams import bleu as sentence_bleu
from gptgan_jax.sources.grammar import english_scenes
from gptgan_jax.text_rewards.calling import Function
from gptgan_jax.text_rewards.molecules import drug_likeness, valid_molecule
from gptgan_jax.tokenization.units import unit_for, units_of


def exact_answer(texts: Sequence[str], references: Sequence[str]) -> list[float]:
    """1 if the final answer of a text is that of the reference, otherwise 0; see `metrics.exact_match`.

    The reference is the real text for the same prompt, or the value in `data.answer_column`.
    """
    return [float(right) for right in exact_match(texts, references)]


def length(
    texts: Sequence[str],
    tokens: Sequence[Sequence[int]],
    target: float = 0.0,
    unit: Literal["tokens", "words", "characters"] = "tokens",
) -> list[float]:
    """Minus the distance of a text's length from the target: 0 at the target, -1 if it is off by one unit.

    Args:
        texts, tokens: N texts, and their token ids, including the end of text.
        target: the desired length.
        unit: of the length.
    """
    lengths = {
        "tokens": lambda: [len(ids) for ids in tokens],
        "words": lambda: [len(text.split()) for text in texts],
        "characters": lambda: [len(text) for text in texts],
    }
    if unit not in lengths:
        raise UserError(f"reward length: unit {unit!r} should be one of {', '.join(lengths)}")
    return [-abs(count - target) for count in lengths[unit]()]


def pattern(texts: Sequence[str], pattern: str, whole: bool = False) -> list[float]:
    r"""1 if a Python regular expression is found in a text, otherwise 0.

    Args:
        texts: N texts.
        pattern: such as "####\s*-?\d+$"; with (?s) a dot is any character.
        whole: it must match the whole text.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UserError(f"reward pattern: {pattern!r} is no regular expression: {error}") from None
    found = compiled.fullmatch if whole else compiled.search
    return [float(found(text) is not None) for text in texts]


def bleu(
    texts: Sequence[str],
    references: Sequence[str],
    n: int = 2,
    alone: bool = False,
    unit: Literal["auto", "word", "character"] = "auto",
) -> list[float]:
    """Sentence BLEU-n, in [0, 1], against the real texts of the step: PG-BLEU, the baseline of SeqGAN (Yu et al. 2017).

    Args:
        texts: N texts.
        references: the real text for each one's prompt.
        n: the longest n-gram.
        alone: compare only with the reference of the same prompt, not with those of all prompts. This is right if texts
            answer prompts; parallel workers require it, as no worker sees all references.
        unit: n-grams of words or of characters. auto: that of the tokenizer or the training text, like
            `evaluation.unit`; if the function is called directly, that of the references.
    """
    if n < 1:
        raise UserError(f"reward bleu: n {n} should be at least 1")
    if unit not in ("auto", "word", "character"):
        raise UserError(f"reward bleu: unit {unit!r} should be one of auto, word, character")
    chosen = unit_for(unit, references)
    written, real = units_of(texts, chosen), units_of(references, chosen)
    if alone:
        return [float(sentence_bleu([one], [other], (n,))[n][0]) for one, other in zip(written, real, strict=True)]
    return [float(value) for value in sentence_bleu(written, list(map(list, dict.fromkeys(map(tuple, real)))), (n,))[n]]


def grammatical(texts: Sequence[str]) -> list[float]:
    """1 if the built-in grammar of English scenes can derive a text, otherwise 0."""
    return [float(_derivable(text)) for text in texts]


@functools.lru_cache(maxsize=100_000)
def _derivable(text: str) -> bool:
    return english_scenes().derivation(text) is not None


BUILT_IN: dict[str, Function] = {
    "exact_answer": exact_answer,
    "length": length,
    "pattern": pattern,
    "bleu": bleu,
    "grammatical": grammatical,
    "valid_molecule": valid_molecule,
    "drug_likeness": drug_likeness,
}
"""The functions by their names in a configuration."""

NEEDS_WHOLE_STEP = ("bleu",)
"""Functions whose value for a text depends on the other texts, so that workers can't split them."""
