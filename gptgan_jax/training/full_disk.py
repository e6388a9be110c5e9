"""Ends a run on a full disk with one line that says where it can be resumed."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from etils import epath

from gptgan_jax.checkpoints.steps import NotSaved, finished_steps
from gptgan_jax.system.atomic_files import FULL


class NotWritten(RuntimeError):
    """A checkpoint, a record or a result could not be written; the message names the last good checkpoint."""


@contextlib.contextmanager
def telling_of_full_disk(folder: Path, checkpoints: epath.PathLike) -> Iterator[None]:
    """Turns errors of a full disk inside this context into `NotWritten`, with a message of one line.

    Args:
        folder: the run folder.
        checkpoints: the run's checkpoint folder, which is listed for the message.

    Raises:
        NotWritten: in place of `NotSaved` and of an OSError of a full disk.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, NotSaved):
            what = str(error)
        elif error.errno in FULL:
            what = f"{error.filename or folder}: {error.strerror}"
        else:
            raise
        _quieten()
        raise NotWritten(
            f"can't write {what}; {last_good(checkpoints)}; free some space, and the same command resumes from there"
        ) from error


def _quieten() -> None:
    """Silences files that TensorStore still had open: they report to a closed event loop, after the last line."""
    before = sys.unraisablehook

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            before(unraisable)

    sys.unraisablehook = hook


def last_good(checkpoints: epath.PathLike) -> str:
    """The latest checkpoint of a run, in words."""
    try:
        steps = finished_steps(checkpoints)
    except OSError:
        steps = []
    return f"the last good checkpoint is {steps[-1][1]}/{steps[-1][0]}" if steps else "no checkpoint was saved yet"
