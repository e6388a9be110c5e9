"""Holds text out of training text, and finds what held-out text shares with it.

Rows with the same key share a split. The key is the group if there are groups, else the prompt, regardless of the text;
text without prompts is its own key. If several turns of a conversation are texts, they have one key: the first of its
prompts that few conversations share, so that no two splits share such a prompt. Keys are normalised (`normalised`), so
that a change of case, spaces or punctuation makes no new prompt.
"""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from gptgan_jax.errors import UserError
from gptgan_jax.readers.conversations import contexts_of
from gptgan_jax.tokenization.chat_templates import Message, Prompt, prompt_text

# The share of a held-out split above which a note becomes an alarm.
SHARED_AT_MOST = 0.01
ALARM = "ALARM: "
# An alarm that makes all metrics meaningless.
UNSUITED = f"{ALARM}the tokenizer doesn't suit the text: "
# A prompt of more than this share of the rows, and of at least this many, is an instruction, not a question.
COMMON_SHARE, COMMON_COUNT = 0.1, 10
# Signs with a meaning in formulas or URLs; other punctuation counts as a space.
_MEANINGFUL = frozenset("*/%&#@\\_-")
# Signs of formulas and code. If they are more than this share of all, case and brackets distinguish texts.
_FORMAL, FORMAL_SHARE = frozenset("()[]{}<>=+;|&^~$`"), 0.05
LOOKED_AT = 1000
_HYPHEN = re.compile(r"-(?!\d)")


class Documents(Protocol):
    """The part of a split that is needed here."""

    @property
    def texts(self) -> Sequence[str]: ...

    @property
    def prompts(self) -> Sequence[Prompt] | None: ...

    @property
    def groups(self) -> Sequence[str | None] | None: ...

    @property
    def conversations(self) -> Sequence[tuple[Message, ...] | None] | None: ...

    def __len__(self) -> int: ...


S = TypeVar("S", bound=Documents)


class _Folded(dict[int, str | None]):
    """A table for `str.translate`: punctuation becomes a space, all dashes become one, zero-width characters vanish."""

    def __missing__(self, code: int) -> str | None:
        character = chr(code)
        kind = unicodedata.category(character)
        folded: str | None = character
        if kind == "Pd" or character == "\N{MINUS SIGN}":
            folded = "-"
        elif kind[0] == "P" and character not in _MEANINGFUL:
            folded = " "
        elif kind == "Cf":
            folded = None
        self[code] = folded
        return folded


_FOLDED = _Folded()


def normalised(text: str) -> str:
    """A text in normal form for comparison: Unicode NFKC, with case, white space and punctuation folded.

    Signs of formulas stay, including a minus before a digit. A text that would become empty stays unchanged.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).translate(_FOLDED)
    return " ".join(_HYPHEN.sub(" ", folded).split()) or text.strip()


def form_of(texts: Sequence[str]) -> Callable[[str], str]:
    """How texts like these are compared: `normalised`, or for code, molecules and the like only without white space."""
    some = "".join("".join(texts[:: max(len(texts) // LOOKED_AT, 1)]).split())
    formal = sum(some.count(sign) for sign in _FORMAL) > FORMAL_SHARE * len(some)
    return (lambda text: " ".join(text.split())) if formal else normalised


@dataclass(frozen=True, eq=False)
class Keys:
    """The keys by which documents are held out.

    Attributes:
        keys: one per document; equal ones share a split.
        kinds: the kind of each key: "group", "prompt" or "text".
    """

    keys: list[str]
    kinds: list[str]

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True)
class Rule:
    """Which prompts of the training text are questions.

    Attributes:
        prompts: whether any are.
        common: the normalised prompts that are not: the empty one, and instructions that many rows share.
        questions: the number of different questions.
        text_form, prompt_form: the forms in which equal texts, and equal prompts, count as the same.
    """

    prompts: bool
    common: frozenset[str]
    questions: int
    text_form: Callable[[str], str] = normalised
    prompt_form: Callable[[str], str] = normalised

    def keys(self, split: Documents) -> Keys:
        """The keys by which documents of a split are held out."""
        return _keys(self._held_out_by(split, i) for i in range(len(split)))

    def compared(self, split: Documents) -> Keys:
        """The keys by which documents of two splits are compared: prompts that few share, or else texts."""
        return _keys(self._compared_by(split, i) for i in range(len(split)))

    def _held_out_by(self, split: Documents, i: int) -> tuple[str, str]:
        """The key of a document, and its kind."""
        group = None if split.groups is None else split.groups[i]
        if group is not None:
            return f"{group}\0\0", "group"
        for prompt in self._asked(_contexts(split, i)):
            if prompt not in self.common:
                return f"{prompt}\0", "prompt"
        turns = _turns(split, i)
        whole = split.texts[i] if len(contexts_of(turns)) < 2 else " ".join(one.content for one in turns)
        return f"\0{self.text_form(whole)}", "text"

    def _compared_by(self, split: Documents, i: int) -> tuple[str, str]:
        """The same of a document that is compared."""
        contexts = _contexts(split, i)
        if asked := self._asked(contexts):
            own = asked[contexts.index((split.prompts or ())[i])]
            if own not in self.common:
                return f"{own}\0", "prompt"
            if not self.common.issuperset(asked):
                return "", "opening"  # like that of many conversations; the other turns of this one are compared
        return f"\0{self.text_form(split.texts[i])}", "text"

    def _asked(self, contexts: Sequence[Prompt]) -> list[str]:
        """Prompts as they are compared; none if no prompt distinguishes rows."""
        return [self.prompt_form(prompt_text(prompt)) for prompt in contexts] if self.prompts else []


def rule_for(train: Documents, exact: bool = False) -> Rule:
    """Finds the prompts of the training text that distinguish its rows; none if there are none.

    Args:
        train: the training text.
        exact: compare code, molecules and the like as they are written. Never for what is held out, which would then
            depend on more text than the document.
    """
    text_form = form_of(train.texts) if exact else normalised
    if train.prompts is None:
        return Rule(False, frozenset(), 0, text_form)
    prompt_form = form_of([prompt_text(prompt) for prompt in train.prompts]) if exact else normalised
    # A conversation is one, however many of its turns are rows.
    rows = {id(_turns(train, i)) if _turns(train, i) else -i: i for i in range(len(train))}.values()
    asked = [[prompt_form(prompt_text(prompt)) for prompt in _contexts(train, i)] for i in rows]
    counts = Counter(prompt for prompts in asked for prompt in set(prompts))
    most = max(COMMON_COUNT - 1, COMMON_SHARE * len(asked))
    common = frozenset({"", *(prompt for prompt, count in counts.items() if count > most)})
    questions = {next((prompt for prompt in prompts if prompt not in common), None) for prompts in asked} - {None}
    return Rule(bool(questions), common, len(questions), text_form, prompt_form)


def held_out_parts(
    train: S, fractions: Mapping[str, float], seed: int, take: Callable[[S, np.ndarray], S]
) -> tuple[dict[str, S], tuple[str, ...]]:
    """Splits training text into train and held-out parts, by a hash of each document's key.

    A fraction of 0 makes no part. Each part has at least one key, if there are enough different ones.

    Args:
        train: N documents.
        fractions: the fractions of the keys for "valid" and "test".
        seed: chooses the keys.
        take: (split, rows) -> the split of those rows.

    Returns:
        the parts, and notes for the user.

    Raises:
        UserError: a part would be empty.
    """
    rule, notes = rule_for(train), []
    wanted = {which: fraction for which, fraction in fractions.items() if fraction}
    if rule.prompts and any(fraction * rule.questions < 1 for fraction in wanted.values()):
        notes.append(
            f"data.train has only {counted(rule.questions, 'different prompt')} that could be held out: its texts are "
            "held out instead, so prompts of held-out text are also trained on"
        )
        rule = Rule(False, frozenset(), 0)
    elif train.prompts is not None and not rule.prompts:
        notes.append("the prompts of data.train are empty or shared by many: its texts are held out instead")
    keys = rule.keys(train)
    members = _members(keys.keys, wanted, seed)
    for which, member in members.items():
        if not member.any():
            remedy = f"raise data.{which}_fraction or name data.{which}"
            raise UserError(
                f"data.{which}: holding out by content left it none of the {counted(len(train), 'document')} of"
                f" data.train; {'lower the fractions' if which == 'train' else remedy}"
            )
    held = " and ".join(f"{int(member.sum())} for {which}" for which, member in members.items() if which != "train")
    by = _by(keys, "prompt" if train.conversations is None else "first prompt")
    notes.insert(0, f"held out of the {counted(len(train), 'document')} of data.train{by}: {held}")
    if rule.prompts and "text" in keys.kinds:
        notes.append(
            f"{counted(keys.kinds.count('text'), 'document')} of data.train held out by text: the prompt is empty, or "
            "shared by many"
        )
    parts = {which: take(train, np.flatnonzero(member)) for which, member in members.items()}
    return parts, tuple(notes)


def shared_notes(which: str, held: Documents, train: Documents, source: str = "data.train") -> Iterator[str]:
    """Notes and alarms on what a held-out split shares with training text: groups, and prompts or else texts.

    Args:
        which: "data.valid" or "data.test".
        held: the split.
        train: the training text.
        source: the config key of the training text.
    """
    rule = rule_for(train, exact=True)
    if held.groups is not None and train.groups is not None:
        known = {group for group in train.groups if group is not None}
        belong = [group for group in held.groups if group is not None]
        yield from _shared(which, source, "document", " by group", sum(one in known for one in belong), len(belong))
    ours, theirs = rule.compared(held), rule.compared(train)
    seen = set(theirs.keys)
    for kind, noun in (("prompt", "prompt"), ("text", "document")):
        keys = [key for key, one in zip(ours.keys, ours.kinds, strict=True) if one == kind]
        yield from _shared(which, source, noun, "", sum(key in seen for key in keys), len(keys))


def place_of(key: str, seed: int) -> float:
    """A number between 0 and 1 that decides whether a document is held out: a hash of its key and the seed."""
    hash_key = (seed % 2**64).to_bytes(8, "little")
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8, key=hash_key).digest(), "little") / 2**64


def place_of_text(text: str, seed: int) -> float:
    """`place_of` for a document without a prompt or group, as `Rule.keys` has it."""
    return place_of(f"\0{normalised(text)}", seed)


def note_line(note: str) -> str:
    """A note as a line of output; an alarm is already labelled as such."""
    return note if note.startswith(ALARM) else f"note: {note}"


def counted(count: int, noun: str) -> str:
    """ "1 line", "2 lines"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def alike_notes(which: str, noun: str, names: Iterable[str | None]) -> Iterator[str]:
    """A note on the first names that differ only in white space, letter case or Unicode form, with their rows.

    They stay different, as written; but usually one of them is a mistake.

    Args:
        which: the set of the names.
        noun: what they name, such as label.
        names: one per row; None for none.
    """
    forms: dict[str, list[str]] = {}
    counts = Counter(name for name in names if name is not None)
    for name, _ in counts.most_common():
        forms.setdefault(" ".join(unicodedata.normalize("NFC", name).casefold().split()), []).append(name)
    alike = [names for names in forms.values() if len(names) > 1]
    for first in alike[:1]:
        shown = ", ".join(f"{name!r} ({counted(counts[name], 'row')})" for name in first)
        more = f"; so do {len(alike) - 1} more sets of {noun}s" if len(alike) > 1 else ""
        yield f"{which}: {noun}s {shown} differ only in spaces, letter case or Unicode form, and are not the same{more}"


def _shared(which: str, source: str, noun: str, how: str, shared: int, count: int) -> Iterator[str]:
    if not shared:
        return
    yield f"{which}: {shared} of its {counted(count, noun)} are also in {source}{how}"
    if shared > SHARED_AT_MOST * count:
        share = f"{100 * shared / count:.3g} %"
        yield (
            f"{ALARM}{which} shares {share} of its {noun}s{how} with {source}: what is measured on those is memory; "
            "take them out of one of the two"
        )


def _keys(found: Iterable[tuple[str, str]]) -> Keys:
    pairs = list(found)
    return Keys([key for key, _ in pairs], [kind for _, kind in pairs])


def _turns(split: Documents, i: int) -> tuple[Message, ...]:
    """The conversation of which a row is a turn; empty if it is not one of several."""
    return () if split.conversations is None else split.conversations[i] or ()


def _contexts(split: Documents, i: int) -> list[Prompt]:
    """All prompts of a row's conversation in order, or its own."""
    return contexts_of(_turns(split, i)) or ([] if split.prompts is None else [split.prompts[i]])


def _by(keys: Keys, prompt: str) -> str:
    """The most frequent kind of key, in words; `prompt` is the word for that kind."""
    names = {"group": "data.group_column", "prompt": prompt}
    kinds = [kind for kind in names if kind in keys.kinds]
    if not kinds:
        return ""
    different = len({key for key, kind in zip(keys.keys, keys.kinds, strict=True) if kind == kinds[0]})
    noun = prompt if kinds[0] == "prompt" else "group"
    return f" by {names[kinds[0]]} ({counted(different, noun)}, none of them in two splits)"


def _members(keys: Sequence[str], fractions: Mapping[str, float], seed: int) -> dict[str, np.ndarray]:
    """Masks of the documents of train and of each part: bool [N] each."""
    different = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    uniform = np.array([place_of(key, seed) for key in different])
    order = np.argsort(uniform, kind="stable")
    part = np.full(len(uniform), "train", "<U8")
    low = 0.0
    for which in ("test", "valid"):
        fraction = fractions.get(which, 0.0)
        chosen = (low <= uniform) & (uniform < low + fraction) & (part == "train")
        part[chosen] = which
        low += fraction
        if fraction * len(uniform) >= 1 and not chosen.any():
            free = [i for i in order if part[i] == "train"]
            part[free[:1]] = which
    if low < 1 and (1 - low) * len(uniform) >= 1 and not (part == "train").any():
        part[order[-1]] = "train"
    parts = part[[different[key] for key in keys]]
    return {which: parts == which for which in ("train", *(one for one in ("valid", "test") if one in fractions))}
