"""Byte-pair encoding trained on a corpus. A text is first split into pieces; bytes are merged only within a piece.

Pieces are those of GPT-2 (Radford et al. 2019): a word with the space before it, a number, a run of signs. There are
two additions. A run longer than any word is cut; otherwise training time would grow with the square of the longest
line. And in text without spaces between words, a piece has few characters. Otherwise whole clauses of the training text
would become tokens, while other text is spelt in shorter ones, so that training and evaluation would see different
tokens.
"""

from collections.abc import Sequence

import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

from gptgan_jax.tokenization.units import UNSPACED, spacing_of

# In characters: the longest word, and the pieces of a longer run.
LONGEST_WORD, PIECE = 64, 8
# In characters: candidates for the longest piece of text without spaces. The first is taken for which unseen text needs
# at most ALIKE times the tokens of the text that it was learned from. In a script without spaces PHRASE is the limit.
LENGTHS, PHRASE, ALIKE = (8, 4, 2, 1), 4, 1.1
# That is measured from this share of unspaced characters on, or if most texts have no space; and on how many parts of
# texts.
ENOUGH, FEWEST_PARTS, MOST_TEXTS, MOST_CHARACTERS, PART = 0.1, 50, 20_000, 2_000_000, 2000


def fit_byte_pairs(
    texts: Sequence[str], prompts: Sequence[str], vocab_size: int, special: Sequence[str]
) -> tokenizers.Tokenizer:
    """A byte-level BPE tokenizer trained on texts and prompts.

    Args:
        texts: at least one.
        prompts: their prompts, if any.
        vocab_size: the maximum number of tokens, including the 256 bytes and the special ones.
        special: tokens that no text is encoded to; they get the first ids.
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
    """A regular expression that matches the pieces of a text.

    Args:
        length: the most characters of scripts without spaces in a piece, each with its marks.
        word: the most other letters, digits, or signs in a piece; a longer run is cut into pieces of 8 or fewer.
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
    """Whether merges learned from nine tenths of the texts need about as many tokens for the last tenth."""
    if len(texts) < FEWEST_PARTS:
        return False
    seen, unseen = [text for i, text in enumerate(texts) if i % 10], texts[::10]
    backend = _fitted(seen, pieces, vocab_size, ())
    learned, other = (_tokens_a_character(backend, some) for some in (seen, unseen))
    return other <= ALIKE * learned


def _tokens_a_character(backend: tokenizers.Tokenizer, texts: Sequence[str]) -> float:
    tokens = sum(len(encoding.ids) for encoding in backend.encode_batch(list(texts)))
    return tokens / max(sum(map(len, texts)), 1)
