"""What XLA, libtpu and other native libraries write to standard error, into a file in place of the terminal.

They write to file descriptor 2, past `sys.stderr`: pages on features of the processor that a cached program was
compiled for, and on each plug-in that was looked for. Python's own output stays on the terminal.
"""

import contextlib
import faulthandler
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

FILE = "native.log"

_log: "_NativeLog | None" = None


class _NativeLog:
    """A file that stands in for standard error; unnamed until it is known where it belongs."""

    def __init__(self) -> None:
        self.terminal = os.dup(2)
        self._begun = tempfile.TemporaryFile()  # noqa: SIM115
        os.dup2(self._begun.fileno(), 2)

    def move(self, path: Path) -> None:
        """Goes on in a new file, which begins with what was written so far."""
        path.unlink(missing_ok=True)  # never through a link
        with path.open("xb") as file:
            self.copy_to(file)
            os.dup2(file.fileno(), 2)

    def copy_to(self, file: BinaryIO) -> None:
        """Copies what was written before it had a place."""
        self._begun.seek(0)
        shutil.copyfileobj(self._begun, file)
        file.flush()


@contextlib.contextmanager
def native_output_apart() -> Iterator[None]:
    """While this context lasts, native libraries write into a temporary file, or where `native_log_in` says.

    For a process that does nothing else: `sys.stderr` becomes another stream to the same terminal. Where an error that
    nobody expected ends the context, what native libraries said at its beginning stands above it.
    """
    global _log
    stream = sys.stderr
    stream.flush()
    _log = log = _NativeLog()
    sys.stderr = os.fdopen(os.dup(log.terminal), "w", buffering=1, encoding=stream.encoding, errors=stream.errors)
    faulthandler.enable(sys.stderr)  # a library that aborts says why in the file, and this where
    try:
        yield
    except Exception:
        with os.fdopen(os.dup(log.terminal), "wb") as file:
            log.copy_to(file)
        raise
    finally:
        faulthandler.disable()
        sys.stderr.flush()
        os.dup2(log.terminal, 2)
        sys.stderr, _log = stream, None


def native_log_in(folder: Path, process: int = 0) -> None:
    """From now on native libraries write into FOLDER/native.log; nothing outside of `native_output_apart`.

    Args:
        folder: made if there is none.
        process: which of several this is; those after the first write into native-1.log and so on.
    """
    if _log is not None:
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            _log.move(folder / (f"native-{process}.log" if process else FILE))


def terminal() -> int:
    """The file descriptor of the terminal's standard error."""
    return 2 if _log is None else _log.terminal
