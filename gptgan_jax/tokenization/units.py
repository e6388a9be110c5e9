"""Splits text into the units of metrics: words between spaces, characters in scripts without spaces between words, or
the tokens of a tokenizer."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Literal, Protocol

# What a tokenizer writes for an unknown character.
UNKNOWN = "<unk>"
UnitName = Literal["auto", "word", "character", "token"]


class Spelling(Protocol):
    """What a tokenizer must provide for its tokens to be a unit."""

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]: ...

    def decode(self, ids: Iterable[int]) -> str: ...


@dataclass(frozen=True, eq=False)
class Tokens:
    """The tokens of a tokenizer as a unit. Texts are encoded anew, whatever tokens they were generated in.

    Attributes:
        tokenizer: encodes the texts.
        content: distinguishes it from every other tokenizer.
    """

    tokenizer: Spelling
    content: str

    def __str__(self) -> str:
        return "token"

    @cached_property
    def plural(self) -> str:
        """Tokens of different tokenizers are different units, so metrics with these names get different rows."""
        return f"tokens of tokenizer {hashlib.blake2b(self.content.encode(), digest_size=4).hexdigest()}"


Unit = Literal["word", "character"] | Tokens

# Letters and marks, without digits and punctuation, as ranges of a regular expression's character class. They are
# written out because Python's `re` has no names for scripts, and other libraries' names differ.
IDEOGRAPHS = (
    "\u2e80-\u2fd5\u3005-\u3007\u3021-\u3029\u3031-\u3035\u303b\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # Han
    "\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f"  # Hiragana and Katakana
    "\u3105-\u312f\u31a0-\u31bf\ua000-\ua48c"  # Bopomofo and Yi
    "\U00016fe0-\U00018dff\U0001b000-\U0001b2ff\U00020000-\U000323af"  # Tangut, Nushu, rare kana and Han
)
SYLLABIC = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e80-\u0ecf\u0edc-\u0edf"  # Thai and Lao
    "\u0f00\u0f40-\u0fbc"  # Tibetan
    "\u1000-\u103f\u1050-\u108f\u109a-\u109f\ua9e0-\ua9ef\ua9fa-\ua9fe\uaa60-\uaa7f"  # Burmese and its neighbours
    "\u1780-\u17d3\u17d7\u17dc\u17dd"  # Khmer
    "\u1950-\u1974\u1980-\u19c9\u1a20-\u1a7f\uaa80-\uaadf"  # Tai Le, New Tai Lue, Tai Tham, Tai Viet
    "\u1b00-\u1b4b\ua980-\ua9c0"  # Balinese and Javanese
)
UNSPACED = IDEOGRAPHS + SYLLABIC

# Text in such a script may still separate words by spaces. Chinese words have 1.7 characters and Japanese ones little
# more, Thai and Khmer words 4 to 6: if the average is longer, spaces separate phrases.
_LONGEST_WORDS = {IDEOGRAPHS: 3.0, SYLLABIC: 9.0}
_RUNS = {letters: re.compile(f"[{letters}]") for letters in _LONGEST_WORDS}
_SPACED_WORD = re.compile(rf"(?:(?![{UNSPACED}])[^\W_])+")
# A sufficient sample: that many texts, spread over all of them, and that many characters of each.
_LOOKED_AT = 2000


@dataclass(frozen=True)
class Spacing:
    """How texts use spaces.

    Attributes:
        unspaced: the share of characters of scripts without spaces among all words and such characters.
        phrases: the same, counting only scripts whose words are not separated by spaces in these texts either.
        alone: the share of texts without any space inside, or that of prompts if it is lower.
    """

    unspaced: float
    phrases: float
    alone: float

    @property
    def unit(self) -> Literal["word", "character"]:
        """Characters if most texts have no space at all, or are mostly phrases in a script without spaces."""
        return "character" if max(self.phrases, self.alone) > 0.5 else "word"


def spacing_of(texts: Sequence[str], prompts: Sequence[str] = ()) -> Spacing:
    """Looks at real texts and at their prompts, if any: one-word answers to questions are words.

    Args:
        texts: N texts; blank ones are ignored.
        prompts: any number.
    """
    chunks = [text.split() for text in _some(texts)]
    chunks = [words for words in chunks if words]
    asked = [words for words in (prompt.split() for prompt in _some(prompts)) if words]
    if not chunks:
        return Spacing(0.0, 0.0, 0.0)
    unspaced = phrases = 0
    for letters, longest in _LONGEST_WORDS.items():
        counts = [len(_RUNS[letters].findall(word)) for word in chain.from_iterable(chunks)]
        count, having = sum(counts), sum(map(bool, counts))
        unspaced += count
        phrases += count if count > longest * having else 0
    words = sum(len(_SPACED_WORD.findall(word)) for word in chain.from_iterable(chunks))
    # Not over both together: how many of each are looked at would then decide.
    alone = min(sum(len(one) == 1 for one in some) / len(some) for some in (chunks, asked) if some)
    total = max(unspaced + words, 1)
    return Spacing(unspaced / total, phrases / total, alone)


def unit_for(
    asked: UnitName,
    texts: Sequence[str],
    prompts: Sequence[str] = (),
    tokens: Tokens | None = None,
    own: Literal["word", "character"] | None = None,
) -> Unit:
    """The requested unit.

    Args:
        asked: auto: the tokenizer's own unit if it has one, else that of the real texts, see `Spacing.unit`.
        texts, prompts: real ones.
        tokens: used for the unit `token`.
        own: the unit of the tokenizer's tokens, if they are always words or characters.

    Raises:
        ValueError: token, without a tokenizer.
    """
    if asked == "token":
        if tokens is None:
            raise ValueError("the unit token needs a tokenizer")
        return tokens
    if asked != "auto":
        return asked
    return own or spacing_of(texts, prompts).unit


def plural(unit: Unit) -> str:
    """The plural of a unit."""
    return unit.plural if isinstance(unit, Tokens) else f"{unit}s"


def unit_notes(asked: UnitName, unit: Unit, setting: str = "evaluation.unit", what: str = "N-grams are") -> list[str]:
    """Notes on the unit and the setting that chose it; none for words, which every signature names.

    Args:
        asked: the setting's value.
        unit: the chosen unit.
        setting: the setting's name for the user.
        what: what consists of such units, with its verb.
    """
    if unit == "word":
        return []
    if isinstance(unit, Tokens):
        return [f"N-grams are of the {unit.plural} ({setting} token)."]
    why = " auto: the real text has no spaces between words" if asked == "auto" else f" {asked}"
    return [f"{what} of characters, white space left out ({setting}{why})."]


def units_of(texts: Sequence[str], unit: Unit) -> list[list[str]]:
    """Each text as words (split at white space), as characters (Unicode code points without white space), or as the ids
    of its tokens. `<unk>`, which stands for an unknown character, is one character."""
    if isinstance(unit, Tokens):
        return [list(map(str, ids)) for ids in unit.tokenizer.encode_batch(texts)]
    words = [text.split() for text in texts]
    return words if unit == "word" else [_characters("".join(one)) for one in words]


def _characters(text: str) -> list[str]:
    return list(text) if UNKNOWN not in text else re.findall(f"{UNKNOWN}|.", text, re.DOTALL)


def first_units(text: str, count: int, unit: Unit) -> str:
    """The beginning of a text with at most `count` units; between words, white space is normalised."""
    if isinstance(unit, Tokens):
        return unit.tokenizer.decode(unit.tokenizer.encode_batch([text])[0][:count])
    if unit == "word":
        return " ".join(text.split()[:count])
    ends = [found.end() for found in re.finditer(rf"{UNKNOWN}|\S", text)]
    return text.strip() if count >= len(ends) else text[: ends[count - 1]].strip() if count else ""


def _some(texts: Sequence[str]) -> list[str]:
    step = max(len(texts) // _LOOKED_AT, 1)
    return [text[:_LOOKED_AT] for text in texts[::step]]
