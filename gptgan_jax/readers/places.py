"""Finds a word in the files from which text was read, for a message about it."""

from collections.abc import Sequence

from gptgan_jax.readers.cells import text_of
from gptgan_jax.readers.files import matching_files, utf8_lines
from gptgan_jax.readers.row_sources import Rows


def line_with_word(where: str, pattern: str | Sequence[str], word: str) -> str | None:
    """The first line that contains a word between spaces, such as `data/a.txt, line 7`; None if there is none.

    Raises:
        UserError: as the readers do.
    """
    for path in matching_files(where, pattern):
        for number, line in enumerate(utf8_lines(path), 1):
            if word in line.split():
                return f"{path}, line {number}"
    return None


def row_with_word(rows: Rows, columns: Sequence[str], word: str) -> str | None:
    """The first row that contains a word in one of the columns, such as `row 7: column ids`; None if there is none.

    Raises:
        UserError: as the readers do.
    """
    for place, row in rows.read(list(columns)):
        for column in columns:
            if row is not None and word in (text_of(row.get(column)) or "").split():
                return f"{place}: column {column}"
    return None
