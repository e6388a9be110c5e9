"""A run folder in use by a live run is refused; a lock that a killed run left is none."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gptgan_jax.errors import UserError
from gptgan_jax.runs import lock
from gptgan_jax.runs.lock import locked

HOLDER = """
import sys, time
from pathlib import Path
from gptgan_jax.runs.lock import locked
with locked(Path(sys.argv[1]), print):
    print("held", flush=True)
    time.sleep(600)
"""


def silently(line: str) -> None:
    """Takes no notice of a line."""


def take(folder: Path) -> None:
    with locked(folder, silently):
        pass


def test_a_folder_is_locked_once_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "tiny"
    with (
        locked(folder, silently),
        pytest.raises(UserError, match=rf"tiny is in use by a live run \(process {os.getpid()}"),
    ):
        take(folder)
    take(folder)


def test_the_lock_of_a_process_that_was_killed_is_free(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=f"process {holder.pid} on "):
            take(tmp_path)
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    take(tmp_path)


def test_a_process_that_does_not_write_does_not_lock(tmp_path: Path) -> None:
    with locked(tmp_path, silently), locked(tmp_path, silently, active=False):
        pass
    with locked(tmp_path / "other", silently, active=False):
        assert not (tmp_path / "other").exists()


def test_a_disk_that_can_not_lock_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, how: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", refuse)
    heard: list[str] = []
    with locked(tmp_path, heard.append):
        pass
    assert heard == [
        f"warning: {tmp_path / 'lock'} can't be locked (No locks available); make sure that no other run uses "
        "this folder"
    ]
