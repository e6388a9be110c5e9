"""Byte-pair encoding trained on a corpus: how a text is cut into pieces, inside which bytes are merged.

Between spaces the pieces are those of GPT-2 (Radford et al. 2019): a word with the space before it, a number, a run of
signs. Two things are added. A run is cut where it is longer than any word: else the time to learn would grow with the
square of the longest line. And in text without spaces between words, a piece has few characters. Else whole clauses of
the training text become tokens, and other text is spelt in shorter ones, so that what is learned and what is measured
are made of different tokens.
"""

from collections.abc import Sequence

import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

from gptgan_jax.tokenization.units import UNSPACED, spacing_of

# In characters: what may be a word, and the pieces of a run that is longer.
LONGEST_WORD, PIECE = 64, 8
# In characters: what a piece of text without spaces may have. The first is taken that spells unseen text in at most so
# many times the tokens of text that it was learned from; of a script without spaces a piece has no more than a phrase.
LENGTHS, PHRASE, ALIKE = (8, 4, 2, 1), 4, 1.1
# From this share of unspaced characters on, or where most texts have no space, that is measured; of how many parts
# of texts.
ENOUGH, FEWEST_PARTS, MOST_TEXTS, MOST_CHARACTERS, PART = 0.1, 50, 20_000, 2_000_000, 2000


def fit_byte_pairs(
    texts: Sequence[str], prompts: Sequence[str], vocab_size: int, special: Sequence[str]
) -> tokenizers.Tokenizer:
    """A byte-level BPE tokenizer that learned its merges from texts and prompts.

    Args:
        texts: at least one.
        prompts: what they answer, if anything.
        vocab_size: tokens at most, with the 256 bytes and the special ones.
        special: tokens that no text is encoded to, which get the first ids.
    """
    spacing = spacing_of(texts, prompts)
    learned = [*texts, *prompts]
    if spacing.alone > 0.5:
        pieces = [pattern(min(length, PHRASE), length) for length in LENGTHS]
    elif spacing.unspaced >= ENOUGH:
        pieces = [pattern(length) for length in LENGTHS if length <= PHRASE]
    else:
        pieces = [pattern(1)]
    some = _some(learned) if len(pieces) > 1 else []
    chosen = next((one for one in pieces[:-1] if _spells_alike(some, one, vocab_size)), pieces[-1])
    return _fitted(learned, chosen, vocab_size, special)


def pattern(length: int, word: int = LONGEST_WORD) -> str:
    """The pieces of a text as a regular expression.

    Args:
        length: characters of scripts without spaces in a piece, at most, each with its marks.
        word: other letters in a piece, digits, or signs; a run that is longer is cut into pieces of 8 or fewer.
    """
    unspaced = rf"(?:[{UNSPACED}]\p{{M}}{{0,{PIECE}}})"
    letter, in_word = rf"(?![{UNSPACED}])\p{{L}}", rf"(?:(?![{UNSPACED}])[\p{{L}}\p{{M}}])"
    piece = min(PIECE, word)
    sign = r"[^\s\p{L}\p{N}]"
    return "|".join(
        [
            "'s|'t|'re|'ve|'m|'ll|'d",
            rf" ?{unspaced}{{1,{length}}}",
            rf" ?{letter}{in_word}{{0,{word - 1}}}(?!{in_word})",
            rf" ?{letter}{in_word}{{0,{piece - 1}}}",
            rf" ?\p{{N}}{{1,{word}}}(?!\p{{N}})",
            rf" ?\p{{N}}{{1,{piece}}}",
            rf" ?{sign}{{1,{word}}}(?!{sign})",
            rf" ?{sign}{{1,{piece}}}",
            rf"\s{{1,{LONGEST_WORD}}}(?!\S)",
            rf"\s{{1,{LONGEST_WORD}}}",
        ]
    )


def _fitted(texts: Sequence[str], pieces: str, vocab_size: int, special: Sequence[str]) -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pieces), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return backend


def _some(texts: Sequence[str]) -> list[str]:
    """Parts of the texts, spread over all of them."""
    characters = sum(map(len, texts))
    step = max(-(-len(texts) // MOST_TEXTS), -(-characters // MOST_CHARACTERS), 1)
    return [text[i : i + PART] for text in texts[::step] for i in range(0, min(len(text), MOST_CHARACTERS), PART)]


def _spells_alike(texts: Sequence[str], pieces: str, vocab_size: int) -> bool:
    """Whether merges learned from nine tenths of the texts spell the last tenth in about as many tokens."""
    if len(texts) < FEWEST_PARTS:
        return False
    seen, unseen = [text for i, text in enumerate(texts) if i % 10], texts[::10]
    backend = _fitted(seen, pieces, vocab_size, ())
    learned, other = (_tokens_a_character(backend, some) for some in (seen, unseen))
    return other <= ALIKE * learned


def _tokens_a_character(backend: tokenizers.Tokenizer, texts: Sequence[str]) -> float:
    tokens = sum(len(encoding.ids) for encoding in backend.encode_batch(list(texts)))
    return tokens / max(sum(map(len, texts)), 1)
