"""`gptgan ARGUMENTS` that gets stuck at a place, as where a program takes minutes to compile: the main thread waits,
and runs no Python. It says "stuck" when it is.

    python stuck.py PLACE ARGUMENTS
"""

import ctypes
import sys
from collections.abc import Callable
from typing import Any

from gptgan_jax.cli import main
from gptgan_jax.evaluation import final
from gptgan_jax.system import interruptions
from gptgan_jax.training.run import Run
from gptgan_jax.training.sharding import Placement


def wait_for_ever() -> None:
    """In C, for a lock that this thread holds; other threads go on."""
    print("stuck", file=sys.stderr, flush=True)
    library, lock = ctypes.CDLL(None), ctypes.create_string_buffer(256)
    library.pthread_mutex_init(lock, None)
    for _ in range(2):
        library.pthread_mutex_lock(lock)


def stuck(function: Callable[..., Any]) -> Callable[..., Any]:
    def instead(*arguments: Any, **options: Any) -> Any:
        wait_for_ever()
        return function(*arguments, **options)

    return instead


PLACES: dict[str, tuple[Any, str]] = {
    "first state": (Run, "first_state"),
    "validation": (Run, "shown_texts"),
    "evaluation": (final, "_evaluate"),
}

if __name__ == "__main__":
    place = sys.argv.pop(1)
    interruptions.GRACE_SECONDS = 0.5
    if place == "step":
        compiled = Placement.compiled
        Placement.compiled = lambda *arguments: stuck(compiled(*arguments))  # type: ignore[method-assign]
    else:
        owner, name = PLACES[place]
        setattr(owner, name, stuck(getattr(owner, name)))
    sys.exit(main())
