"""Terminal output, argument types and the JAX setup that all commands share."""

import argparse
import contextlib
import math
import os
import re
import sys
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from gptgan_jax.errors import UserError
from gptgan_jax.system.atomic_files import whole_file

LARGEST_INT = 2**31 - 1


def say(line: str) -> None:
    """Prints a message to standard error; standard output has only the results."""
    print(line, file=sys.stderr, flush=True)


def cache_folder() -> Path:
    """The folder for cached files that can be recreated."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gptgan_jax"


def configure_jax() -> None:
    """Sets up the cache of compiled programs, unless the user has chosen its folder."""
    import jax

    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "xla"))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def number(kind: Callable[[str], float], low: float, high: float = math.inf) -> Callable[[str], float]:
    """An argparse type: a finite number from low to high."""

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high or math.isinf(value):
            most = "" if math.isinf(high) else f", at most {high}"
            noun = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"{text[:40]!r} should be {noun}, at least {low:g}{most}")
        return value

    return parse


def in_columns(rows: Sequence[Sequence[str]], to_the_right: Container[int]) -> list[str]:
    """A table as aligned lines of text; the columns with the indices `to_the_right` are right-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if i in to_the_right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def check_utf8(what: str, text: str | None) -> None:
    """Raises UserError for a user's text that is not UTF-8, whose bytes Python keeps as halves of characters."""
    half = next((char for char in text or "" if "\ud800" <= char <= "\udfff"), None)
    if half is not None:
        raise UserError(f"{what} is not UTF-8 (byte 0x{ord(half) & 0xFF:02x}); is the terminal set to it?")


def check_local(flag: str, path: Path | None) -> None:
    """Raises UserError if a path is an address such as gs://BUCKET/x, which would be made as a folder in this one."""
    if path is not None and re.match("[a-z][a-z0-9]*:/", str(path)):
        raise UserError(f"{flag} {path} is an address, and nothing is written there; give a place on this machine")


def check_folder(flag: str, folder: Path) -> None:
    """Raises UserError if a folder can neither be written to nor created."""
    check_local(flag, folder)
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(path))
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise UserError(f"{flag} {folder}: {existing} is not a writable folder; give another")


def check_new_file(flag: str, path: Path | None, *read: Path | None) -> None:
    """Raises UserError if an output file is a folder, is one of the input files `read`, or can't be created."""
    if path is None:
        return
    if path.is_dir() or any(one is not None and path.resolve() == one.resolve() for one in read):
        raise UserError(f"{flag} {path}: give the name of a new file")
    check_folder(flag, path.parent)


def write_lines(lines: Iterable[str], out: Path | None) -> int:
    """Prints lines as they come, or writes them to a file, all or nothing; returns their number."""
    count = 0
    with contextlib.nullcontext() if out is None else _new_file(out) as file:
        for line in lines:
            if file is None:
                print(line)
            else:
                file.write(f"{line}\n".encode())
            count += 1
    return count


@contextlib.contextmanager
def _new_file(path: Path) -> Iterator[BinaryIO]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        yield file
