"""A disk that takes no more ends a run in one line, which says from where it can go on."""

import contextlib
import sys
from collections.abc import Iterator

from gptgan_jax.checkpoints.steps import FULL, NotSaved, finished_steps
from gptgan_jax.errors import UserError
from gptgan_jax.runs.folder import RunFolder


class NotWritten(RuntimeError):
    """A checkpoint or a record could not be written; the message names the last good checkpoint."""


@contextlib.contextmanager
def telling_of_full_disk(folder: RunFolder) -> Iterator[None]:
    """Turns the errors of a full disk, in this context, into a `NotWritten` in one line.

    Args:
        folder: the run's, whose checkpoints are looked at once more.

    Raises:
        NotWritten: in place of `NotSaved` and of an OSError that the disk is to blame for.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, NotSaved):
            what = str(error)
        elif error.errno in FULL:
            what = f"{error.filename or folder.path}: {error.strerror}"
        else:
            raise
        _quieten()
        raise NotWritten(
            f"can't write {what}; {last_good(folder)}; make room, and the same command goes on from there"
        ) from error


def _quieten() -> None:
    """Files that TensorStore still had open report to a loop that has gone; that would come after the last line."""
    before = sys.unraisablehook

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            before(unraisable)

    sys.unraisablehook = hook


def last_good(folder: RunFolder) -> str:
    """The latest checkpoint of a run, in words."""
    try:
        steps = finished_steps(folder.checkpoints)
    except (OSError, UserError):
        steps = []
    return f"the last good checkpoint is {steps[-1][1]}/{steps[-1][0]}" if steps else "no checkpoint was saved yet"
