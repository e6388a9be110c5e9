"""Runs a user's program with text on its standard input."""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable

LOOK_EVERY = 0.2
_SHOWN = 200


class Failed(Exception):
    """A program failed; the message says how."""


def missing_program(command: str) -> str | None:
    """The name of a command line's program if it can't be found, else None."""
    program = shlex.split(command)[0]
    return program if shutil.which(program) is None else None


def number_from(command: str, given: str, seconds: float, look: Callable[[], None] = lambda: None) -> float:
    """The number on the last line that a program prints, which may be nan.

    Args:
        command: a command line, run without a shell.
        given: its standard input.
        seconds: the time limit.
        look: called now and then meanwhile; if it raises, the program is killed.

    Raises:
        Failed: no such program, an exit status other than 0, no number, or a timeout.
    """
    try:
        process = subprocess.Popen(
            shlex.split(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # so that its child processes can be killed with it
        )
    except OSError as error:
        raise Failed(f"can't be started ({error.strerror or error})") from None
    try:
        printed, complaint = _talk(process, given.encode("utf-8", "replace"), seconds, look)
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode:
        last = _last_line(complaint) or _last_line(printed)
        raise Failed(f"ended with status {process.returncode}{f': {last}' if last else ''}")
    last = _last_line(printed)
    try:
        return float(last)
    except ValueError:
        raise Failed(f"should print a number on its last line, and printed {last!r}") from None


def _talk(
    process: subprocess.Popen[bytes], given: bytes, seconds: float, look: Callable[[], None]
) -> tuple[bytes, bytes]:
    """The output of a process: standard output and standard error."""
    end = time.monotonic() + seconds
    rest: bytes | None = given
    while True:
        try:
            return process.communicate(rest, timeout=max(min(LOOK_EVERY, end - time.monotonic()), 0.01))
        except subprocess.TimeoutExpired:
            rest = None  # `communicate` keeps the rest of the input
        if time.monotonic() >= end:
            raise Failed(f"took more than {seconds:g} seconds")
        look()


def _last_line(output: bytes) -> str:
    lines = output.decode("utf-8", "replace").split("\n")
    return next((line.strip()[:_SHOWN] for line in reversed(lines) if line.strip()), "")
