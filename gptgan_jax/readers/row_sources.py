"""Sources of rows: files of rows, or a data set. Any error in them is a UserError.

In every function `where` names the config key (and the set) that starts an error message.
"""

import dataclasses
import glob
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from gptgan_jax.errors import UserError
from gptgan_jax.readers.boundaries import SPLITS_FILE, STATE_FILE, check_folder, check_not_a_builder
from gptgan_jax.readers.files import FILE_FORMATS, RowFormat, format_of, matching_files
from gptgan_jax.readers.row_files import Place, Row, rows_of_file

# Rows per chunk of a data set, and rows that are read to find a file's columns.
_CHUNK = 1000
_SAME_COLUMNS = "parquet files that are read together need the same columns: write them anew, or as .jsonl"
_MOST_NAMED = 5


@dataclass(frozen=True)
class Rows:
    """Rows that are read lazily, any number of times.

    Attributes:
        where: their source, for messages.
        start: returns the rows; those of a data set with only the given columns, or with all.
        present: the columns, if known before a row is read.
        class_names: by column, the names of its classes, if a set declares them.
        guessed_dates: whether its dates may have been texts that a reader turned into dates.
    """

    where: str
    start: Callable[[list[str] | None], Iterator[Row]]
    present: tuple[str, ...] | None = None
    class_names: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    guessed_dates: bool = False

    def read(
        self, columns: list[str], most: int | None = None, every: bool = False, optional: Sequence[str] = ()
    ) -> Iterator[Row]:
        """The first rows, with these columns or with all. A column may be missing in some rows, but not in all.

        Args:
            columns: the required columns.
            most: the number of rows, not counting blank lines; None: all.
            every: whether the other columns are read too.
            optional: columns that are read if they exist.

        Raises:
            UserError: a column that no row has, or rows that can't be read.
        """
        if self.present is not None:
            self._check(columns, self.present)
        wanted = [*columns, *(name for name in optional if name in (self.present or ()))]
        rows = _first(self.start(None if every else wanted), most)
        first: list[Row] = []
        seen: dict[str, None] = {}
        while more := list(islice(rows, _CHUNK)):
            first += more
            seen.update(dict.fromkeys(name for _, row in more if row is not None for name in row))
            if all(column in seen for column in columns):
                break
        if seen:
            self._check(columns, seen)
        yield from chain(first, rows)

    def columns(self) -> tuple[str, ...]:
        """The columns of the first rows."""
        if self.present is not None:
            return self.present
        rows = islice(self.start(None), _CHUNK)
        return tuple(dict.fromkeys(name for _, row in rows if row is not None for name in row))

    def _check(self, columns: list[str], present: Iterable[str]) -> None:
        if missing := [column for column in columns if column not in present]:
            raise UserError(f"{self.where}: no column {', '.join(missing)}; there are: {', '.join(present)}")


def _first(rows: Iterator[Row], most: int | None) -> Iterator[Row]:
    """At most that many rows, reading no further; blank lines are not counted."""
    for place, row in rows:
        yield place, row
        most = most if most is None or row is None else most - 1
        if most == 0:
            return


def open_rows(
    where: str, path: str, name: str | None, split: str | Sequence[str] | None, which: str, streaming: bool
) -> Rows:
    """The rows of files, or of a data set.

    Json, csv and tsv files are read here, with cells exactly as written, including the files of a data set.
    The rest is read by the `datasets` library, which runs no code from a set: releases 4 and later can't.

    Args:
        where: see above.
        path: a hub name, a local folder, or json, csv, tsv or parquet; a known file extension takes precedence.
        name: subset of a hub set.
        split: the split, None for train; for files a name, a folder, a glob or a URL, or several names.
        which: train, valid or test: the config key that a message names.
        streaming: read rows as they arrive instead of preparing the whole set first.

    Raises:
        UserError: no such set, split or file, no network, a file that can't be parsed, or a folder that names files
            outside of itself.
    """
    if path in FILE_FORMATS:
        if split is None:
            raise UserError(f"data.{which}: no {path} file named; give a file or a glob")
        names = [split] if isinstance(split, str) else split
        remote = any("://" in one for one in names)
        files = list(names) if remote else matching_files(f"data.{which}", split)
        forms = {_format(file, path) for file in files}
        if "parquet" not in forms:
            return _file_rows(where, [(file, _format(file, path)) for file in files], remote and not streaming)
        if len(forms) > 1:
            raise UserError(f"data.{which}: {split} names parquet files and others; name one kind")
        if not remote:
            # The `datasets` library reads no file without rows.
            files = [file for file in files if _has_rows(file)]
            if not files:
                raise UserError(f"{where}: no row in it")
        return _parquet_rows(where, files, remote, streaming)
    if split is not None and not isinstance(split, str):
        raise UserError(f"data.{which}: a list of files needs data.path json, csv, tsv or parquet; {path} has splits")
    check_not_a_builder("data.path", path)
    if os.path.isdir(path):
        check_folder(where, path)
        if {STATE_FILE, SPLITS_FILE} & set(os.listdir(path)):
            return _saved(where, path, split)
        if glob.has_magic(os.path.abspath(path)):
            raise UserError(
                f"data.path: {path}: the datasets library takes [, * and ? for a pattern; rename the folder"
            )
    return _set_rows(where, path, name, split, streaming)


def _parquet_rows(where: str, files: Sequence[str], remote: bool, streaming: bool) -> Rows:
    """The rows of parquet files with the same columns, whose types may differ if values can be converted."""
    several = [] if remote or len(files) == 1 else files
    types = {file: columns for file in several if (columns := _types(file)) is not None}
    first = next(iter(types), "")
    for file, columns in types.items():
        if other := sorted(columns.keys() ^ types[first].keys()):
            names = ", ".join(other[:_MOST_NAMED]) + ", …" * (len(other) > _MOST_NAMED)
            raise UserError(f"{where}: only one of {first} and {file} has the columns {names}; {_SAME_COLUMNS}")
    # The `datasets` library takes names for patterns.
    escaped = list(files) if remote else [glob.escape(file) for file in files]
    source = {"path": "parquet", "data_files": {"train": escaped}, "split": "train", "streaming": streaming}
    try:
        return _loaded(where, "parquet", source)
    except UserError as error:
        for file, columns in types.items():
            for name, kind in columns.items():
                if kind != types[first][name]:
                    clash = f"column {name} is {types[first][name]} in {first} and {kind} in {file}"
                    raise UserError(f"{error}: {clash}; {_SAME_COLUMNS}") from None
        raise


def _types(file: str) -> dict[str, Any] | None:
    """The types of a parquet file's columns; None if it can't be read, so that reading it reports the error."""
    import pyarrow
    import pyarrow.parquet

    try:
        schema = pyarrow.parquet.read_schema(file)
        return dict(zip(schema.names, schema.types, strict=True))
    except (OSError, pyarrow.ArrowException):
        return None


def _has_rows(file: str) -> bool:
    """Whether a parquet file has any row; True if it can't be read, so that reading it reports the error."""
    import pyarrow
    import pyarrow.parquet

    try:
        return bool(pyarrow.parquet.read_metadata(file).num_rows)
    except (OSError, pyarrow.ArrowException):
        return True


def _format(file: str, path: str) -> RowFormat:
    form = format_of(file)
    if form is None or (form, path) == ("csv", "tsv"):
        return next(one for one in FILE_FORMATS if one == path)
    return form


def _file_rows(where: str, files: Sequence[tuple[str, RowFormat]], download: bool = False) -> Rows:
    """The rows of json, csv and tsv files, one after another.

    Args:
        where: see above.
        files: their paths or URLs, and formats.
        download: whether to download them into the cache of the `datasets` library first.
    """

    def start(columns: list[str] | None) -> Iterator[Row]:
        for file, form in files:
            path = file
            if download:
                import datasets

                with _explained(where, file):
                    path = datasets.DownloadManager().download(file)
            yield from rows_of_file(where, path, form, named=len(files) > 1)

    return Rows(where, start)


def _set_rows(where: str, path: str, name: str | None, split: str | None, streaming: bool) -> Rows:
    """The rows of a data set from the hub or a folder; its json, csv and tsv files are read directly."""
    import datasets

    with _explained(where, path):
        builder = datasets.load_dataset_builder(path, name)
    split = split or "train"
    files = _plain_files(builder, split)
    if files is not None:
        return _file_rows(where, files, download=not streaming)
    parts = {part: _plain_files(builder, part) for part in {one.split("[")[0].strip() for one in split.split("+")}}
    plain = {part: files for part, files in parts.items() if files is not None}
    if len(plain) == len(parts) and not streaming:
        return _sliced(where, path, split, {part: _file_rows(where, files, True) for part, files in plain.items()})
    source = {"path": path, "name": name, "split": split, "streaming": streaming}
    if _is_of(builder, "csv"):
        source["keep_default_na"] = False
        if builder.info.features is None:
            source["features"] = _texts(where, source)
    return _loaded(where, path, source, guessed_dates=_is_of(builder, "json") and builder.info.features is None)


def _sliced(where: str, path: str, split: str, parts: Mapping[str, Rows]) -> Rows:
    """Slices of splits and sums of them, such as `train[:10%]+valid`. The `datasets` library would guess types."""
    import datasets

    def filled(part: str) -> Iterator[Row]:
        return ((place, row) for place, row in parts[part].start(None) if row is not None)

    with _explained(where, path):
        counts = {part: sum(1 for _ in filled(part)) for part in parts}
        slices = datasets.ReadInstruction.from_spec(split).to_absolute(counts)

    def start(columns: list[str] | None) -> Iterator[Row]:
        for one in slices:
            yield from islice(filled(one.splitname), one.from_, one.to)

    return Rows(where, start)


def _texts(where: str, source: Mapping[str, Any]) -> Any:
    """Features of a set of csv files that make every cell a text; None if it has no row."""
    import datasets

    with _explained(where, source["path"]):
        first = next(iter(datasets.load_dataset(**{**source, "split": None, "streaming": True}).values()))
        names = next((list(row) for row in first), None)
    return None if names is None else datasets.Features({name: datasets.Value("string") for name in names})


def _is_of(builder: Any, form: str) -> bool:
    return any(one.__module__.startswith(f"datasets.packaged_modules.{form}.") for one in type(builder).__mro__)


def _plain_files(builder: Any, split: str) -> list[tuple[str, RowFormat]] | None:
    """The files of a set's split if they are json, csv or tsv; None if the set says how to read them."""
    form: RowFormat | None = "json" if _is_of(builder, "json") else "csv" if _is_of(builder, "csv") else None
    if form is None or builder.info.features is not None:
        return None
    config = builder.config
    files = (config.data_files or {}).get(split)
    if not files:
        return None
    ignored = {"name", "version", "data_dir", "data_files", "description"}
    fields = [field for field in dataclasses.fields(config) if field.name not in ignored]
    changed = {field.name: getattr(config, field.name) for field in fields}
    changed = {name: value for name, value in changed.items() if value != getattr(type(config), name, None)}
    if changed in ({"sep": "\t"}, {"delimiter": "\t"}):
        form, changed = "tsv", {}
    return None if changed else [(str(file), form) for file in files]


def _loaded(where: str, path: str, source: dict[str, Any], guessed_dates: bool = False) -> Rows:
    import datasets

    with _explained(where, path):
        return _dataset_rows(where, datasets.load_dataset(**source), guessed_dates)


def _saved(where: str, path: str, split: str | None) -> Rows:
    """One split of what `save_to_disk` wrote: a dict of splits, or a single set that has no splits."""
    import datasets

    with _explained(where, path):
        saved: Any = datasets.load_from_disk(path)
    if isinstance(saved, dict):
        if (split or "train") not in saved:
            raise UserError(f"{where}: no such split; there are: {', '.join(saved)}")
        saved = saved[split or "train"]
    elif split is not None:
        raise UserError(f"{where}: this folder holds one set without splits; leave the split's name out")
    return _dataset_rows(where, saved)


def _dataset_rows(where: str, dataset: Any, guessed_dates: bool = False) -> Rows:
    """The rows of a datasets.Dataset or datasets.IterableDataset; the latter may not know its columns."""

    def start(columns: list[str] | None) -> Iterator[Row]:
        chosen = dataset
        if columns is not None and dataset.column_names is not None:
            chosen = dataset.select_columns(columns)
        # Pictures and sound, also in lists: only whether there are any matters, which needs no decoder.
        if "decode=True" in repr(chosen.features):
            chosen = (chosen if hasattr(chosen, "decode") else chosen.to_iterable_dataset()).decode(False)
        number = 0
        try:
            for batch in chosen.iter(batch_size=_CHUNK):
                for values in zip(*batch.values(), strict=True):
                    number += 1
                    yield Place(number), dict(zip(batch, values, strict=True))
        except Exception as error:  # a stream opens and parses its files only now
            raise UserError(f"{where}: cannot be read ({_reason(error)})") from error

    features = dataset.features or {}
    names = {column: feature.names for column, feature in features.items() if getattr(feature, "names", None)}
    present = None if dataset.column_names is None else tuple(dataset.column_names)
    return Rows(where, start, present, names, guessed_dates)


@contextmanager
def _explained(where: str, path: str) -> Iterator[None]:
    """Turns exceptions of the `datasets` library into one-line errors, and silences its own output."""
    import datasets

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # anything that its builders raise is about the user's files or keys
        missing = (ConnectionError, FileNotFoundError, datasets.exceptions.DatasetNotFoundError)
        if isinstance(error, missing) and path not in FILE_FORMATS and "://" not in path:
            raise UserError(
                f"data.path: {path} is no local dataset folder, and on the hub there is no such set or there is no"
                f" network ({_reason(error)}); for local files set data.path to json, csv, tsv or parquet and"
                " data.train to a file"
            ) from error
        raise UserError(f"{where}: cannot be read ({_reason(error)})") from error


def _reason(error: BaseException) -> str:
    """The innermost cause in one line, because dataset builders wrap it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split())[:300] or type(error).__name__
