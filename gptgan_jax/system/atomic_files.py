"""Files and folders that are written all or nothing: the one way in which this package writes them."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from safetensors import SafetensorError

from gptgan_jax.errors import UserError

# A name that nobody can foresee, so that nothing can lie in wait there and two writers never share one.
_PREFIX, _SUFFIX = ".gptgan-", ".tmp"


def write_whole(path: Path, content: bytes | bytearray) -> None:
    """Writes a file by way of a new one beside it: a reader sees the old content or the new one.

    A symbolic link at `path`, as there may be in a folder from somebody else, is replaced and not followed.

    Raises:
        OSError: the file can't be written.
        UserError: `path` is a device or a pipe.
    """
    with whole_file(path) as file:
        file.write(content)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A new file to write into, which takes the place of `path` at the end of the block, when it is on the disk.

    If the block raises, the new file is removed and an older one stays as it was.

    Raises:
        OSError: the file can't be written.
        UserError: `path` is a device or a pipe.
    """
    # An administrator could replace /dev/null by a file.
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
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def remove_partial_files(folder: Path) -> None:
    """Removes the files that killed processes left half-written in a folder, which must have no other writer now."""
    for partial in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
        with suppress(OSError):
            partial.unlink()


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A new folder to write into, which becomes `out` at the end of the block, by one rename.

    Where the block raises, nothing is left of it, nor of the folders above that were made for it.

    Raises:
        UserError: where it can't be written.
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
