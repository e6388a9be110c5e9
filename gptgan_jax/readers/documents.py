"""Reads documents from text files and from rows. Any error in them is a UserError."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Literal

from gptgan_jax.errors import UserError
from gptgan_jax.readers.cells import Number, as_label, as_python, as_text, label_order, shown, text_of
from gptgan_jax.readers.conversations import (
    SIDE_COLUMNS,
    as_prompt,
    asked,
    exchanges_of,
    is_conversation,
    joined,
    turns_from,
    with_system,
)
from gptgan_jax.readers.files import format_of, matching_files, named, utf8_lines
from gptgan_jax.readers.row_files import Place
from gptgan_jax.readers.row_sources import Rows
from gptgan_jax.tokenization.chat_templates import Message, Prompt, turns_of
from gptgan_jax.tokenization.token_ids import TokenIds

Document = Literal["line", "paragraph", "file"]


def read_documents(where: str, pattern: str | Sequence[str], document: Document) -> tuple[list[str], int]:
    """The documents of text files, as `stream_documents` gives them.

    Returns:
        (documents, number of blank lines skipped; 0 for paragraphs and files, which keep their blank lines).

    Raises:
        UserError: as `stream_documents`, and if there is no document.
    """
    if document == "line":
        _text_files(where, pattern)
        return read_lines(where, pattern)
    documents = list(stream_documents(where, pattern, document))
    if not documents:
        raise UserError(f"{where}: {named(pattern)} holds nothing but blank lines; it should hold text")
    return documents, 0


def stream_documents(where: str, pattern: str | Sequence[str], document: Document) -> Iterator[str]:
    """The documents of text files, one after another; documents of white space only are left out.

    A line is stripped of the white space around it. A paragraph is the text between blank lines; a file is one whole
    document. Both keep their line feeds and indentation, except for blank lines at their ends and the last line feed; a
    carriage return before a line feed is left out.

    Raises:
        UserError: no such file, a file of rows, unreadable, or not UTF-8 (with line and byte).
    """
    for path in _text_files(where, pattern):
        lines = (line.replace("\r\n", "\n") for line in utf8_lines(path))
        if document == "line":
            yield from filter(None, map(str.strip, lines))
        elif document == "paragraph":
            for filled, paragraph in groupby(lines, lambda line: bool(line.strip())):
                if filled:
                    yield "".join(paragraph).rstrip("\n")
        elif (text := "".join(lines)).strip():
            yield _without_blank_ends(text)


def _text_files(where: str, pattern: str | Sequence[str]) -> list[str]:
    """The named files. Raises UserError if any of them is a file of rows, whose lines are not text."""
    files = matching_files(where, pattern)
    for path in files:
        if form := format_of(path):
            raise UserError(
                f"{where}: {path} holds rows ({form}), not text; set data.kind hf, with data.text_column for the column"
            )
    return files


def _without_blank_ends(text: str) -> str:
    """Without the blank lines at both ends; the first line keeps its indentation."""
    body = text.rstrip()
    return body[body.rfind("\n", 0, len(body) - len(body.lstrip())) + 1 :]


def read_lines(where: str, pattern: str | Sequence[str]) -> tuple[list[str], int]:
    """The lines of a UTF-8 file, or of all files that match a glob in alphabetical order.

    Args:
        where: the config key, which starts an error message.
        pattern: the file's name, or the glob.

    Returns:
        (stripped lines, number of blank lines skipped).

    Raises:
        UserError: no such file, no match, unreadable, not UTF-8 (with line and byte), or empty.
    """
    documents: list[str] = []
    blank = 0
    for path in matching_files(where, pattern):
        for line in map(str.strip, utf8_lines(path)):
            if line:
                documents.append(line)
            else:
                blank += 1
    if not documents:
        raise UserError(f"{where}: {named(pattern)} is empty; it should hold one document a line")
    return documents, blank


# ---- rows


@dataclass(frozen=True)
class Columns:
    """The names of the columns to read.

    Attributes:
        text: the training text; in a column of conversations, the assistant's last turn.
        prompt: the prompt of the text; the text's own column if that holds conversations; None: no prompts.
        label, answer, group: the class, the right answer, and the group of a row; None if there is no such column.
        others: columns that are kept unchanged.
        every_turn: whether every assistant's turn of a conversation is a text, with the turns before it as its prompt,
            instead of the last only.
    """

    text: str
    prompt: str | None = None
    label: str | None = None
    answer: str | None = None
    group: str | None = None
    others: tuple[str, ...] = ()
    every_turn: bool = False

    def names(self) -> list[str]:
        """Each once."""
        named = (self.text, self.prompt, self.label, self.answer, self.group, *self.others)
        return list(dict.fromkeys(name for name in named if name is not None))

    def beside(self) -> list[str]:
        """Columns that belong to a conversation, if a row has any; those above have their own meaning."""
        return [] if self.prompt is None else [name for name in SIDE_COLUMNS if name not in self.names()]


@dataclass(frozen=True)
class Table:
    """Documents read from rows.

    Attributes:
        texts: the documents.
        prompts: one per document; None without a prompt column.
        labels: one per document, its original text, or None for "no label"; None without a label column.
        places: the place of each document in its file.
        classes: the labels that the set declares, in its order, or else the labels that occur: integers by value, then
            the others alphabetically.
        blank: number of rows skipped because their text is blank.
        blank_lines: number of blank lines between rows.
        cut: number of conversations with later turns that are not read.
        unlearned: number of the assistant's turns that are no text: those that `every_turn` would add, or with it those
            of weight 0 and those that follow no user's turn.
        answers: the right answer to each prompt; None without a column of answers.
        groups: the group of each document, or None for no group; None without a group column.
        others: the unchanged values of the other columns, by column; empty if none was requested.
        conversations: the whole conversation that each document is a turn of; None without `every_turn`.
    """

    texts: list[str]
    prompts: list[Prompt] | None
    labels: list[str | None] | None
    places: list[Place]
    classes: tuple[str, ...]
    blank: int
    blank_lines: int = 0
    cut: int = 0
    unlearned: int = 0
    answers: list[str] | None = None
    groups: list[str | None] | None = None
    others: dict[str, list[Any]] = field(default_factory=dict)
    conversations: list[tuple[Message, ...]] | None = None


def read_table(rows: Rows, columns: Columns, max_rows: int | None = None) -> Table:
    """Reads the columns of all rows, or of the first `max_rows`.

    Raises:
        UserError: a missing column, a value that is not text (or a conversation, or a label) with its row, no text at
            all, or rows that can't be read.
    """
    names = rows.class_names.get(columns.label or "")
    texts: list[str] = []
    prompts: list[Prompt] = []
    labels: list[str | None] = []
    answers: list[str] = []
    groups: list[str | None] = []
    others: dict[str, list[Any]] = {name: [] for name in columns.others}
    places: list[Place] = []
    conversations: list[tuple[Message, ...]] = []
    blank = blank_lines = cut = unlearned = 0
    marked = False  # whether -1 stands for no label
    beside = columns.beside()
    for place, row in rows.read(columns.names(), max_rows, optional=beside):
        if row is None:
            blank_lines += 1
            continue
        cell = _Cells(rows, place, row, beside)
        exchanges, turns, others_said, is_cut = cell.exchanges(columns)
        filled = [(text, prompt) for text, prompt in exchanges if text.strip()]
        blank += len(exchanges) - len(filled)
        cut += is_cut and bool(filled)
        unlearned += others_said
        for text, prompt in filled:
            texts.append(text)
            places.append(place)
            if columns.every_turn:
                conversations.append(turns)
            if columns.prompt is not None:
                prompts.append(prompt)
            if columns.label is not None:
                labels.append(cell.label(columns.label, names))
                marked = marked or (labels[-1] is None and (as_text(row.get(columns.label)) or "").startswith("-1"))
            if columns.answer is not None:
                answers.append(cell.answer(columns.answer))
            if columns.group is not None:
                groups.append(cell.group(columns.group))
            for name, values in others.items():
                values.append(as_python(row.get(name)))
    if not texts:
        raise UserError(f"{rows.where}: no document in it; column {columns.text} should hold text")
    occurring = sorted({label for label in labels if label is not None}, key=label_order)
    if marked and names is None and (occurring in (["1"], ["+1"]) or any(one.startswith("-") for one in occurring)):
        raise UserError(
            f"{rows.where}: -1 in column {columns.label} means no label, and seems to be a class beside "
            f"{', '.join(occurring[:3])}; write names in place of numbers"
        )
    return Table(
        texts=texts,
        prompts=None if columns.prompt is None else prompts,
        labels=None if columns.label is None else labels,
        places=places,
        classes=tuple(names or occurring),
        blank=blank,
        blank_lines=blank_lines,
        cut=cut,
        unlearned=unlearned,
        answers=None if columns.answer is None else answers,
        groups=None if columns.group is None else groups,
        others=others,
        conversations=conversations if columns.every_turn else None,
    )


def read_texts(rows: Rows, column: str, max_rows: int | None = None, blank: bool = False) -> Iterator[str]:
    """The texts of a column, one after another; blank ones are left out, unless `blank` is true.

    Raises:
        UserError: a missing column, a value that is not text (with its row), or rows that can't be read.
    """
    for place, row in rows.read([column], max_rows):
        if row is not None and ((text := _Cells(rows, place, row).text(column)).strip() or blank):
            yield text


def read_prompt_rows(rows: Rows, column: str) -> tuple[list[dict[str, Any]], list[Prompt], int]:
    """All rows with all columns, in their order, the prompt of each, and the number of blank lines.

    Raises:
        UserError: no such column, a value in it that is neither text nor conversation (with the row), or no rows.
    """
    kept: list[dict[str, Any]] = []
    prompts: list[Prompt] = []
    blank, beside = 0, Columns(column, column).beside()
    for place, row in rows.read([column], every=True):
        if row is None:
            blank += 1
            continue
        kept.append(row)
        prompts.append(_Cells(rows, place, row, beside).prompt(column)[0])
    if not kept:
        raise UserError(f"{rows.where}: no row in it")
    return kept, prompts, blank


@dataclass(frozen=True)
class _Cells:
    """The values of a row, and the columns beside a conversation. A bad value is a UserError that names its place."""

    rows: Rows
    place: Place
    row: dict[str, Any]
    beside: Sequence[str] = ()

    def exchanges(self, columns: Columns) -> tuple[list[tuple[str, Prompt]], tuple[Message, ...], int, bool]:
        """The row's texts with their prompts, which are empty without a prompt column.

        Returns:
            (one pair or one per learned turn, the whole conversation, and the other two results of `exchanges_of`).
        """
        value, own = self.row.get(columns.text), columns.prompt == columns.text
        if not is_conversation(value):
            if own:
                raise self._wrong(
                    columns.text,
                    f"holds {shown(value)}, which is no list of messages; plain texts of that column need another name",
                )
            text = self.text(columns.text)
            prompt, is_cut = ("", False) if columns.prompt is None else self.prompt(columns.prompt)
            turns = (*turns_of(prompt), Message("assistant", text)) if columns.every_turn else ()
            return [(text, prompt)], turns, 0, is_cut
        if columns.prompt is None:
            raise self._wrong(
                columns.text, f"holds a conversation; set data.prompt_column to {columns.text} too, for its prompts"
            )
        try:
            turns, cut_before = turns_from(value), False
            before: tuple[Message, ...] = ()
            if not own:
                prompt, cut_before = self._asked(columns.prompt)
                before = turns_of(prompt)
                turns = joined(before, turns)
            whole = self._whole(turns)
            found, others, cut = exchanges_of(value, whole, columns.every_turn, before)
            return found, whole, others, cut or cut_before
        except ValueError as error:
            raise self._bad_conversation(columns.text, error) from None

    def prompt(self, column: str) -> tuple[Prompt, bool]:
        """(prompt, whether later turns are left out)."""
        prompt, cut = self._asked(column)
        if not is_conversation(self.row.get(column)):
            return prompt, cut
        try:
            return as_prompt(self._whole(turns_of(prompt))), cut
        except ValueError as error:
            raise self._bad_conversation(column, error) from None

    def _asked(self, column: str) -> tuple[Prompt, bool]:
        """The prompt from a separate column."""
        if not is_conversation(self.row.get(column)):
            return self.text(column), False
        try:
            return asked(turns_from(self.row[column]))
        except ValueError as error:
            raise self._bad_conversation(column, error) from None

    def _whole(self, turns: tuple[Message, ...]) -> tuple[Message, ...]:
        """A conversation with the system turn of the columns beside it."""
        return with_system(turns, {name: self.row.get(name) for name in self.beside})

    def text(self, column: str) -> str:
        value = self.row.get(column)
        text = text_of(value, dates=not self.rows.guessed_dates)
        if isinstance(text, TokenIds):
            text.said = f"{self.rows.where}, {self.place}: column {column} holds {shown(value)}"
        if text is None:
            numbers = isinstance(value, list) and any(isinstance(one, int | float | Number) for one in value)
            hint = "; of lists, those of whole numbers alone are read, as token ids" if numbers else ""
            if self.rows.guessed_dates and as_text(value) is not None:
                hint = (
                    "; a text that looks like a date was read as one: fetch its file, and name that by data.path json"
                )
            raise self._wrong(column, f"holds {shown(value)}, which is no text{hint}")
        return text

    def answer(self, column: str) -> str:
        """The right answer: a text, or the assistant's last turn."""
        value = self.row.get(column)
        if is_conversation(value):
            try:
                said = [turn.content for turn in turns_from(value) if turn.role == "assistant"]
            except ValueError as error:
                raise self._bad_conversation(column, error) from None
            text = said[-1] if said else ""
        else:
            text = self.text(column)
        if not text.strip():
            raise self._wrong(column, "is empty; it should hold the right answer")
        return text

    def label(self, column: str, names: Sequence[str] | None) -> str | None:
        value = self.row.get(column)
        try:
            return as_label(value, names)
        except ValueError as error:
            raise UserError(f"{self.rows.where}, {self.place}: label {shown(value)} {error}") from None

    def group(self, column: str) -> str | None:
        """None for an empty cell."""
        value = self.row.get(column)
        return None if value is None or value == "" else self.text(column)

    def _bad_conversation(self, column: str, error: ValueError) -> UserError:
        return self._wrong(column, f"holds a conversation that can't be read: {error}; mend it, or leave the row out")

    def _wrong(self, column: str, reason: str) -> UserError:
        return UserError(f"{self.rows.where}, {self.place}: column {column} {reason}")
