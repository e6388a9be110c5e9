"""Signs that text and tokenizer don't fit together, found before training: an error or an alarm."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from gptgan_jax.config import Config
from gptgan_jax.data.config import SPLITS, DataConfig, HfData, MixtureData, TextData
from gptgan_jax.data.corpora import Corpus, Split
from gptgan_jax.data.encoding import Ragged, TokenisedSplit
from gptgan_jax.data.holding_out import ALARM, UNSUITED
from gptgan_jax.data.tokenizers import (
    AnyTokenizer,
    BpeTokenizer,
    CharacterTokenizer,
    EndedIdTokenizer,
    IdsTokenizer,
    Tokenizer,
    TokenizerConfig,
    WordTokenizer,
)
from gptgan_jax.errors import UserError
from gptgan_jax.readers.files import named
from gptgan_jax.readers.places import line_with_word, row_with_word
from gptgan_jax.readers.row_sources import open_rows
from gptgan_jax.tokenization.chat_templates import prompt_text
from gptgan_jax.tokenization.token_ids import BadTokenId
from gptgan_jax.tokenization.units import Spacing, spacing_of

# The share of held-out tokens that may be unknown; above the second, nothing would be measured.
MANY_UNKNOWN, ALL_UNKNOWN = 0.5, 0.9
# Tokens per character in held-out text relative to training text, for at least that many texts.
LONGER_SPELLING, ENOUGH_TEXTS = 1.5, 20
# The number of tokens of a fitted vocabulary, relative to those of the training text.
LARGE_VOCABULARY = 0.1
LOOKED_AT = 1000
# The share of texts that may contain line breaks if the tokenizer loses them.
MOST_BROKEN = 0.01


@contextmanager
def located(config: Config) -> Iterator[None]:
    """Adds to the error for a text that should be token ids, and isn't, its file and line.

    Raises:
        UserError: in place of BadTokenId.
    """
    try:
        yield
    except BadTokenId as error:
        place = _place_of(config.data, error.word)
        hint = ""
        if error.too_large and isinstance(config.tokenizer, IdsTokenizer):
            size = config.tokenizer.vocab_size
            hint = f"; tokenizer.vocab_size is {size or 'not set, so the largest of the training text counts'}"
        raise UserError(f"{'' if place is None else place + ': '}{error}{hint}") from None


def _place_of(data: DataConfig, word: str) -> str | None:
    """Where a word occurs in the configured text: the split, the file and the line or row."""
    if isinstance(data, MixtureData):
        places = (_place_in(one, f"data.sources.{i}", word) for i, one in enumerate(data.parts()))
        return next((place for place in places if place is not None), None)
    return _place_in(data, "data", word)


def _place_in(data: DataConfig, section: str, word: str) -> str | None:
    """The same for one source, whose keys are in that section."""
    for which in SPLITS:
        name, key = getattr(data, which, None), f"{section}.{which}"
        if isinstance(data, TextData) and name is not None:
            found = line_with_word(key, name, word)
        elif isinstance(data, HfData) and (name is not None or which == "train"):
            columns = data.columns(labels=False, answers=False).names()
            rows = open_rows(key, data.path, data.name, name, which, data.streaming)
            found = row_with_word(rows, columns, word)
            key = key if name is None else f"{key}: {named(name)}"
        else:
            continue
        if found is not None:
            return f"{key}{': ' if isinstance(data, TextData) else ', '}{found}"
    return None


def text_alarms(
    config: TokenizerConfig | None,
    corpus: Corpus,
    tokenizer: AnyTokenizer,
    train: TokenisedSplit,
    held_out: Sequence[TokenisedSplit],
) -> list[str]:
    """A line for each sign that the metrics of a run mean little, to head its report.

    Args:
        config: of the tokenizer, if it was just fitted to this text; only then are texts refused.
        corpus: the text.
        tokenizer: which encoded it.
        train, held_out: the encoded splits.

    Raises:
        UserError: a tokenizer of words for text without spaces, or one of words or characters for held-out text that
            shares almost none of them with the training text.
    """
    if not isinstance(tokenizer, Tokenizer) or isinstance(tokenizer, EndedIdTokenizer):
        return []
    if corpus.words is not None or corpus.train.tokens is not None:
        return []
    spacing = _spacing(corpus.train)
    alarms = _unknown_words(config, spacing, tokenizer, train, held_out)
    alone = float(np.mean(_lengths(train) <= 1))
    if train.prompts is None and alone > 0.5 and not alarms:
        alarms.append(
            f"{alone:.0%} of the training texts are one token, so there is no order of tokens to learn; "
            f"{_other_kind(config, spacing)}, or tokenizer.vocab_size lower"
        )
    alarms += _lost_breaks(config, tokenizer, corpus.train.texts)
    if isinstance(config, BpeTokenizer) and min(len(corpus.train), len(corpus.valid)) >= ENOUGH_TEXTS:
        longer = _tokens_a_character(tokenizer, corpus.valid) / _tokens_a_character(tokenizer, corpus.train)
        if longer > LONGER_SPELLING:
            alarms.append(
                f"held-out text is spelt in {longer:.1f} times as many tokens a character as training text, whose own "
                "words are tokens: what is learned differs from what is measured; set tokenizer.vocab_size lower, or "
                "give it more text"
            )
    found = [UNSUITED + alarm for alarm in alarms]
    if not found and corpus.streamed is None and all(part.corpus.streamed is None for part in corpus.parts):
        found = [ALARM + alarm for alarm in _large_vocabulary(config, tokenizer, train)]
    return found


def check_blank(config: Config, tokenizer: AnyTokenizer) -> None:
    """Raises UserError if the tokenizer does not know the mark of a text's blanks."""
    if config.infilling is None:
        return
    blank = config.infilling.blank
    if unknown := tokenizer.unknown_words(blank):
        raise UserError(
            f"data.infilling.blank {blank!r}: the tokenizer does not know {unknown[0]!r}; choose a mark that it has, "
            "or add that to it (tokenizer.alphabet)"
        )


def broken_share(texts: Sequence[str]) -> float:
    """The share of texts that contain a line break, in a subset of them."""
    some = texts[:: max(len(texts) // LOOKED_AT, 1)]
    return sum("\n" in text.strip() for text in some) / max(len(some), 1)


def _large_vocabulary(config: TokenizerConfig | None, tokenizer: Tokenizer, train: TokenisedSplit) -> list[str]:
    """An alarm if the training text is too short for the vocabulary that was fitted to it."""
    fitted = isinstance(config, WordTokenizer | BpeTokenizer | CharacterTokenizer)
    if not fitted or (isinstance(config, CharacterTokenizer) and config.alphabet is not None):
        return []
    # Without the special tokens, and the bytes from which every vocabulary of byte pairs begins.
    size = tokenizer.vocabulary.size - (260 if isinstance(config, BpeTokenizer) else 4)
    count = round(len(train.targets.tokens) / (1 - train.cut_share))
    if size > LARGE_VOCABULARY * count and train.prompts is not None:
        count += _without_repeats(train.prompts)
    if size <= LARGE_VOCABULARY * count:
        return []
    fewer = "set tokenizer.vocab_size lower"
    if isinstance(config, WordTokenizer):
        fewer += ", raise tokenizer.min_count, or set tokenizer.kind to bpe"
    return [
        f"{size:,} tokens of the vocabulary were learned from {count:,} tokens of training text, more than one in ten, "
        f"so most are too rare to learn their use; {fewer}, or give it more text"
    ]


def _without_repeats(prompts: Ragged) -> int:
    """The number of tokens, where prompts that begin alike (a system's turn, a conversation so far) are read once."""
    rows = sorted(prompts[i].tolist() for i in range(len(prompts)))
    pairs = (zip(one, other, strict=False) for one, other in itertools.pairwise(rows))
    alike = sum(1 for pair in pairs for _ in itertools.takewhile(lambda both: both[0] == both[1], pair))
    return sum(map(len, rows)) - alike


def _lost_breaks(config: TokenizerConfig | None, tokenizer: Tokenizer, texts: Sequence[str]) -> list[str]:
    """An alarm if the tokenizer turns the line breaks of poems, code and the like into spaces."""
    share = broken_share(texts)
    if share < MOST_BROKEN or "\n" in tokenizer.decode(tokenizer.encode("a\nb")):
        return []
    kind = "the tokenizer" if config is None else f"tokenizer.kind {config.kind}"
    return [
        f"{share:.0%} of the training texts have line breaks inside, which {kind} loses: samples will have none; set "
        "tokenizer.kind to bpe"
    ]


def _unknown_words(
    config: TokenizerConfig | None,
    spacing: Spacing,
    tokenizer: Tokenizer,
    train: TokenisedSplit,
    held_out: Sequence[TokenisedSplit],
) -> list[str]:
    """Alarms for unknown tokens, and for a word tokenizer that takes whole texts for words."""
    if tokenizer.unk_id is None:
        return []
    alarms = []
    other = _other_kind(config, spacing)
    unknown = _share_of(tokenizer.unk_id, held_out)
    counted = f"{unknown:.0%} of held-out tokens are unknown"
    if isinstance(config, WordTokenizer) and spacing.unit == "character":
        said = "tokenizer.kind word: the training text has no spaces between words, so whole phrases or texts are words"
        if unknown > MANY_UNKNOWN:
            raise UserError(f"{said}, and {counted}; {other}")
        alarms.append(f"{said}; {other}")
    elif unknown > MANY_UNKNOWN:
        if _share_of(tokenizer.unk_id, [train]) > MANY_UNKNOWN:
            alphabet = isinstance(config, CharacterTokenizer) and config.alphabet is not None
            keys = "raise tokenizer.vocab_size or lower tokenizer.min_count"
            mend = f"{'name more in tokenizer.alphabet' if alphabet else keys}, or {other}"
        else:
            mend = f"if it is of the language and spelling of the training text, {other}; else hold out other text"
        if isinstance(config, WordTokenizer | CharacterTokenizer) and unknown > ALL_UNKNOWN:
            raise UserError(f"tokenizer.kind {config.kind}: {counted}, so nothing would be measured; {mend}")
        alarms.append(f"{counted}, and the figures are mostly of these; {mend}")
    asked = [split.prompts.tokens for split in held_out if split.prompts is not None]
    of_prompts = float(np.mean(np.concatenate(asked) == tokenizer.unk_id)) if any(map(len, asked)) else 0.0
    if of_prompts > MANY_UNKNOWN:
        alarms.append(f"{of_prompts:.0%} of the tokens of held-out prompts are unknown; {other}")
    return alarms


def _other_kind(config: TokenizerConfig | None, spacing: Spacing) -> str:
    """Advice on the kind of tokenizer: characters for text like Chinese, characters or byte pairs for molecules."""
    if isinstance(config, CharacterTokenizer) or spacing.unit == "word":
        return "set tokenizer.kind to bpe"
    of_characters = spacing.phrases > 0.5 or isinstance(config, BpeTokenizer)
    return "set tokenizer.kind to character" + ("" if of_characters else " or bpe")


def _spacing(split: Split) -> Spacing:
    some = list(split.prompts or ())[:: max(len(split) // LOOKED_AT, 1)]
    return spacing_of(split.texts, [prompt_text(prompt) for prompt in some])


def _share_of(unknown: int, splits: Sequence[TokenisedSplit]) -> float:
    """The share of unknown tokens in all texts, without their ends."""
    tokens = np.concatenate([split.targets.tokens for split in splits])
    words = tokens[~np.isin(tokens, splits[0].vocabulary.ends)]
    return float(np.mean(words == unknown)) if len(words) else 0.0


def _lengths(split: TokenisedSplit) -> np.ndarray:
    """int64 [N]: the number of tokens of each text, without its end."""
    offsets = split.targets.offsets
    return np.diff(offsets) - np.isin(split.targets.tokens[offsets[1:] - 1], split.vocabulary.ends)


def _tokens_a_character(tokenizer: Tokenizer, split: Split) -> float:
    """Tokens per character, in a subset of the texts."""
    texts = list(split.texts[:: max(len(split) // LOOKED_AT, 1)])
    return sum(map(len, tokenizer.encode_batch(texts))) / max(sum(map(len, texts)), 1)
