"""One token per character, or per symbol of several characters: `Cl` in a molecule, `ng` in a transcription.

A character is a Unicode code point, so a combining accent is a token of its own. The symbol `\\X` makes a token of each
grapheme cluster instead: what a reader takes for one character. White space is a character like any other, and decoding
puts nothing between tokens, so a text comes back unchanged.

The tokenizer is one of Hugging Face `tokenizers`, which splits by Oniguruma; symbols are a regular expression for that.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers

from gptgan_jax.errors import UserError

# Any character, including a line feed.
CHARACTER = r"[\s\S]"
# Replaces each match when matches are counted; from a private range, so that no text contains it.
_MARK = "\U0010fffd"
# Texts that a pattern is tried on, in addition to texts with all of its letters.
_PROBES, _TRIED = ("", "a", "C", "(=O)", "明 1."), 200
# With at least this share of unknown symbols in the training text, an alphabet must belong to another text.
MOST_UNKNOWN = 0.5
# The special characters of a regular expression.
_SPECIAL = re.compile(r"[][\\.^$*+?{}()|]")


def fit_characters(
    texts: Iterable[str],
    special: Sequence[str],
    vocab_size: int | None = None,
    min_count: int = 1,
    alphabet: Sequence[str] | None = None,
    symbols: str | None = None,
) -> tokenizers.Tokenizer:
    """A tokenizer of characters and symbols.

    Args:
        texts: what it is fitted to.
        special: tokens that no text is encoded to; they get the first ids, and the last one is the unknown token.
        vocab_size: how many symbols to keep, the most frequent ones, including special tokens; None: all.
        min_count: how often a symbol must occur to be kept.
        alphabet: all symbols in the order of their ids, regardless of the texts; of symbols with several characters the
            longest match is taken. None: the symbols of the texts.
        symbols: a regular expression for further strings that are one token.

    Raises:
        UserError: an invalid pattern, or one with empty matches; an alphabet with a symbol twice, or one for which most
            of the texts is unknown.
    """
    texts = list(texts)
    if alphabet is not None:
        alphabet = list(alphabet)
        _check_alphabet(alphabet, special)
    longer = sorted((one for one in alphabet or () if len(one) > 1), key=len, reverse=True)
    named = None if symbols is None else _checked(symbols, texts)
    # The text that decoding writes for an unknown symbol is read as one token again.
    patterns = [*map(_literal, (special[-1], *longer)), *([f"(?:{named})"] if named is not None else []), CHARACTER]
    splitter = pre_tokenizers.Split(Regex("|".join(patterns)), "isolated")
    plain = len(patterns) == 2
    counts = Counter(chain.from_iterable(texts)) if plain else Counter(_pieces(splitter, texts))
    if alphabet is None:
        known = [one for one, count in counts.items() if count >= min_count and one not in special]
        kept = (*special, *sorted(known, key=lambda one: (-counts[one], one)))[:vocab_size]
    else:
        kept = (*special, *alphabet)
        unknown = Counter({one: count for one, count in counts.items() if one not in set(alphabet)})
        if unknown.total() > MOST_UNKNOWN * counts.total():
            shown = ", ".join(repr(one) for one, _ in unknown.most_common(5))
            raise UserError(
                f"tokenizer.alphabet: {unknown.total() / counts.total():.0%} of the training text is not in it (such "
                f"as {shown}); name all symbols, or leave it out"
            )
    backend = tokenizers.Tokenizer(models.WordLevel({one: i for i, one in enumerate(kept)}, unk_token=special[-1]))
    backend.pre_tokenizer = splitter
    backend.decoder = decoders.Fuse()
    backend.add_special_tokens(list(special))
    return backend


def _check_alphabet(alphabet: Sequence[str], special: Sequence[str]) -> None:
    """Raises UserError for an invalid alphabet."""
    if not alphabet or "" in alphabet:
        raise UserError("tokenizer.alphabet: it has no symbol, or an empty one; name every symbol once")
    for one, count in Counter(alphabet).items():
        if count > 1:
            raise UserError(f"tokenizer.alphabet: the symbol {one!r} stands there {count} times; name it once")
        if one in special:
            raise UserError(f"tokenizer.alphabet: {one!r} is the name of a special token; leave it out")


def _checked(symbols: str, texts: Sequence[str]) -> str:
    """The pattern, with longer literal alternatives first. Raises UserError for an invalid pattern."""
    pattern = _longest_first(symbols)
    for candidate in (symbols, f"(?:{pattern})|{CHARACTER}"):
        try:
            Regex(candidate)
        except Exception as error:  # the library raises bare Exception
            reason = str(error).removeprefix("Oniguruma error: ")
            raise UserError(f"tokenizer.symbols: {symbols!r} is no regular expression ({reason})") from None
    mark = normalizers.Replace(Regex(pattern), _MARK)
    matches = pre_tokenizers.Split(Regex(pattern), "removed", invert=True)
    for text in (*_PROBES, re.sub(r"\W", "", symbols), *islice(texts, _TRIED)):
        text = text.replace(_MARK, "")
        if mark.normalize_str(text).count(_MARK) > len(matches.pre_tokenize_str(text)):
            raise UserError(
                f"tokenizer.symbols: {symbols!r} matches the empty string too (a * or ? that takes none?); every match "
                "should have a character"
            )
    return pattern


def _longest_first(pattern: str) -> str:
    """A pattern whose literal alternatives are sorted by length: otherwise the second of `C|Cl` would never match. The
    others keep their places."""
    parts = _alternatives(pattern)
    plain = [i for i, part in enumerate(parts) if part and not _SPECIAL.search(part)]
    for i, part in zip(plain, sorted((parts[i] for i in plain), key=len, reverse=True), strict=True):
        parts[i] = part
    return "|".join(parts)


def _alternatives(pattern: str) -> list[str]:
    """A pattern's top-level alternatives; those inside brackets are not split."""
    parts, depth, bracket, escaped = [""], 0, 0, False
    for sign in pattern:
        if not escaped and not bracket and not depth and sign == "|":
            parts.append("")
            continue
        parts[-1] += sign
        if escaped or sign == "\\":
            escaped = not escaped
        elif sign == "[":
            bracket += 1
        elif bracket:
            bracket -= sign == "]"
        else:
            depth += (sign == "(") - (sign == ")")
    return parts


def _literal(symbol: str) -> str:
    return _SPECIAL.sub(lambda sign: "\\" + sign[0], symbol)


def _pieces(splitter: pre_tokenizers.Split, texts: Sequence[str]) -> Iterator[str]:
    return (piece for text in texts for piece, _ in splitter.pre_tokenize_str(text))
