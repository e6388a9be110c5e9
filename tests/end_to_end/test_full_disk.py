"""A disk that takes no more stops a run in one line that names the last good step; with room again the run goes on."""

import contextlib
import errno
import os
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny import write_config, write_corpus

from gptgan_jax.checkpoints.manager import Checkpoints
from gptgan_jax.cli import main
from gptgan_jax.runs.records import Records, read_metrics

# Of steps 1-6 every second is saved.
KEYS = {"continued.steps": 0, "warmup.steps": 0, "adversarial.steps": 0}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 MB in memory, where the test may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("may not mount a tmpfs")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Writes until nothing fits any more."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)):
                    pass
    return filler


def doing_after(monkeypatch: pytest.MonkeyPatch, step: int, what: Any) -> None:
    """Does something once, when the metrics of a step have been recorded."""
    write = Records.write

    def writing(self: Records, phase: str, at: int, figures: Any, shown: Any = None) -> Any:
        recorded = write(self, phase, at, figures, shown)
        if at == step and "loss" in figures:
            while at > 2 and not (self.folder / "checkpoints" / "likelihood" / str((at - 1) // 2 * 2)).is_dir():
                time.sleep(0.01)  # it is saved while the run goes on
            what()
        return recorded

    monkeypatch.setattr(Records, "write", writing)


def latest(run: Path) -> int:
    with Checkpoints(run / "checkpoints", read_only=True) as checkpoints:
        return checkpoints.latest().step


def assert_ended_whole(run: Path) -> None:
    assert latest(run) == 6
    assert [line["step"] for line in read_metrics(run) if "loss" in line] == [1, 2, 3, 4, 5, 6]


def last_line(capsys: pytest.CaptureFixture) -> str:
    """Of what was said, in which there is no traceback."""
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said.splitlines()[-1]


@pytest.mark.thorough
def test_a_disk_that_fills_up_stops_the_run_which_goes_on_with_room(
    small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    train = str(write_corpus(tmp_path / "corpus.txt"))
    config, run = write_config(small_disk, KEYS | {"data.train": train}), small_disk / "runs" / "tiny"
    fillers: list[Path] = []
    with pytest.MonkeyPatch.context() as patch:
        doing_after(patch, 3, lambda: fillers.append(fill(small_disk)))
        assert main(["train", str(config)]) == 1
    line = last_line(capsys)
    assert line.startswith("gptgan: can't write ")
    assert "No space left on device" in line
    assert line.endswith(
        "the last good checkpoint is likelihood/2; free some space, and the same command resumes from there"
    )
    assert main(["train", str(config)]) == 2, "still full, which is seen before anything is written"
    assert "free some space" in last_line(capsys)
    fillers[0].unlink()
    assert main(["train", str(config)]) == 0
    assert_ended_whole(run)


@pytest.mark.cases(1)
@pytest.mark.thorough
@pytest.mark.parametrize(("what", "at", "good"), [("checkpoint", 3, 2), ("records", 5, 4), ("first", 1, None)])
def test_a_file_that_can_not_grow_stops_the_run(what: str, at: int, good: int | None, tmp_path, capsys) -> None:
    """A limit on the size of files stands for the disk; it lies above the records, which an error stops by itself."""
    config, run = write_config(tmp_path, KEYS), tmp_path / "runs" / "tiny"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    try:
        with pytest.MonkeyPatch.context() as patch:
            if what == "records":
                doing_after(patch, at, lambda: fail_writes(patch))
            else:
                doing_after(patch, at, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limits[1])))
            status = main(["train", str(config)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert status == 1
    line = last_line(capsys)
    known = "no checkpoint was saved yet" if good is None else f"the last good checkpoint is likelihood/{good}"
    assert line.startswith(f"gptgan: can't write {run if what == 'records' else ''}")
    assert what == "records" or " checkpoint " in line
    assert f"; {known}; free some space" in line
    assert main(["train", str(config)]) == 0
    assert_ended_whole(run)


def fail_writes(patch: pytest.MonkeyPatch) -> None:
    def full(self: Records, record: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    patch.setattr(Records, "_append", full)
