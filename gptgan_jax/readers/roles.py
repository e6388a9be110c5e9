"""Which columns of rows hold texts to learn and their prompts, by the columns' names and contents."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from gptgan_jax.readers.cells import text_of
from gptgan_jax.readers.conversations import is_conversation
from gptgan_jax.tokenization.token_ids import TokenIds

# Names of prompts and of their answers, the likelier first. Those in `SURE` mean nothing else.
SURE = ("prompt", "question", "instruction", "query")
ANSWERS = ("response", "answer", "chosen", "completion", "output", "reply", "target", "text", "sentence", "content")
UNSURE = ("input", "source", "context", "dialogue", "article", "document", "text")
MADE_OF_THEM = ("output", "target", "response", "answer", "completion", "reply", "summary", "highlights")
# Names of texts that answer nothing, and of columns of classes.
TEXTS = ("text", "sentence", "content", "caption", "review", "body", *ANSWERS, *SURE)
LABELS = ("label", "labels", "class", "category", "sentiment")
IDS = ("input_ids", "token_ids", "ids", "tokens")
# Names, or the last words of names, of columns with facts about a text.
_ABOUT = re.compile(
    r"(.*[_ .-])?(ids?|uuid|guid|hash|sha\d*|md5|ur[li]|link|path|file|filename|date|time|timestamp|lang|language|"
    r"split|licen[sc]e|author|meta|metadata|model|rejected)"
)
_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class Roles(NamedTuple):
    """The roles of columns.

    Attributes:
        text: the column to learn; None: no column holds texts.
        prompt: the column that the text answers; equal to `text` if it holds whole conversations; None: no prompts.
        others: other columns that could be either.
        sure: whether names or contents determine the roles; otherwise one of several columns must be chosen.
    """

    text: str | None
    prompt: str | None = None
    others: tuple[str, ...] = ()
    sure: bool = True


def roles_of(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Roles:
    """Guesses the roles of columns.

    Args:
        columns: the names of the columns.
        rows: the first rows.
    """
    talks = [name for name in columns if any(is_conversation(row.get(name)) for row in rows)]
    held = {name: [row[name] for row in rows if isinstance(row.get(name), str) and row[name]] for name in columns}
    texts = [name for name in columns if held[name] and not _is_about(name) and name.lower() not in LABELS]
    texts = texts or [name for name in columns if held[name]]
    varied = [name for name in texts if len(set(held[name])) > len(held[name]) // 10]
    fit = [name for name in columns if name in talks or name in texts]

    def found(text: str | None, prompt: str | None = None, sure: bool = True) -> Roles:
        return Roles(text, prompt, tuple(name for name in fit if name not in (text, prompt)), sure)

    prompt = called(SURE, fit)
    answers = [name for name in fit if name != prompt]
    if prompt is not None and (text := called(ANSWERS, answers)):
        return found(text, prompt)
    several = [name for name in fit if name in talks or name in varied]
    unsure = called(UNSURE, several)
    text = called(MADE_OF_THEM, [name for name in several if name != unsure])
    if prompt is None and unsure is not None and text is not None:
        return found(text, unsure)
    if prompt is not None and answers:
        return found(answers[0], prompt, sure=len(answers) == 1 and answers[0].lower() not in UNSURE)
    if talks:
        whole = called(("chosen",), talks) or talks[0]
        text = called(ANSWERS, [name for name in varied if name not in talks])
        return found(text or whole, whole)
    if not fit:
        listed = [name for name in columns if any(_is_ids(row.get(name)) for row in rows)]
        return Roles(called(IDS, listed) or next(iter(listed), None), sure=len(listed) < 2 or bool(called(IDS, listed)))
    choices = varied or texts
    text = called(TEXTS, choices)
    if text is None:
        sizes = {name: sum(map(len, held[name])) for name in choices}
        text = max(choices, key=lambda name: sizes[name])
        # A column of bodies is longer than one of titles.
        return found(text, sure=all(sizes[text] >= 3 * size for name, size in sizes.items() if name != text))
    return found(text)


def called(names: Sequence[str], columns: Sequence[str]) -> str | None:
    """The column with the first of these names that occurs, in any case."""
    return next((column for name in names for column in columns if column.lower() == name), None)


def _is_about(name: str) -> bool:
    """Whether a column's name suggests facts about a text."""
    return _ABOUT.fullmatch("_".join(_WORDS.split(name)).lower()) is not None


def _is_ids(value: Any) -> bool:
    """Whether a value is a list of token ids."""
    return isinstance(value, list) and bool(value) and isinstance(text_of(value), TokenIds)
