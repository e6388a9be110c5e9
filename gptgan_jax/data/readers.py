"""Reads documents from text files and from Hugging Face datasets. Whatever is wrong with them is a UserError.

In every function `where` names the config key (and the set) at the head of an error's message.
"""

import glob
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from gptgan_jax.data.boundaries import SPLITS_FILE, STATE_FILE, check_folder, check_not_a_builder
from gptgan_jax.errors import UserError

FILE_FORMATS = ("json", "csv", "parquet")
# By how a file's name ends.
FILE_SUFFIXES = {".json": "json", ".jsonl": "json", ".csv": "csv", ".parquet": "parquet"}


# ----------------------------------------------------------------------------------------------------- text files


def read_lines(where: str, pattern: str) -> tuple[list[str], int]:
    """The lines of a UTF-8 file, or of all files that match a glob in alphabetical order.

    Returns:
        (lines without the whitespace around them, number of blank lines skipped).

    Raises:
        UserError: no such file, none that matches, not readable, not UTF-8 (with line and byte), or nothing in it.
    """
    documents: list[str] = []
    blank = 0
    for path in matching_files(where, pattern):
        for line in _utf8_lines(path):
            if line:
                documents.append(line)
            else:
                blank += 1
    if not documents:
        raise UserError(f"{where}: {pattern} is empty; it should hold one document a line")
    return documents, blank


def matching_files(where: str, pattern: str) -> list[str]:
    """The file of that name, or else the files that match it as a glob, sorted. Raises UserError for none."""
    pattern = os.path.expanduser(pattern)
    if os.path.isfile(pattern):
        return [pattern]
    if os.path.isdir(pattern):
        raise UserError(f"{where}: {pattern} is a folder; name a file or a glob such as {pattern.rstrip('/')}/*")
    files = sorted(path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path))
    if not files and glob.has_magic(pattern):
        raise UserError(f"{where}: no file matches {pattern}")
    if not files:
        raise UserError(f"{where}: no such file: {pattern}")
    return files


def _utf8_lines(path: str) -> Iterator[str]:
    """Stripped lines. Only a line feed ends a line, so that the numbers are those of an editor."""
    try:
        with open(path, "rb") as file:
            for number, raw in enumerate(file, 1):
                try:
                    yield raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                except UnicodeDecodeError as error:
                    found = f"byte 0x{error.object[error.start]:02x} at position {error.start + 1}"
                    message = f"{path}, line {number}: not UTF-8 ({found}); convert the file with iconv -t utf-8"
                    raise UserError(message) from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


# ------------------------------------------------------------------------------------------- Hugging Face datasets


@dataclass(frozen=True)
class Table:
    """Documents read from rows.

    Attributes:
        texts: the documents.
        prompts: one each; None where no prompt column was asked for.
        labels: one each, a string or a whole number, None for "no label"; None where no label column was asked for.
        rows: the row of each document, counted from 1.
        classes: the labels that the set declares, in its order, or else those that occur, sorted.
        blank: number of rows skipped because their text is blank.
        answers: the right answer to each prompt; None where no column of them was asked for.
    """

    texts: list[str]
    prompts: list[str] | None
    labels: list[str | int | None] | None
    rows: list[int]
    classes: tuple[str | int, ...]
    blank: int
    answers: list[str] | None = None


def open_hf(where: str, path: str, name: str | None, split: str | None, which: str, streaming: bool) -> Any:
    """Opens a set with the `datasets` library, which runs no code of a set: releases 4 and later know none.

    Args:
        where: see above.
        path: a hub name, a local folder, or json, csv, parquet.
        name: subset of a hub set.
        split: the split, None for train; with json, csv and parquet a file, a glob or an address.
        which: train, valid or test, whose key of the config a message is about.
        streaming: read rows as they come instead of preparing the whole set first.

    Returns:
        datasets.Dataset, or datasets.IterableDataset where it streams.

    Raises:
        UserError: no such set, split or file, no network, a file that cannot be parsed, or a folder that names files
            outside of itself.
    """
    import datasets

    if path not in FILE_FORMATS:
        check_not_a_builder("data.path", path)
    if os.path.isdir(path):
        check_folder(where, path)
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        if path in FILE_FORMATS:
            if split is None:
                raise UserError(f"data.{which}: no {path} file named; give a file or a glob")
            files = [split] if "://" in split else matching_files(f"data.{which}", split)
            return datasets.load_dataset(path, data_files={"train": files}, split="train", streaming=streaming)
        if os.path.isdir(path) and {STATE_FILE, SPLITS_FILE} & set(os.listdir(path)):
            return _saved_split(where, datasets.load_from_disk(path), split)
        return datasets.load_dataset(path, name, split=split or "train", streaming=streaming)
    except UserError:
        raise
    except (ConnectionError, FileNotFoundError, datasets.exceptions.DatasetNotFoundError) as error:
        raise UserError(
            f"data.path: {path} is no local dataset folder, and on the hub there is no such set or there is no"
            f" network ({_reason(error)}); for local files set data.path to json, csv or parquet and data.train to"
            " a file"
        ) from error
    except Exception as error:  # whatever its builders raise is about the user's files or keys
        raise UserError(f"{where}: cannot be read ({_reason(error)})") from error


def _saved_split(where: str, saved: Any, split: str | None) -> Any:
    """One split of what `save_to_disk` wrote: a dict of splits, or a single set that has no splits."""
    if not isinstance(saved, dict):
        if split is None:
            return saved
        raise UserError(f"{where}: this folder holds one set without splits; leave the split's name out")
    if (split or "train") not in saved:
        raise UserError(f"{where}: no such split; there are: {', '.join(saved)}")
    return saved[split or "train"]


def read_table(
    where: str,
    dataset: Any,
    text_column: str,
    prompt_column: str | None = None,
    label_column: str | None = None,
    max_rows: int | None = None,
    answer_column: str | None = None,
) -> Table:
    """Reads the columns of a (streamed) set, or of its first `max_rows` rows.

    Raises:
        UserError: a column that is missing, a text, prompt or answer that is no string or a label that is neither
            string nor whole number (with the row), no text at all, or a stream that cannot be read.
    """
    wanted = (text_column, prompt_column, label_column, answer_column)
    columns = list(dict.fromkeys(column for column in wanted if column is not None))
    names = getattr((dataset.features or {}).get(label_column), "names", None)
    texts: list[str] = []
    prompts: list[str] = []
    labels: list[str | int | None] = []
    answers: list[str] = []
    rows: list[int] = []
    blank = 0
    for number, row in enumerate(islice(_rows(where, dataset, columns), max_rows), 1):
        text = _string(where, number, text_column, row)
        if not text.strip():
            blank += 1
            continue
        texts.append(text)
        rows.append(number)
        if prompt_column is not None:
            prompts.append(_string(where, number, prompt_column, row))
        if label_column is not None:
            labels.append(_label(where, number, row[label_column], names))
        if answer_column is not None:
            answers.append(_string(where, number, answer_column, row))
    if not texts:
        raise UserError(f"{where}: no document in it; column {text_column} should hold text")
    occurring = sorted({x for x in labels if x is not None}, key=lambda x: (isinstance(x, str), x))
    return Table(
        texts=texts,
        prompts=None if prompt_column is None else prompts,
        labels=None if label_column is None else labels,
        rows=rows,
        classes=tuple(names or occurring),
        blank=blank,
        answers=None if answer_column is None else answers,
    )


def read_rows(where: str, dataset: Any, text_column: str) -> list[dict[str, Any]]:
    """All rows of a set with all their columns, in their order.

    Raises:
        UserError: no such column, a value of it that is no string (with the row), or no row at all.
    """
    rows = list(_rows(where, dataset, [text_column], every=True))
    for number, row in enumerate(rows, 1):
        _string(where, number, text_column, row)
    if not rows:
        raise UserError(f"{where}: no row in it")
    return rows


def _rows(where: str, dataset: Any, columns: list[str], every: bool = False) -> Iterator[dict[str, Any]]:
    """Rows with the columns that are wanted, or with every one.

    A streamed set may not know its columns before its first row.
    """

    def check(present: Iterable[str]) -> None:
        if missing := [column for column in columns if column not in present]:
            raise UserError(f"{where}: no column {', '.join(missing)}; there are: {', '.join(present)}")

    if dataset.column_names is not None:
        check(dataset.column_names)
        columns = list(dataset.column_names) if every else columns
        dataset = dataset.select_columns(columns)
    try:
        for batch in dataset.iter(batch_size=1000):
            check(batch)
            for values in zip(*(batch[column] for column in columns), strict=True):
                yield dict(zip(columns, values, strict=True))
    except UserError:
        raise
    except Exception as error:  # a stream opens and parses its files only now
        raise UserError(f"{where}: cannot be read ({_reason(error)})") from error


def _string(where: str, number: int, column: str, row: dict[str, Any]) -> str:
    value = row[column]
    if not isinstance(value, str):
        raise UserError(f"{where}, row {number}: column {column} holds {value!r}, which is not a string")
    return value


def _label(where: str, number: int, value: Any, names: Sequence[str] | None) -> str | int | None:
    """A label as a string or a whole number; None for -1 and for an empty cell."""
    if isinstance(value, float) and (math.isnan(value) or value.is_integer()):
        value = None if math.isnan(value) else int(value)  # a csv column of numbers with gaps comes as floats
    if value is None or value == -1:
        return None
    if not isinstance(value, str | int):
        raise UserError(f"{where}, row {number}: label {value!r} is neither a string nor a whole number")
    return value if names is None or isinstance(value, str) else names[value]


def _reason(error: BaseException) -> str:
    """The innermost cause in one line: dataset builders wrap what went wrong."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split())[:300] or type(error).__name__
