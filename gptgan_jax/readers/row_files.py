"""Rows of JSON, CSV and TSV files, every cell exactly as written: types are never guessed from a cell's appearance.

A cell of a CSV file is text. A value of a JSON file has its JSON type; numbers keep their digits (`Number`).
"""

import csv
import json
import re
from collections.abc import Iterator
from itertools import chain
from typing import Any, Literal, NamedTuple

from gptgan_jax.errors import UserError
from gptgan_jax.readers.cells import Number, as_json, shown
from gptgan_jax.readers.files import RowFormat, utf8_lines


class _NamedTwice(Exception):
    """A name that an object has twice."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON whose names are all different: of two values under one name Python would keep the last."""
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        raise _NamedTwice(next(name for name in names if names.count(name) > 1))
    return value


_JSON = json.JSONDecoder(object_pairs_hook=_once, parse_float=Number, parse_int=Number, parse_constant=Number)
_DELIMITERS = {",": "a comma", "\t": "a tab"}
JSON_SHAPE = "a JSON file should hold an object a line, or one array of objects"
# Half of a surrogate pair; alone it is not a character.
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
# A carriage return within a line, which Python's reader takes for the end of one, and what stands for it meanwhile.
_RETURN, _HELD = re.compile(r"\r(?=[^\n])"), "\ufdd3"
# A row of a TSV file with quotes only as pandas and spreadsheets write them: around a cell, and doubled inside.
_CELL = r'(?:"(?:[^"]|"")*"|[^"\t]*)'
_QUOTED_ROW = re.compile(rf"{_CELL}(?:\t{_CELL})*")


class Place(NamedTuple):
    """The place of a row: its number in its file, from 1, and the line where it begins, if known."""

    row: int
    line: int | None = None
    file: str = ""

    def __str__(self) -> str:
        file = f"{self.file}, " if self.file else ""
        return f"{file}row {self.row}" + (f" (line {self.line})" if self.line not in (None, self.row) else "")


# A blank line is a row without values.
Row = tuple[Place, dict[str, Any] | None]


def rows_of_file(where: str, path: str, form: RowFormat, named: bool) -> Iterator[Row]:
    """The rows of a json, csv or tsv file, read lazily.

    Args:
        where: what is read, for messages.
        path: of the file, or its URL.
        form: its format.
        named: whether places name the file, because there are several.

    Raises:
        UserError: a file that can't be read, or is malformed (with its line).
    """
    file = path if named else ""
    if form == "json":
        yield from _json_rows(where, path, file)
    else:
        yield from _delimited_rows(where, path, file, "\t" if form == "tsv" else ",")


def _json_rows(where: str, path: str, file: str) -> Iterator[Row]:
    lines = enumerate(utf8_lines(path), 1)
    number = 0
    for line, text in lines:
        if not text.strip():
            yield Place(number + 1, line, file), None
            continue
        if not number and text.lstrip().startswith("["):
            yield from _array_rows(where, "".join(chain([text], (rest for _, rest in lines))), line, file)
            return
        number += 1
        value = _parsed(where, text.rstrip("\r\n"), line, file)
        yield Place(number, line, file), _object(where, Place(number, line, file), value)


def _array_rows(where: str, text: str, line: int, file: str) -> Iterator[Row]:
    for number, value in enumerate(_parsed(where, text, line, file), 1):
        yield Place(number, None, file), _object(where, Place(number, None, file), value)


def _parsed(where: str, text: str, line: int, file: str) -> Any:
    """Parses a JSON text that begins in a given line of a file."""
    try:
        value = _JSON.decode(text)
        if _SURROGATE.search(text):
            as_json(value).encode()
        return value
    except json.JSONDecodeError as error:
        reason = f"{error.msg} at column {error.colno}"
        line += error.lineno - 1
    except UnicodeEncodeError:
        reason = "an escape such as \\ud800 is half a character"
    except _NamedTwice as error:
        reason = f"an object has {shown(str(error))} twice; rename one"
        raise _unreadable(where, line, file, reason) from None
    except RecursionError:
        reason = "nested too deeply"
    raise _unreadable(where, line, file, f"{reason}; {JSON_SHAPE}")


def _object(where: str, place: Place, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{where}, {place}: {shown(value)} is no object; {JSON_SHAPE}")
    return value


def _delimited_rows(where: str, path: str, file: str, delimiter: str) -> Iterator[Row]:
    csv.field_size_limit(2**31 - 1)  # a cell may hold an article
    # In a TSV file quotes may be ordinary characters, by its standard; in a CSV file they never are.
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if delimiter != "\t" or _is_quoted(path) else csv.QUOTE_NONE
    reader = csv.reader(_lines(path), delimiter=delimiter, strict=True, quoting=quoting)
    header: list[str] | None = None
    number = line = 0
    while True:
        begin = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise _unreadable(where, begin, file, f"{error}; a quote inside of a quoted cell is doubled") from None
        if cells is None:
            return
        line = begin
        cells = [cell.replace(_HELD, "\r") if _HELD in cell else cell for cell in cells]
        blank = not cells or (len(cells) == 1 and not cells[0].strip() and len(header or "  ") > 1)
        if header is None:
            if not blank:
                header = _checked_header(where, line, file, cells)
        elif blank:
            yield Place(number + 1, line, file), None
        else:
            number += 1
            if len(cells) != len(header):
                raise UserError(
                    f"{where}, {Place(number, line, file)}: it has {len(cells)} cells, and the header names "
                    f"{len(header)} columns; put a cell that holds {_DELIMITERS[delimiter]} in double quotes"
                )
            yield Place(number, line, file), dict(zip(header, cells, strict=True))


def _lines(path: str, seen: list[str] | None = None) -> Iterator[str]:
    """The lines of a file for Python's reader, with `_HELD` for carriage returns within them; also added to `seen`."""
    for line in utf8_lines(path):
        if "\r" in line:
            line = _RETURN.sub(_HELD, line)
        if seen is not None:
            seen.append(line)
        yield line


def _is_quoted(path: str) -> bool:
    """Whether a TSV file can be read with quotes around cells, as pandas and spreadsheets write them.

    Raises:
        UserError: one column only, where a quote may begin a cell of several lines or be part of the text.
    """
    merged = 0
    lines: list[str] = []
    try:
        for cells in csv.reader(_lines(path, lines), delimiter="\t", strict=True):
            row = "".join(lines).rstrip("\r\n")
            lines.clear()
            if '"' in row and not _QUOTED_ROW.fullmatch(row):
                return False
            merged += any("\n" in cell for cell in cells)
    except csv.Error:
        return False
    if not merged:
        return True
    # Quotes around line breaks are ordinary characters if every line has all of its cells without them.
    widths = {line.count("\t") for line in utf8_lines(path) if line.strip()}
    if widths == {0}:
        raise UserError(
            f"{path}: quotes may stand around cells of several lines here, or be the text's own; write it as .csv or "
            ".jsonl"
        )
    return len(widths) > 1


def _checked_header(where: str, line: int, file: str, names: list[str]) -> list[str]:
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise _unreadable(where, line, file, f"the header names column {shown(twice[0])} twice; rename one")
    return names


def _unreadable(where: str, line: int, file: str, reason: str) -> UserError:
    return UserError(f"{where}: cannot be read ({file + ', ' if file else ''}line {line}: {reason})")
