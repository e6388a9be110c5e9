"""A run folder is used by one live run only: the kernel holds the lock, and releases it however the run ends."""

import contextlib
import errno
import fcntl
import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from gptgan_jax.errors import UserError
from gptgan_jax.runs.folder import LOCK_FILE


@contextlib.contextmanager
def locked(folder: Path, say: Callable[[str], None], active: bool = True) -> Iterator[None]:
    """In this context, no other live process on this machine (or on this shared disk) can lock the folder.

    The file RUN/lock stays; what counts is the open lock on it, which is gone when its process is, even after SIGKILL.
    Of several processes of a run, the first one locks. Checkpoints elsewhere, such as in a bucket, are covered by their
    run folder's lock.

    Args:
        folder: the run folder; created if it does not exist.
        say: receives a warning if the disk can't lock.
        active: whether this process locks.

    Raises:
        UserError: another live run has it, or the lock is a link to a file elsewhere.
    """
    if not active:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK_FILE
    descriptor = _opened(path)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another process"
                raise UserError(
                    f"{folder} is in use by a live run ({holder}); wait for it, stop it, or choose another --name"
                ) from None
            say(f"warning: {path} can't be locked ({error.strerror}); make sure that no other run uses this folder")
        else:
            with contextlib.suppress(OSError):  # the name is for people; a full disk is reported elsewhere
                # Only such a name is overwritten: a hard link may lead to another file.
                if os.pread(descriptor, 8, 0) in (b"", b"process "):
                    os.ftruncate(descriptor, 0)
                    os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def is_locked(folder: Path) -> bool:
    """Whether a live process has locked a run folder; nothing is written."""
    try:
        descriptor = os.open(folder / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def _opened(path: Path) -> int:
    """The descriptor of the lock file. A link is not followed, as the process's name would be written elsewhere."""
    if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
        raise UserError(f"{path} is a link, a folder or a pipe instead of the lock of this run; remove it")
    # Not inherited by programs that are started from here, which might outlive the run.
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
