"""What every command does with the terminal and with JAX."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path


def say(line: str) -> None:
    """A line of news, on standard error: standard output has the results alone."""
    print(line, file=sys.stderr, flush=True)


def configure_jax() -> None:
    """Keeps compiled programs between runs, where the user has not chosen a place already."""
    import jax

    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gptgan_jax" / "xla"
        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def taken(arguments: Sequence[str], flag: str, optional: bool = False) -> tuple[str | None, list[str]]:
    """The value of a flag among arguments that are keys of a config, and the other arguments.

    Args:
        arguments: such as --seeds 3 --name x.
        flag: such as --seeds; its value stands behind it or after "=". The last one counts.
        optional: it may stand without a value before another flag.

    Returns:
        the value, empty where it is missing, None without the flag; what is left.
    """
    rest, given = [], list(arguments)
    value: str | None = None
    while given:
        argument = given.pop(0)
        name, equals, text = argument.partition("=")
        if name != flag:
            rest.append(argument)
        elif equals:
            value = text
        elif given and not (optional and given[0].startswith("--")):
            value = given.pop(0)
        else:
            value = ""
    return value, rest
