"""What every command does with the terminal and with JAX."""

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from gptgan_jax.errors import UserError

LARGEST_INT = 2**31 - 1


def say(line: str) -> None:
    """A line of news, on standard error: standard output has the results alone."""
    print(line, file=sys.stderr, flush=True)


def configure_jax() -> None:
    """Keeps compiled programs between runs, where the user has not chosen a place already."""
    import jax

    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gptgan_jax" / "xla"
        jax.config.update("jax_compilation_cache_dir", str(cache))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def values_of(arguments: Sequence[str], flag: str, optional: bool = False) -> tuple[list[str], list[str]]:
    """The values of a flag among arguments that are keys of a config, and the other arguments.

    Args:
        arguments: such as --seeds 3 --name x.
        flag: such as --seeds; its value stands behind it or after "=".
        optional: it may stand without a value before another flag.

    Returns:
        its value each time that it is given, empty where that is missing; what is left.
    """
    values, rest, given = [], [], list(arguments)
    while given:
        argument = given.pop(0)
        name, equals, text = argument.partition("=")
        if name != flag:
            rest.append(argument)
        elif equals:
            values.append(text)
        elif given and not (optional and given[0].startswith("--")):
            values.append(given.pop(0))
        else:
            values.append("")
    return values, rest


def taken(arguments: Sequence[str], flag: str, optional: bool = False) -> tuple[str | None, list[str]]:
    """The last value of a flag that counts once, None without it, and the other arguments; see `values_of`."""
    values, rest = values_of(arguments, flag, optional)
    return (values[-1] if values else None), rest


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


def check_folder(flag: str, folder: Path) -> None:
    """Raises UserError where a folder can neither be written to nor be made."""
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(path))
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise UserError(f"{flag} {folder}: {existing} is no folder that can be written; give another")
