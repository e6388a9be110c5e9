"""Text files: finding them by name, their format, and their lines. Any error in them is a UserError."""

import bz2
import glob
import gzip
import io
import lzma
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any, Literal

from gptgan_jax.errors import UserError

RowFormat = Literal["json", "csv", "tsv", "parquet"]
FILE_FORMATS: tuple[RowFormat, ...] = ("json", "csv", "tsv", "parquet")
# By file extension, before that of a compressed file.
FILE_SUFFIXES: dict[str, RowFormat] = {
    ".json": "json",
    ".jsonl": "json",
    ".jsonlines": "json",
    ".ndjson": "json",
    ".jl": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".parquet": "parquet",
}
COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
# What a truncated or damaged compressed file raises, besides an OSError.
_DAMAGED = (EOFError, zlib.error, lzma.LZMAError)


def format_of(file: str | os.PathLike[str]) -> RowFormat | None:
    """The format of a file of rows by its extension; None for any other file."""
    name = os.fspath(file).lower()
    for ending in COMPRESSED:
        name = name.removesuffix(ending)
    return FILE_SUFFIXES.get(os.path.splitext(name)[1])


def named(pattern: str | Sequence[str]) -> str:
    """One or several file names, for a message."""
    return pattern if isinstance(pattern, str) else ", ".join(pattern)


def matching_files(where: str, pattern: str | Sequence[str]) -> list[str]:
    """The files of a name: the file itself, all files in a folder and its subfolders, or the matches of a glob.

    The files of each name are in alphabetical order; a file that several names stand for is there once. Names that
    begin with a dot are left out of folders.

    Raises:
        UserError: for a name without any file.
    """
    found: dict[str, str] = {}
    for file in _matches(where, pattern):
        found.setdefault(os.path.realpath(file), file)
    return list(found.values())


def twice_named(where: str, pattern: str | Sequence[str]) -> list[str]:
    """A note on the files that several names stand for, which are read once; none for URLs. Raises as above."""
    if "://" in str(pattern):
        return []
    count = len(_matches(where, pattern)) - len(matching_files(where, pattern))
    files = "1 file is" if count == 1 else f"{count} files are"
    return [f"{where}: {files} named again by another name or glob, and read once"] if count else []


def _matches(where: str, pattern: str | Sequence[str]) -> list[str]:
    if not isinstance(pattern, str):
        return [file for one in pattern for file in _matches(where, one)]
    if not pattern:
        raise UserError(f"{where}: one of the names is empty; leave it out")
    pattern = os.path.expanduser(pattern)
    if os.path.isfile(pattern):
        return [pattern]
    if os.path.isdir(pattern):
        files = sorted(path for path in glob.glob(f"{glob.escape(pattern)}/**", recursive=True) if os.path.isfile(path))
        if not files:
            raise UserError(f"{where}: no file in the folder {pattern}")
        return files
    files = sorted(path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path))
    if not files and glob.has_magic(pattern):
        raise UserError(f"{where}: no file matches {pattern}")
    if not files:
        raise UserError(f"{where}: no such file: {pattern}")
    return files


def utf8_lines(path: str) -> Iterator[str]:
    """The lines of a file with their line ends; without a byte order mark, and decompressed if necessary.

    Only a line feed ends a line, so that line numbers are those of an editor; in a file without any, which is as old
    Macs wrote it, a carriage return does.

    Args:
        path: of a file, or a URL that fsspec supports.

    Raises:
        UserError: a file that can't be read, or is not UTF-8 (with line and byte), or an archive of files.
    """
    try:
        with _opened(path) as file:
            if _is_archive(file):
                raise UserError(f"{path}: an archive of files; unpack it, and name its files or their folder")
            for number, raw in enumerate(file, 1):
                try:
                    line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
                    if number == 1 and "\r" in line and not line.endswith("\n"):
                        yield from io.StringIO(line.replace("\r", "\n"))
                    else:
                        yield line
                except UnicodeDecodeError as error:
                    found = f"byte 0x{error.object[error.start]:02x} at position {error.start + 1}"
                    message = f"{path}, line {number}: not UTF-8 ({found}); convert the file with iconv -t utf-8"
                    raise UserError(message) from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except _DAMAGED as error:
        raise UserError(f"{path}: cannot be read (a damaged archive: {error}); pack it anew") from error


def _is_archive(file: io.BufferedReader) -> bool:
    """Whether a file that was just opened is in the format of tar, as .tar.gz is once it is unpacked, or of zip."""
    begin = file.peek(512)
    return begin[257:262] == b"ustar" or begin.startswith(b"PK\x03\x04")


@contextmanager
def _opened(path: str) -> Iterator[io.BufferedReader]:
    """The decompressed bytes of a file. Its first bytes show the format: a cached file may have lost its name."""
    with _remote(path) if "://" in path else open(path, "rb") as file:
        begin = file.read(10)
        file.seek(0)
        raw: Any = file
        if begin.startswith(b"\x1f\x8b"):
            raw = gzip.GzipFile(fileobj=file)
        elif begin.startswith(b"BZh") and begin[4:] in (b"1AY&SY", b"\x17rE8P\x90"):  # a first block, or the end
            raw = bz2.BZ2File(file)
        elif begin.startswith(b"\xfd7zXZ\x00"):
            raw = lzma.LZMAFile(file)  # noqa: SIM115
        elif begin.startswith(b"\x28\xb5\x2f\xfd") or (begin[1:4] == b"\x2a\x4d\x18" and begin[0] >> 4 == 5):
            raw = _unpacked_zst(file)
        yield raw if isinstance(raw, io.BufferedReader) else io.BufferedReader(raw)


def _unpacked_zst(file: IO[bytes]) -> io.BufferedReader:
    """Decompressed by Arrow, which `datasets` installs; Python itself can from 3.14 on."""
    import pyarrow

    return io.BufferedReader(pyarrow.CompressedInputStream(pyarrow.PythonFile(file, "r"), "zstd"))


def _remote(address: str) -> Any:
    import fsspec

    return fsspec.open(address, "rb")
