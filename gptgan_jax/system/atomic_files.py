"""Atomic writes of files and folders, all or nothing. The package writes files only in this way."""

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from safetensors import SafetensorError

from gptgan_jax.errors import UserError

# Followed by a random name, so that no file can be planted there, and two writers never share one.
_PREFIX, _SUFFIX = ".gptgan-", ".tmp"
# Disk full, over quota, file too large, I/O error, read-only: not the program's fault.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)


def write_whole(path: Path, content: bytes | bytearray) -> None:
    """Writes a file through a temporary one next to it: a reader sees either the old content or the new one.

    A symbolic link at `path`, as may be in a folder from somebody else, is replaced and not followed.

    Raises:
        OSError: the file can't be written.
        UserError: `path` is a device or a pipe.
    """
    with whole_file(path) as file:
        file.write(content)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A new file to write into, which is flushed to disk and replaces `path` at the end of the block.

    If the block raises, the new file is removed, and an existing one stays as it is.

    Raises:
        OSError: the file can't be written.
        UserError: `path` is a device or a pipe.
    """
    # Root could replace /dev/null by a file.
    if path.exists() and not path.is_file() and not path.is_dir():
        raise UserError(f"{path} is a device or a pipe; give the name of a file")
    partial = path.with_name(f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}")
    file = partial.open("xb")
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # as of a full disk
            error.filename = str(path)
        raise


def remove_partial_files(folder: Path) -> None:
    """Removes incomplete files of killed processes from a folder; nothing else may be writing to it."""
    for partial in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
        with suppress(OSError):
            partial.unlink()


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A new folder to write into, which is renamed to `out` at the end of the block.

    If the block raises, the folder is removed, along with parent folders that were created for it.

    Raises:
        UserError: it can't be written.
    """
    parents = [folder for folder in out.absolute().parents if not os.path.lexists(folder)]
    temporary = out.with_name(f".{out.name}-{os.getpid()}")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        temporary.rename(out)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        with suppress(OSError):
            for folder in parents:
                folder.rmdir()
        if not isinstance(error, OSError | SafetensorError):
            raise
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:160]
        raise UserError(f"{out} can't be written ({reason}); name another folder") from error
