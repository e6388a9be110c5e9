"""In-filling: any text becomes prompts with blanks and the units that are missing there, in order, as their answers.

    the cat sat on the mat  ->  prompt "the _ sat on _ mat", answer "cat the"

This is the task of MaskGAN (Fedus et al. 2018, arXiv:1801.07736) in the form of Donahue et al. 2020 (arXiv:2005.05339):
only what is missing is generated, by a reader of all that is there. Every missing unit leaves one blank, so the answer
needs no separators: its words fill the blanks in turn, and its characters those of a text without spaces.
"""

import dataclasses
import hashlib
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from pydantic import model_validator

from gptgan_jax.data.holding_out import counted
from gptgan_jax.errors import UserError, suggests_names
from gptgan_jax.schema import config_dataclass, key
from gptgan_jax.tokenization.units import plural, unit_for

if TYPE_CHECKING:
    from gptgan_jax.data.corpora import Corpus, Split

_CHUNK = re.compile(r"\S+")
# Marks to propose where a text has the one that is set.
_OTHER_BLANKS = ("_", "□", "<blank>", "[BLANK]", "⟨blank⟩")
_SKIN_TONES = range(0x1F3FB, 0x1F400)


@config_dataclass
class InfillingConfig:
    """The task of filling in blanks of a text."""

    share: float = key(
        0.0,
        "share of each text's units that are left out, rounded, and at least one; 1: all of them, so that only the "
        "length is known; 0: no in-filling",
        ge=0,
        le=1,
    )
    spans: Literal["contiguous", "random"] = key(
        "contiguous", "contiguous: the missing units of a text are neighbours; random: each is drawn by itself"
    )
    blank: str = key("_", "mark in place of each missing unit; it may occur nowhere in the text", min_length=1)
    unit: Literal["auto", "word", "character"] = key(
        "auto",
        "what is left out: words between spaces, or characters with their accents; auto: characters if the training "
        "text has no spaces between words",
    )
    copies: int = key(
        1, "prompts made of each training text, each with other blanks; of held-out text always one", ge=1
    )
    longest: int | None = key(
        None,
        "units of a text at most; longer documents are cut into such parts, one after another; null: no limit",
        ge=1,
    )

    @model_validator(mode="after")
    def _check(self) -> "InfillingConfig":
        if any(map(str.isspace, self.blank)):
            raise ValueError(
                f"blank {self.blank!r} has white space, which separates words; give a mark without, like _"
            )
        return self


class Pair(NamedTuple):
    """A text with blanks, and what is missing there.

    Attributes:
        prompt: the text with a blank in place of each missing unit, its white space unchanged.
        answer: the missing units in order. Between two of them is a space where the text has white space, else nothing.
    """

    prompt: str
    answer: str


@suggests_names
def blanked(
    text: str, config: InfillingConfig, unit: Literal["word", "character"] = "word", seed: int = 0, copy: int = 0
) -> Pair | None:
    """A text with `config.share` of its units left out, as a function of the arguments only.

    Args:
        text: in which the blank does not occur.
        config: how much is left out, and how. Of n units, share * n are missing, a half rounded up, and at least one.
        unit: what is left out.
        seed, copy: other blanks for another seed or copy.

    Returns:
        the pair, whose prompt filled with its answer is the text; None if the text has no unit or the share is 0.

    Raises:
        UserError: the blank occurs in the text, or can't be told from the characters next to it.

    Example:
        >>> config = gg.data.InfillingConfig(share=0.5, spans="random")
        >>> gg.data.blanked("the cat sat on the mat", config)
        Pair(prompt='the _ _ on _ mat', answer='cat sat the')
    """
    if config.blank in text:
        raise UserError(f"blank {config.blank!r} occurs in {_shown(text)}; choose a mark that no text has")
    units = _units(text, unit)
    missing = _missing(len(units), config, _generator(text, seed, copy))
    if not len(missing):
        return None
    kept: list[str] = []
    answer: list[str] = []
    end = 0
    for i in missing:
        begin, stop = units[i]
        kept.append(text[end:begin])
        answer.append((" " if answer and not _same_chunk(kept[-1]) else "") + text[begin:stop])
        end = stop
    kept.append(text[end:])
    prompt = config.blank.join(kept)
    if prompt.split(config.blank) != kept:  # a mark of several characters that overlaps with its neighbours
        raise UserError(
            f"blank {config.blank!r} can't be told from the characters next to it in {prompt[:60]!r}; choose another "
            "mark, such as one character that no text has"
        )
    return Pair(prompt, "".join(answer))


@suggests_names
def fill(prompt: str, answer: str, blank: str = "_") -> str:
    """The text that a prompt with blanks and an answer make together.

    A blank between white space takes the next word of the answer. Where blanks and other characters touch, as in text
    without spaces, they share a word of it: one character each, with its accents.

    Args:
        prompt: a text with blanks.
        answer: what is missing, in order.
        blank: the mark.

    Raises:
        ValueError: the answer has more or fewer fillings than the prompt has blanks.

    Example:
        >>> gg.data.fill("the _ sat on _ mat", "cat the")
        'the cat sat on the mat'
        >>> gg.data.fill("春_花_夜", "江月")
        '春江花月夜'
    """
    chunks = [chunk for chunk in _CHUNK.finditer(prompt) if blank in chunk[0]]
    words = answer.split()
    if len(chunks) != len(words):
        places = counted(len(chunks), "place")
        raise ValueError(
            f"the blanks of the prompt stand in {places} between white space, and the answer has "
            f"{counted(len(words), 'word')}"
        )
    filled, end = [], 0
    for chunk, word in zip(chunks, words, strict=True):
        parts = chunk[0].split(blank)
        fillings = [word] if chunk[0] == blank else [word[a:b] for a, b in _clusters(word)]
        if len(fillings) != len(parts) - 1:
            raise ValueError(f"{chunk[0]!r} has {counted(len(parts) - 1, 'blank')}, and {word!r} fills {len(fillings)}")
        filled.append(prompt[end : chunk.start()])
        filled += [piece for pair in zip(parts, [*fillings, ""], strict=True) for piece in pair]
        end = chunk.end()
    return "".join([*filled, prompt[end:]])


@dataclasses.dataclass
class Filling:
    """Fills prompts with answers that may not fit.

    Attributes:
        blank: the mark.
        unfit: number of answers so far that did not fit.
    """

    blank: str
    unfit: int = 0

    def of(self, prompt: object, answer: str) -> str | None:
        """`fill`, but None if the answer does not fit, or the prompt is no text."""
        try:
            if isinstance(prompt, str):
                return fill(prompt, answer, self.blank)
        except ValueError:
            pass
        self.unfit += 1
        return None


def infilled(corpus: "Corpus", config: InfillingConfig, seed: int) -> "Corpus":
    """The corpus of text as one of pairs; the corpus itself if the share is 0.

    Blanks are made after text was held out, so all pairs of a document are in its split. The first pairs of all texts
    come first, then the second ones. Held-out text makes one pair each, so that every text counts once.

    Raises:
        UserError: the blank occurs in a text, or no text of a split has a unit.
    """
    if not config.share:
        return corpus
    unit: Any = unit_for(config.unit, corpus.train.texts)
    notes = [f"data.infilling: {plural(unit)} are left out"]
    splits: dict[str, Any] = {}
    there = {which: split for which in ("train", "valid", "test") if (split := getattr(corpus, which)) is not None}
    _check_blank({which: split.texts for which, split in there.items()}, config.blank)
    for which, split in there.items():
        splits[which], more = _pairs(which, split, config, unit, seed, config.copies if which == "train" else 1)
        notes += more
    words = None if corpus.words is None else (*corpus.words, config.blank)
    # Given its prompt, an answer has another probability than the source knows.
    return dataclasses.replace(corpus, **splits, words=words, source=None, notes=(*corpus.notes, *notes))


def _check_blank(splits: Mapping[str, Sequence[str]], blank: str) -> None:
    """Raises UserError if the blank occurs in a text; it names the first such document, and a mark that is free."""
    for which, texts in splits.items():
        for number, text in enumerate(texts, 1):
            if blank not in text:
                continue
            everything = [one for some in splits.values() for one in some]
            free = next((mark for mark in _OTHER_BLANKS if not any(mark in one for one in everything)), None)
            raise UserError(
                f"data.infilling.blank {blank!r} occurs in document {number} of data.{which}, {_shown(text)}; choose a "
                f"mark that no text has{'' if free is None else f', such as {free!r}'}"
            )


def _pairs(
    which: str, split: "Split", config: InfillingConfig, unit: Literal["word", "character"], seed: int, copies: int
) -> tuple["Split", list[str]]:
    """The split of `copies` pairs of each text, and notes."""
    texts = [(i, part) for i, text in enumerate(split.texts) for part in _parts(text, unit, config.longest)]
    rows: list[int] = []
    pairs: list[Pair] = []
    for copy in range(copies):
        for i, text in texts:
            try:
                pair = blanked(text, config, unit, seed, copy)
            except UserError as error:
                raise UserError(f"data.infilling.{error}") from None
            if pair is not None:
                rows.append(i)
                pairs.append(pair)
    if not pairs:
        raise UserError(f"data.{which}: none of its {counted(len(split), 'document')} has a {unit} to leave out")
    notes, without = [], len(split) - len(set(rows))
    if len(pairs) != len(split):
        notes.append(f"data.{which}: {counted(len(pairs), 'pair')} made of its {counted(len(split), 'document')}")
    if without:
        notes.append(f"data.{which}: {counted(without, 'document')} without a {unit} to leave out skipped")

    def repeated(values: Sequence[Any] | None) -> list[Any] | None:
        return None if values is None else [values[i] for i in rows]

    made = dataclasses.replace(
        split,
        texts=[pair.answer for pair in pairs],
        prompts=[pair.prompt for pair in pairs],
        labels=None if split.labels is None else split.labels[rows],
        groups=repeated(split.groups),
        columns={name: [values[i] for i in rows] for name, values in split.columns.items()},
    )
    return made, notes


def _parts(text: str, unit: Literal["word", "character"], longest: int | None) -> Iterator[str]:
    """The text, or its parts of at most `longest` units, without the white space between two parts."""
    units = [] if longest is None else _units(text, unit)
    if longest is None or len(units) <= longest:
        yield text
        return
    starts = [0, *(begin for begin, _ in units[longest::longest])]
    for begin, end in zip(starts, [*starts[1:], len(text)], strict=True):
        yield text[begin:end].rstrip() if end < len(text) else text[begin:end]


def _missing(count: int, config: InfillingConfig, rng: np.random.Generator) -> np.ndarray:
    """The indices of the missing units among `count`, ascending."""
    missing = min(max(int(config.share * count + 0.5), 1), count) if config.share else 0
    if config.spans == "contiguous":
        return int(rng.integers(count - missing + 1)) + np.arange(missing)
    return np.sort(rng.permutation(count)[:missing])


def _generator(text: str, seed: int, copy: int) -> np.random.Generator:
    """Random numbers of this text and copy, wherever the text stands, so that text added later moves no blank."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return np.random.default_rng([seed % 2**64, copy, int.from_bytes(digest, "little")])


def _units(text: str, unit: Literal["word", "character"]) -> list[tuple[int, int]]:
    """Where each unit begins and ends. An accent at the beginning of a word belongs to no character, and stays."""
    chunks = [chunk.span() for chunk in _CHUNK.finditer(text)]
    if unit == "word":
        return chunks
    found = [(begin + a, begin + b) for begin, end in chunks for a, b in _clusters(text[begin:end])]
    return [(begin, end) for begin, end in found if not _joins(text[begin])]


def _clusters(chunk: str) -> list[tuple[int, int]]:
    """Where each character begins and ends, with what joins it: accents, vowel signs, joiners, skin tones."""
    starts = [i for i, character in enumerate(chunk) if not i or not _joins(character)]
    return list(zip(starts, [*starts[1:], len(chunk)], strict=True))


def _joins(character: str) -> bool:
    if character.isascii():
        return False
    return unicodedata.category(character) in ("Mn", "Mc", "Me", "Cf") or ord(character) in _SKIN_TONES


def _same_chunk(between: str) -> bool:
    return not any(map(str.isspace, between))


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}…")
